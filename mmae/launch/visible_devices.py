"""Which GPUs a start may use: those of CUDA_VISIBLE_DEVICES, or all of the machine where that is not set.

DeepSpeed counts GPUs from 0: `--num_gpus 2` replaces CUDA_VISIBLE_DEVICES=4,5 by 0,1, and its `--include` reads numbers
only. Also for ranks on CPUs it sets CUDA_VISIBLE_DEVICES=0,1, which shows them GPUs that the user had hidden. So
numbers go through `--include`, and names, or no GPU at all, go to the ranks in `MMAE_DEVICES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mmae.distributed.devices import VISIBLE
from mmae.errors import InputError

CPU_RANKS: Final = 2
"""Ranks on a machine without GPUs, unless RANKS says otherwise."""
_NUMBER: Final = re.compile(r"\d{1,4}", re.ASCII)
_UUID: Final = re.compile(r"GPU-[0-9A-Fa-f-]+", re.ASCII)
_MIG: Final = re.compile(r"MIG-[0-9A-Za-z/-]+", re.ASCII)
_NONE: Final = frozenset({"", "nodevfiles", "none", "void"})
"""Values that schedulers write for an allocation without GPUs."""


@dataclass(frozen=True)
class Devices:
    """The devices of the ranks on a machine.

    Attributes:
        ranks: number of ranks on this machine.
        names: names of GPUs, one for each rank; empty for ranks on CPUs; None for the first `ranks` GPUs.
        note: a line for people; empty if nothing is unusual.
    """

    ranks: int
    names: tuple[str, ...] | None
    note: str = ""

    @property
    def on_cpu(self) -> bool:
        return self.names == ()

    def include(self) -> str:
        """The value of DeepSpeed's `--include`; empty if that option cannot name the devices."""
        numbers = self.names or ()
        return f"localhost:{','.join(numbers)}" if numbers and all(map(_NUMBER.fullmatch, numbers)) else ""


