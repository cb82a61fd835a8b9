"""Which ways to run there are, which is recommended, and what was measured on a GPU beside the prediction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmae.bench.step.step_batch import made_up_band_stats, made_up_batch
from mmae.config.packaged_files import packaged_names
from mmae.config.recipe_file import load_config
from mmae.config.schema import Config, TrainConfig
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.step import prepare
from mmae.errors import InputError
from mmae.model.counts.named_parts import split_sizes
from mmae.plan.least_work import least_work, step_seconds
from mmae.plan.lines import FILES, MODES, Line, Machines, all_lines, best_of_each, files_for, micro_batches, recommended
from mmae.plan.memory import input_bytes, stored_bytes
from mmae.plan.time_and_disk import Speed

SPEED = Speed(0.3, 989e12)
GB = 10**9


def lines(recipe: str, machines: Machines, *overrides: str, files: tuple[str, ...] = FILES) -> list[Line]:
    return all_lines(load_config(recipe, list(overrides)), files, machines, SPEED)


def test_a_line_for_every_way() -> None:
    found = lines("vit_l", Machines(8, 1, 80 * GB))
    ways = {(line.file, line.mode, line.split.micro) for line in found}
    assert len(ways) == len(found) == len(FILES) * len(MODES) * 10
    assert all(line.split.global_batch == 4096 and line.split.world == 8 for line in found)


@pytest.mark.parametrize(("share", "micro"), [
    (1, [1]), (8, [1, 2, 4, 8]), (24, [1, 2, 3, 4, 6, 8, 12, 24]), (15, [1, 15]), (7, [1, 7]),
])  # fmt: skip
def test_micro_batches_divide_a_rank_s_share(share: int, micro: list[int]) -> None:
    config = load_config("debug", [f"train.global_batch={4 * share}"])
    found = list(micro_batches(config, 4))
    assert [split.micro for split in found] == micro
    assert {split.global_batch for split in found} == {4 * share}


def test_a_world_that_does_not_divide_the_batch() -> None:
    with pytest.raises(InputError, match="cannot be split over 7 ranks"):
        lines("vit_l", Machines(7, 1, 80 * GB))


@pytest.mark.parametrize("file", FILES)
def test_an_average_takes_four_bytes_a_parameter_divided_as_the_optimiser_s(file: str) -> None:
    machines = Machines(8, 1, 80 * GB)
    off, on = (lines("vit_l", machines, *more, files=(file,))[0] for more in ((), ("train.ema=1e6",)))
    numbers = on.checkpoint - off.checkpoint
    assert numbers % 4 == 0
    held = {"zero0": numbers}.get(file, numbers / 8)
    device, host = on.needs.peak - off.needs.peak, on.needs.host - off.needs.host
    assert (host if "offload" in file else device) == pytest.approx(held, rel=1e-3)
    assert (device if "offload" in file else host) == 0


def test_memory_grows_with_the_micro_batch_and_shrinks_with_recomputation() -> None:
    found = lines("vit_l", Machines(8, 1, 80 * GB))
    for file in FILES:
        for mode in MODES:
            peaks = [line.needs.peak for line in found if (line.file, line.mode) == (file, mode)]
            assert peaks == sorted(peaks)
    largest = [line for line in found if line.file == "zero1" and line.split.accumulation == 1]
    assert [line.mode for line in sorted(largest, key=lambda line: -line.needs.peak)] == list(MODES)


def test_peak_is_that_of_the_worst_phase() -> None:
    for line in lines("vit_g", Machines(2, 1, 80 * GB)):
        needs = line.needs
        assert needs.peak == max(needs.forward, needs.backward, needs.optimiser)
        assert needs.peak <= 4 * needs.states + needs.buffers + needs.activations + needs.tiles + 3 * needs.gradients


@pytest.mark.parametrize(
    ("recipe", "machines", "file", "mode", "micro"),
    [
        ("vit_l", Machines(8, 1, 80 * GB), "zero1", "none", 512),
        # Half the micro-batch would fit with nothing computed again, but the host would set its pace.
        ("vit_l", Machines(8, 1, 24 * GB), "zero1", "selective", 512),
        ("vit_l", Machines(8, 1, 16 * GB), "zero1", "full", 512),
        ("debug", Machines(1, 1, 8 * GB), "zero1", "none", 16),
    ],
)
def test_what_is_recommended(recipe: str, machines: Machines, file: str, mode: str, micro: int) -> None:
    choice = recommended(lines(recipe, machines))
    assert choice is not None
    assert (choice.file, choice.mode, choice.split.micro) == (file, mode, micro)


def test_the_recommended_line_is_the_fastest_that_fits() -> None:
    found = lines("vit_h", Machines(4, 2, 40 * GB))
    choice = recommended(found)
    assert choice is not None
    assert choice.speed is not None
    assert choice.needs.peak <= 0.9 * 40 * GB
    assert choice.speed == pytest.approx(max(line.speed or 0 for line in found if line.fits == "yes"))
    assert choice in best_of_each(found)


def test_nothing_fits() -> None:
    found = lines("vit_g", Machines(1, 1, GB))
    assert {line.fits for line in found} == {"no"}
    assert recommended(found) is None
    # The best of lines that do not fit is the one that lacks least.
    for best in best_of_each(found):
        same = [line for line in found if (line.file, line.mode) == (best.file, best.mode)]
        assert best.needs.peak == min(line.needs.peak for line in same)


def test_tight_is_not_recommended() -> None:
    def whole(capacity: int) -> Line:
        found = lines("vit_l", Machines(8, 1, capacity), files=("zero1",))
        return next(line for line in found if line.mode == "none" and line.split.accumulation == 1)

    peak = whole(80 * GB).needs.peak
    assert [whole(capacity).fits for capacity in (peak - 1, peak, peak * 10 // 9 + 2)] == ["no", "tight", "yes"]


def test_compiled_steps_do_not_go_with_selective() -> None:
    assert {line.mode for line in lines("vit_l", Machines(8, 1, 80 * GB), "train.compile=true")} == {"none", "full"}


@pytest.mark.parametrize("name", packaged_names("ds_configs", ".json"))
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_every_packaged_file(name: str, precision: str) -> None:
    found = lines("vit_b", Machines(8, 4, 40 * GB), f"train.precision={precision}", files=(name,))
    for line in found:
        assert line.precision == precision
        assert line.needs.peak > 0
        assert (line.needs.host > 0) == ("offload" in name or "nvme" in name)
        assert (line.speed is None) == (line.needs.host > 0 or precision == "fp32")


@pytest.mark.parametrize(
    ("recipe", "micro", "mode", "seen"),
    [("vit_b", 2048, "none", 45.0), ("vit_l", 1024, "none", 50.0), ("vit_l", 1024, "full", 10.4),
     ("vit_h", 512, "none", 41.9)],
)  # fmt: skip
def test_what_was_measured_on_an_h100(recipe: str, micro: int, mode: Any, seen: float, tmp_path: Path) -> None:
    """ZeRO-1, one rank, bf16; the bench made all tokens, without AdamW's moments and a second batch."""
    of_then = tmp_path / "zero1.json"
    zero = {"stage": 1, "overlap_comm": True, "reduce_bucket_size": 200_000_000}
    of_then.write_text(json.dumps({"bf16": {}, "zero_optimization": zero}))
    words = (f"train.global_batch={micro}", "train.direct_gradients=false", "model.lean=false")
    found = lines(recipe, Machines(1, 1, 80 * GB), *words, files=(str(of_then),))
    (line,) = [each for each in found if each.mode == mode and each.split.micro == micro]
    numbers = line.needs.states / 14
    config = load_config(recipe, [])
    assert (line.needs.peak - 8 * numbers - micro * stored_bytes(config)) / GB == pytest.approx(seen, rel=0.01)


