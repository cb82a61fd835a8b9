"""Contradictions within a DeepSpeed JSON, which DeepSpeed itself would refuse only after the ranks have met."""

from __future__ import annotations

from collections.abc import Iterator

from mmae.config.deepspeed_schema import DeepSpeedJson

_PARTITIONED_GRADIENTS = (2, 3)


def contradiction(parsed: DeepSpeedJson, precision: str) -> str | None:
    """The first contradiction in one line, or None.

    Args:
        precision: the one in use: the recipe's, or else the JSON's.
    """
    for problems in (_precision(parsed, precision), _sums(parsed, precision), _offload(parsed), _gradients(parsed)):
        for problem in problems:
            return problem
    return None


def _precision(parsed: DeepSpeedJson, precision: str) -> Iterator[str]:
    if parsed.bf16 is not None and parsed.fp16 is not None and parsed.bf16.enabled and parsed.fp16.enabled:
        yield "bf16 and fp16 are both enabled, and a run has one precision: set one of them to false"


def _sums(parsed: DeepSpeedJson, precision: str) -> Iterator[str]:
    zero, adds_up_in = parsed.zero_optimization, parsed.adds_up_in(precision)
    if adds_up_in == precision:
        return
    if zero.stage == 0:
        yield (
            f"data_types.grad_accum_dtype={adds_up_in} needs ZeRO where the precision is {precision}: "
            "remove it and train.grad_accumulation_dtype, or set zero_optimization.stage to 2 or 3"
        )
    offloaded = zero.offload_optimizer is not None and zero.offload_optimizer.device != "none"
    if zero.stage == 1 and (precision, adds_up_in) == ("bf16", "fp32") and not offloaded:
        yield (
            "data_types.grad_accum_dtype=fp32 makes DeepSpeed take another optimiser at ZeRO-1 in bf16, which sends "
            "without overlap and writes other checkpoints: remove it and train.grad_accumulation_dtype, or set "
            "zero_optimization.stage to 2"
        )


def _offload(parsed: DeepSpeedJson) -> Iterator[str]:
    zero = parsed.zero_optimization
    for name, offload in (("offload_optimizer", zero.offload_optimizer), ("offload_param", zero.offload_param)):
        if offload is not None and offload.device == "nvme" and not offload.nvme_path:
            yield f"zero_optimization.{name}.device=nvme needs nvme_path: name a folder on the NVMe disk"
    if zero.offload_optimizer is not None and zero.offload_optimizer.ratio < 1:
        yield (
            f"zero_optimization.offload_optimizer.ratio={zero.offload_optimizer.ratio} offloads a part, which needs "
            "ZeRO-3 and DeepSpeed's own CPU Adam, and the optimiser is torch's AdamW here: remove the key"
        )


def _gradients(parsed: DeepSpeedJson) -> Iterator[str]:
    zero = parsed.zero_optimization
    if zero.stage not in _PARTITIONED_GRADIENTS or not zero.reduce_scatter:
        return
    for key, differs in (
        ("prescale_gradients", parsed.prescale_gradients),
        ("gradient_predivide_factor", parsed.gradient_predivide_factor != 1),
    ):
        if differs:
            yield (
                f"{key} does not go with ZeRO-{zero.stage} and its reduce-scatter: remove it, or set "
                "zero_optimization.reduce_scatter to false"
            )
