"""What a fine-tuned model has beside its encoder's configuration, as `config.json` holds it; torch is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from mmae.errors import InputError
from mmae.modalities import MODALITIES, Modality, with_bands
from mmae.model.heads.head_options import HeadOptions
from mmae.model.tuned.task import Task

Band = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.+-]{0,99}$")]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TunedConfig:
    """A fine-tuned model's own part of its configuration.

    Attributes:
        task: what it predicts.
        head: how.
        bands: input modality -> its bands in the order of its channels; one that is not named has those of
            `mmae.modalities`.
        base_patch: the patch size that its positions were made for (`position_embedding`): the pretrained model's.
    """

    task: Task
    head: HeadOptions
    bands: dict[str, Annotated[tuple[Band, ...], Field(min_length=1, max_length=1000)]]
    base_patch: Annotated[int, Field(ge=1, le=4096)]

    def table(self, names: tuple[str, ...]) -> dict[str, Modality]:
        """The input modalities `names` with this model's bands."""
        own = with_bands(self.bands)
        return {name: own.get(name, MODALITIES[name]) for name in names}

    def check(self, names: tuple[str, ...], depth: int) -> None:
        """Refuse what does not fit together, or the encoder.

        Args:
            names: the encoder's input modalities.
            depth: the encoder's blocks.

        Raises:
            InputError: the first contradiction.
        """
        self.task.check()
        self.head.check()
        self.head.blocks_of(depth)
        if self.head.dense != self.task.dense:
            what = "pixels" if self.task.dense else "tiles"
            raise InputError(f"head {self.head.kind}: the task {self.task.name} ({self.task.kind}) is about {what}")
        for name, bands in self.bands.items():
            if name not in names:
                raise InputError(f"bands of {name!r}: it is not an input; the inputs are {', '.join(names)}")
            if MODALITIES[name].categorical:
                raise InputError(f"bands of {name}: it holds classes, and has one band")
            if len(set(bands)) != len(bands):
                raise InputError(f"bands of {name}: {', '.join(bands)}: name each once")

    def as_json(self) -> dict[str, Any]:
        """JSON-able; `read_tuned` reads it."""
        return asdict(self)


def read_tuned(found: Mapping[str, Any], where: str, names: tuple[str, ...], depth: int) -> TunedConfig:
    """Check what a file says.

    Args:
        where: names the file in messages.
        names, depth: see `TunedConfig.check`.

    Raises:
        InputError: a key is unknown or missing, a value is of another kind, or they contradict.
    """
    try:
        config = tuned_config(**found)
        config.check(names, depth)
    except InputError as error:
        raise InputError(f"{where}: finetuned: {error}") from None
    return config


def tuned_config(**values: Any) -> TunedConfig:
    """A `TunedConfig` of these values, which may be those of a file.

    Raises:
        InputError: a key is unknown or missing, or a value is of another kind.
    """
    try:
        return TypeAdapter(TunedConfig).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{key}: {first['msg']}; it is {first['input']!r:.80}") from None
