"""The advice that a run gets if it does not fit into memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmae.config.batch_split import BatchSplit
from mmae.config.packaged_files import packaged_names
from mmae.config.schema import TrainConfig
from mmae.engine.telemetry.oom_advice import advice, explained, is_out_of_memory, next_smaller

CPU = "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
EIGHT = BatchSplit(micro=64, accumulation=2, world=8)
TRAIN = TrainConfig(global_batch=1024)


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError(CPU), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError(CPU), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_errors_that_mean_out_of_memory(error: BaseException, memory: bool) -> None:
    assert is_out_of_memory(error) is memory


def test_a_real_refusal_of_the_cpu_is_recognised() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(refused.value)


@pytest.mark.parametrize(
    ("split", "smaller"),
    [
        (BatchSplit(64, 2, 8), 32),
        (BatchSplit(12, 1, 2), 6),
        (BatchSplit(7, 3, 1), 3),
        (BatchSplit(5, 1, 2), 1),
        (BatchSplit(1, 8, 2), None),
    ],
)
def test_the_next_smaller_micro_batch_divides_a_ranks_tiles(split: BatchSplit, smaller: int | None) -> None:
    assert next_smaller(split) == smaller
    if smaller is not None:
        assert split.global_batch // split.world % smaller == 0


def test_the_cheapest_remedy_comes_first() -> None:
    assert advice(EIGHT, TRAIN, 1) == [
        "train.activation_checkpointing=selective", "train.activation_checkpointing=full", "train.micro_batch=32",
        "--deepspeed_config zero2",
    ]  # fmt: skip


def test_settings_in_use_are_not_advised() -> None:
    full = replace(TRAIN, activation_checkpointing="full", checkpoint_blocks_every=2)
    assert advice(EIGHT, full, 3) == [
        "train.checkpoint_blocks_every=1", "train.micro_batch=32", "--deepspeed_config zero3_offload"
    ]  # fmt: skip
    compiled = replace(TRAIN, compile=True)
    assert advice(EIGHT, compiled, 2)[0] == "train.activation_checkpointing=full"
    # One rank has nobody to share with, and a single tile cannot be divided.
    alone = advice(BatchSplit(1, 4, 1), replace(full, checkpoint_blocks_every=1), 0)
    assert alone == ["--deepspeed_config zero2_offload"]


def test_weights_that_do_not_fit_are_shared_out() -> None:
    assert advice(EIGHT, TRAIN, 0, in_a_step=False) == ["--deepspeed_config zero1"]
    assert advice(EIGHT, TRAIN, 3, in_a_step=False) == ["--deepspeed_config zero3_offload"]


def test_advised_settings_exist() -> None:
    for world in (1, 8):
        for stage in range(4):
            (config,) = advice(BatchSplit(4, 1, world), TRAIN, stage, in_a_step=False)
            assert config.removeprefix("--deepspeed_config ") in packaged_names("ds_configs", ".json")


def test_the_message_is_one_line_that_says_what_to_do() -> None:
    error = explained(torch.OutOfMemoryError("CUDA out of memory.\nmore"), EIGHT, TRAIN, 1, 5, "NVIDIA A10")
    text = str(error)
    assert "\n" not in text
    assert text.startswith("rank 5 is out of memory on NVIDIA A10 (micro-batch 64, ")
    assert "try in this order: train.activation_checkpointing=selective, " in text
    assert text.endswith("[CUDA out of memory.]")
    assert "zero2, a smaller model [" in text
    assert str(explained(MemoryError(), EIGHT, TRAIN, 1, 5, "x")).endswith("[MemoryError]")
