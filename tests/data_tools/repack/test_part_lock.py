from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from data_tools.repack.part_lock import FOLDER_LOCK, Part, folder_lock, parse_part, part_lock, remove_locks
from mmae.errors import InputError


def test_parts() -> None:
    assert parse_part("1/1") == Part()
    assert str(parse_part("3/16")) == "3/16"
    for text in ("0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", ""):
        with pytest.raises(InputError, match=r"--part .*: give I/N"):
            parse_part(text)


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_every_shard_has_one_part(of: int) -> None:
    parts = [Part(number, of) for number in range(1, of + 1)]
    for shard in range(20):
        assert sum(part.has(shard) for part in parts) == 1


def test_a_part_is_held_once(tmp_path: Path) -> None:
    with part_lock(tmp_path, Part(1, 2)) as alone:
        assert alone
        with pytest.raises(InputError, match="writing part 1/2 there: wait"), part_lock(tmp_path, Part(1, 2)):
            pass
        with part_lock(tmp_path, Part(2, 2)) as alone_too:
            assert not alone_too
    with part_lock(tmp_path, Part(2, 2)) as alone:
        assert alone, "what an ended part leaves is no lock"


def test_other_partitions_are_refused(tmp_path: Path) -> None:
    with part_lock(tmp_path, Part(2, 4)):
        for part in (Part(), Part(2, 3)):
            with pytest.raises(InputError, match="writing part 2/4 there: wait for it, or give --part I/4"):  # noqa: SIM117
                with part_lock(tmp_path, part):
                    pass
    with part_lock(tmp_path, Part()):
        pass


@pytest.mark.process
def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from data_tools.repack.part_lock import *; lock = part_lock(Path("
        "sys.argv[1]), Part()); lock.__enter__(); print('held', flush=True); time.sleep(6000)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(InputError, match="the whole set"), part_lock(tmp_path, Part()):
        pass
    child.kill()
    child.wait()
    child.stdout.close()
    with part_lock(tmp_path, Part()) as alone:
        assert alone


def test_the_folder_is_waited_for_even_if_its_lock_is_removed(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(5):
            with folder_lock(tmp_path):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.002)
                inside[0] -= 1
                remove_locks(tmp_path)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert not (tmp_path / FOLDER_LOCK).exists()


def test_only_locks_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".mine.lock").touch()
    with ExitStack() as stack:
        stack.enter_context(part_lock(tmp_path, Part(1, 2)))
        remove_locks(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".mine.lock"]


def test_file_systems_without_locks_let_everybody_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with folder_lock(tmp_path), folder_lock(tmp_path):
        for part in (Part(1, 2), Part(1, 3)):
            with part_lock(tmp_path, part) as alone:
                assert not alone, "nobody can know"
