"""Two hosts on one machine: network namespaces joined by a cable, with an sshd and a /etc/hosts in each."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PORT = 2222
ADDRESSES = ("10.213.7.1", "10.213.7.2")
NAMES = ("node-1", "node-2")


def why_not() -> str | None:
    """What keeps this machine from having them."""
    if os.getuid() != 0:
        return "needs root"
    if missing := [name for name in ("ip", "pdsh", "ssh", "ssh-keygen", "/usr/sbin/sshd") if not shutil.which(name)]:
        return f"needs {', '.join(missing)} (Debian: apt-get install iproute2 openssh-server pdsh)"
    probe = f"mmae-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    if made.returncode == 0:
        _do("ip", "netns", "delete", probe)
    return None if made.returncode == 0 else "needs the right to make network namespaces"


@contextmanager
def two_hosts(folder: Path) -> Iterator[list[str]]:
    """Start them, and take everything away at the end.

    Yields:
        words before a command that make it run on the first.
    """
    spaces = [f"mmae-{os.getpid()}-{name}" for name in NAMES]
    with ExitStack() as undo:
        if not Path("/run/sshd").exists():
            Path("/run/sshd").mkdir()
            undo.callback(Path("/run/sshd").rmdir)
        if not Path("/etc/netns").exists():
            Path("/etc/netns").mkdir()
            undo.callback(Path("/etc/netns").rmdir)
        _keys(folder)
        for space in spaces:
            _do("ip", "netns", "add", space)
            undo.callback(_do, "ip", "netns", "delete", space)
            _own_files(Path("/etc/netns") / space, folder)
            undo.callback(shutil.rmtree, Path("/etc/netns") / space)
        _do("ip", "link", "add", "cable", "netns", spaces[0], "type", "veth", "peer", "cable", "netns", spaces[1])
        for space, address in zip(spaces, ADDRESSES, strict=True):
            _do("ip", "-n", space, "address", "add", f"{address}/24", "dev", "cable")
            for link in ("cable", "lo"):
                _do("ip", "-n", space, "link", "set", link, "up")
            server = subprocess.Popen(
                ["ip", "netns", "exec", space, "/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")],
                stderr=subprocess.DEVNULL,
            )
            undo.callback(server.wait)
            undo.callback(server.terminate)
        for name in NAMES:
            _wait_for([*_on(spaces[0]), "ssh", "-p", str(PORT), name, "true"])
        yield _on(spaces[0])


def _on(space: str) -> list[str]:
    return ["ip", "netns", "exec", space]


def _keys(folder: Path) -> None:
    for name in ("host_key", "user_key"):
        _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    (folder / "sshd_config").write_text(
        f"Port {PORT}\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/user_key.pub\nStrictModes no\n"
        "PidFile none\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n"
    )


def _own_files(place: Path, folder: Path) -> None:
    """What `ip netns exec` shows in /etc instead of the machine's own."""
    (place / "ssh").mkdir(parents=True)
    (place / "ssh" / "ssh_config").write_text(
        f"IdentityFile {folder}/user_key\nIdentitiesOnly yes\nStrictHostKeyChecking no\nLogLevel ERROR\n"
        f"UserKnownHostsFile {folder}/known_hosts\nBatchMode yes\n"
    )
    names = [f"{address} {name}" for address, name in zip(ADDRESSES, NAMES, strict=True)]
    # As many machines have it: the own name leads nowhere else.
    (place / "hosts").write_text("\n".join(["127.0.0.1 localhost", f"127.0.1.1 {os.uname().nodename}", *names, ""]))


def _wait_for(words: list[str], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while (done := subprocess.run(words, capture_output=True, text=True, check=False)).returncode != 0:
        assert time.monotonic() < end, done.stderr
        time.sleep(0.1)


def _do(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
