"""Kill a training again and again, and see that nothing is lost: the last weights equal those of a run left alone.

    python -m tests.soak --kills 30

Every kill is a SIGKILL of all processes of a training (launcher, ranks, loader workers) at a drawn moment: some while a
checkpoint is being written, the others between the steps. Every start after it must go on by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

from tests.support.commands import DEADLINE, Finished, command_environment, run_command, train_words
from tests.support.compare import checkpoint_tensors

MARK = "MMAE_SOAK"
STEPS_A_KILL = 8
SAVE_EVERY = 3
SAVE_SECONDS, STEP_SECONDS = 0.5, 0.3
"""What a save and a step take, until they have been timed."""


@dataclass(frozen=True)
class Moment:
    """When to kill: after so many steps or saves of this start, and so long after that."""

    in_save: bool
    count: int
    part: float


@dataclass
class Tally:
    """What the kills met."""

    during: Counter[str] = field(default_factory=Counter)
    resumed_at: list[int] = field(default_factory=list)

    def report(self) -> str:
        kills = sum(self.during.values())
        lines = [f"{kills} kills, {self.in_saves} while a save was being written; resumed at steps {self.resumed_at}"]
        lines += [f"  {what:<28} {count:>3} {'#' * count}" for what, count in sorted(self.during.items())]
        return "\n".join(lines)

    @property
    def in_saves(self) -> int:
        return sum(count for what, count in self.during.items() if what.startswith("save"))


class Soak:
    """One training, killed and started again."""

    def __init__(self, folder: Path, shards: Path, ranks: int, stage: int, size: str, max_steps: int) -> None:
        self.folder, self.run, self._shards = folder, folder / "killed", shards
        self._ranks, self._stage, self._size, self._max_steps = ranks, stage, size, max_steps
        self.save_seconds, self.step_seconds = SAVE_SECONDS, STEP_SECONDS

    def words(self, run: str) -> list[str]:
        """The command line of a start; drop path and the loss balancer bring random state and more to lose."""
        return train_words(
            self._shards, run, f"train.max_steps={self._max_steps}", f"checkpoint.every={SAVE_EVERY}", "val.every=0",
            "log.every=1", f"model.size={self._size}", "model.drop_path=0.1", "model.task_balancer=uncertainty",
            stage=self._stage, ranks=self._ranks,
        )  # fmt: skip

    @property
    def checkpoints(self) -> Path:
        return self.run / "checkpoints"

    def saving(self, since: float = 0.0) -> Path | None:
        """The folder of a save that is being written; none that a killed start left before that time."""
        for folder in self.checkpoints.glob(".saving-*"):
            with suppress(FileNotFoundError):
                if folder.stat().st_mtime > since:
                    return folder
        return None

    def steps_logged(self) -> int:
        """Steps that were recorded, those included that a later start did not go on with."""
        logs = [*self.run.glob("log.jsonl"), *self.run.glob("aside-*/log.jsonl")]
        return sum(log.read_bytes().count(b'"kind": "train"') for log in logs)

    def kill_once(self, moment: Moment, tally: Tally) -> None:
        """Start, and kill at that moment."""
        mark = uuid.uuid4().hex
        with (self.folder / "out.txt").open("ab") as out:
            began = out.tell()
            process = subprocess.Popen(
                self.words("killed"), cwd=self.folder, env=command_environment(**{MARK: mark}), stdout=out, stderr=out
            )
            try:
                struck = self._wait_for(moment, process)
            finally:
                _kill_all(mark)
                process.wait()
        said = (self.folder / "out.txt").read_bytes()[began:].decode(errors="replace")
        if not struck:
            raise SystemExit(f"the training ended before it was killed:\n{said[-3000:]}")
        if "Traceback" in said:
            raise SystemExit(f"an exception:\n{said[-3000:]}")
        tally.during[self._met(moment)] += 1
        tally.resumed_at += [int(line.split()[3]) for line in said.splitlines() if line.startswith("resuming at step")]

    def _wait_for(self, moment: Moment, process: subprocess.Popen[bytes]) -> bool:
        deadline, began = time.monotonic() + DEADLINE, time.time()
        before, seen, last = self.steps_logged(), 0, None
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return False
            if moment.in_save:
                saving = self.saving(since=began)
                seen += saving is not None and last is None
                last = saving
                if seen == moment.count:
                    time.sleep(moment.part * self.save_seconds)
                    return True
            elif self.steps_logged() - before >= moment.count:
                # Steps are recorded late, often all at a save.
                time.sleep(self.save_seconds + moment.part * SAVE_EVERY * self.step_seconds)
                return True
            time.sleep(0.001)
        raise SystemExit(f"nothing happened within {DEADLINE} s")

    def _met(self, moment: Moment) -> str:
        if (saving := self.saving()) is not None:
            return f"save, {len(list(saving.iterdir())):>2} files written"
        return "right after a save" if moment.in_save else "training"


def _kill_all(mark: str) -> None:
    """SIGKILL every process that was started under the mark, until none is left."""
    while found := list(_marked(mark)):
        for pid in found:
            with suppress(ProcessLookupError, FileNotFoundError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _marked(mark: str) -> Iterator[int]:
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(ProcessLookupError, FileNotFoundError, PermissionError):
                dead = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                if not dead and wanted in (folder / "environ").read_bytes():
                    yield int(folder.name)


def soak(folder: Path, kills: int, ranks: int, stage: int, size: str, seed: int) -> Tally:
    """Kill so often, then let it end, and compare with a run that nobody disturbed.

    Raises:
        SystemExit: an exception in any start, a start that does not go on, or one tensor that differs in one bit.
    """
    draw = random.Random(seed)
    for words in (("synth", "tiles", "--tiles", "64"), ("repack", "tiles", "shards")):
        _must(run_command(sys.executable, "-m", "mmae", *words, cwd=folder))
    this = Soak(folder, folder / "shards", ranks, stage, size, max_steps=STEPS_A_KILL * kills)
    alone = Path(_must(run_command(*this.words("alone"), cwd=folder)).last_json["checkpoint"])
    this.save_seconds = _median(folder / "alone", "save", "seconds")
    this.step_seconds = _median(folder / "alone", "train", "step_seconds")
    tally = Tally()
    for number in range(kills):
        moment = Moment(draw.random() < 0.6, draw.randint(1, 2), draw.random())
        if not moment.in_save:
            moment = Moment(False, draw.randint(1, 2 * SAVE_EVERY), moment.part)
        this.kill_once(moment, tally)
        print(f"kill {number + 1} of {kills}: {moment}", flush=True)
    ended = Path(_must(run_command(*this.words("killed"), cwd=folder)).last_json["checkpoint"])
    expected, seen = checkpoint_tensors(folder / alone), checkpoint_tensors(folder / ended)
    different = [name for name in expected if not torch.equal(expected[name], seen[name])]
    if different or expected.keys() != seen.keys():
        raise SystemExit(f"{len(different)} of {len(expected)} tensors differ from the run left alone: {different[:5]}")
    print(f"{len(expected)} tensors (weights, masters, moments) are equal bit for bit to those of the run left alone")
    return tally


def _must(done: Finished) -> Finished:
    if done.status:
        raise SystemExit(done.out + done.err)
    return done


def _median(run: Path, kind: str, key: str) -> float:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    values: list[float] = [record[key] for record in records if record["kind"] == kind]
    return median(values)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, metavar="N")
    parser.add_argument("--ranks", type=int, default=2, metavar="N")
    parser.add_argument("--stage", type=int, default=1, choices=range(4), help="of ZeRO")
    parser.add_argument("--size", default="tiny", help="of the encoder: larger ones take longer to save")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(soak(Path(folder), args.kills, args.ranks, args.stage, args.size, args.seed).report())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
