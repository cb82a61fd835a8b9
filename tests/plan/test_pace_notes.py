"""What sets the pace, beside the bound of the GPU."""

from __future__ import annotations

from mmae.config.recipe_file import load_config
from mmae.plan.lines import Line, Machines, all_lines, recommended
from mmae.plan.pace_notes import Peaks, pace_notes
from mmae.plan.time_and_disk import Speed

H100 = Peaks(989e12, 3.35e12)
GRAPHS = "train.cuda_graphs=true, which no GPU has measured"


def notes(nodes: int, mfu: float = 0.376, *overrides: str, gpus: int = 8) -> tuple[list[str], Line]:
    config = load_config("vit_l", ["train.compile=true", *overrides])
    line = recommended(all_lines(config, ("zero1",), Machines(gpus, nodes, 300 * 10**9), Speed(mfu, H100.flops)))
    assert line is not None
    return pace_notes(config, line, H100), line


def test_many_gpus_with_small_micro_batches_wait_for_their_hosts() -> None:
    found, line = notes(8)
    assert line.split.micro == 64
    assert "starting the work of a micro-batch takes about 158 ms, the work on its 64 tiles 16 ms" in found[1]
    assert "Micro-batches of 633 would keep the GPU busy: take fewer GPUs, or a larger train.global_batch" in found[1]


def test_one_gpu_is_not_told_to_take_fewer() -> None:
    found, _ = notes(1, 0.376, "train.global_batch=64", gpus=1)
    assert found[1].endswith(f"would keep the GPU busy: take a larger train.global_batch, or {GRAPHS}")


def test_who_has_graphs_or_cannot_have_them_is_not_told_to_take_them() -> None:
    assert GRAPHS not in notes(8, 0.376, "train.cuda_graphs=true")[0][1]
    config = load_config("vit_l", ["train.compile=true"])
    line, *_ = all_lines(config, ("zero3",), Machines(8, 8, 300 * 10**9), Speed(0.376, H100.flops))
    assert GRAPHS not in pace_notes(config, line, H100)[1]


def test_large_micro_batches_keep_the_gpu_busy() -> None:
    found, line = notes(1, 0.376, "train.global_batch=8192")
    assert line.split.micro == 1024
    (bound,) = found
    assert bound.startswith("bound: 7,8")
    assert bound.endswith("the estimate is 51% of it")


def test_no_gpu_is_faster_than_the_bound() -> None:
    found, _ = notes(1, 0.9, "train.global_batch=32768")
    assert "WARNING: no such GPU is faster than the bound" in found[1]


def test_where_no_time_is_known_nothing_is_said() -> None:
    config = load_config("vit_l", ["train.precision=fp32"])
    line, *_ = all_lines(config, ("zero1",), Machines(8, 1, 80 * 10**9), Speed(0.3, H100.flops))
    assert pace_notes(config, line, H100) == []
