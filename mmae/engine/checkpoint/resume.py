"""Chooses the checkpoint that a start resumes from. Every rank takes part, and all choose the same one."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from mmae.data.sampling.order import ORDER_VERSION
from mmae.disk.ownership import check_tree
from mmae.distributed.collectives import gather, on_rank_0, rank, world
from mmae.engine.checkpoint.archive import archive_later_checkpoints, archive_run
from mmae.engine.checkpoint.contents.train_state import TrainState, read_state
from mmae.engine.checkpoint.integrity import CheckpointInfo, look_at
from mmae.engine.checkpoint.load import ResumePoint
from mmae.engine.checkpoint.manifest import content_problem, share
from mmae.engine.checkpoint.store import archive_damaged, damaged_ones, pointed_at, recover
from mmae.errors import InputError
from mmae.run.folder import RunFolder
from mmae.run.layout import BAND_STATS, LATEST, newest_first, step_of
from mmae.run.spec import ResumePath, RunSpec
from mmae.terminal.message import say
from mmae.terminal.plurals import counted

T = TypeVar("T")


def find(spec: RunSpec) -> ResumePoint | None:
    """The checkpoint that this start resumes from, or None for a fresh start. Collective.

    The caller holds the run's lock: leftovers of killed saves are removed, damaged checkpoints are renamed.

    Raises:
        InputError: the checkpoint does not fit the run or must not be loaded, or no good checkpoint is left.
    """
    checkpoints = spec.folder.checkpoints
    _settled(lambda: recover(checkpoints))
    # Nodes may disagree on whether this start is a restart: rank 0 decides.
    named, fresh = on_rank_0(lambda: (spec.resume, spec.fresh))
    again = "resume: started again: --resume and --fresh were for the first start"
    _settled(lambda: _say(again) if spec.followed_before else "")
    # 1. The one that --resume names.
    if named is not None:
        found = _named(named, spec)
        return replace(found, notes=(*found.notes, *_make_way(found, spec)))
    if fresh:
        _settled(lambda: _say_archived(archive_run(spec.folder)))
        return None
    # 2. The newest good one of the run.
    notes: list[str] = []
    newest = _newest_good(checkpoints, spec, notes, set_aside=True)
    if newest is not None:
        _settled(lambda: _compare_pointer(newest, notes))
        found = replace(_fitting(newest, spec, spec.folder), notes=tuple(on_rank_0(lambda: notes)))
        return replace(found, notes=(*found.notes, *_make_way(found, spec)))
    # 3. A fresh start, where there never was a checkpoint.
    lost = _settled(lambda: [path.name for path in damaged_ones(checkpoints)])
    if lost:
        raise InputError(
            f"{checkpoints}: no good checkpoint is left ({', '.join(lost)}): add --fresh to begin anew, which removes "
            "nothing, or --resume with a checkpoint elsewhere"
        )
    # An earlier start may have recorded steps before its first save.
    _settled(lambda: _say_archived(archive_later_checkpoints(spec.folder, 0)))
    return None


def _named(source: ResumePath, spec: RunSpec) -> ResumePoint:
    notes: list[str] = []
    path = source.checkpoint
    if path is None:
        path = _newest_good(source.checkpoints, spec, notes, set_aside=False)
        if path is None:
            raise InputError(f"--resume {source.checkpoints}: holds no good checkpoint")
    else:
        problem = _problem(path, spec, notes)
        if problem:
            raise InputError(f"--resume {path}: damaged: {problem}: name another checkpoint")
    return replace(_fitting(path, spec, RunFolder(source.checkpoints.parent)), notes=tuple(on_rank_0(lambda: notes)))


def _make_way(found: ResumePoint, spec: RunSpec) -> list[str]:
    """Archive what the run's folder holds beyond the checkpoint: later checkpoints, and records of later steps."""

    def move() -> list[str]:
        folder = spec.folder
        if found.path.parent.resolve() == folder.checkpoints.resolve():
            return _say_archived(archive_later_checkpoints(folder, max(step_of(found.path) or 0, found.state.step)))
        return _say_archived(archive_run(folder))

    return _settled(move)


