"""The variables that a launcher sets for each rank, checked before they are used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from mmae.errors import InputError

NEEDED: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_COUNTS: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "LOCAL_WORLD_SIZE", "LOCAL_SIZE")
_SECONDS: Final = ("MMAE_JOIN_SECONDS",)


def check_launch(environment: Mapping[str, str]) -> None:
    """Check that either all variables by which ranks meet are set, or none (this process is then the only rank).

    Raises:
        InputError: a variable is missing or has an invalid value.
    """
    for name in (*_COUNTS, *_SECONDS):
        said = environment.get(name)
        if said is not None and not (said.isascii() and said.isdigit() if name in _COUNTS else _is_time(said)):
            kind = "a whole number" if name in _COUNTS else "a number of seconds"
            raise InputError(f"{name}={said!r} in the environment is not {kind}: unset it, or use a launcher")
    if "RANK" not in environment and environment.get("WORLD_SIZE", "1") == "1":
        return
    if missing := [name for name in NEEDED if not environment.get(name)]:
        raise InputError(
            f"the environment says how ranks are to meet, but not {', '.join(missing)}: use deepspeed, torchrun, "
            f"accelerate, srun as in launchers/, or unset {', '.join(name for name in NEEDED if name in environment)}"
        )
    rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    if rank >= world:
        raise InputError(f"RANK={rank} in the environment, but WORLD_SIZE={world}: ranks count from 0")


def world_size(environment: Mapping[str, str]) -> int:
    """Number of ranks that the launcher started; 1 without a launcher."""
    return int(environment.get("WORLD_SIZE", "1"))


def local_world_size(environment: Mapping[str, str]) -> int:
    """Number of ranks on this node, from the variable of torchrun, accelerate or deepspeed."""
    return int(environment.get("LOCAL_WORLD_SIZE", environment.get("LOCAL_SIZE", "1")))


def _is_time(said: str) -> bool:
    try:
        return 0 < float(said) < math.inf
    except ValueError:
        return False
