"""A data set of TorchGeo by the name of its class: made for each of its splits, and what it says about itself.

TorchGeo reads its files with its own code, some of which unpickles: only files that the user trusts are given to it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from mmae.errors import InputError, did_you_mean
from mmae.terminal.error_line import first_line

_SPLITS: Final = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Names of splits here -> the names that TorchGeo's classes have for them."""
_NAMES: Final = ("bands", "all_band_names", "all_bands", "band_names")
"""Attributes that hold the names of an image's bands; the first has those that were chosen."""
_CLASSES: Final = ("classes", "class_names", "all_classes")


def torchgeo_datasets() -> Any:
    """The module with TorchGeo's data sets.

    Raises:
        InputError: TorchGeo is not installed, or does not work here.
    """
    try:
        return import_module("torchgeo.datasets")
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "torchgeo":
            raise InputError("torchgeo is not installed, and this needs it: pip install 'mmae[torchgeo]'") from None
        raise InputError(f"torchgeo cannot be imported ({first_line(error)}): install what it needs") from None


def open_splits(name: str, root: Path, options: Sequence[str]) -> dict[str, Any]:
    """Split -> TorchGeo's data set; all in `train` where the class has no splits.

    Raises:
        InputError: there is no such class, it takes other arguments, or its files are not below `root`.
    """
    module = torchgeo_datasets()
    made = getattr(module, name, None) if name in getattr(module, "__all__", ()) else None
    if not inspect.isclass(made) or not issubclass(made, module.NonGeoDataset):
        known = [each for each in module.__all__ if _is_listed(getattr(module, each, None), module)]
        raise InputError(f"TorchGeo has no data set {name!r} of single images{did_you_mean(name, known)} (source.task)")
    parameters = inspect.signature(made).parameters
    arguments = {"root": str(root), "download": False, "checksum": False}
    given = {key: value for key, value in arguments.items() if key in parameters} | _options(name, options, parameters)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder: give source.folder the root of TorchGeo's {name}")
    if "split" in given or "split" not in parameters:
        return {"train": _made(made, root, given)}
    found = {}
    for split, words in _SPLITS.items():
        each = next((each for word in words if (each := _split(made, root, given, word)) is not None), None)
        if each is not None:
            found[split] = each
    if "train" not in found:
        raise InputError(f"TorchGeo's {name} has no split `train`: choose one with source.options=[split=NAME]")
    return found


def band_names(dataset: Any, name: str, bands: int) -> tuple[str, ...]:
    """The names of an image's bands in their order, as the data set says them.

    Args:
        bands: of an image.

    Raises:
        InputError: it does not say them, or numbers them otherwise than Sentinel-2 does.
    """
    for attribute in _NAMES:
        said = getattr(dataset, attribute, None)
        if isinstance(said, list | tuple) and len(said) == bands and all(isinstance(each, str) for each in said):
            _check_colours(dataset, name)
            return tuple(said)
    if bands == 3:
        return ("red", "green", "blue")
    raise InputError(
        f"TorchGeo's {name} has images of {bands} bands and does not name them: set source.bands to their names, with "
        "- for one that is not to be read"
    )


def class_names(dataset: Any) -> tuple[str, ...]:
    """The names of its classes; empty where it does not say them."""
    for attribute in _CLASSES:
        said = getattr(dataset, attribute, None)
        if isinstance(said, list | tuple) and len(said) > 1 and all(isinstance(each, str) for each in said):
            return tuple(said)
    return ()


def _is_listed(made: Any, module: Any) -> bool:
    return inspect.isclass(made) and issubclass(made, module.NonGeoDataset)


def _check_colours(dataset: Any, name: str) -> None:
    """Refuse numbers of bands that are another sensor's: its red is not B4."""
    colours = getattr(dataset, "rgb_bands", None)
    if not isinstance(colours, list | tuple) or not all(isinstance(each, str) for each in colours):
        return
    plain = [each.upper().replace("B0", "B") for each in colours]
    if all(each.startswith("B") for each in plain) and plain != ["B4", "B3", "B2"]:
        raise InputError(
            f"TorchGeo's {name} numbers its bands otherwise than Sentinel-2 (its colours are {', '.join(colours)}): "
            "set source.bands to names such as [blue,green,red,nir]"
        )


def _options(name: str, options: Sequence[str], parameters: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key not in parameters or key in {"root", "transforms"}:
            known = [each for each in parameters if each not in {"root", "transforms"}]
            raise InputError(
                f"source.options: {option!r} is no argument=value of TorchGeo's {name}{did_you_mean(key, known)}"
            )
        found[key] = [_value(each) for each in value.split(";") if each] if ";" in value else _value(value)
    return found


def _value(text: str) -> Any:
    """A number, true, false or null, or else a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _split(made: Any, root: Path, given: Mapping[str, Any], word: str) -> Any | None:
    """The split of this name; None where the class has no such split."""
    try:
        return _made(made, root, {**given, "split": word})
    except _ArgumentError:
        if word in _SPLITS["train"]:
            raise
        return None


class _ArgumentError(InputError):
    """The class refused an argument."""


def _made(made: Any, root: Path, given: Mapping[str, Any]) -> Any:
    # Which error a class raises for wrong arguments, missing files or damaged ones depends on the class.
    try:
        return made(**given)
    except (AssertionError, KeyError) as error:
        said = ", ".join(f"{key}={value!r:.40}" for key, value in given.items() if key != "root")
        raise _ArgumentError(
            f"{root}: TorchGeo's {made.__name__} does not take {said} ({first_line(error)[:200]}): see source.options"
        ) from None
    except Exception as error:
        raise InputError(
            f"{root}: TorchGeo's {made.__name__} cannot be opened ({type(error).__name__}: "
            f"{first_line(error)[:200]}): give source.folder its root, with its files where TorchGeo puts them"
        ) from None
