from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys

import pytest

from mmae.bench import machine

pytestmark = pytest.mark.process


def test_facts_are_json_and_are_printed() -> None:
    facts = machine.facts()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["cores"] == len(os.sched_getaffinity(0))
    told = "\n".join(machine.lines(facts))
    for name in ("numpy", "torch", "blosc2", "h5py", "webdataset"):
        assert f"{name} {facts[name]}" in told
        assert facts[name] != "absent"


def test_own_bytes_are_the_unique_set_size() -> None:
    psutil = pytest.importorskip("psutil")
    before = machine.own_bytes(os.getpid())
    assert abs(before - psutil.Process().memory_full_info().uss) < 16 << 20
    held = b"\1" * (64 << 20)
    shared = mmap.mmap(-1, 64 << 20)
    shared.write(held)
    grown = machine.own_bytes(os.getpid()) - before
    assert grown > 60 << 20
    del held
    shared.close()


def test_memory_that_two_processes_share_is_not_their_own() -> None:
    program = (
        "import mmap, os, sys; shared = mmap.mmap(-1, 64 << 20); shared.write(bytes(64 << 20));"
        "child = os.fork();"
        "child or (shared[::4096], print('ready', flush=True), sys.stdin.read(), os._exit(0));"
        "os.waitpid(child, 0)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        found = machine.children(process.pid)
        assert len(found) == 1
        assert 0 < machine.own_bytes(found[0]) < 32 << 20
        process.communicate("")


def test_a_process_that_is_gone_holds_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert machine.children(process.pid) == []
    assert machine.own_bytes(process.pid) == 0