def test_bytes_of_tiles_are_those_of_batches() -> None:
    every = "[rgb,depth,semseg,ired,sired,ebands,sentinel1,dynamic_world,canopy_height,slope]"
    for more in ([], [f"model.in_domains={every}", f"model.out_domains={every}"]):
        config: Config = load_config("vit_b", more)
        batch = made_up_batch(config.model.domains, 3)
        assert sum(pixels.nbytes for pixels in batch.pixels.values()) == 3 * stored_bytes(config)
        inputs, plan = prepare(batch, Preprocess(config.data, config.model, made_up_band_stats(), batch.key_B.device),
                               config, train=True)  # fmt: skip
        parts = (*inputs.values.values(), *inputs.valid.values(), *inputs.token_valid.values())
        total = sum(part.nbytes for part in (*parts, plan.keep_BK, plan.hidden_BN))
        assert total == 3 * input_bytes(config)


def test_what_is_prepared_in_advance_is_held_behind_the_backward_pass() -> None:
    config, machines = load_config("vit_b", []), Machines(1, 1, 80 * GB)
    (off,), (on,) = ([line.needs for line in lines("vit_b", machines, f"train.prepare_ahead={said}", files=("zero1",))
                      if (line.mode, line.split.micro) == ("none", 8)] for said in ("false", "true"))  # fmt: skip
    step = config.train.global_batch * (stored_bytes(config) + input_bytes(config))
    assert (on.forward, on.backward, on.optimiser) == (off.forward, off.backward + step, off.optimiser + step)
    assert on.tiles == off.tiles + step


