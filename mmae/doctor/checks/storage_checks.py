"""Whether every host finds the run's folders, and can write where it must."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from mmae.doctor.checks.findings import Finding
from mmae.doctor.hosts.survey import Answers
from mmae.run.state import SILENT_SECONDS

BUILD_S: Final = 30.0
"""A younger lock may belong to a build that a process on another host has just begun."""


def shard_sets(known: Sequence[Answers]) -> Iterator[Finding]:
    """Each shard set is complete on each host, and the same on all."""
    for each in known:
        for number, seen in enumerate(each.shards):
            others = [other.shards[number].fingerprint for other in known if number < len(other.shards)]
            usual = max(others, key=lambda print_: (print_ != "", others.count(print_)))
            if seen.problem:
                remedy = "mount the shards on every host at this path, or repack"
                yield Finding("shards", each.name, "FAIL", seen.problem, remedy)
            elif seen.fingerprint != usual:
                found = f"{seen.folder} is a different set: {seen.fingerprint[:8]}, elsewhere {usual[:8]}"
                yield Finding("shards", each.name, "FAIL", found, "copy or mount the same set everywhere")
            else:
                yield Finding("shards", each.name, "ok", f"{seen.folder}: {seen.fingerprint[:8]}, all files there")


def run_folders(known: Sequence[Answers]) -> Iterator[Finding]:
    """All hosts see the same folder and can write to it."""
    for each in known:
        run = each.run
        if run is None:
            continue
        found = f"{run.path}{'' if run.exists else ' (above it)'}: {run.owner}'s, mode {run.mode}"
        if not run.writable:
            user = each.facts.user if each.facts else "this user"
            remedy = f"give {user} the right to write there, or choose another run.dir"
            yield Finding("run folder", each.name, "FAIL", f"{found}, cannot be written", remedy)
        elif each.token == "missed":
            remedy = "put run.dir on a file system that all hosts share (mounted at the same path)"
            yield Finding("run folder", each.name, "FAIL", f"{found}, but not the first host's", remedy)
        elif each.token in {"wrote", "saw", None}:
            shared = {"wrote": ", wrote a file", "saw": ", sees the first host's file", None: ""}[each.token]
            yield Finding("run folder", each.name, "ok", found + shared)
        else:
            yield Finding("run folder", each.name, "FAIL", f"{found}: {each.token}", "choose another run.dir")


def same_user(known: Sequence[Answers]) -> Iterator[Finding]:
    """All files of a run should belong to one user."""
    uids = {each.facts.uid for each in known if each.facts}
    if len(uids) > 1:
        for each in known:
            if each.facts:
                remedy = "files of a shared folder will have several owners: log in as one user everywhere"
                yield Finding("user", each.name, "warn", f"{each.facts.user} is number {each.facts.uid}", remedy)


def room(first: Answers, needed: int | None) -> Finding | None:
    """Free disk space on the first host for the run's checkpoints, which need `needed` more bytes."""
    if first.run is None:
        return None
    free = first.run.free / 1e9
    if needed is None:
        found = f"{free:.1f} GB free; the need is known once the run has a config.yaml (or ask mmae plan)"
        return Finding("disk", first.name, "note", found)
    found = f"{free:.1f} GB free, checkpoints will take {needed / 1e9:.1f} more"
    remedy = "free some, lower checkpoint.keep_last or keep_every, or choose another run.dir"
    if first.run.free < needed:
        return Finding("disk", first.name, "FAIL", found, remedy)
    return Finding("disk", first.name, "ok", found)


def run_lock(known: Sequence[Answers]) -> Iterator[Finding]:
    """Whether a training holds the run's folder."""
    seen = [(each, each.run) for each in known if each.run is not None and each.run.holder]
    if not seen:
        return
    for each, run in seen:
        if run.holder_lives == "yes":
            remedy = "a second start would be refused: wait, stop it, or choose another run.dir"
            yield Finding("run lock", each.name, "FAIL", f"held by {run.holder}, which is running", remedy)
            return
    each, run = seen[0]
    if any(run.holder_lives == "no" for _, run in seen):
        yield Finding("run lock", each.name, "note", f"left by {run.holder}, which is gone: a start takes it over")
    elif run.silent < SILENT_SECONDS:
        remedy = "wait, stop it, or choose another run.dir"
        found = f"held by {run.holder}, seen {run.silent:.0f} s ago"
        yield Finding("run lock", each.name, "FAIL", found, remedy)
    else:
        found = f"held by {run.holder}, silent for {run.silent:.0f} s: a start will take it over"
        yield Finding("run lock", each.name, "note", found)


def op_caches(known: Sequence[Answers]) -> Iterator[Finding]:
    """The folder in which DeepSpeed's ops are built. With older versions of torch, a killed build leaves a lock, and
    later starts wait for it for ever."""
    held = {(lock.path, lock.changed) for each in known if each.op_cache for lock in each.op_cache.locks if lock.held}
    for each in known:
        cache = each.op_cache
        if cache is None:
            continue
        stale = [lock for lock in cache.locks if (lock.path, lock.changed) not in held]
        old = [lock for lock in stale if cache.batons and lock.age > BUILD_S]
        if not cache.writable:
            remedy = "set TORCH_EXTENSIONS_DIR to a folder of yours, in ~/.deepspeed_env"
            yield Finding("op cache", each.name, "FAIL", f"{cache.path} cannot be written", remedy)
        elif old:
            found = f"{old[0].path}: its build has ended ({old[0].age:.0f} s old), and starts wait for it for ever"
            yield Finding("op cache", each.name, "FAIL", found, "rm " + shlex.join(lock.path for lock in old))
        elif len(stale) < len(cache.locks) or (stale and cache.batons):
            yield Finding("op cache", each.name, "note", f"{cache.path}: an op is being built there right now")
        else:
            yield Finding("op cache", each.name, "ok", cache.path)
