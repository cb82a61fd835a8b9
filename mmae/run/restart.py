"""What only the first start of a command follows: `--resume PATH` and `--fresh`.

A launcher or scheduler that gives a command again by itself gives these words again too. Followed again they would go
back to where the first start began; not followed at all, because that one died too early, the run would go on with what
they were to put aside. So whoever has followed them says so in the run's folder, by the names of the launches it is of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mmae.disk.files import write_whole
from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular_text
from mmae.run.layout import FOLLOWED

_LAUNCHES: Final = MappingProxyType({
    "MMAE_RESTARTS": "MMAE_LAUNCH",
    "SLURM_RESTART_COUNT": "SLURM_JOB_ID",
    "TORCHELASTIC_RESTART_COUNT": "TORCHELASTIC_RUN_ID",
})  # fmt: skip
"""Where launchers and schedulers say how often they have started a command again, and how they name a launch."""
_NO_NAMES: Final = frozenset({"", "none"})
"""torchrun names every launch `none` that nobody named."""


def was_followed(folder: Path, environment: Mapping[str, str]) -> bool:
    """Whether this is a start again, and an earlier one of the same launch has followed what the command says.

    A launch without a name is taken to have done so.
    """
    noted = _noted(folder / FOLLOWED)
    names = [(_LAUNCHES[count], environment.get(_LAUNCHES[count], "")) for count in _counting(environment)]
    return any(name in _NO_NAMES or noted.get(variable) == name for variable, name in names)


def note_followed(folder: Path, environment: Mapping[str, str]) -> None:
    """Say that what the command says has been followed. Before the folder's `config.yaml` is written, by its owner."""
    if names := {variable: environment[variable] for variable in _LAUNCHES.values() if environment.get(variable)}:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / FOLLOWED, json.dumps(names) + "\n")


def _counting(environment: Mapping[str, str]) -> list[str]:
    """Who gives the command again, which a user gave once."""
    return [count for count in _LAUNCHES if environment.get(count, "0") not in {"", "0"}]


def _noted(path: Path) -> dict[str, str]:
    try:
        content = parse_json(read_regular_text(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