def _newest_good(checkpoints: Path, spec: RunSpec, notes: list[str], set_aside: bool) -> Path | None:
    for path in _settled(lambda: newest_first(checkpoints)):
        problem = _problem(path, spec, notes)
        if problem is None:
            return path

        def report(path: Path = path, problem: str = problem) -> None:
            renamed = f": renamed to {archive_damaged(path).name}" if set_aside else ""
            notes.append(_say(f"resume: {path} is damaged: {problem}{renamed}; looking for the one before it"))

        _settled(report)
    return None


def _problem(path: Path, spec: RunSpec, notes: list[str]) -> str | None:
    """What is wrong with a checkpoint; None where nothing is. Each rank reads its share of the bytes. Collective."""

    def look() -> CheckpointInfo | str:
        # Before anything is read: another user's checkpoint must be trusted first.
        check_tree(path, spec.trust)
        return look_at(path)

    found = _settled(look)
    if isinstance(found, str):
        return found
    if found.files is None:
        line = f"resume: {path} has no manifest (an older mmae wrote it): its files cannot be checked"
        _settled(lambda: notes.append(_say(line)))
        return None
    if not spec.config.checkpoint.verify_hashes:
        return None
    own = share(found.files, rank(), world())
    try:
        problem, unreadable = content_problem(path, own), ""
    except OSError as error:
        # Rank 0 has seen every file. One that is missing here means that this node lacks the folder: no damage.
        damage = error.errno == errno.EIO
        said = f"{error.filename}: {error.strerror}"
        problem, unreadable = (said, "") if damage else (None, said)
    answers = gather((problem, unreadable))
    if reason := next((each for _, each in answers if each), ""):
        raise InputError(f"{path}: cannot be read ({reason}): correct that, then start again")
    return next((each for each, _ in answers if each), None)


def _fitting(path: Path, spec: RunSpec, folder: RunFolder) -> ResumePoint:
    """The checkpoint, if this start can resume from it."""

    def read() -> ResumePoint:
        state = read_state(path)
        # Checkpoints of format 1 leave the statistics to their run's folder.
        _check_data(path, state, spec, RunFolder(path) if (path / BAND_STATS).is_file() else folder)
        return ResumePoint(path, state)

    return _settled(read)


def _check_data(path: Path, state: TrainState, spec: RunSpec, normalised: RunFolder) -> None:
    indexes = [each.index for each in spec.tiles.sets]
    before = state.shards.split()
    if len(before) != len(indexes):
        raise InputError(
            f"{path}: was trained on {counted(len(before), 'shard set')}, data.shards names {len(indexes)}: "
            "put the list back, or choose another run.dir"
        )
    for index, fingerprint in zip(indexes, before, strict=True):
        if index.fingerprint != fingerprint:
            raise InputError(
                f"{path}: was trained on other shards (index {fingerprint[:12]}) than {index.folder} "
                f"(index {index.fingerprint[:12]}): point data.shards at the former, or choose another run.dir"
            )
    if state.keys != spec.tiles.keys:
        raise InputError(
            f"{path}: was trained on another list of tiles than data.keys={spec.config.data.keys}: "
            "put the list back, or choose another run.dir"
        )
    if normalised.stored_band_stats() != spec.band_stats:
        raise InputError(
            f"{path}: was trained with other band statistics: set data.band_stats={normalised.band_stats_file} "
            "to go on with them, or choose another run.dir"
        )
    if state.order_version != ORDER_VERSION:
        raise InputError(
            f"{path}: its step belongs to version {state.order_version} of the order of tiles, but this mmae has "
            f"version {ORDER_VERSION}: go on with mmae {state.versions.get('mmae')}"
        )


def _compare_pointer(newest: Path, notes: list[str]) -> None:
    named = pointed_at(newest.parent)
    if named != newest.name and named in {path.name for path in newest_first(newest.parent)}:
        notes.append(_say(f"resume: going on from {newest.name}, the newest good one; `{LATEST}` names {named[:40]}"))


def _say_archived(archive: Path | None) -> list[str]:
    return [] if archive is None else [_say(f"resume: what this start does not go on with is now in {archive}")]


def _say(line: str) -> str:
    say(line)
    return line


def _settled(work: Callable[[], T]) -> T:
    """`on_rank_0` for work on files: an `OSError` becomes an `InputError`."""

    def careful() -> T:
        try:
            return work()
        except OSError as error:
            raise InputError(f"{error.filename}: {error.strerror}: correct that, then start again") from error

    return on_rank_0(careful)
