"""`mmae doctor` over real ssh: hosts that are well, and all that may be wrong with them at once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from mmae.doctor.bandwidth.rank import MODULE
from tests.support.commands import Finished, run_command
from tests.support.host_training import another_version, no_shards, refusing_ssh
from tests.support.namespace_hosts import Host
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


def doctor(on: Host, folder: Path, shards: Path, names: list[str], *more: str) -> Finished:
    (folder / "hosts").write_text("".join(f"{name} slots=1\n" for name in names))
    words = ["mmae", "doctor", "--hostfile", "hosts", "--shards", str(shards), "--run", "run", *more]
    return run_command(*on.on(folder), *words, cwd=folder, deadline=240, PYTHONPATH=str(ROOT))


def results(done: Finished) -> dict[tuple[str, str], str]:
    """Check and host -> result, what was found, what to do."""
    rows: list[list[str]] = []
    for line in done.out.splitlines():
        if not line.startswith("| "):
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if cells[0]:
            rows.append(cells)
        else:
            # Text that takes several lines.
            rows[-1] = [" ".join(pair).strip() for pair in zip(rows[-1], cells, strict=True)]
    return {(check, host): " | ".join(rest) for check, host, *rest in rows}


def test_hosts_that_are_well(cluster: list[Host], synthetic_shards: Path, tmp_path: Path) -> None:
    done = doctor(cluster[0], tmp_path, synthetic_shards, [host.name for host in cluster], "--bandwidth")
    assert done.status == 0, done.out
    found = results(done)["bandwidth", "all 3"]
    assert "bus bandwidth: 3 ranks reduce" in found
    assert "(gloo; eth0)" in found
    nothing_runs(cluster)
    assert "0 failed, 0 to look at" in done.out
    assert results(done)["connect", "node-2"].startswith("ok | to node-1, node-3")
    assert [path.name for path in tmp_path.iterdir()] == ["hosts"]


def nothing_runs(cluster: list[Host]) -> None:
    end = time.monotonic() + 60
    while left := [host.processes() for host in cluster]:
        if not any(left):
            return
        assert time.monotonic() < end, left
        time.sleep(0.2)


def workers(host: Host) -> list[str]:
    """The processes of a host that reduce, or load torch for it: each is the child of one with the same words."""
    lines = host.do("ps", "-eo", "pid=,ppid=,args=", "--no-headers").splitlines()
    found = {pid: parent for pid, parent, args in (line.split(None, 2) for line in lines) if f"-m {MODULE} " in args}
    return [pid for pid, parent in found.items() if parent in found]


def signalled(host: Host, name: str) -> None:
    """Send a signal to the first worker of a host."""
    end = time.monotonic() + 200
    while not (found := workers(host)):
        assert time.monotonic() < end
        time.sleep(0.1)
    host.do("kill", f"-{name}", found[0])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("KILL", "rank 1 was killed by signal 9 "),
        # Which phase it is depends on how fast the machine is.
        ("STOP", "rank 1 hung "),
    ],
)
def test_a_rank_that_is_lost_is_named_with_its_host_and_nothing_runs_on(
    name: str, words: str, cluster: list[Host], synthetic_shards: Path, tmp_path: Path
) -> None:
    sender = threading.Thread(target=signalled, args=(cluster[1], name))
    sender.start()
    done = doctor(cluster[0], tmp_path, synthetic_shards, ["node-1", "node-2"], "--bandwidth")
    sender.join()
    assert done.status == 1
    rows = {place: found for place, found in results(done).items() if place[0] == "bandwidth"}
    assert list(rows) == [("bandwidth", "node-2")]
    assert rows["bandwidth", "node-2"].startswith(f"FAIL | {words}")
    nothing_runs(cluster)


def test_each_fault_is_named(cluster: list[Host], synthetic_shards: Path, tmp_path: Path) -> None:
    first, second, third = cluster
    aside = tmp_path / "aside"
    aside.mkdir()
    names = ["node-1", "node-2", "node-3", "node-4"]
    with refusing_ssh(third), another_version(second, aside), no_shards(second, aside, synthetic_shards):
        done = doctor(first, tmp_path, synthetic_shards, names)
    assert done.status == 1
    found = results(done)
    failed = {place for place, result in found.items() if result.startswith("FAIL")}
    assert failed == {
        ("ssh", "node-3"), ("ssh", "node-4"), ("software", "node-2"), ("code", "node-2"), ("shards", "node-2"),
    }  # fmt: skip
    assert "no ssh server answers there | start sshd on node-3" in found["ssh", "node-3"]
    assert "its name is unknown here" in found["ssh", "node-4"]
    assert "mmae 90.1.0, elsewhere 0.1.0" in found["software", "node-2"]
    assert f"{synthetic_shards}: no index.json" in found["shards", "node-2"]
