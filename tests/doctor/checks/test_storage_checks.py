"""Shards, run folder, disk, lock, op cache."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mmae.doctor.agent.storage import OpLock, Shards
from mmae.doctor.checks import storage_checks
from tests.support.surveyed_hosts import RUN, SHARDS, cache, facts, host


def test_shards() -> None:
    seen = [SHARDS, SHARDS, Shards("/shards", "", "no such folder"), Shards("/shards", "0ther", "")]
    found = list(
        storage_checks.shard_sets([host(name, shards=[each]) for name, each in zip("abcd", seen, strict=True)])
    )
    assert [each.level for each in found] == ["ok", "ok", "FAIL", "FAIL"]
    # A host without shards does not make the only host with shards the odd one out.
    found = list(storage_checks.shard_sets([host("a", shards=[seen[2]]), host("b", shards=[SHARDS])]))
    assert [each.level for each in found] == ["FAIL", "ok"]


@pytest.mark.parametrize(
    ("writable", "token", "level"),
    [(True, "wrote", "ok"), (True, "saw", "ok"), (True, None, "ok"), (True, "missed", "FAIL"),
     (False, "saw", "FAIL"), (True, "No space left on device", "FAIL")],
)  # fmt: skip
def test_run_folder(writable: bool, token: str | None, level: str) -> None:
    found = list(storage_checks.run_folders([host("a", run=replace(RUN, writable=writable), token=token), host("b")]))
    assert [(each.host, each.level) for each in found] == [("a", level)]


def test_several_owners() -> None:
    assert list(storage_checks.same_user([host("a"), host("b")])) == []
    found = list(storage_checks.same_user([host("a"), host("b", facts(uid=7))]))
    assert [each.level for each in found] == ["warn", "warn"]


@pytest.mark.parametrize(("needed", "level"), [(None, "note"), (10**12, "ok"), (10**12 + 1, "FAIL")])
def test_room(needed: int | None, level: str) -> None:
    found = storage_checks.room(host("a", run=RUN), needed)
    assert found is not None
    assert found.level == level
    assert storage_checks.room(host("a"), needed) is None


@pytest.mark.parametrize(
    ("lives", "silent", "level"),
    [(["yes", "elsewhere"], 999.0, "FAIL"), (["elsewhere", "yes"], 999.0, "FAIL"), (["elsewhere", "no"], 1.0, "note"),
     (["elsewhere", "elsewhere"], 1.0, "FAIL"), (["elsewhere", "elsewhere"], 999.0, "note")],
)  # fmt: skip
def test_run_lock(lives: list[str], silent: float, level: str) -> None:
    runs = [replace(RUN, holder="node, process 7", holder_lives=each, silent=silent) for each in lives]
    found = list(storage_checks.run_lock([host(name, run=run) for name, run in zip("ab", runs, strict=True)]))
    assert [each.level for each in found] == [level]
    assert list(storage_checks.run_lock([host("a", run=RUN), host("b")])) == []


OLD = OpLock("/cache/op/lock", 5.0, 100.0, False)


@pytest.mark.parametrize(
    ("lock", "batons", "level"),
    [
        (OLD, True, "FAIL"),
        (OLD, False, "ok"),
        (replace(OLD, age=1.0), True, "note"),
        (replace(OLD, held=True), True, "note"),
        (replace(OLD, held=True), False, "note"),
    ],
)
def test_locks_of_builds(lock: OpLock, batons: bool, level: str) -> None:
    found = list(storage_checks.op_caches([host("a", op_cache=cache(lock, batons=batons))]))
    assert [each.level for each in found] == [level]
    assert (found[0].remedy == "rm /cache/op/lock") is (level == "FAIL")


def test_a_builder_on_another_host_of_a_shared_cache_lives() -> None:
    both = [host("a", op_cache=cache(OLD)), host("b", op_cache=cache(replace(OLD, held=True)))]
    assert [each.level for each in storage_checks.op_caches(both)] == ["note", "note"]
    # The same path on a disk of its own is another file.
    both[1] = host("b", op_cache=cache(replace(OLD, held=True, changed=6.0)))
    assert [each.level for each in storage_checks.op_caches(both)] == ["FAIL", "note"]


def test_a_cache_that_cannot_be_written_and_paths_with_spaces() -> None:
    assert [each.level for each in storage_checks.op_caches([host("a", op_cache=cache(writable=False))])] == ["FAIL"]
    spaced = cache(replace(OLD, path="/my cache/lock"))
    assert next(storage_checks.op_caches([host("a", op_cache=spaced)])).remedy == "rm '/my cache/lock'"
    assert list(storage_checks.op_caches([host("a")])) == []
