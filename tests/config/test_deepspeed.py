"""DeepSpeed JSONs: what they may say, and how they meet the recipe."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmae.config.batch_split import BatchSplit
from mmae.config.deepspeed import adds_up_in_of, load_deepspeed_json, merge, precision_of, why_rounded
from mmae.config.packaged_files import packaged_names
from mmae.config.schema import TrainConfig
from mmae.errors import InputError

SPLIT = BatchSplit(micro=4, accumulation=2, world=2)
TRAIN = TrainConfig(global_batch=16)


def merged(tmp_path: Path, tree: Any, train: TrainConfig = TRAIN) -> dict[str, Any]:
    path = tmp_path / "ds.json"
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree), encoding="utf-8")
    return merge(*load_deepspeed_json(str(path)), train, SPLIT)


@pytest.mark.parametrize("name", packaged_names("ds_configs", ".json"))
@pytest.mark.parametrize("precision", [None, "bf16", "fp16", "fp32"])
def test_every_packaged_file_merges_in_every_precision(name: str, precision: Any) -> None:
    result = merge(*load_deepspeed_json(name), TrainConfig(global_batch=16, precision=precision), SPLIT)
    assert precision_of(result) == (precision or "bf16")
    assert result["zero_optimization"]["stage"] == int(name.removeprefix("zero")[0])
    assert result["zero_optimization"]["memory_efficient_linear"] is False


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_float8_is_rounded_from_bf16(precision: Any, tmp_path: Path) -> None:
    assert precision_of(merged(tmp_path, {}, replace(TRAIN, float8="emulated", precision="bf16"))) == "bf16"
    with pytest.raises(InputError, match=r"train\.float8=emulated rounds from bf16, and the precision is"):
        merged(tmp_path, {}, replace(TRAIN, float8="emulated", precision=precision))


@pytest.mark.parametrize(("name", "says"), [("zero3", "ZeRO-3 gathers them anew"), ("zero2_offload", "offloaded")])
def test_graphs_need_weights_and_optimiser_in_their_place(name: str, says: str) -> None:
    train = replace(TRAIN, cuda_graphs=True)
    for fine in ("zero0", "zero1", "zero2"):
        merge(*load_deepspeed_json(fine), train, SPLIT)
    with pytest.raises(InputError, match=f"{name}.json: train.cuda_graphs=true .*{says}"):
        merge(*load_deepspeed_json(name), train, SPLIT)


def test_an_empty_file_gets_batch_and_clipping_from_the_recipe(tmp_path: Path) -> None:
    result = merged(tmp_path, {})
    assert result["train_batch_size"] == 16
    assert result["train_micro_batch_size_per_gpu"] == 4
    assert result["gradient_accumulation_steps"] == 2
    assert result["gradient_clipping"] == 1.0
    assert precision_of(result) == "fp32"


def test_a_file_may_repeat_the_recipe(tmp_path: Path) -> None:
    assert merged(tmp_path, {"train_batch_size": 16, "gradient_clipping": 1.0})["train_batch_size"] == 16


def test_what_was_merged_is_accepted_again(tmp_path: Path) -> None:
    for name in packaged_names("ds_configs", ".json"):
        once = merge(*load_deepspeed_json(name), TRAIN, SPLIT)
        assert merged(tmp_path, once) == once


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({"train_batch_size": 32}, "train_batch_size=32 contradicts the recipe, where train.global_batch gives 16"),
        ({"train_micro_batch_size_per_gpu": 8}, "contradicts the recipe, where train.micro_batch gives 4"),
        ({"gradient_clipping": 0.5}, "contradicts the recipe, where train.clip_grad gives 1.0"),
        ({"gradient_cliping": 1.0}, "unknown key 'gradient_cliping'; did you mean 'gradient_clipping'"),
        ({"zero_optimization": {"stag": 1}}, "unknown key 'zero_optimization.stag'; did you mean 'stage'"),
        (
            {"zero_optimization": {"offload_optimizer": {"devise": "cpu"}}},
            "unknown key 'zero_optimization.offload_optimizer.devise'; did you mean 'device'",
        ),
        ({"zero_optimization": {"stage": 4}}, "zero_optimization.stage=4"),
        ({"zero_optimization": {"stage": "2"}}, "zero_optimization.stage='2'"),
        ({"zero_optimization": {"memory_efficient_linear": True}}, "memory_efficient_linear=True"),
        ({"optimizer": {"type": "AdamW"}}, "'optimizer' belongs into the recipe (train.blr"),
        ({"scheduler": {}}, "'scheduler' belongs into the recipe"),
        ({"bf16": {"enabled": 1}}, "bf16.enabled=1"),
        ('{"bf16": {}, "bf16": {}}', "'bf16' stands twice"),
        ({"bf16": {"enabled": True}, "fp16": {"enabled": True}}, "bf16 and fp16 are both enabled"),
        ({"bf16": {}, "fp16": {}, "zero_optimization": {"stage": 3}}, "bf16 and fp16 are both enabled"),
        ({"bf16": {}, "data_types": {"grad_accum_dtype": "fp32"}}, "grad_accum_dtype=fp32 needs ZeRO"),
        (
            {"bf16": {}, "data_types": {"grad_accum_dtype": "fp32"}, "zero_optimization": {"stage": 1}},
            "grad_accum_dtype=fp32 makes DeepSpeed take another optimiser at ZeRO-1 in bf16",
        ),
        (
            {"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}},
            "zero_optimization.offload_param.device=nvme needs nvme_path",
        ),
        (
            {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": ""}}},
            "offload_optimizer.device=nvme needs nvme_path",
        ),
        (
            {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu", "ratio": 0.5}}},
            "offload_optimizer.ratio=0.5 offloads a part",
        ),
        ({"zero_optimization": {"stage": 2}, "prescale_gradients": True}, "prescale_gradients does not go with ZeRO-2"),
        (
            {"zero_optimization": {"stage": 3}, "gradient_predivide_factor": 2.0},
            "gradient_predivide_factor does not go with ZeRO-3",
        ),
        ({"train_batch_size": "auto"}, 'train_batch_size="auto" is a word of Hugging Face'),
        ({"bf16": {"enabled": "auto"}}, 'bf16.enabled="auto" is a word of Hugging Face'),
        (
            {"zero_optimization": {"stage": 3, "reduce_bucket_size": "auto"}},
            'zero_optimization.reduce_bucket_size="auto" is a word of Hugging Face',
        ),
        ({"zero_optimization": {"reduce_bucket_size": "5"}}, "zero_optimization.reduce_bucket_size='5': "),
        ("{", "not JSON"),
        ("[]", "is a JSON object"),
    ],
)
def test_what_deepspeed_would_swallow_is_refused(tmp_path: Path, tree: Any, says: str) -> None:
    with pytest.raises(InputError, match=r"ds\.json") as caught:
        merged(tmp_path, tree)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "tree",
    [
        {"bf16": {"enabled": True}, "fp16": {"enabled": False}},
        {"bf16": {}, "data_types": {"grad_accum_dtype": "bf16"}},
        {"fp16": {}, "data_types": {"grad_accum_dtype": "fp32"}, "zero_optimization": {"stage": 1}},
        {"data_types": {"grad_accum_dtype": "fp32"}, "zero_optimization": {"stage": 1}},
        {"zero_optimization": {"stage": 1}, "prescale_gradients": True},
        {"zero_optimization": {"stage": 2, "reduce_scatter": False}, "prescale_gradients": True},
    ],
)
def test_what_deepspeed_takes_is_taken(tmp_path: Path, tree: Any) -> None:
    assert merged(tmp_path, tree)["train_batch_size"] == 16


def test_a_recipes_precision_does_not_excuse_two_in_the_file(tmp_path: Path) -> None:
    both = {"bf16": {"enabled": True}, "fp16": {"enabled": True}}
    with pytest.raises(InputError, match="both enabled"):
        merged(tmp_path, both, TrainConfig(global_batch=16, precision="bf16"))


def test_precision_of_the_recipe_wins(tmp_path: Path) -> None:
    result = merged(tmp_path, {"bf16": {"enabled": True}}, TrainConfig(global_batch=16, precision="fp16"))
    assert precision_of(result) == "fp16"
    assert "bf16" not in result


def test_an_average_follows_no_weights_in_files() -> None:
    nvme, cpu = load_deepspeed_json("zero3_nvme"), load_deepspeed_json("zero3_offload")
    with pytest.raises(InputError, match=r"which train.ema cannot follow"):
        merge(*nvme, replace(TRAIN, ema=9), BatchSplit(4, 4, 1))
    assert merge(*cpu, replace(TRAIN, ema=9), BatchSplit(4, 4, 1)) == merge(*cpu, TRAIN, BatchSplit(4, 4, 1))


def test_missing_files_are_named() -> None:
    with pytest.raises(InputError, match="no such file"):
        load_deepspeed_json("nowhere/zero9.json")
    with pytest.raises(InputError, match="did you mean"):
        load_deepspeed_json("zero")


def test_one_rank_has_nothing_to_overlap() -> None:
    alone, two = (merge(*load_deepspeed_json("zero1"), TRAIN, BatchSplit(4, 4 // world, world)) for world in (1, 2))
    assert (alone["zero_optimization"]["overlap_comm"], two["zero_optimization"]["overlap_comm"]) == (False, True)


def test_what_a_file_says_of_overlap_and_scaling_holds(tmp_path: Path) -> None:
    said = {"fp16": {}, "prescale_gradients": False, "zero_optimization": {"stage": 2, "overlap_comm": False,
            "reduce_scatter": False}}  # fmt: skip
    result = merged(tmp_path, said)
    assert result["zero_optimization"]["overlap_comm"] is result["prescale_gradients"] is False


def test_whole_gradients_in_fp16_are_divided_before_they_add_up_over_ranks(tmp_path: Path) -> None:
    zero = {"stage": 2, "reduce_scatter": False}
    assert merged(tmp_path, {"fp16": {}, "zero_optimization": zero})["prescale_gradients"] is True
    assert "prescale_gradients" not in merged(tmp_path, {"bf16": {}, "zero_optimization": zero})


def test_gradients_add_up_in_the_dtype_of_the_recipe(tmp_path: Path) -> None:
    floats = TrainConfig(global_batch=16, grad_accumulation_dtype="fp32")
    zero2 = {"bf16": {}, "zero_optimization": {"stage": 2}}
    assert adds_up_in_of(merged(tmp_path, zero2, floats)) == "fp32"
    assert adds_up_in_of(merged(tmp_path, zero2)) == "bf16"
    with pytest.raises(InputError, match="remove it and train"):
        merge(*load_deepspeed_json("zero1"), floats, SPLIT)
    with pytest.raises(InputError, match="grad_accum_dtype=bf16 contradicts the recipe"):
        merged(tmp_path, {"data_types": {"grad_accum_dtype": "bf16"}, **zero2}, floats)


def test_eight_micro_batches_in_bf16_are_worth_a_warning() -> None:
    assert "8 micro-batches add up their gradients in bf16" in why_rounded("bf16", 8)
    assert [why_rounded(*each) for each in (("bf16", 7), ("fp16", 8), ("fp32", 64))] == [""] * 3
