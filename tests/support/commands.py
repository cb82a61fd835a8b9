"""Starting real commands and real trainings."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

BIN = Path(sys.executable).parent
DEADLINE = 600  # seconds; a start that hangs is a failure, not a lost afternoon

SMALL = [
    "model.size=nano",
    "model.decoder_dim=32",
    "model.decoder_depth=1",
    "model.decoder_num_heads=4",
    "train.warmup_steps=1",
    "log.wandb=false",
    "data.workers=1",
]
"""Overrides that make a training a matter of seconds."""

LAUNCHER = ROOT / "launchers" / "single_node.sh"


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def last_json(self) -> dict[str, Any]:
        """The JSON line that a training ends with."""
        lines = [line for line in self.out.splitlines() if line.startswith("{")]
        assert lines, self.out + self.err
        parsed: dict[str, Any] = json.loads(lines[-1])
        return parsed


Command = Callable[..., Finished]


def command_environment(**more: str) -> dict[str, str]:
    """Variables under which the commands of the environment that the tests run in are found."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **more}


def run_as_rank(work: Callable[[list[dict[str, Any]], Path, int], None]) -> int:
    """A program that `deepspeed` starts with JOBS RESULTS: joins the group, works as its rank, and leaves it.

    Args:
        work: is given the jobs, the file for results, and the rank.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--local_rank", type=int)
    parser.add_argument("jobs", type=Path)
    parser.add_argument("results", type=Path)
    args = parser.parse_args()
    from mmae.distributed.process_group import join, leave
    from mmae.engine.telemetry.run_log import quiet_libraries

    quiet_libraries()
    rank = join()
    work(json.loads(args.jobs.read_text()), args.results, rank)
    leave()
    return 0


def run_command(*words: str | Path, cwd: Path, deadline: float = DEADLINE, **environment: str) -> Finished:
    """Run a command of the environment the tests run in."""
    env = command_environment(**environment)
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True, timeout=deadline, check=False
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def free_port() -> int:
    """A port for a process group of its own: launchers would all take the same one."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Ports that stay free until they are taken, seconds later: none that the system gives to who names none."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            probe, port = held.enter_context(socket.socket()), 10_000 + secrets.randbelow(10_000)
            with suppress(OSError):
                probe.bind(("", port))
                found.append(port)
    return found


def train_words(shards: Path, run: str, *overrides: str, stage: int = 1, ranks: int = 2) -> list[str]:
    """The command line of a small training on `ranks` CPU ranks."""
    launcher = ["deepspeed", "--num_gpus", str(ranks), "--master_port", str(free_port()), "--module", "mmae.train"]
    return [
        *launcher, "--config", "debug", "--deepspeed_config", f"zero{stage}",
        f"data.shards={shards}", f"run.dir={run}", *SMALL, *overrides,
    ]  # fmt: skip


def launcher_words(shards: Path, run: str, *overrides: str, options: tuple[str, ...] = ()) -> list[str]:
    recipe = ["--config", "debug", "--deepspeed_config", "zero1", f"data.shards={shards}", f"run.dir={run}"]
    return ["bash", str(LAUNCHER), *options, *recipe, *SMALL, *overrides]