def test_muon_needs_whole_matrices_on_the_device() -> None:
    assert files_for(TrainConfig(optimizer="muon")) == ("zero1", "zero0", "zero2")


def test_graphs_keep_a_micro_batch_for_themselves() -> None:
    assert files_for(TrainConfig(cuda_graphs=True)) == ("zero1", "zero0", "zero2")
    machines, config = Machines(8, 1, 80 * GB), load_config("vit_l", [])
    plain, graphs = (lines("vit_l", machines, f"train.cuda_graphs={on}", files=("zero1",)) for on in ("false", "true"))
    numbers = sum(split_sizes(config)[0].values())
    for without, with_ in zip(plain, graphs, strict=True):
        a, b, inputs = without.needs, with_.needs, with_.split.micro * input_bytes(config)
        assert b.forward - a.forward == 2 * numbers + inputs
        assert b.backward - a.backward == b.optimiser - a.optimiser == 2 * numbers + inputs + a.activations


def test_muon_takes_the_time_of_its_products() -> None:
    """For vit_b 1.6 TFLOP, once a step: all of it at stage 0, a rank's share and one matrix at stage 1."""
    found = {}
    for word in ("adamw", "muon"):
        for line in lines("vit_b", Machines(8, 1, 80 * GB), f"train.optimizer={word}", files=("zero0", "zero1")):
            found[word, line.file, line.mode, line.split.micro] = line.step_seconds or 0.0
    more = {
        (file, micro): (seconds - found["adamw", file, mode, micro]) * SPEED.mfu * SPEED.peak_flops
        for (word, file, mode, micro), seconds in found.items() if word == "muon"
    }  # fmt: skip
    assert {round(flops / 1e12, 1) for (file, _), flops in more.items() if file == "zero0"} == {1.6}
    assert {round(flops / 1e12, 2) for (file, _), flops in more.items() if file == "zero1"} == {0.25}
    bounds = {word: step_seconds(least_work(load_config("vit_b", [f"train.optimizer={word}"]), 256, 2), 989e12, 1e99)
              for word in ("adamw", "muon")}  # fmt: skip
    assert (bounds["muon"] - bounds["adamw"]) * 989 == pytest.approx(1.64, rel=0.02)


def test_sums_in_float32_need_zero_2_or_3() -> None:
    floats = load_config("vit_l", ["train.grad_accumulation_dtype=fp32"])
    assert files_for(floats.train) == ("zero2", "zero3", "zero3_lean", "zero2_offload", "zero3_offload")
    assert files_for(load_config("vit_l", []).train) == FILES
    machines = Machines(8, 1, 80 * GB)
    (plain,), (sums,) = ([line for line in lines("vit_l", machines, *more, files=("zero2",))
                          if line.split.micro == 64 and line.mode == "none"]
                         for more in ((), ("train.grad_accumulation_dtype=fp32",)))  # fmt: skip
    numbers = plain.needs.gradients / (2 * 2 / 8)
    assert sums.needs.gradients == pytest.approx(4 / 8 * numbers)
    assert (plain.adds_up_in, sums.adds_up_in) == ("bf16", "fp32")
