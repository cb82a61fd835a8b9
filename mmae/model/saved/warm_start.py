"""Weights to start a pretraining from another model: what fits is taken, what is new keeps its initial weights.

The other model may have other inputs, outputs or decoders, another image or patch size, and another depth. Its encoder
must have the same width. Each difference is a sentence; nothing is left out silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import Tensor

from mmae.errors import InputError
from mmae.model.mmae import MultiMAE
from mmae.model.posembed import LearnedPositions, resample
from mmae.model.published.config import published_weights
from mmae.model.saved.patch_kernels import for_patch
from mmae.model.saved.saved_config import read_model_config
from mmae.model.saved.saved_model import load_pretrained
from mmae.terminal.plurals import counted

_BLOCK: Final = re.compile(r"encoder\.blocks\.(\d+)\.(.+)")
_DECODER_BLOCK: Final = re.compile(r"decoders\.blocks\.(\d+)\.")
_ADAPTER: Final = re.compile(r"tokenizer\.adapters\.(\w+)\.(.+)")
_OUTPUT: Final = re.compile(r"decoders\.out_proj\.(\w+)\.")


@dataclass(frozen=True)
class WarmStart:
    """What a model starts from.

    Attributes:
        differences: sentences on what is not as in the other model.
        fitted: gives a parameter's weights, by its name and its initial weights, which it may keep in part.
    """

    differences: tuple[str, ...]
    fitted: Callable[[str, Tensor], Tensor]


def warm_start(model: MultiMAE, source: str | Path, trust: bool = False) -> WarmStart:
    """What a model starts from; its own weights may be sharded.

    Args:
        source: a model folder, or a published checkpoint's file, whose shapes must be the model's own.
        trust: read files that other users wrote or can write.

    Raises:
        InputError: a file is missing or damaged, it is a fine-tuned model, or the encoders have different widths.
    """
    if Path(source).is_file():
        weights = published_weights(source, model.config, model.variant, trust)
        return WarmStart((), lambda name, _initial: weights[name])
    if read_model_config(source, trust).tuned is not None:
        raise InputError(f"{source}: this model is fine-tuned and has no decoders: pretraining cannot start from it")
    _, old = load_pretrained(source, trust)
    _check_encoder(old, model, Path(source))
    fit = _Fit(old, model)
    return WarmStart(tuple(fit.differences()), fit)


def _check_encoder(old: MultiMAE, new: MultiMAE, source: Path) -> None:
    for what, key in (("width", "dim"), ("attention heads", "num_heads"), ("MLP width", "mlp_dim")):
        theirs, ours = getattr(old.variant, key), getattr(new.variant, key)
        if theirs != ours:
            raise InputError(
                f"model.init_from: the encoder of {source} has {what} {theirs}, that of this recipe {ours}: a start "
                "needs the same"
            )


class _Fit:
    """Weights of the new model, one parameter at a time."""

    def __init__(self, old: MultiMAE, new: MultiMAE) -> None:
        self._old, self._before, self._after = old, old.config, new.config
        self._depths = old.variant.depth, new.variant.depth
        self._state: Mapping[str, Tensor] = old.state_dict()
        self._positions = {name: each for name, each in old.named_modules() if isinstance(each, LearnedPositions)}
        theirs, ours = self._before.outputs, self._after.outputs
        self._rows = [(to, theirs.index(name)) for to, name in enumerate(ours) if name in theirs]
        self._columns = [
            (to, self._before.in_domains.index(name))
            for to, name in enumerate(self._after.in_domains)
            if name in self._before.in_domains
        ]

    def __call__(self, name: str, initial: Tensor) -> Tensor:
        """A parameter's weights, float32, of the shape of its initial ones."""
        if name.endswith("positions.table"):
            return self._table(name.removesuffix(".table"), initial)
        if name.startswith("decoders."):
            return self._decoder(name, initial)
        if (adapter := _ADAPTER.fullmatch(name)) and adapter[1] not in self._before.in_domains:
            return initial
        if block := _BLOCK.fullmatch(name):
            return self._state[f"encoder.blocks.{self._source_of(int(block[1]))}.{block[2]}"]
        if name == "encoder.global_tokens":
            rows = [(at, at) for at in range(self._global_tokens)]
            return _rows_of(initial, self._state[name], rows) if rows else initial
        found = self._state[name]
        return for_patch(found, initial.shape[-1]) if found.ndim == len("DCpp") else found

    def differences(self) -> Iterator[str]:
        """What is not as it was, one sentence each."""
        before, after = self._before, self._after
        yield from _names("inputs", before.in_domains, after.in_domains, "adapters")
        yield from _names("outputs", before.outputs, after.outputs, "decoders")
        if before.patch_size != after.patch_size:
            yield (
                f"patches have {after.patch_size} pixels a side instead of {before.patch_size}: kernels are resized by "
                "FlexiViT's pseudo-inverse, projections to pixels start at random"
            )
        if before.grid_hw != after.grid_hw or before.patch_size != after.patch_size:
            (rows, columns), (height, width) = before.grid_hw, after.grid_hw
            learned = before.positions == after.positions == "learned"
            kind = "resampled" if learned else "made for the new grid"
            yield f"the grid has {height}x{width} patches instead of {rows}x{columns}: positions are {kind}"
        if before.positions != after.positions:
            ours, fixed = "learned here, from sines and cosines on", "sines and cosines, not its learned ones"
            yield f"positions are {ours if after.positions == 'learned' else fixed}"
        had, has = self._depths
        if had != has:
            sources = ", ".join(str(self._source_of(number)) for number in range(has))
            yield f"the encoder has {counted(has, 'block')} instead of {had}: they start from its blocks {sources}"
        if before.num_global_tokens != after.num_global_tokens:
            new = after.num_global_tokens - self._global_tokens
            kind = f"{new} {'starts' if new == 1 else 'start'} at random" if new else "the first ones are taken"
            yield f"{counted(after.num_global_tokens, 'global token')} instead of {before.num_global_tokens}: {kind}"
        yield from self._decoder_differences()

    def _decoder_differences(self) -> Iterator[str]:
        before, after = self._before, self._after
        if not self._decoders_fit:
            yield (
                f"decoders of width {after.decoder_dim} with {counted(after.decoder_num_heads, 'head')} instead of "
                f"{before.decoder_dim} with {before.decoder_num_heads}: they start at random"
            )
        elif before.decoder_depth < after.decoder_depth:
            more = counted(after.decoder_depth - before.decoder_depth, "block")
            yield f"decoders have {more} more than its {before.decoder_depth}: those start at random"
        elif before.decoder_depth > after.decoder_depth:
            yield f"decoders take the first {after.decoder_depth} of its {counted(before.decoder_depth, 'block')}"

    @property
    def _global_tokens(self) -> int:
        """How many both models have."""
        return min(self._before.num_global_tokens, self._after.num_global_tokens)

    @property
    def _decoders_fit(self) -> bool:
        before, after = self._before, self._after
        return (before.decoder_dim, before.decoder_num_heads) == (after.decoder_dim, after.decoder_num_heads)

    def _source_of(self, number: int) -> int:
        """The block of the other encoder that a block starts from: each is repeated, or some are left out."""
        theirs, ours = self._depths
        return number * theirs // ours

    def _decoder(self, name: str, initial: Tensor) -> Tensor:
        if not self._decoders_fit:
            return initial
        if output := _OUTPUT.match(name):
            same = output[1] in self._before.outputs and self._before.patch_size == self._after.patch_size
            return self._state[name] if same else initial
        if (block := _DECODER_BLOCK.match(name)) and int(block[1]) >= self._before.decoder_depth:
            return initial
        found = self._state[name]
        if name == "decoders.task_embeddings":
            columns = initial.transpose(0, 1)
            kept = initial.detach().float().clone()
            for to, of in self._rows:
                kept[to] = _rows_of(columns[:, to], found[of], self._columns)
            return kept
        return _rows_of(initial, found, self._rows)

    def _table(self, module: str, initial: Tensor) -> Tensor:
        """Learned positions; those of fixed ones stay as they start."""
        known = self._positions.get(module)
        if known is None or (module.startswith("decoders.") and not self._decoders_fit):
            return initial
        table = known.table.detach()
        if known.grid_hw != self._after.grid_hw:
            places = table.transpose(-1, -2)
            table = resample(places.reshape(*places.shape[:-1], *known.grid_hw), self._after.grid_hw, known.mode)
        return _rows_of(initial, table, self._rows) if module.startswith("decoders.") else table


def _rows_of(initial: Tensor, found: Tensor, rows: list[tuple[int, int]]) -> Tensor:
    """Initial weights, of which these rows (to, of) are replaced by found ones."""
    kept = initial.detach().float().clone()
    for to, of in rows:
        kept[to] = found[of]
    return kept


def _names(what: str, before: tuple[str, ...], after: tuple[str, ...], parts: str) -> Iterator[str]:
    if new := [name for name in after if name not in before]:
        yield f"new {what}, whose {parts} start at random: {', '.join(new)}"
    if left := [name for name in before if name not in after]:
        yield f"{what} that are not used any more: {', '.join(left)}"
