"""Programs on other hosts over ssh: the command, and what its failures mean in one line."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CONNECT_S: Final = 5
_WORDS: Final = 400
REASONS: Final = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "its ssh key has changed",
     "if that is right, remove the old one: ssh-keygen -R {host}, then log in once: ssh {host} true"),
    ("Host key verification failed", "its ssh key is not known here", "log in once by hand: ssh {host} true"),
    ("Permission denied", "ssh asks for a password",
     "let your key in: ssh-copy-id {host} (a key with a passphrase needs ssh-agent)"),
    ("Could not resolve hostname", "its name is unknown here", "correct the hostfile, or add it to DNS or /etc/hosts"),
    ("Connection refused", "no ssh server answers there", "start sshd on {host}"),
    ("No route to host", "no network route leads to it", "is it up, and on this network?"),
    ("Connection timed out", "it does not answer", "is it up? does a firewall drop port 22?"),
    ("timed out", "it does not answer", "is it up? does a firewall drop port 22?"),
    ("No module named", "mmae is not there as it is here", "put the same checkout and environment there"),
    ("can't cd", "this folder is not there", "run from a folder that every host has"),
    ("cd:", "this folder is not there", "run from a folder that every host has"),
    ("not found", "this python is not there", "put the same environment at the same path, or share it"),
    ("No such file", "this python is not there", "put the same environment at the same path, or share it"),
)  # fmt: skip
"""Words of ssh or of the shell behind it, what they mean, and what to do."""


def over_ssh(name: str, command: list[str], environment: Mapping[str, str]) -> list[str]:
    """The ssh command that runs a command on a host, in this working directory and with these variables.

    As for a training's ranks, programs beside this Python (ninja) are found first.
    """
    path = f'PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"'
    variables = [f"{key}={value}" for key, value in environment.items()]
    there = f"cd {shlex.quote(os.getcwd())} && exec env {path} {shlex.join([*variables, *command])}"
    options = ("BatchMode=yes", f"ConnectTimeout={CONNECT_S}", "ServerAliveInterval=5", "ServerAliveCountMax=2")
    return ["ssh", "-T", "-x", *(word for option in options for word in ("-o", option)), "--", name, there]


def reason(said: str, host: str) -> tuple[str, str]:
    """Why a host is not reached, from the words of ssh or its shell, and what to do."""
    for words, why, remedy in REASONS:
        if words in said:
            return why, remedy.format(host=host)
    last = printable((said.strip().splitlines() or ["it said nothing"])[-1])
    return f"the connection ended: {last}", f"try: ssh {host} true"


def printable(text: str) -> str:
    """Text from another machine, made safe for a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:_WORDS].strip()
