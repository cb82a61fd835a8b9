"""Real `mmae repack` processes, killed at random, on real tiles."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import xxhash

from data_tools.repack.command import repack
from data_tools.verify.check_set import verify

DATA = "data_1M_v001_64"
OPTIONS = ["--tiles-per-shard", "12", "--workers", "2"]
SECONDS = 120.0


@pytest.fixture(scope="module")
def undisturbed(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    repack(shared / "mini_mmearth" / DATA, out, tiles_per_shard=12)
    return hashes(out)


def hashes(folder: Path) -> dict[str, str]:
    """Of what is there under a final name."""
    files = [path for path in folder.glob("*") if not path.name.startswith(".")]
    return {path.name: xxhash.xxh3_128_hexdigest(path.read_bytes()) for path in files}


def temporaries(out: Path) -> list[str]:
    return [path.name for path in out.glob(".*.tar.*.tmp")]


class Run:
    """A repack of its own process group."""

    def __init__(self, source: Path, out: Path) -> None:
        command = [sys.executable, "-m", "mmae", "repack", str(source), str(out), *OPTIONS]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.parent = self.process.pid

    def ended(self) -> bool:
        return self.process.poll() is not None

    def workers(self) -> list[int]:
        """Worker processes; not the tracker that multiprocessing starts."""
        found = []
        for pid in _children(self.parent):
            with suppress(OSError):
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def stop(self) -> list[int]:
        """Hold all its processes, the parent first."""
        pids = [self.parent, *self.workers()]
        for pid in pids:
            _send(pid, signal.SIGSTOP)
        return pids

    def kill(self, pids: list[int], victim: int) -> None:
        """Kill one of its processes, all of which are held, and let the others go on to their end."""
        _send(victim, signal.SIGKILL)
        _go_on(pids)
        _, self.errors = self.process.communicate(timeout=SECONDS)
        deadline = time.monotonic() + 60
        while any(map(_alive, pids[1:])) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not [pid for pid in pids[1:] if _alive(pid)], "workers outlive their parent"


def _alive(pid: int) -> bool:
    """Not gone, nor dead and waiting for an init process that may never look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _go_on(pids: list[int]) -> None:
    for pid in pids:
        _send(pid, signal.SIGCONT)


def _children(parent: int) -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def killed_once(source: Path, out: Path, draw: random.Random, at_temporary: bool) -> str | None:
    """One run and one kill; `parent` or `worker`, or None where the run came to its end before.

    Args:
        at_temporary: fall while a shard's temporary lies there; else anywhere.
    """
    run = Run(source, out)
    if at_temporary:
        whole = len(hashes(out)) + draw.randint(0, 8)
        pids = _held(run, lambda: len(list(out.glob("*.tar"))) >= whole and bool(temporaries(out)))
    else:
        end = time.monotonic() + draw.uniform(0, 2)
        pids = _held(run, lambda: time.monotonic() > end)
    if run.ended():
        run.process.communicate()
        return None
    kind = draw.choice(["parent", "worker"]) if len(pids) > 1 else "parent"
    run.kill(pids, run.parent if kind == "parent" else draw.choice(pids[1:]))
    if kind == "worker" and run.process.returncode:
        assert run.process.returncode == 2
        assert run.errors.startswith("mmae: error: a worker process was killed by signal 9 (out of memory?)")
        assert len(run.errors.splitlines()) == 1
    return kind


def _held(run: Run, moment: Callable[[], bool]) -> list[int]:
    """The processes of a run, held at such a moment (it lasts while they are held), or at the run's end."""
    while True:
        while not moment() and not run.ended():
            time.sleep(0.001)
        pids = run.stop()
        if moment() or run.ended():
            return pids
        _go_on(pids)


def kill_and_resume(source: Path, folder: Path, whole: dict[str, str], kills: int, seed: int) -> Counter[str]:
    """Repack again and again until so many kills have fallen; every broken-off set is finished and compared."""
    draw = random.Random(seed)
    counted: Counter[str] = Counter()
    while counted["parent"] + counted["worker"] < kills:
        out = folder / f"out{counted['sets']}"
        for _ in range(draw.randint(2, 6)):
            fallen = counted["parent"] + counted["worker"]
            at_temporary = draw.random() < 2 / 3 or 2 * counted["at a temporary"] < fallen
            kind = killed_once(source, out, draw, at_temporary)
            if kind is not None:
                counted.update([kind, "at a temporary"] if at_temporary else [kind])
            left = hashes(out)
            assert left.items() <= whole.items(), "what has its final name is whole"
            assert "index.json" not in left or left == whole
        last = Run(source, out)
        _, errors = last.process.communicate(timeout=SECONDS)
        assert (last.process.returncode, errors) == (0, "")
        assert hashes(out) == whole
        assert not [path.name for path in out.iterdir() if path.name.startswith(".")]
        assert verify(out, source).differences == []
        counted["sets"] += 1
    print(f"kills: {dict(counted)}")
    assert 3 * counted["at a temporary"] >= counted["parent"] + counted["worker"]
    return counted


@pytest.mark.process
def test_a_few_kills(shared: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    kill_and_resume(shared / "mini_mmearth" / DATA, tmp_path, undisturbed, kills=5, seed=0)


@pytest.mark.slow
def test_many_kills(shared: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    counted = kill_and_resume(shared / "mini_mmearth" / DATA, tmp_path, undisturbed, kills=60, seed=int(time.time()))
    assert counted["parent"] >= 10
    assert counted["worker"] >= 10
