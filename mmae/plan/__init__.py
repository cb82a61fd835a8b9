"""`mmae plan`: what a run will need, before it is started: memory, time and disk in closed form.

Nothing here needs torch or a GPU. Not here: the sizes of a model (`mmae.model.counts`). Start with `lines.py`.
"""
