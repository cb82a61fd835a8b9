"""Ranks that `deepspeed` starts on other hosts through pdsh and ssh, where no signal of this machine reaches them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.errors import EXIT_LOST_RANK
from mmae.launch.rank_environment import write_exports
from mmae.launch.supervision.first_error import Errors
from mmae.launch.supervision.launched_job import LARGEST, Job, popen, unblock_signals
from mmae.run.layout import STOP

_SSH_FAILED: Final = 255
_KILL_S: Final = 60.0
_LAST_WORDS_S: Final = 5.0
_SSH_OPTIONS: Final = "PDSH_SSH_ARGS_APPEND"


@dataclass(frozen=True)
class Hosts:
    """How the ranks of a job are reached.

    Attributes:
        names: the names of the hosts, as ssh takes them.
        address: where the ranks meet, with `port`.
        ssh_port: None for ssh's own choice.
        pdsh_options: further options of pdsh.
        run: the run's folder, which all hosts share; None for ranks that are not asked to stop, but ended.
        ask_first: check that every host is reached before ranks are started.
    """

    names: Sequence[str]
    address: str
    port: int
    ssh_port: int | None
    pdsh_options: Sequence[str]
    run: Path | None
    ask_first: bool


class SshRanks(Job):
    """All ranks see the run's folder: they are asked to stop by the file `stop` in it."""

    _folder: tempfile.TemporaryDirectory[str]
    _reader: threading.Thread

    def __init__(self, name: str, command: Sequence[str], hosts: Hosts) -> None:
        super().__init__(name, command)
        self._hosts = hosts
        self._users_file = os.environ.get("DS_ENV_FILE")
        self._errors = Errors()
        self._request: Path | None = None

    def __enter__(self) -> SshRanks:
        self._folder = tempfile.TemporaryDirectory(prefix="mmae-launch-")
        # Without these ssh waits without end for a host that is cut off.
        options = f"{os.environ.get(_SSH_OPTIONS, '')} -o ServerAliveInterval=5 -o ServerAliveCountMax=6"
        os.environ[_SSH_OPTIONS] = options
        return self

    def __exit__(self, *about: object) -> None:
        super().__exit__(*about)
        self._folder.cleanup()
        if self._request is not None:
            # If no rank obeyed this request, the next start would.
            self._request.unlink(missing_ok=True)

    def exports(self) -> Path:
        """Write the variables that the ranks get into a file. The user's own .deepspeed_env is read, and stays."""
        file = Path(self._folder.name, "exports")
        write_exports(file, self._users_file)
        return file

    def start(self) -> None:
        os.environ["DS_ENV_FILE"] = str(self.exports())
        asks = [sys.executable, "-m", "mmae.launch.ssh_check", ",".join(self._hosts.names)]
        asks += [str(self._hosts.ssh_port or ""), *self._hosts.pdsh_options, "--"]
        self._process = popen([*(asks if self._hosts.ask_first else []), *self.command], pipe_errors=True)
        self._errors = Errors()
        self._reader = threading.Thread(target=self._read, args=(self._process,), name="ranks' stderr", daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                with suppress(OSError):
                    sys.stderr.buffer.write(line if line.endswith(b"\n") else line + b"\n")
                    sys.stderr.buffer.flush()
                self._errors.read(line.decode(errors="replace").rstrip("\n"))

    def ask(self, _: signal.Signals) -> bool:
        if self._hosts.run is None or not self._hosts.run.is_dir():
            return False
        self._request = self._hosts.run / STOP
        self._request.touch()
        return True

    def end_early(self) -> None:
        self.kill()

    def kill(self) -> None:
        if self._process is None:
            return
        super().kill()
        hosts = self._hosts
        words = ["pdsh", "-t", "10", "-u", "30", "-w", ",".join(hosts.names), *hosts.pdsh_options]
        environment = {**os.environ, "PDSH_RCMD_TYPE": "ssh"}
        environment[_SSH_OPTIONS] = with_port(environment[_SSH_OPTIONS], hosts.ssh_port)
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [*words, kill_command(hosts.address, hosts.port)],
                env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_KILL_S,
                check=False,
                preexec_fn=unblock_signals,
            )  # fmt: skip

    def finish(self, status: int) -> int:
        self._reader.join(_LAST_WORDS_S)
        if status > LARGEST:
            # 255 is ssh's own; DeepSpeed's launch process would end so too for a rank that SIGHUP killed.
            if status != _SSH_FAILED:
                self.say(f"a rank was killed by signal {256 - status}")
            status = EXIT_LOST_RANK
        for line in self._errors.summary():
            self.say(line)
        return super().finish(status)


def with_port(options: str, port: int | None) -> str:
    """ssh's options for our own calls of pdsh; DeepSpeed adds the port to its calls by itself."""
    return f"{options} -p {port}" if port else options


def kill_command(address: str, port: int) -> str:
    """A shell command that kills DeepSpeed's launch process of this job on a host, with its ranks."""
    # The bracket keeps the pattern from finding the shell that this command runs in.
    pattern = shlex.quote(f"[m]aster_addr={address} --master_port={port} ")
    return f"for launch in $(pgrep -u $(id -u) -f {pattern}); do pkill -KILL -P $launch; kill -KILL $launch; done"
