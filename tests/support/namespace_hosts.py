"""Hosts on one machine, joined by a bridge: each with a network, processes, a name, mounts and an sshd of its own.

All of it lives in namespaces of processes that this one started: when they end, nothing is left, whatever happened.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

PORT: Final = 2222
"""A second one that each sshd listens at, for options that name a port."""
PROGRAMS: Final = (
    "ip", "pdsh", "pgrep", "ssh", "ssh-keygen", "/usr/sbin/sshd", "unshare", "nsenter", "setpriv",
)  # fmt: skip

# The tests' own end, even by SIGKILL, ends the holder of each namespace, and with it all that runs there.
_APART: Final = ("setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child")
_INIT: Final = """
set -e
hostname "$1"
mount --bind "$2/hosts" /etc/hosts
mount --bind "$2/ssh" /etc/ssh
mount -t tmpfs none /run
mkdir /run/sshd
touch "$2/is-up"
set +e
# Of what a host's processes leave behind, bash is told as their init, and buries it.
while :; do sleep 3600 & wait $!; done
"""


@dataclass(frozen=True)
class Host:
    """One host.

    Attributes:
        pid: of its first process, as this machine counts.
        bridge: the words before a command that make it run where the bridge is.
        etc: its own files.
    """

    name: str
    address: str
    pid: int
    bridge: tuple[str, ...]
    etc: Path

    def on(self, folder: Path | str = "/") -> list[str]:
        """Words before a command that make it run there, in a folder."""
        return ["nsenter", "-t", str(self.pid), "-m", "-u", "-n", "-p", "env", "-C", str(folder)]

    def do(self, *words: str | Path) -> str:
        return _do(*self.on(), *(str(word) for word in words))

    def start_ssh(self) -> None:
        self.do("/usr/sbin/sshd")

    def refuse_ssh(self) -> None:
        """New connections; those there are stay."""
        self.do("sh", "-c", "kill $(cat /run/sshd.pid)")

    def cut_off(self) -> None:
        """Take its cable off the bridge."""
        _do(*self.bridge, "ip", "link", "set", self.name, "down")

    def join_again(self) -> None:
        _do(*self.bridge, "ip", "link", "set", self.name, "up")

    @contextmanager
    def shows(self, what: Path, instead_of: Path) -> Iterator[None]:
        """Have its processes find something else in a place."""
        self.do("mount", "--bind", what, instead_of)
        try:
            yield
        finally:
            self.do("umount", "--lazy", instead_of)

    def processes(self) -> list[str]:
        """Command lines of what lives there, but for its init and sshd."""
        lines = self.do("ps", "-eo", "pid=,args=", "--no-headers").splitlines()
        ours = ("ps -eo", "sleep 3600", "sshd:", "/usr/sbin/sshd")
        found = [line.split(None, 1) for line in lines]
        return [args for pid, args in found if pid != "1" and not any(word in args for word in ours)]


@cache
def why_not() -> str | None:
    """What keeps this machine from having them."""
    if os.getuid() != 0:
        return "needs root"
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        packages = "iproute2 openssh-server openssh-client pdsh procps"
        return f"needs {', '.join(missing)} (Debian: apt-get install {packages})"
    tried = [
        "--mount-proc",
        "--uts",
        "sh",
        "-c",
        "ip link add name switch type bridge && ip link add name left type veth peer name right",
    ]
    done = subprocess.run([*_APART, *tried], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"needs the right to make namespaces, a bridge and cables ({done.stderr.strip() or 'refused'})"
    return None


@contextmanager
def hosts(folder: Path, count: int) -> Iterator[list[Host]]:
    """Start `node-1`, `node-2`, ..., and take everything away at the end."""
    names = [f"node-{number}" for number in range(1, count + 1)]
    addresses = {name: f"10.213.7.{number}" for number, name in enumerate(names, 1)}
    with ExitStack() as undo:
        _keys(folder)
        bridge = undo.enter_context(_apart("sh", "-c", "ip link add bridge type bridge; sleep infinity"))
        at_bridge = ("nsenter", "-t", str(bridge), "-n")
        _until(lambda: _answers(*at_bridge, "ip", "link", "set", "bridge", "up"))
        found = [undo.enter_context(_host(folder, name, addresses, at_bridge)) for name in names]
        for host in found:
            host.start_ssh()
        for host in found:
            _until(lambda name=host.name: _answers(*found[0].on(), "ssh", name, "true"))  # type: ignore[misc]
        yield found


@contextmanager
def _apart(*words: str) -> Iterator[int]:
    """A process in namespaces of its own; yields its id."""
    outer = subprocess.Popen([*_APART, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        _until(lambda: children.read_text().split() != [])
        yield int(children.read_text().split()[0])
    finally:
        # Its child is the init of a number space: all others there are killed with it.
        outer.kill()
        outer.wait()


@contextmanager
def _host(folder: Path, name: str, addresses: dict[str, str], at_bridge: tuple[str, ...]) -> Iterator[Host]:
    etc = folder / name
    _own_files(etc, folder, name, addresses)
    words = ("--mount-proc", "--uts", "bash", "-c", _INIT, "init", name, str(etc))
    with _apart(*words) as pid:
        _until((etc / "is-up").exists)
        host = Host(name, addresses[name], pid, at_bridge, etc)
        cable = ["type", "veth", "peer", "name", "eth0", "netns", str(pid)]
        # Processes are counted as on this machine wherever nsenter leaves the number space as it is.
        _do(*at_bridge, "ip", "link", "add", name, *cable)
        _do(*at_bridge, "ip", "link", "set", name, "master", "bridge", "up")
        host.do("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
        for link in ("eth0", "lo"):
            host.do("ip", "link", "set", link, "up")
        yield host


def _keys(folder: Path) -> None:
    for name in ("host_key", "user_key"):
        _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))


def _own_files(etc: Path, folder: Path, own: str, addresses: dict[str, str]) -> None:
    """What the host shows in /etc instead of the machine's own."""
    (etc / "ssh").mkdir(parents=True)
    (etc / "ssh" / "sshd_config").write_text(
        f"Port 22\nPort {PORT}\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/user_key.pub\nStrictModes no\n"
        "PidFile /run/sshd.pid\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\nMaxStartups 100\n"
    )
    (etc / "ssh" / "ssh_config").write_text(
        f"IdentityFile {folder}/user_key\nIdentitiesOnly yes\nStrictHostKeyChecking no\nLogLevel ERROR\n"
        f"UserKnownHostsFile {folder}/known_hosts\n"
    )
    names = [f"{address} {name}" for name, address in addresses.items()]
    (etc / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names, ""]))


def _until(true: Callable[[], bool], seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "the hosts did not come up"
        time.sleep(0.05)


def _answers(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _do(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{_shown(words)}: {done.stderr}"
    return done.stdout


def _shown(words: Sequence[str]) -> str:
    return " ".join(words)
