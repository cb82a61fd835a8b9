"""Which samples of a task are in which split: `NAME_partition.json`, whose third key is `valid`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from mmae.errors import InputError, did_you_mean
from mmae.evaluate.benchmark.tasks.benchmark_task import TRAIN, VALID
from mmae.evaluate.benchmark.tasks.suite_files import REMEDY, is_plain_name, read_json_file
from mmae.terminal.plurals import counted

_SUFFIX: Final = "_partition.json"
_SPLITS: Final = (TRAIN, VALID, "test")
SAMPLE_SUFFIX: Final = ".hdf5"


def read_partition(folder: Path, name: str) -> dict[str, tuple[str, ...]]:
    """Split -> ids of its samples, each with a file in the folder.

    Raises:
        InputError: there is no such partition, it is no partition, a sample is in two splits, or files are missing.
    """
    path = folder / f"{name}{_SUFFIX}"
    if not is_plain_name(name) or not path.exists():
        known = sorted(each.name.removesuffix(_SUFFIX) for each in folder.glob(f"*{_SUFFIX}"))
        raise InputError(f"{folder} has no partition {name!r}{did_you_mean(name, known)}")
    said = read_json_file(path)
    if not isinstance(said, dict) or not set(_SPLITS) <= set(said):
        raise InputError(f"{path} does not have the keys {', '.join(_SPLITS)}: {REMEDY}")
    splits = {split: _ids(path, split, said[split]) for split in _SPLITS}
    for first, second in ((0, 1), (0, 2), (1, 2)):
        shared = sorted(set(splits[_SPLITS[first]]) & set(splits[_SPLITS[second]]))
        if shared:
            raise InputError(
                f"{path}: {counted(len(shared), 'sample')} (the first: {shared[0]!r}) in both {_SPLITS[first]} and "
                f"{_SPLITS[second]}: {REMEDY}"
            )
    _check_files(folder, path, splits)
    return splits


def _ids(path: Path, split: str, said: object) -> tuple[str, ...]:
    if not isinstance(said, list) or not said:
        raise InputError(f"{path}: {split!r} lists no samples: {REMEDY}")
    for sample in said:
        if not is_plain_name(sample):
            raise InputError(f"{path}: {split!r} lists {sample!r:.80}, which is no name of a sample: {REMEDY}")
    return tuple(dict.fromkeys(said))


def _check_files(folder: Path, path: Path, splits: dict[str, tuple[str, ...]]) -> None:
    there = {entry.name for entry in os.scandir(folder)}
    wanted = [sample for ids in splits.values() for sample in ids]
    missing = [sample for sample in wanted if f"{sample}{SAMPLE_SUFFIX}" not in there]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of the {counted(len(wanted), 'sample')} of {path.name} have no file (the first: "
            f"{missing[0]}{SAMPLE_SUFFIX}): {REMEDY}"
        )
