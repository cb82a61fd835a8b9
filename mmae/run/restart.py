"""`--resume PATH` and `--fresh` are followed once for each launch.

A launcher or scheduler that restarts a command repeats these options. If the restart followed them again, the run would
go back to its beginning. If every restart ignored them, and the first start had died too early to follow them, the run
would resume what they should have archived. So a start that follows them notes the name of its launch in the folder.
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
"""Variables in which launchers and schedulers count restarts, and those in which they name a launch."""
_NO_NAMES: Final = frozenset({"", "none"})
"""torchrun uses `none` for every launch without a name of its own."""


def was_followed(folder: Path, environment: Mapping[str, str]) -> bool:
    """Whether this is a restart, and an earlier start of the same launch has followed the options.

    For a launch without a name the answer is yes.
    """
    noted = _noted(folder / FOLLOWED)
    names = [(_LAUNCHES[count], environment.get(_LAUNCHES[count], "")) for count in _counting(environment)]
    return any(name in _NO_NAMES or noted.get(variable) == name for variable, name in names)


def note_followed(folder: Path, environment: Mapping[str, str]) -> None:
    """Note that the options have been followed. The holder of the lock does it before it writes the recipe."""
    if names := {variable: environment[variable] for variable in _LAUNCHES.values() if environment.get(variable)}:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / FOLLOWED, json.dumps(names) + "\n")


def _counting(environment: Mapping[str, str]) -> list[str]:
    """The variables that show a restart."""
    return [count for count in _LAUNCHES if environment.get(count, "0") not in {"", "0"}]


def _noted(path: Path) -> dict[str, str]:
    try:
        content = parse_json(read_regular_text(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
