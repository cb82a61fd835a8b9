"""A checkpoint's life: saved, checked, resumed from, kept or removed.

Here: writing through DeepSpeed, saving in the background, manifest and integrity, what belongs to the state of a
training, which checkpoint a start goes on from, and whole weights for export.
Sub-packages: `contents` (what a checkpoint holds beside DeepSpeed's files), `conversion` (other numbers of ranks).
Not here: a model's own folder (`mmae.model.saved`). Start with `save.py` and `resume.py`.
"""
