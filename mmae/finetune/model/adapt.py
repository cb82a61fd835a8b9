"""The weights of a pretrained encoder for a model with other inputs, bands, image or patch size."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mmae.modalities import Modality
from mmae.model.encoder import EncoderModel
from mmae.model.posembed import LearnedPositions
from mmae.model.saved.patch_kernels import for_bands, for_patch


@dataclass
class Adapted:
    """Weights to load, and what is not as it was.

    Attributes:
        state: by name; a new modality has none.
        differences: sentences.
        fresh: input modalities whose adapter keeps its random weights.
    """

    state: dict[str, Tensor]
    differences: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)


def adapt(old: EncoderModel, new: EncoderModel) -> Adapted:
    """Weights of the encoder and the input adapters of `new`, from `old`.

    Both have the same variant and the same number of global tokens.
    """
    found = Adapted({f"encoder.{name}": tensor for name, tensor in old.encoder.state_dict().items()})
    _say_sizes(old, new, found)
    theirs, ours = list(old.tokenizer.table), list(new.tokenizer.table)
    if left := [name for name in theirs if name not in ours]:
        found.differences.append(f"inputs that are not used: {', '.join(left)}.")
    for name in ours:
        if name in theirs:
            _adapt_input(name, old, new, found)
        else:
            found.fresh.append(name)
            found.differences.append(f"{name} was no input of the pretrained model: its adapter starts at random.")
    return found


def _say_sizes(old: EncoderModel, new: EncoderModel, found: Adapted) -> None:
    before, after = old.config, new.config
    if before.patch_size != after.patch_size:
        found.differences.append(
            f"patches have {after.patch_size} pixels a side instead of {before.patch_size}: kernels are resized by "
            "FlexiViT's pseudo-inverse."
        )
    if before.grid_hw != after.grid_hw:
        kind = "resampled" if before.positions == "learned" else "made for the new grid"
        (rows, columns), (height, width) = before.grid_hw, after.grid_hw
        found.differences.append(
            f"the grid has {height}x{width} patches instead of {rows}x{columns}: positions are {kind}."
        )


def _adapt_input(name: str, old: EncoderModel, new: EncoderModel, found: Adapted) -> None:
    before, after = old.tokenizer.table[name], new.tokenizer.table[name]
    adapter, prefix = old.tokenizer.adapters[name], f"tokenizer.adapters.{name}"
    found.state |= {f"{prefix}.{key}": tensor for key, tensor in adapter.state_dict().items()}
    kernel_DCpp = adapter.get_parameter("proj.weight").detach()
    if before.band_names != after.band_names:
        kernel_DCpp = for_bands(kernel_DCpp, before.band_names, after.band_names)
        found.differences.append(_bands_sentence(before, after))
    found.state[f"{prefix}.proj.weight"] = for_patch(kernel_DCpp, after.patch(new.config.patch_size))
    _adapt_positions(adapter, new, prefix, found)


def _adapt_positions(adapter: nn.Module, new: EncoderModel, prefix: str, found: Adapted) -> None:
    positions = adapter.positions
    if isinstance(positions, LearnedPositions):
        with torch.no_grad():
            found.state[f"{prefix}.positions.table"] = positions(torch.float32, new.config.grid_hw)


def _bands_sentence(before: Modality, after: Modality) -> str:
    old, new = before.band_names, after.band_names
    kept = [name for name in new if name in old]
    added = [name for name in new if name not in old]
    left = [name for name in old if name not in new]
    parts = [f"keeps {', '.join(kept)}"] if kept else []
    parts += [f"lacks {', '.join(left)}"] if left else []
    parts += [f"gets {', '.join(added)} with the mean of its kernels"] if added else []
    if not left and not added:
        return f"{after.name} takes its bands in the order {', '.join(new)}."
    scaled = "" if len(old) == len(new) else f"; its kernel is scaled by {len(old)}/{len(new)}"
    return f"{after.name} {', '.join(parts)}{scaled}."
