"""A model to fine-tune: from a pretrained one, or from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from mmae.config.schema import ModelConfig
from mmae.errors import InputError, did_you_mean
from mmae.finetune.model.adapt import Adapted, adapt
from mmae.finetune.model.lora import LoraOptions, add_lora
from mmae.finetune.model.start_point import SCRATCH, Start, read_start
from mmae.modalities import MODALITIES
from mmae.model.encoder import HEAD, EncoderModel
from mmae.model.heads.head_options import HeadOptions
from mmae.model.posembed import LearnedPositions, PositionEmbedding
from mmae.model.saved.saved_config import encoder_config
from mmae.model.tuned.finetuned_model import FinetunedModel
from mmae.model.tuned.task import Task
from mmae.model.tuned.tuned_config import tuned_config
from mmae.terminal.plurals import counted
from mmae.variants import VARIANTS, Variant

Tuning = Literal["full", "frozen", "lora"]

_TUNINGS: Final = ("full", "frozen", "lora")
_WHERE: Final = "the model to fine-tune"


@dataclass(frozen=True)
class Built:
    """A model that is ready to learn.

    Attributes:
        model: float32, on the CPU, in training mode.
        differences: sentences on what is not as in the pretrained model, for the user.
        band_stats: the statistics that the pretrained model's inputs were normalised with; empty if there are none.
        origin: JSON-able notes for config.json on what it started from.
        fresh: input modalities whose adapters start at random.
    """

    model: FinetunedModel
    differences: tuple[str, ...]
    band_stats: Mapping[str, Any]
    origin: Mapping[str, Any]
    fresh: tuple[str, ...]


def build_finetuned(
    init_from: str | None,
    task: Task,
    *,
    in_domains: Sequence[str] | None = None,
    bands: Mapping[str, Sequence[str]] | None = None,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | None = None,
    head: HeadOptions = HeadOptions(),  # noqa: B008  (frozen)
    tuning: Tuning = "full",
    lora: LoraOptions = LoraOptions(),  # noqa: B008  (frozen)
    drop_path: float = 0.0,
    size: str = "base",
    num_global_tokens: int = 1,
    seed: int = 0,
    trust: bool = False,
    step: int | None = None,
) -> Built:
    """Build a model for a task.

    Args:
        init_from: what `read_start` takes; None or `none`: from scratch.
        in_domains: input modalities; None: those of the pretrained model. One that it does not have starts at random.
        bands: image modality -> its bands in the order of the input's channels; those of `mmae.modalities` otherwise.
        image_size: pixels of an image; None: as pretrained.
        patch_size: pixels of a patch's side; None: as pretrained.
        tuning: `full` trains all; `frozen` the head only; `lora` the head and low-rank changes of the blocks. Adapters
            that start at random are trained in any case.
        drop_path: see `ModelConfig.drop_path`; a frozen encoder has none.
        size, num_global_tokens: of the encoder, from scratch only.
        seed: of all initial weights.
        trust: read files that other users wrote or can write.
        step: of a run's checkpoint; None: the latest.

    Raises:
        InputError: there is no such model, or the options do not fit it or one another.
    """
    if tuning not in _TUNINGS:
        raise InputError(f"tuning {tuning!r} is not known{did_you_mean(str(tuning), _TUNINGS)}")
    start = None if init_from in {None, "", SCRATCH} else read_start(str(init_from), step, trust)
    asked = {
        "in_domains": None if in_domains is None else tuple(in_domains),
        "input_size": image_size,
        "patch_size": patch_size,
        "drop_path": 0.0 if tuning == "frozen" else drop_path,
    }
    config, variant = _scratch(asked, size, num_global_tokens) if start is None else _changed(start.model, asked)
    own = _bands(start, config, bands or {})
    tuned = tuned_config(task=task, head=head, bands=own, base_patch=_base_patch(start, config))
    tuned.check(config.in_domains, variant.depth)
    model = FinetunedModel(config, variant, tuned, seed=seed)
    if start is None:
        unread = _leave_unread(model)
        return Built(model.train(), ("the encoder starts at random.", *unread), {}, {}, config.in_domains)
    found = adapt(start.model, model)
    _load(model, found)
    tuned_how = _freeze(model, tuning, found, lora, seed)
    differences = (*start.notes, *found.differences, tuned_how, *_leave_unread(model))
    return Built(model.train(), differences, start.band_stats, start.origin, tuple(found.fresh))


def _scratch(asked: Mapping[str, Any], size: str, num_global_tokens: int) -> tuple[ModelConfig, Variant]:
    if size not in VARIANTS:
        raise InputError(f"unknown model.size={size!r}{did_you_mean(size, VARIANTS)}")
    flat = {"size": size, "num_global_tokens": num_global_tokens, **_said(asked)}
    return encoder_config(flat, _WHERE), VARIANTS[size]


def _changed(old: EncoderModel, asked: Mapping[str, Any]) -> tuple[ModelConfig, Variant]:
    before = old.config
    flat = {
        "size": before.size,
        "in_domains": before.in_domains,
        "input_size": before.input_size,
        "patch_size": before.patch_size,
        "num_global_tokens": before.num_global_tokens,
        "positions": before.positions,
        **_said(asked),
    }
    return encoder_config(flat, _WHERE), old.variant


def _said(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in asked.items() if value is not None}


def _bands(start: Start | None, config: ModelConfig, asked: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The bands of the inputs that are not those of `MODALITIES`."""
    for name in asked:
        if name not in config.in_domains:
            raise InputError(f"bands of {name!r}: it is not an input{did_you_mean(name, config.in_domains)}")
    table = {} if start is None else start.model.tokenizer.table
    found = {}
    for name in config.in_domains:
        usual = MODALITIES[name].band_names
        bands = tuple(asked[name]) if name in asked else table.get(name, MODALITIES[name]).band_names
        if bands != usual:
            found[name] = bands
    return found


