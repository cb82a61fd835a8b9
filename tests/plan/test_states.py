"""What states take, against real engines on CPU ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmae.config.deepspeed import load_deepspeed_json
from mmae.config.deepspeed_schema import Zero
from mmae.config.schema import ModelConfig
from mmae.engine.module import PretrainModule
from mmae.modalities import MODALITIES
from mmae.model.counts.named_parts import split_sizes
from mmae.model.counts.parameter_counts import parameter_counts
from mmae.model.counts.parameter_sizes import parameter_shapes, parameter_sizes
from mmae.plan.states import state_bytes, with_frozen, with_muon
from mmae.plan.time_and_disk import checkpoint_bytes
from mmae.plan.traffic import NUMBER_BYTES
from mmae.variants import VARIANTS
from tests.support.held_bytes import BUCKET, Held, Job, held_by, merged_config

STAGES = ("zero0", "zero1", "zero2", "zero3")
OFFLOADED = ("zero2_offload", "zero3_offload")


@pytest.mark.long
@pytest.mark.parametrize("config", [
    *(ModelConfig(size=size) for size in VARIANTS),
    ModelConfig(positions="learned", task_balancer="uncertainty", num_global_tokens=0),
    ModelConfig(in_domains=(*MODALITIES,), out_domains=(*MODALITIES,), decoder_depth=0),
])  # fmt: skip
def test_every_tensor_has_its_shape(config: ModelConfig) -> None:
    with torch.device("meta"):
        module = PretrainModule(config)
    assert parameter_shapes(config) == {name: tuple(each.shape) for name, each in module.named_parameters()}
    sizes = parameter_sizes(config)
    assert sum(sizes.values()) == sum(each.numel() for each in module.parameters())
    assert sum(sizes.values()) == parameter_counts(config).total


def check(job: Job, ranks: int, held: Held) -> None:
    """Device and host are one on CPUs. Buffers of stage 3's buckets are held for good; those of 1 and 2 are not."""
    config, zero, _ = merged_config(job, ranks)
    (sizes, frozen), number_bytes = split_sizes(config), NUMBER_BYTES[job.precision]
    sums = NUMBER_BYTES[job.sums or job.precision]
    states = state_bytes(sizes, zero, ranks, number_bytes, job.accumulation, sums, config.train.direct_gradients)
    if job.optimizer == "muon":
        states = with_muon(states, sizes)
    states = with_frozen(states, sizes, frozen, zero, ranks, number_bytes)
    bucket = BUCKET * number_bytes if zero.stage == 3 else 0
    for_good = states.first_gradients if zero.stage == 3 else 0
    steady = states.steady + states.host + bucket + for_good
    assert steady == pytest.approx(held.steady, rel=0.1), job
    if not states.host:
        assert states.steady + states.optimiser_moment == pytest.approx(held.optimiser, rel=0.1), job
    # DeepSpeed's own files hold frozen weights once.
    once = sum(frozen.values()) * number_bytes
    disk = checkpoint_bytes(sum(sizes.values()), zero.stage, number_bytes, frozen=sum(frozen.values())) - once
    assert disk == pytest.approx(held.checkpoint, rel=0.1), job


@pytest.mark.process
@pytest.mark.slow
def test_two_ranks_hold_what_is_predicted(tmp_path: Path) -> None:
    jobs = [Job("nano", file) for file in STAGES]
    jobs += [Job("nano", file, accumulation=2, sums="fp32") for file in ("zero2", "zero3", "zero2_offload")]
    jobs += [Job("tiny", file, frozen="encoder") for file in STAGES]
    for job, held in zip(jobs, held_by(jobs, 2, tmp_path), strict=True):
        check(job, 2, held)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_muon_holds_what_is_predicted(ranks: int, tmp_path: Path) -> None:
    jobs = [
        Job("tiny", f"zero{stage}", precision, optimizer="muon") for stage in range(3) for precision in ("bf16", "fp32")
    ]
    for job, held in zip(jobs, held_by(jobs, ranks, tmp_path), strict=True):
        check(job, ranks, held)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_larger_models_too(ranks: int, tmp_path: Path) -> None:
    jobs = [
        Job(size, file, precision) for size in ("tiny", "small") for file in STAGES for precision in ("bf16", "fp32")
    ]
    jobs += [Job("tiny", file) for file in OFFLOADED]
    for job, held in zip(jobs, held_by(jobs, ranks, tmp_path), strict=True):
        check(job, ranks, held)


def of(file: str, world: int, **more: Any) -> int:
    """Bytes of a rank between steps for ten tensors of a million numbers."""
    zero: Zero = load_deepspeed_json(file)[1].zero_optimization
    sizes = {str(number): 1_000_000 for number in range(10)}
    return state_bytes(sizes, zero.model_copy(update=more), world, 2, 1).steady // 10_000_000


def test_bytes_a_parameter_are_those_of_the_table() -> None:
    """Gradients, 2 and 2/N more, live from the backward pass to the optimiser's step only."""
    assert [of(file, 1) for file in STAGES] == [14, 14, 14, 14]
    assert [of(file, 4) for file in STAGES] == [14, 5, 5, 3]
    assert of("zero2_offload", 4) == 2
    assert of("zero3_offload", 4) == 0


def test_small_tensors_stay_whole_at_stage_3() -> None:
    assert of("zero3", 4, stage3_param_persistence_threshold=1_000_000) == 3 + 2
    assert of("zero3", 1, stage3_param_persistence_threshold=1_000_000) == 14


def test_what_is_gathered_is_bounded() -> None:
    sizes = {str(number): 1_000_000 for number in range(10)}
    zero = load_deepspeed_json("zero3_lean")[1].zero_optimization
    few = zero.model_copy(
        update={
            "stage3_max_live_parameters": 0, "stage3_max_reuse_distance": 0,
            "stage3_prefetch_bucket_size": 1_000_000, "reduce_bucket_size": 0,
        }
    )  # fmt: skip
    assert state_bytes(sizes, few, 4, 2, 1).buffers == 2 * 2_000_000
    everything = few.model_copy(update={"stage3_max_live_parameters": None, "stage3_max_reuse_distance": None})
    assert state_bytes(sizes, everything, 4, 2, 1).buffers == 2 * 10_000_000
    assert state_bytes(sizes, everything, 1, 2, 1).buffers == 0


def test_accumulation_holds_gradients_while_the_next_micro_batch_runs() -> None:
    sizes = {"all": 1_000_000}
    for file, held in (("zero0", 2), ("zero1", 2), ("zero2", 0.5)):
        zero = load_deepspeed_json(file)[1].zero_optimization
        assert state_bytes(sizes, zero, 4, 2, 1).first_gradients == 0
        assert state_bytes(sizes, zero, 4, 2, 2).first_gradients == held * 1_000_000
