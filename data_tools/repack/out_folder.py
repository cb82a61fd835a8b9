"""The output folder: whether it may hold the shards, which repack it belongs to, and its clean-up."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from data_tools.repack.part_lock import LOCK_SUFFIX
from mmae.data.shards.index import Index, open_index
from mmae.data.shards.index_json import JSON_NAME
from mmae.disk.files import TEMPORARY, atomic_file, sync
from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular
from mmae.errors import InputError

if TYPE_CHECKING:
    from data_tools.source.dataset import Source

PLAN_NAME: Final = ".repack.json"

_SHARD_TEMPORARY: Final = re.compile(r"\.(\w+-\d{6,})\.(?:tar|npz)\..*" + re.escape(TEMPORARY), re.ASCII)


def finished_set(out: Path, source: Source, options: Mapping[str, Any]) -> Index | None:
    """The index of the finished set if `out` holds it already; None if a repack may start or continue in it.

    Raises:
        InputError: the folder holds anything else. Nothing is changed.
    """
    if not out.exists():
        return None
    if not out.is_dir():
        raise InputError(f"{out}: is a file: give a folder to write to")
    if (out / JSON_NAME).exists():
        index = open_index(out)
        _same(out, index.source.fingerprint, index.options, source, options)
        for shard in index.shards:
            path = out / shard.name
            if not path.is_file() or path.stat().st_size != shard.bytes:
                raise InputError(f"{path}: missing or cut, though the set was finished: mmae verify --repair mends it")
        return index
    if (out / PLAN_NAME).exists():
        begun = _read_shard_plan(out)
        _same(out, begun.get("source"), begun.get("options"), source, options)
    elif any(not _is_ours(path) for path in out.iterdir()):
        if (out / JSON_NAME).exists():  # finished just now by another, where nothing is locked
            return finished_set(out, source, options)
        raise InputError(f"{out}: not empty, and not shards of mmae: give another folder, or empty it")
    return None


def _is_ours(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith((LOCK_SUFFIX, TEMPORARY))


def _read_shard_plan(out: Path) -> dict[str, Any]:
    try:
        begun = parse_json(read_regular(out / PLAN_NAME))
    except (OSError, ValueError):
        begun = None
    if not isinstance(begun, dict):
        raise InputError(f"{out / PLAN_NAME}: not a plan of mmae repack: delete {out} and repack")
    return begun


def _same(out: Path, fingerprint: object, had: object, source: Source, options: Mapping[str, Any]) -> None:
    if fingerprint != source.info.fingerprint:
        raise InputError(f"{out}: holds shards of another data set: give another folder, or delete this one")
    had = had if isinstance(had, dict) else {}
    for name in sorted({*had, *options}):
        if had.get(name) != options.get(name):
            raise InputError(
                f"{out}: was packed with {name}={had.get(name)!r}, not {options.get(name)!r}: "
                "give another folder, or delete this one"
            )


def claim(out: Path, source: Source, options: Mapping[str, Any]) -> None:
    """Write the source and the options of this repack into the folder."""
    plan = json.dumps({"source": source.info.fingerprint, "options": dict(options)}, sort_keys=True).encode()
    if not (out / PLAN_NAME).exists():
        with atomic_file(out / PLAN_NAME) as file:
            file.write(plan)


def remove_temporaries(out: Path, shards: Collection[str] | None) -> None:
    """Remove half-written files of these shards (names without suffix), or of all shards with None."""
    for path in out.glob(f".*{TEMPORARY}"):
        found = _SHARD_TEMPORARY.fullmatch(path.name)
        if shards is None or (found is not None and found.group(1) in shards):
            path.unlink(missing_ok=True)


def finish(out: Path) -> None:
    """Remove the files that only an unfinished set needs."""
    for path in (*out.glob(".*.npz"), out / PLAN_NAME):
        path.unlink(missing_ok=True)
    remove_temporaries(out, None)
    sync(out)
