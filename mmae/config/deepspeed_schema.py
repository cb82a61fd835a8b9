"""The keys that a DeepSpeed JSON may have. DeepSpeed accepts misspelt keys without a warning; this schema does not.

Only ZeRO, precision and communication belong into these files: batch, clipping, optimiser and schedule come
from the recipe. Batch keys are known so that a JSON that repeats the recipe's numbers is accepted.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Positive = Annotated[int, Field(ge=1)]
Size = Annotated[int | float, Field(ge=0)]


class Bf16(_Strict):
    enabled: bool = True
    check_grad_overflow: Literal[True] = True
    """Always on: otherwise a gradient that is not finite would destroy the weights."""
    immediate_grad_update: bool = False


class Fp16(_Strict):
    enabled: bool = True
    loss_scale: Annotated[float, Field(ge=0)] = 0
    initial_scale_power: Positive = 16
    loss_scale_window: Positive = 1000
    hysteresis: Positive = 2
    consecutive_hysteresis: bool = False
    min_loss_scale: Annotated[float, Field(gt=0)] = 1


class _Offload(_Strict):
    device: Literal["none", "cpu", "nvme"] = "none"
    nvme_path: str | None = None
    pin_memory: bool = False
    buffer_count: Positive | None = None


class OffloadOptimizer(_Offload):
    pipeline_read: bool = False
    pipeline_write: bool = False
    fast_init: bool = False
    ratio: Annotated[float, Field(ge=0, le=1)] = 1.0


class OffloadParam(_Offload):
    buffer_size: Size | None = None
    max_in_cpu: Size | None = None


class Zero(_Strict):
    stage: Annotated[int, Field(ge=0, le=3)] = 0
    overlap_comm: bool | None = None
    contiguous_gradients: bool = True
    reduce_scatter: bool = True
    reduce_bucket_size: Size | None = None
    allgather_partitions: bool = True
    allgather_bucket_size: Size | None = None
    round_robin_gradients: bool = False
    sub_group_size: Size | None = None
    offload_optimizer: OffloadOptimizer | None = None
    offload_param: OffloadParam | None = None
    stage3_prefetch_bucket_size: Size | None = None
    stage3_param_persistence_threshold: Size | None = None
    stage3_model_persistence_threshold: Size | None = None
    stage3_max_live_parameters: Size | None = None
    stage3_max_reuse_distance: Size | None = None
    stage3_module_granularity_threshold: Size | None = None
    zero_hpz_partition_size: Positive = 1
    zero_quantized_weights: bool = False
    zero_quantized_gradients: bool = False
    memory_efficient_linear: Literal[False] = False
    """Always off: at stage 3 its replacement of `linear` gives wrong gradients under selective checkpointing."""


class DataTypes(_Strict):
    grad_accum_dtype: Literal["fp32", "fp16", "bf16"] | None = None


class CommsLogger(_Strict):
    enabled: bool
    verbose: bool = False
    prof_all: bool = True
    debug: bool = False


class Aio(_Strict):
    block_size: Positive | None = None
    queue_depth: Positive | None = None
    intra_op_parallelism: Positive | None = None
    single_submit: bool = False
    overlap_events: bool = True


class DeepSpeedJson(_Strict):
    """A DeepSpeed JSON as a user may write it."""

    bf16: Bf16 | None = None
    fp16: Fp16 | None = None
    zero_optimization: Zero = Field(default_factory=Zero)
    zero_force_ds_cpu_optimizer: bool | None = None
    zero_allow_untested_optimizer: Literal[False] = False
    """The merged configuration in a run's folder says it, and that file is accepted, too."""
    communication_data_type: Literal["fp32", "fp16", "bf16"] | None = None
    data_types: DataTypes | None = None
    prescale_gradients: bool = False
    gradient_predivide_factor: Annotated[float, Field(gt=0)] = 1.0
    comms_logger: CommsLogger | None = None
    aio: Aio | None = None
    wall_clock_breakdown: bool = False
    train_batch_size: Positive | None = None
    train_micro_batch_size_per_gpu: Positive | None = None
    gradient_accumulation_steps: Positive | None = None
    gradient_clipping: Annotated[float, Field(ge=0)] | None = None

    @property
    def precision(self) -> Literal["bf16", "fp16", "fp32"]:
        if self.fp16 is not None and self.fp16.enabled:
            return "fp16"
        return "bf16" if self.bf16 is not None and self.bf16.enabled else "fp32"

    def adds_up_in(self, precision: str) -> str:
        """The dtype in which the gradients of several micro-batches add up, where this precision is in use."""
        said = self.data_types.grad_accum_dtype if self.data_types is not None else None
        return said or precision


_FROM_RECIPE = {
    "optimizer": "train.blr, train.opt_betas, train.weight_decay",
    "scheduler": "train.max_steps, train.warmup_steps, train.min_lr",
    "activation_checkpointing": "train.activation_checkpointing",
}
"""DeepSpeed sections that belong in the recipe -> the recipe's keys."""


def belongs_to_recipe(key: str) -> str | None:
    """The recipe's keys for this section of a DeepSpeed JSON, or None."""
    return _FROM_RECIPE.get(key)
