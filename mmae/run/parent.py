"""Where a run went on from: a checkpoint of another run. `parent.json` in the run's folder says so."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mmae.disk.files import write_whole
from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular_text
from mmae.run.layout import CHECKPOINTS, PARENT, step_of


@dataclass(frozen=True)
class Parent:
    """The checkpoint that a run began with.

    Attributes:
        run: the folder of the run that wrote it, as an absolute path.
        step: of the checkpoint.
    """

    run: str
    step: int

    @property
    def name(self) -> str:
        """The name of that run's folder, which says nothing of the machine it lies on."""
        return Path(self.run).name

    def __str__(self) -> str:
        return f"step {self.step} of {self.run}"


def note_parent(folder: Path, checkpoint: Path | None) -> None:
    """Note in a run's folder the checkpoint that it goes on from, if there is one and another run wrote it."""
    if checkpoint is None:
        return
    run = checkpoint.absolute().parent
    run = run.parent if run.name == CHECKPOINTS else run
    step = step_of(checkpoint)
    if step is not None and run.resolve() != folder.resolve():
        write_parent(folder, Parent(str(run), step))


def write_parent(folder: Path, parent: Parent) -> None:
    write_whole(folder / PARENT, json.dumps(asdict(parent)) + "\n")


def read_parent(folder: Path) -> Parent | None:
    """The checkpoint that a run began with; None if it began anew, or if the file is damaged."""
    try:
        found = parse_json(read_regular_text(folder / PARENT))
    except (OSError, ValueError):
        return None
    match found:
        case {"run": str(run), "step": int(step)} if not isinstance(step, bool):
            return Parent(run, step)
    return None
