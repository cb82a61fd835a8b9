"""A Slurm on one machine, and nobody else's: munged, slurmctld, and two slurmd with a host name each."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.support.commands import DEADLINE, free_ports

NODES = ("node-1", "node-2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "unshare", "setpriv")
PARTITIONS = {
    "normal": "Default=YES PriorityTier=2",
    "lent": "PriorityTier=1 PreemptMode=CANCEL",
    "urgent": "PriorityTier=3 PreemptMode=OFF",
}
"""Jobs of a higher tier take the place of those below: `normal` ones are queued again, `lent` ones are cancelled."""

ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT",
}  # fmt: skip
"""States that a job does not leave; on its way there, or back into the queue, it may be in others for a moment."""


def why_not() -> str | None:
    """What keeps this machine from having one."""
    if os.getuid() != 0:
        return "needs root"
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        return f"needs {', '.join(missing)} (Debian: apt-get install slurmctld slurmd slurm-client munge)"
    if subprocess.run(["unshare", "--uts", "true"], capture_output=True, check=False).returncode:
        return "needs the right to make UTS namespaces"
    return None


class Slurm:
    """What can be asked of it, and of its jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"

    def do(self, *words: str, cwd: Path | None = None, **environment: str) -> str:
        """The output of one of Slurm's commands."""
        env = {**os.environ, **environment, "SLURM_CONF": str(self.conf)}
        done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def show(self, job: int | str) -> dict[str, str]:
        """What `scontrol show job` says of it."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.do("scontrol", "show", "job", "--oneliner", str(job))))

    def wait(self, job: int, true: Callable[[], bool], seconds: float = DEADLINE) -> None:
        """Until something is true of a job, or it has ended."""
        end = time.monotonic() + seconds
        while not true():
            state = self.show(job)["JobState"]
            assert state not in ENDED, f"{state}\n{self.logs()}"
            assert time.monotonic() < end, self.logs()
            time.sleep(0.1)

    def ended(self, job: int | str, seconds: float = DEADLINE) -> dict[str, str]:
        """How a job ended."""
        end = time.monotonic() + seconds
        while (shown := self.show(job))["JobState"] not in ENDED:
            assert time.monotonic() < end, f"{shown}\n{self.logs()}"
            time.sleep(0.1)
        return shown

    def logs(self) -> str:
        """The end of what the daemons said."""
        return "\n".join(
            f"==> {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-20:])
            for path in sorted(self.folder.glob("*.log"))
        )


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[Slurm]:
    """Start one in an empty folder, and take everything away at the end, jobs too."""
    slurm = Slurm(folder)
    _configure(slurm)
    with ExitStack() as undo:
        undo.callback(_kill_all, f"SLURM_CONF={slurm.conf}")
        _start(slurm, undo, "munged", "munged", "--foreground", "--force", *_munge_files(folder))
        _until(slurm, (folder / "munge").is_socket)
        _start(slurm, undo, "slurmctld", "slurmctld", "-D")
        for node in NODES:
            _start(slurm, undo, node, "unshare", "--uts", "sh", "-c", f"hostname {node} && exec slurmd -D -N {node}")
        _until(slurm, lambda: _idle(slurm) == len(NODES))
        yield slurm


def _configure(slurm: Slurm) -> None:
    folder, host = slurm.folder, socket.gethostname().partition(".")[0]
    ports = free_ports(1 + len(NODES))
    (folder / "state").mkdir()
    for node in NODES:
        (folder / node).mkdir()
    settings = {
        "ClusterName": "test",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": ports[0],
        "SlurmUser": "root",
        "AuthInfo": f"socket={folder}/munge",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "%n",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "%n.pid",
        # Nothing that needs cgroups or a data base.
        "ProctrackType": "proctrack/linuxproc",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core",
        # The nodes claim more cores than the machine has.
        "SlurmdParameters": "config_overrides",
        "SchedulerType": "sched/builtin",
        "SchedulerParameters": "sched_interval=1",
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "JobRequeue": 1,
        "ReturnToService": 2,
        # A machine that stands still for a while has lost no node, and no job.
        "MessageTimeout": 60,
        "BatchStartTimeout": 100,
    }
    lines = [f"{name}={value}" for name, value in settings.items()]
    lines += [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4"
        for node, port in zip(NODES, ports[1:], strict=True)
    ]
    lines += [f"PartitionName={name} Nodes=ALL State=UP {more}" for name, more in PARTITIONS.items()]
    slurm.conf.write_text("\n".join([*lines, ""]))
    if _version() >= (23, 11):
        (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")


def _version() -> tuple[int, ...]:
    """Of Slurm. Its newer ones want a cgroup even where nothing is configured to use one; older ones cannot be told."""
    said = subprocess.run(["slurmd", "-V"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", said)[:2]))


def _munge_files(folder: Path) -> list[str]:
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(64))
    return [
        f"--socket={folder}/munge", f"--key-file={key}", f"--pid-file={folder}/munged.pid",
        f"--log-file={folder}/munged-own.log", f"--seed-file={folder}/munge.seed",
    ]  # fmt: skip


def _start(slurm: Slurm, undo: ExitStack, name: str, *words: str) -> None:
    with (slurm.folder / f"{name}.log").open("w") as log:
        daemon = subprocess.Popen(
            # They end also with a test run that is killed.
            ["setpriv", "--pdeathsig", "KILL", *words], cwd=slurm.folder, start_new_session=True,
            env={**os.environ, "SLURM_CONF": str(slurm.conf)}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    undo.callback(daemon.wait)
    undo.callback(daemon.kill)


def _idle(slurm: Slurm) -> int:
    with suppress(AssertionError):  # slurmctld does not answer yet
        return slurm.do("sinfo", "--noheader", "--Node", "--partition=normal", "--format=%T").split().count("idle")
    return 0


def _until(slurm: Slurm, true: Callable[[], bool], seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"Slurm's daemons do not come up\n{slurm.logs()}"
        time.sleep(0.1)


def _kill_all(variable: str) -> None:
    """Kill what daemons leave behind, jobs and their keepers: all have the variable in their environment."""
    end = time.monotonic() + 30
    while found := [int(place.name) for place in Path("/proc").glob("[0-9]*") if _has(place, variable)]:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert time.monotonic() < end, f"cannot end {found}"
        time.sleep(0.05)


def _has(place: Path, variable: str) -> bool:
    try:
        return variable.encode() in (place / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
