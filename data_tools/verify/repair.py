"""The repair of damaged or missing shards from the source. A shard gets its name only if its hash is right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from data_tools.verify.check_set import Report, tell, verify
from mmae.disk.files import ending_cleanly, sync
from mmae.errors import InputError
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from data_tools.source.dataset import Source
    from mmae.data.shards.index import Index

_TEMPORARY: Final = ".repair.tmp"


def verify_and_repair(shards: Path, against: Path | None, workers: int | None, splits: Path | None = None) -> Report:
    """Check all shards, rewrite the damaged ones, and check these again.

    Returns:
        The report after the repair.

    Raises:
        InputError: the source is missing or is not the packed one, the index is damaged, or the folder cannot be
            written. Then no shard is changed.
    """
    if against is None:
        raise InputError("--repair: needs --against SRC, the HDF5 file that was packed")
    _same_source(shards, against, splits)
    report = verify(shards, against, workers, splits=splits)
    tell(report, against)
    if not report.damaged:
        return report
    written = repair(shards, against, report.damaged, splits)
    print(f"{len(written)} of {counted(len(report.damaged), 'shard')} written anew: {', '.join(written) or 'none'}")
    again = verify(shards, against, workers, only=report.damaged, splits=splits)
    fresh = {shard.number: shard for shard in again.of_shards}
    again.of_shards = [fresh.get(shard.number, shard) for shard in report.of_shards]
    tell(again, against)
    return again


def _same_source(shards: Path, against: Path, splits: Path | None) -> None:
    """Check, before the long check of all shards, that this source can repair them."""
    from data_tools.source.dataset import open_source
    from mmae.data.shards.index import open_index

    try:
        index = open_index(shards)
    except InputError as error:
        raise InputError(
            f"{error}; --repair needs the index whole, and shards alone do not hold all of it: "
            "repack into another folder, the same options give the same shards"
        ) from error
    with open_source(against, splits=splits) as source:
        _check_fingerprint(index, source)


def _check_fingerprint(index: Index, source: Source) -> None:
    if source.info.fingerprint != index.source.fingerprint:
        raise InputError(
            f"{source.path}: is not the file that {index.folder} was packed from (another fingerprint): "
            f"give the same {index.source.name} with its JSON files (--splits FILE where it was packed with that), "
            "or repack into another folder"
        )


def repair(
    shards: Path | str, against: Path | str, numbers: Sequence[int], splits: Path | str | None = None
) -> list[str]:
    """Rewrite shards. A new shard is written beside the old one, and replaces it only if its hash is right.

    Args:
        numbers: numbers of the shards in the index.
        splits: the source's splits file, if it is not the one beside the source.

    Returns:
        Names of the shards that were replaced. If the source gives other bytes for a shard, a line says so, and the
        old file stays.

    Raises:
        InputError: the source is another one, or the folder cannot be written.
    """
    from data_tools.repack.part_lock import folder_lock, remove_locks
    from data_tools.source.dataset import open_source
    from mmae.data.shards.index import open_index

    index = open_index(shards)
    with open_source(against, list(index.datasets), splits) as source, folder_lock(index.folder):
        _check_fingerprint(index, source)
        try:
            return [index.shards[number].name for number in numbers if _replace(index, source, number)]
        except OSError as error:
            raise InputError(
                f"{error.filename or index.folder}: cannot be written ({error.strerror}): make room or get access, "
                "and run again"
            ) from error
        finally:
            remove_locks(index.folder)


def _replace(index: Index, source: Source, number: int) -> bool:
    from data_tools.repack.shard_plan import PlannedShard
    from data_tools.repack.shard_writer import file_hash
    from data_tools.repack.work import pack_shard

    info = index.shards[number]
    path = index.folder / info.name
    if path.is_dir():
        raise InputError(f"{path}: is a folder where a shard should be: move it away, and run again")
    rows = index.row[np.flatnonzero(index.shard == number)]
    temporary = path.with_name(f".{info.name}{_TEMPORARY}")
    with ending_cleanly():
        try:
            pack_shard(source, PlannedShard(info.name, info.split, rows), temporary, index.options["codec"])
            if temporary.stat().st_size != info.bytes or file_hash(temporary) != info.hash:
                print(
                    f"{info.name}: the source gives other bytes than were packed (another version of mmae or Blosc2?): "
                    "left as it was; repack into another folder"
                )
                return False
            _take_name(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return True


def _take_name(proven: Path, path: Path) -> None:
    os.replace(proven, path)
    sync(path.parent)