def given(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """The GPUs that CUDA_VISIBLE_DEVICES names; empty if it hides all of them; None if it is not set.

    Raises:
        InputError: it names something that is not a GPU.
    """
    text = environment.get(VISIBLE)
    return None if text is None else device_names(text, VISIBLE)


def device_names(text: str, said: str) -> tuple[str, ...]:
    """`4,5`, `GPU-8932f937-...`, `MIG-...` as names. Like CUDA, ignore all from a negative number on.

    Args:
        said: the variable that holds the text, for messages.

    Raises:
        InputError: CUDA would refuse the text, or silently use fewer GPUs.
    """
    if text.strip().lower() in _NONE:
        return ()
    names: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if re.fullmatch(r"-\d+", name):
            break
        if not any(kind.fullmatch(name) for kind in (_NUMBER, _UUID, _MIG)):
            raise InputError(f"{said}={text}: {name!r} is not a GPU: write numbers, or names of nvidia-smi -L")
        names.append(str(int(name)) if _NUMBER.fullmatch(name) else name)
    if len(set(names)) < len(names):
        raise InputError(f"{said}={text}: it names a GPU twice, and CUDA would use none: name each once")
    if len({_kind(name) for name in names}) > 1:
        raise InputError(f"{said}={text}: it mixes numbers and names: use only one kind")
    return tuple(names)


def choose(environment: Mapping[str, str], count: Callable[[], int]) -> Devices:
    """The devices of a start on this machine.

    Args:
        environment: CUDA_VISIBLE_DEVICES gives GPUs; GPUS chooses among them; RANKS says how many ranks there are.
        count: counts the GPUs that torch can use; called only if the environment names none.

    Raises:
        InputError: GPUS or RANKS ask for more than was given.
    """
    allowed = given(environment)
    chosen = device_names(environment["GPUS"], "GPUS") if environment.get("GPUS") else None
    ranks = _number_of_ranks(environment.get("RANKS", ""))
    if chosen is not None and allowed is not None and (others := [name for name in chosen if name not in allowed]):
        here = ",".join(allowed) or "none"
        raise InputError(f"GPUS={','.join(chosen)}: {VISIBLE} gives {here}, not {others[0]}: choose among those")
    names = allowed if chosen is None else chosen
    if names is None:
        return _of_whole_machine(count(), ranks)
    if not names:
        note = f"{VISIBLE} gives no GPU: ranks run on the CPU"
        return Devices(ranks or CPU_RANKS, (), note if chosen is None else "GPUS names no GPU: ranks run on the CPU")
    if ranks is not None and ranks > len(names):
        raise InputError(f"RANKS={ranks}: {len(names)} GPUs were given ({','.join(names)}), and ranks cannot share one")
    names = names[:ranks]
    if len(names) > 1 and _kind(names[0]) is _MIG:
        shown = ",".join(names)
        raise InputError(f"{shown}: CUDA shows a process one MIG device only: choose one, as in GPUS={names[0]}")
    return Devices(len(names), names)


def of_a_node(slots: Sequence[int], environment: Mapping[str, str], *, filtered: bool) -> tuple[str, ...] | None:
    """The devices for the ranks of this node, where DeepSpeed would take the hostfile's slots as numbers of GPUs.

    Args:
        slots: the slots that DeepSpeed uses here.
        filtered: `--include` or `--exclude` named them.

    Returns:
        names, one for each rank; empty for CPUs; None if the slots are the GPUs that were given.

    Raises:
        InputError: fewer GPUs were given than the hostfile has slots, or other ones.
    """
    allowed = given(environment)
    if allowed is None:
        return None
    if not allowed:
        return ()
    if {str(slot) for slot in slots} <= set(allowed):
        return None
    shown = ",".join(allowed)
    if filtered:
        raise InputError(f"slots {_shown(slots)} of this node: {VISIBLE} gives {shown} only: name slots among those")
    if len(allowed) < len(slots):
        raise InputError(
            f"the hostfile gives this node {len(slots)} slots, and {VISIBLE} gives {len(allowed)} GPUs ({shown}): "
            f"write slots={len(allowed)}"
        )
    if len(slots) > 1 and _kind(allowed[0]) is _MIG:
        raise InputError(f"{shown}: CUDA shows a process one MIG device only: write slots=1")
    return allowed[: len(slots)]


def check_over_ssh(slots: Mapping[str, Sequence[int]], environment: Mapping[str, str]) -> None:
    """Refuse a start over ssh whose ranks would use other GPUs than this shell was given.

    CUDA_VISIBLE_DEVICES holds for one machine and is not passed on: DeepSpeed numbers the others' GPUs by slots.

    Args:
        slots: host -> the slots that DeepSpeed uses there.

    Raises:
        InputError: the message names options that hold for all hosts.
    """
    allowed = given(environment)
    if allowed is None:
        return
    host = next((host for host, used in slots.items() if [str(slot) for slot in used] != list(allowed)), None)
    if host is None:
        return
    advice = f"unset {VISIBLE}, and let the hostfile or --include HOST:SLOTS name the GPUs of each host"
    raise InputError(
        f"{VISIBLE}={environment[VISIBLE]} is set here, and does not hold on other hosts: "
        f"{host} would use {_shown(slots[host])}: {advice}"
    )


def _of_whole_machine(gpus: int, ranks: int | None) -> Devices:
    if not gpus:
        return Devices(ranks or CPU_RANKS, ())
    if ranks is not None and ranks > gpus:
        raise InputError(f"RANKS={ranks}: this machine has {gpus} GPUs, and ranks cannot share one")
    return Devices(ranks or gpus, None)


def _number_of_ranks(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[1-9]\d{0,4}", text, re.ASCII):
        raise InputError(f"RANKS={text}: give the number of ranks, as in RANKS=4")
    return int(text)


def _kind(name: str) -> re.Pattern[str]:
    return next(kind for kind in (_NUMBER, _UUID, _MIG) if kind.fullmatch(name))


def _shown(slots: Iterable[int]) -> str:
    return ",".join(map(str, slots))
