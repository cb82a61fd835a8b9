"""A folder that another tool loads as a plug-in: a package with the encoder's code and weights, and a configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmae.errors import InputError
from mmae.modalities import Modality, S2Level
from mmae.model.saved.weights_file import WEIGHTS_NAME, save_weights
from mmae.publish.images.image_bands import ImageBands
from mmae.publish.images.raw_statistics import RawStatistics, raw_statistics
from mmae.publish.programs.input_table import input_names, input_table

if TYPE_CHECKING:
    from torch import Tensor

    from mmae.model.encoder import EncoderModel
    from mmae.publish.export_source import Source

_SOURCES: Final = "mmae.publish.carried"


@dataclass(frozen=True)
class PluginInputs:
    """What a plug-in's encoder takes.

    Attributes:
        modalities: in the model's order.
        bands: their bands, one modality after the other.
        statistics: of these bands.
    """

    modalities: tuple[Modality, ...]
    bands: ImageBands
    statistics: RawStatistics


def plugin_inputs(
    source: Source, named: Sequence[str] | None, level: S2Level | None, only_sentinel2: bool = False
) -> PluginInputs:
    """The named image modalities of a model, or all that the tool can feed.

    Raises:
        InputError: there is none, or one is not an image that the tool can feed.
    """
    config = source.model.config
    modalities = [source.model.tokenizer.table[name] for name in input_names(config, named)]
    for modality in modalities if named is not None else ():
        if modality.categorical:
            raise InputError(
                f"--modalities: {modality.name} holds class ids, and this format takes images: leave it out"
            )
        if only_sentinel2 and not modality.by_level:
            raise InputError(f"--modalities: {modality.name} is not of Sentinel-2, which alone this format feeds")
    usable = tuple(each for each in modalities if not each.categorical and (each.by_level or not only_sentinel2))
    if not usable:
        raise InputError(f"this model has no input that the format can feed: {', '.join(config.in_domains)}")
    bands = ImageBands(tuple((modality, place) for modality in usable for place in range(len(modality.bands))))
    return PluginInputs(usable, bands, raw_statistics(bands, source.band_stats, level))


def write_package(folder: Path, modules: Mapping[str, str], source: Source, inputs: PluginInputs) -> None:
    """A Python package with the encoder beside its code.

    Args:
        folder: to create; its name is the package's.
        modules: module of `mmae.publish.carried` -> its name in the package.
    """
    folder.mkdir()
    for module, name in {"plain_encoder": "plain_encoder", **modules}.items():
        # Read, not imported: the tool that a module needs is not installed here.
        text = (Path(__file__).parents[1] / "carried" / f"{module}.py").read_text(encoding="utf-8")
        (folder / f"{name}.py").write_text(text.replace(_SOURCES, folder.name), encoding="utf-8")
    table = _table(source, inputs)
    (folder / "encoder.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    save_weights(folder / WEIGHTS_NAME, _state(source.model, inputs))


def _table(source: Source, inputs: PluginInputs) -> dict[str, Any]:
    """`encoder.json`: the table of inputs, the encoder's numbers, and the grid that positions start from."""
    model, names = source.model, [modality.name for modality in inputs.modalities]
    table = input_table(model.config, names, model.config.image_hw, source.band_stats, model.tokenizer.table)
    first = _base_positions(model, names[0])
    return {
        **table,
        "level": inputs.statistics.level or "any",
        "variant": asdict(model.variant),
        "positions_hw": list(first.shape[1:]),
    }


def _state(model: EncoderModel, inputs: PluginInputs) -> dict[str, Tensor]:
    """Weights by the names of `PlainEncoder`, float32."""
    import torch

    state = {f"blocks.{name}": tensor for name, tensor in model.encoder.blocks.state_dict().items()}
    for modality in inputs.modalities:
        adapter = model.tokenizer.adapters[modality.name]
        for part in ("weight", "bias"):
            state[f"projections.{modality.name}.{part}"] = adapter.get_parameter(f"proj.{part}")
        state[f"positions.{modality.name}"] = _base_positions(model, modality.name)
    tokens_GD = model.encoder.global_tokens
    state["global_tokens"] = torch.zeros(0, model.variant.dim) if tokens_GD is None else tokens_GD
    return {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in state.items()}


def _base_positions(model: EncoderModel, name: str) -> Tensor:
    """The positions (D, h, w) that those of every grid are resampled from: learned, or those of a 224 px image."""
    from mmae.model.posembed import LearnedPositions, PositionEmbedding, base_positions

    positions = model.tokenizer.adapters[name].get_submodule("positions")
    if isinstance(positions, LearnedPositions):
        return positions.table.detach().T.reshape(model.variant.dim, *positions.grid_hw)
    assert isinstance(positions, PositionEmbedding)
    return base_positions(model.variant.dim, positions.patch_size)
