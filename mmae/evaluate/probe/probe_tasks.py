"""The probes: what each predicts, from which inputs. The probed modality is never among the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from mmae.errors import InputError, did_you_mean
from mmae.modalities import MODALITIES

if TYPE_CHECKING:
    from mmae.evaluate.frozen.parts import Kind

_IMAGES: Final = ("sentinel2", "sentinel1")
_SPECTRAL: Final = ("sentinel2",)


@dataclass(frozen=True)
class ProbeTask:
    """One probe.

    Attributes:
        name: on the command line and in tables.
        kind: of its targets.
        unit: of its targets; empty for classes.
        modality: the modality whose stored values are the labels; None: the labels are a column of the index.
        datasets: inputs come from these only: what a satellite sees, and no map that somebody made of it.
        beyond: the task whose labels are first used to predict this one's: what they leave over is probed, too.
    """

    name: str
    kind: Kind
    unit: str = ""
    modality: str | None = None
    datasets: tuple[str, ...] = _IMAGES
    beyond: str | None = None

    @property
    def dense(self) -> bool:
        """Whether each patch is a row, and not each tile."""
        return self.kind == "pixels"

    def inputs(self, in_domains: Sequence[str], held: Sequence[str]) -> tuple[str, ...]:
        """The inputs of a model that are used, in its order.

        Args:
            held: the datasets that the shards hold.

        Raises:
            InputError: there is none.
        """
        probed = None if self.modality is None else MODALITIES[self.modality].dataset
        used = tuple(
            name
            for name in in_domains
            if MODALITIES[name].dataset in held
            and MODALITIES[name].dataset != probed
            and MODALITIES[name].dataset in self.datasets
        )
        if not used:
            raise InputError(
                f"{self.name} needs an input of {' or '.join(self.datasets)} that shards and model both have; the "
                f"model's inputs are {', '.join(in_domains)}"
            )
        return used


PROBE_TASKS: Final = MappingProxyType(
    {
        task.name: task
        for task in (
            ProbeTask("biome", "classes"),
            ProbeTask("land_cover", "pixels", modality="semseg", datasets=_SPECTRAL),
            ProbeTask("dynamic_world", "pixels", modality="dynamic_world", datasets=_SPECTRAL),
            ProbeTask("elevation", "values", "m", "depth"),
            ProbeTask("slope", "values", "degree", "slope"),
            ProbeTask("canopy_height", "values", "m", "canopy_height"),
            ProbeTask("month", "values", beyond="latitude"),
            ProbeTask("latitude", "values", "degree", beyond="month"),
        )
    }
)
"""By name, in the order of the table."""


def tasks_of(said: str | None) -> tuple[ProbeTask, ...]:
    """The tasks of `--tasks`, in the order of the table; all of them if nothing is said.

    Raises:
        InputError: one is not known, or none is named.
    """
    if said is None:
        return tuple(PROBE_TASKS.values())
    names = [name.strip() for name in said.split(",") if name.strip()]
    for name in names:
        if name not in PROBE_TASKS:
            raise InputError(f"--tasks {said}: {name!r} is not known{did_you_mean(name, PROBE_TASKS)}")
    if not names:
        raise InputError(f"--tasks {said!r} names no task (known: {', '.join(PROBE_TASKS)})")
    return tuple(task for task in PROBE_TASKS.values() if task.name in names)


SplitBy = Literal["blocks", "shards"]
