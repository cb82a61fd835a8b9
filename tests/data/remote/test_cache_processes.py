"""One cache that several processes share, of which some are killed, hang or fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest

from mmae.errors import InputError
from tests.support.small_cache import SET, cache, fetch, keep, names, never, shard
from tests.support.waiting import wait_for

# The tests below start other processes. Each of them runs these lines first, then its own.
PROLOGUE = """
import os, sys, time
from pathlib import Path
from mmae.data.remote.cache import Cache, Wanted
root, number = Path(sys.argv[1]), int(sys.argv[2])
def wanted(n): return Wanted("0" * 32, f"train-{n:06d}.tar", 100)
def log(line):
    with open(root.parent / "log", "a") as file: file.write(f"{line}\\n")
def slowly(n):
    def fill(file):
        log(f"fetch {n}")
        file.seek(0, 2)
        while file.tell() < 100:
            file.write(bytes([n]) * 20)
            time.sleep(0.02)
    return fill
"""


def start(root: Path, code: str, number: int = 0) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROLOGUE + code, str(root), str(number)], stdout=subprocess.PIPE)


def lines(root: Path) -> list[str]:
    log = root.parent / "log"
    return log.read_text().splitlines() if log.exists() else []


@pytest.mark.process
def test_processes_fetch_each_file_once(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    code = """
cache = Cache(root, 10**6)
for n in range(6):
    with open(cache.fetch(wanted((n + number) % 6), slowly((n + number) % 6), lambda: False).path, "rb") as file:
        assert file.read() == bytes([(n + number) % 6]) * 100
"""
    processes = [start(root, code, number) for number in range(4)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert sorted(lines(root)) == [f"fetch {n}" for n in range(6)]


@pytest.mark.process
def test_processes_share_a_small_cache(tmp_path: Path) -> None:
    """While files come and go, readers never see anything but the fetched bytes."""
    root = tmp_path / "cache"
    code = """
import random
cache = Cache(root, 350, room_s=60)
for _ in range(40):
    n = random.randrange(8)
    held = cache.fetch(wanted(n), slowly(n), lambda: False)
    assert held.path.read_bytes() == bytes([n]) * 100
    held.close()
    if number == 0: log(f"whole {len(list(root.glob('*/train*')))}")
"""
    processes = [start(root, code, number) for number in range(3)]
    for process in processes:
        process.communicate(timeout=600)
        assert process.returncode == 0
    whole = [int(line.split()[1]) for line in lines(root) if line.startswith("whole")]
    assert len(whole) == 40
    assert max(whole) <= 3


@pytest.mark.process
def test_a_held_file_survives_other_processes(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    held = fetch(cache(root, 250), 0)
    code = """
cache = Cache(root, 250, room_s=0.1)
for n in range(1, 9):
    cache.fetch(wanted(n), slowly(n), lambda: False).close()
"""
    process = start(root, code)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert held.path.read_bytes() == b"\0" * 100
    held.close()
    fetch(cache(root, 150), 9).close()
    assert names(root) == [f"mmae-{SET}/train-000009.tar"]


@pytest.mark.process
def test_a_waiting_process_continues_a_killed_fetch(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    stuck = """
def fill(file):
    file.write(b"\\1" * 40)
    log("half")
    time.sleep(600)
Cache(root, 1000).fetch(wanted(1), fill, lambda: False)
"""
    process = start(root, stuck)
    wait_for(lambda: lines(root) == ["half"])
    done: list[bytes] = []

    def rest(file: IO[bytes]) -> None:
        done.append(file.read())
        file.write(b"\1" * 60)

    timer = threading.Timer(0.3, lambda: process.send_signal(signal.SIGKILL))
    timer.start()
    held = cache(root).fetch(shard(1), rest, keep)
    timer.join()
    assert done == [b"\1" * 40]
    assert held.path.read_bytes() == b"\1" * 100
    held.close()
    process.communicate(timeout=60)


@pytest.mark.process
def test_a_hanging_process_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    process = start(root, 'Cache(root, 1000).fetch(wanted(1), lambda file: (log("has it"), time.sleep(600)), None)')
    wait_for(lambda: lines(root) == ["has it"])
    assert cache(root).fetch_in_background(shard(1), never) is None
    with pytest.raises(InputError, match=r"gets no further for 0\.3 s: end that process"):
        cache(root, wait_s=0.3).fetch(shard(1), never, keep)
    process.kill()
    process.communicate(timeout=60)


@pytest.mark.process
def test_a_forked_child_holds_nothing(tmp_path: Path) -> None:
    """Otherwise a worker would keep files that its parent has released, or die with a lock that nobody can take."""
    kept = cache(tmp_path, 250)
    held = fetch(kept, 0)
    read, write = os.pipe()
    forked, ready = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.write(ready, b"!")
        os.read(read, 1)  # until the parent is through
        os._exit(0 if not held.is_open else 1)
    os.close(read)
    assert os.read(forked, 1) == b"!"  # the parent may come back from the fork long before its child does
    os.close(forked)
    os.close(ready)
    os.utime(held.descriptor, (1, 1))  # the longest unused also where the clock is coarse
    held.close()
    fetch(kept, 1).close()
    fetch(kept, 2).close()
    assert names(tmp_path) == [f"mmae-{SET}/train-{number:06d}.tar" for number in (1, 2)]
    os.close(write)
    assert os.waitpid(child, 0)[1] == 0
