"""Models in the forms of others.

Here: importing checkpoints of the published code. Not here: `mmae export`, which is `mmae/export.py`.
Start with `import_published.py`.
"""
