"""Recipes, found by name (`mmae.resources`)."""
