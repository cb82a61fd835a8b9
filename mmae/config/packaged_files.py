"""Packaged files (recipes, DeepSpeed JSONs) by name or by path, from a checkout and from an installed wheel alike."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from mmae.errors import InputError, did_you_mean


def packaged_names(package: str, suffix: str) -> list[str]:
    """Names (without suffix) of the files of one kind in a package, sorted."""
    return sorted(
        entry.name.removesuffix(suffix) for entry in resources.files(package).iterdir() if entry.name.endswith(suffix)
    )


def find(name_or_path: str, package: str, suffix: str, what: str) -> Path:
    """The file for a packaged name (`debug`) or a path (`my/recipe.yaml`).

    Raises:
        InputError: neither a file nor a packaged file has this name.
    """
    path = Path(name_or_path)
    if path.suffix == suffix or len(path.parts) > 1:
        if path.is_file():
            return path
        raise InputError(f"{what} {name_or_path}: no such file")
    names = packaged_names(package, suffix)
    if name_or_path not in names:
        raise InputError(
            f"{what} {name_or_path}: neither a file nor a packaged name{did_you_mean(name_or_path, names)}"
        )
    with resources.as_file(resources.files(package) / f"{name_or_path}{suffix}") as found:
        return found
