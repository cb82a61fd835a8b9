"""Check that every host is reached through pdsh and ssh, as DeepSpeed reaches it, and then start DeepSpeed.

`python -m mmae.launch.ssh_check HOSTS PORT [PDSH OPTIONS] -- COMMAND`. DeepSpeed checks the first host only. If another
one refuses ssh, the ranks wait for ranks that never come.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mmae.errors import EXIT_LOST_RANK, InputError
from mmae.launch.entry import entry
from mmae.launch.ssh import printable, reason

CONNECT_S: Final = 10
ANSWER_S: Final = 20
_THERE: Final = "mmae-is-there-"


def not_reached(hosts: Sequence[str], said: str) -> list[str]:
    """A line for each host that is not as it must be.

    Args:
        said: by `pdsh`, of the command that `question` makes; ssh's words stand behind the host's name.
    """
    # pdsh counts hosts from 0, and may leave a domain out of what it puts in front.
    there = {int(number) for number in re.findall(rf"{_THERE}(\d+)", said)}
    return [_about(host, said) for number, host in enumerate(hosts) if number not in there]


def _about(host: str, said: str) -> str:
    name = host.rpartition("@")[2]
    labels = {f"{name}:", f"{name.partition('.')[0]}:"}
    own = [line.partition(" ")[2] for line in said.splitlines() if line.partition(" ")[0] in labels]
    if not own:
        # What pdsh says of itself names no host, or one that it cut out of the name.
        of_pdsh = [line for line in said.splitlines() if name in line or not re.match(r"\S+: |\s*$", line)]
        words = f" (pdsh: {printable('; '.join(of_pdsh))})" if of_pdsh else ""
        return f"{host}: did not answer within {ANSWER_S} s{words}: is it up?"
    # What ssh says names the host too, by whatever name.
    why, remedy = reason("\n".join(own), host)
    words = printable(own[-1])
    return f"{host}: {why}{'' if words in why else f' ({words})'}: {remedy}"


def question(folder: Path, python: Path) -> str:
    """A shell command that says so where folder and python are there."""
    return f"cd {shlex.quote(str(folder))} && ls {shlex.quote(str(python))} >/dev/null && echo {_THERE}%n"


def ask(hosts: Sequence[str], options: Sequence[str], port: str = "") -> str:
    """What all hosts say, errors included.

    Raises:
        InputError: pdsh is missing.
    """
    environment = {**os.environ, "PDSH_RCMD_TYPE": "ssh"}
    # ssh would wait for ever for an answer to its question for a password.
    own = f"{' -p ' if port else ''}{port} -o BatchMode=yes"
    environment["PDSH_SSH_ARGS_APPEND"] = f"{environment.get('PDSH_SSH_ARGS_APPEND', '')}{own}".strip()
    limits = ["-t", str(CONNECT_S), "-u", str(ANSWER_S)]
    words = ["pdsh", *limits, "-w", ",".join(hosts), *options, question(Path.cwd(), Path(sys.executable))]
    try:
        done = subprocess.run(
            words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise InputError("pdsh is missing here: install it (Debian: apt-get install pdsh)") from None
    return done.stdout + done.stderr


@entry
def main(hosts: str, port: str = "", *words: str) -> int:
    """Become the command. Status 2 if a host is not reached; at a restart 4, as it was lost and may come again."""
    end = words.index("--") if "--" in words else len(words)
    names = hosts.split(",")
    if lines := not_reached(names, ask(names, words[:end], port)):
        if "MMAE_RESTARTS" not in os.environ:
            raise InputError("; ".join(lines))
        print(f"error: lost host: {'; '.join(lines)}", file=sys.stderr)
        return EXIT_LOST_RANK
    if command := words[end + 1 :]:
        os.execvp(command[0], command)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
