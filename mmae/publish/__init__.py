"""Models in the formats of other projects.

Here: the writers of `mmae export`, one module a format (`export_format.py` says what such a module holds), and the
import of checkpoints of the published code. Not here: the table of formats and the command, which are
`mmae/export.py`. Start with `export_source.py` and `model_folder.py`.
"""
