"""Settings of a run, read and checked before anything starts.

Here: the recipe's dataclasses (`schema`), the checks that need several keys, reading YAML and overrides, renamed keys,
the DeepSpeed JSON and how it is merged, and files that the package brings with it. Not here: what a start does with
the settings (`mmae.run.spec`). Start with `schema.py`, then `recipe_file.py`.
"""