def _base_patch(start: Start | None, config: ModelConfig) -> int:
    """The patch size that positions were made for when the encoder learned them."""
    if start is None:
        return config.patch_size
    positions = next(iter(start.model.tokenizer.adapters.values())).positions
    assert isinstance(positions, LearnedPositions | PositionEmbedding)
    return positions.patch_size


def _load(model: FinetunedModel, found: Adapted) -> None:
    """Load the pretrained weights; the head and new adapters keep theirs."""
    missing, unexpected = model.load_state_dict(found.state, strict=False)
    new = (HEAD, *(f"tokenizer.adapters.{name}." for name in found.fresh))
    wrong = [*unexpected, *(name for name in missing if not name.startswith(new))]
    assert not wrong, wrong


def _leave_unread(model: FinetunedModel) -> tuple[str, ...]:
    """Do not train blocks that the head does not see, and say so: they get no gradient, which DDP refuses."""
    depth, last = len(model.encoder.blocks), max(model.head.blocks)
    if last == depth - 1:
        return ()
    for block in model.encoder.blocks[last + 1 :]:
        block.requires_grad_(False)
    return (f"the head reads block {last} at most: the {counted(depth - 1 - last, 'block')} above it are not used.",)


def _freeze(model: FinetunedModel, tuning: Tuning, found: Adapted, lora: LoraOptions, seed: int) -> str:
    """Leave training to what `tuning` says, and say so."""
    if tuning == "full":
        return "all weights are trained."
    model.tokenizer.requires_grad_(False)
    model.encoder.requires_grad_(False)
    for name in found.fresh:
        model.tokenizer.adapters[name].requires_grad_(True)
    new = f" and the new adapters of {', '.join(found.fresh)}" if found.fresh else ""
    if tuning == "frozen":
        return (
            f"the encoder is frozen: the head{new} are trained."
            if new
            else "the encoder is frozen: the head is trained."
        )
    add_lora(model, lora, seed)
    return f"the encoder is frozen beside LoRA of rank {lora.rank}: its factors, the head{new} are trained."
