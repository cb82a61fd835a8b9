"""Models in the formats of other projects.

Here: the import of checkpoints of the published code. Not here: `mmae export`, which is `mmae/export.py`.
Start with `import_published.py`.
"""
