"""Recipes, found by name (`mmae.config.packaged_files`)."""
