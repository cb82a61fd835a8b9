"""Trainings over the hosts of a test."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.support.commands import SMALL
from tests.support.live import Live, started
from tests.support.namespace_hosts import Host
from tests.support.paths import ROOT

WITHIN: float = 60.0
"""Seconds in which a training that cannot go on must have ended, everywhere."""

BY_HAND = [
    "bash", str(ROOT / "launchers" / "multi_node.sh"), "hosts", "--no_ssh", "--node_rank", "{number}",
]  # fmt: skip
"""What is started on each host, where `hosts` is a hostfile."""


def train(shards: Path, *overrides: str) -> list[str]:
    """What follows a launcher's own options."""
    words = ["--config", "debug", "--deepspeed_config", "zero1", f"data.shards={shards}", "run.dir=run"]
    return [*words, *SMALL, *overrides]


def multi_node(
    on: Host, folder: Path, slots: Sequence[int], words: Sequence[str], *options: str, **environment: str
) -> AbstractContextManager[Live]:
    """`multi_node.sh` on a host, with so many slots on `node-1`, `node-2`, ...

    Args:
        words: of `train`.
        options: of the launcher.
    """
    lines = [f"node-{number} slots={count}\n" for number, count in enumerate(slots, 1)]
    (folder / "hosts").write_text("".join(lines))
    launcher = ["bash", str(ROOT / "launchers" / "multi_node.sh"), "hosts", *options]
    return on_host(on, folder, [*launcher, *words], **environment)


def on_host(on: Host, folder: Path, words: Sequence[str], **environment: str) -> AbstractContextManager[Live]:
    return started([*on.on(folder), *words], folder, "run", PYTHONPATH=str(ROOT), **environment)


def saved(live: Live) -> None:
    """Wait until there is a checkpoint to go on from: it is written beside the steps that follow."""
    while not live.records("save"):
        live.wait_for_step(0)
        time.sleep(0.05)


def resumed(live: Live, steps: int = 0) -> int:
    """Wait until a training has been resumed, and has gone so many steps from there; the step it was resumed at."""
    while not (found := live.records("resume")):
        live.wait_for_step(0)
        time.sleep(0.2)
    began: int = found[-1]["step"]
    # What it did before, it may have done to a later step.
    while sum(record["time"] > found[-1]["time"] for record in live.records("train")) < steps:
        live.wait_for_step(0)
        time.sleep(0.2)
    return began


def nothing_left(live: Live) -> None:
    """Wait until all of a training is gone that was killed: that takes its moment."""
    end = time.monotonic() + WITHIN
    while left := live.everything():
        assert time.monotonic() < end, left
        time.sleep(0.05)


def said_last(err: str) -> str:
    """The last line on stderr."""
    return err.rstrip().splitlines()[-1]


@contextmanager
def refusing_ssh(host: Host) -> Iterator[None]:
    host.refuse_ssh()
    try:
        yield
    finally:
        host.start_ssh()


def another_version(host: Host, folder: Path) -> AbstractContextManager[None]:
    file = ROOT / "mmae" / "version.py"
    edited = folder / "edited.py"
    edited.write_text(file.read_text().replace('__version__ = "', '__version__ = "9'))
    return host.shows(edited, file)


def no_shards(host: Host, folder: Path, shards: Path) -> AbstractContextManager[None]:
    (folder / "empty").mkdir()
    return host.shows(folder / "empty", shards)
