"""Merges the DeepSpeed JSON and the recipe into the configuration for `deepspeed.initialize`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from mmae.config.batch_split import BatchSplit
from mmae.config.deepspeed_checks import contradiction
from mmae.config.deepspeed_schema import DataTypes, DeepSpeedJson, belongs_to_recipe
from mmae.config.packaged_files import find
from mmae.config.schema import TrainConfig
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError, did_you_mean

_KINDS: Final = frozenset({"int", "float", "constrained-int", "constrained-float"})
"""Members of a union, which pydantic appends to the key in errors."""
_REDUCED_IN_BUCKETS: Final = (1, 2)
"""Stages at which DeepSpeed sends whole gradients in buckets, and overlaps that with computing where it is told to."""
_EVERY_TENSOR_DIVIDED: Final = 3
_ROUNDED_FROM: Final = 8
"""Micro-batches of which the sum in bf16 is worth a warning."""


def load_deepspeed_json(name_or_path: str) -> tuple[Path, DeepSpeedJson]:
    """The checked JSON for a packaged name (`zero2`) or a path.

    Raises:
        InputError: the file is missing, is not JSON, or has an unknown key (the nearest is named) or a wrong value.
    """
    path = find(name_or_path, "ds_configs", ".json", "--deepspeed_config")
    try:
        tree = json.loads(read_regular_text(path), object_pairs_hook=lambda pairs: _unique(pairs, path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{path}: a DeepSpeed configuration is a JSON object")
    try:
        return path, DeepSpeedJson.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{path}: {_explain(error)}") from None


def merge(path: Path, parsed: DeepSpeedJson, train: TrainConfig, split: BatchSplit) -> dict[str, Any]:
    """The configuration for `deepspeed.initialize`: the JSON, with batch, clipping and precision of the recipe.

    Raises:
        InputError: the JSON says another batch or clipping than the recipe, or contradicts itself.
    """
    precision = train.precision or parsed.precision
    asked = parsed.data_types.grad_accum_dtype if parsed.data_types is not None else None
    if train.grad_accumulation_dtype is not None and asked not in {None, train.grad_accumulation_dtype}:
        raise InputError(
            f"{path}: data_types.grad_accum_dtype={asked} contradicts the recipe, where train.grad_accumulation_dtype "
            f"gives {train.grad_accumulation_dtype}: remove the key from the JSON, or change the recipe"
        )
    parsed = settled(parsed, train, split.world)
    if problem := contradiction(parsed, precision):
        raise InputError(f"{path}: {problem}")
    offload = parsed.zero_optimization.offload_optimizer
    if problem := recipe_problem(parsed, train):
        raise InputError(f"{path}: {problem}")
    if train.float8 is not None and precision != "bf16":
        raise InputError(
            f"train.float8={train.float8} rounds from bf16, and the precision is {precision}: set "
            "train.precision=bf16, or leave it out"
        )
    if train.ema is not None and offload is not None and offload.device == "nvme":
        raise InputError(
            f"{path}: zero_optimization.offload_optimizer.device=nvme keeps master weights in files, which train.ema "
            "cannot follow: offload to the CPU, or set train.ema=null"
        )
    from_recipe = {
        "train_batch_size": ("train.global_batch", split.global_batch),
        "train_micro_batch_size_per_gpu": ("train.micro_batch", split.micro),
        "gradient_accumulation_steps": ("train.global_batch / (ranks x micro-batch)", split.accumulation),
        "gradient_clipping": ("train.clip_grad", train.clip_grad),
    }
    # Absent keys stay absent, so that DeepSpeed's defaults apply.
    merged = parsed.model_dump(exclude_unset=True)
    zero = merged.setdefault("zero_optimization", {})
    zero["stage"] = parsed.zero_optimization.stage
    zero["memory_efficient_linear"] = False
    for key, (source, value) in from_recipe.items():
        if merged.setdefault(key, value) != value:
            raise InputError(
                f"{path}: {key}={merged[key]} contradicts the recipe, where {source} gives {value}: "
                "remove the key from the JSON, or change the recipe"
            )
    _set_precision(merged, precision)
    # DeepSpeed knows torch's AdamW by its class.
    merged["zero_allow_untested_optimizer"] = train.optimizer != "adamw"
    if parsed.zero_force_ds_cpu_optimizer is None:
        # The optimiser is torch's AdamW at every stage, so that stages agree bit for bit.
        merged["zero_force_ds_cpu_optimizer"] = False
    return merged


def settled(parsed: DeepSpeedJson, train: TrainConfig, world: int) -> DeepSpeedJson:
    """The JSON with what the recipe and the number of ranks decide where it says nothing.

    That is the dtype in which gradients add up; and at stages 1 and 2 whether sending them overlaps with computing, and
    whether they are divided by the number of ranks before they add up over ranks or after it.
    """
    more: dict[str, Any] = {}
    if train.grad_accumulation_dtype is not None:
        more["data_types"] = DataTypes(grad_accum_dtype=train.grad_accumulation_dtype)
    zero = parsed.zero_optimization
    if zero.stage in _REDUCED_IN_BUCKETS and zero.overlap_comm is None:
        # One rank sends nothing, and to overlap DeepSpeed would wait for the device once a step.
        more["zero_optimization"] = zero.model_copy(update={"overlap_comm": world > 1})
    whole = zero.stage in _REDUCED_IN_BUCKETS and not zero.reduce_scatter
    if (
        whole
        and (train.precision or parsed.precision) == "fp16"
        and "prescale_gradients" not in parsed.model_fields_set
    ):
        # In fp16 a sum over many ranks may be too large a number for its format.
        more["prescale_gradients"] = world > 1
    return parsed.model_copy(update=more)


def recipe_problem(parsed: DeepSpeedJson, train: TrainConfig) -> str:
    """Why a JSON does not go with `train.optimizer` or `train.cuda_graphs`, in one line; empty where it does."""
    return next(_recipe_problems(parsed, train), "")


def _recipe_problems(parsed: DeepSpeedJson, train: TrainConfig) -> Iterator[str]:
    zero = parsed.zero_optimization
    divided = zero.stage == _EVERY_TENSOR_DIVIDED
    offloaded = zero.offload_optimizer is not None and zero.offload_optimizer.device != "none"
    if train.optimizer == "muon" and divided:
        yield "train.optimizer=muon needs whole matrices, which ZeRO-3 divides: take zero0, zero1 or zero2, or adamw"
    if train.optimizer == "muon" and offloaded:
        yield (
            "train.optimizer=muon multiplies matrices in its step, which an offloaded optimiser would do on the CPU: "
            "remove zero_optimization.offload_optimizer, or take adamw"
        )
    if train.cuda_graphs and divided:
        yield (
            "train.cuda_graphs=true needs weights that stay in their place, and ZeRO-3 gathers them anew each time: "
            "take zero0, zero1 or zero2, or leave it out"
        )
    if train.cuda_graphs and offloaded:
        yield (
            "train.cuda_graphs=true saves the host's time, and an offloaded optimiser takes much more of it: "
            "remove zero_optimization.offload_optimizer, or leave it out"
        )


def zero_stage_of(merged: dict[str, Any]) -> int:
    """The ZeRO stage, 0 to 3."""
    stage: int = merged["zero_optimization"]["stage"]
    return stage


def precision_of(merged: dict[str, Any]) -> str:
    """The precision: `bf16`, `fp16` or `fp32`."""
    return next((name for name in ("bf16", "fp16") if merged.get(name, {}).get("enabled")), "fp32")


def adds_up_in_of(merged: dict[str, Any]) -> str:
    """The dtype in which the gradients of several micro-batches add up: `bf16`, `fp16` or `fp32`."""
    said: str | None = merged.get("data_types", {}).get("grad_accum_dtype")
    return said or precision_of(merged)


def why_rounded(adds_up_in: str, accumulation: int) -> str:
    """A warning that gradients lose digits when this number of micro-batches adds up; empty where they do not."""
    if adds_up_in != "bf16" or accumulation < _ROUNDED_FROM:
        return ""
    # Simulated: root mean square error of the sum of this many gradients, beside their sum in float32.
    share = "0.4" if accumulation < 4 * _ROUNDED_FROM else "0.7 to 1"
    return (
        f"{accumulation} micro-batches add up their gradients in bf16, which rounds away about {share} % of them: "
        "raise train.micro_batch, or set train.grad_accumulation_dtype=fp32 (ZeRO-2 and 3)"
    )


def _set_precision(merged: dict[str, Any], precision: str) -> None:
    for name in ("bf16", "fp16"):
        if name == precision:
            merged.setdefault(name, {})["enabled"] = True
        else:
            merged.pop(name, None)


def _unique(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"{path}: the key {key!r} stands twice")
    return dict(pairs)


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    *parents, key = [str(part) for part in first["loc"] if part not in _KINDS]
    dotted = ".".join([*parents, key])
    if first["input"] == "auto" and first["type"] != "extra_forbidden":
        return (
            f'{dotted}="auto" is a word of Hugging Face\'s Trainer, which would replace it: remove the key, so '
            "that the recipe or DeepSpeed's default holds, or write a value"
        )
    if first["type"] != "extra_forbidden":
        return f"{dotted}={first['input']!r}: {first['msg']}"
    if not parents and (place := belongs_to_recipe(key)):
        return f"{key!r} belongs into the recipe ({place}), not into the DeepSpeed JSON"
    return f"unknown key {dotted!r}{did_you_mean(key, _known_keys(parents))}"


def _known_keys(parents: list[str]) -> list[str]:
    model: type[BaseModel] = DeepSpeedJson
    for parent in parents:
        annotation = model.model_fields[parent].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)
