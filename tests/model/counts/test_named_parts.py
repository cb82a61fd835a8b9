"""Which parameters a pattern names, and which patterns are refused."""

from __future__ import annotations

import pytest

from mmae.config.recipe_file import load_config
from mmae.config.schema import Config
from mmae.errors import InputError
from mmae.model.counts.named_parts import check_parts, learns, multiplier, split_sizes, told
from mmae.model.counts.parameter_sizes import parameter_sizes


def recipe(*overrides: str) -> Config:
    return load_config("debug", ["model.size=nano", *overrides])


@pytest.mark.parametrize(
    ("pattern", "named", "beside"),
    [
        ("encoder", "model.encoder.blocks.1.norm1.bias", "model.decoders.blocks.1.norm1.bias"),
        ("encoder.blocks.1", "model.encoder.blocks.1.attn.qkv.weight", "model.encoder.blocks.11.attn.qkv.weight"),
        ("encoder.blocks.[0-3]", "model.encoder.blocks.3.norm1.bias", "model.encoder.blocks.4.norm1.bias"),
        ("*.bias", "model.encoder.blocks.1.norm1.bias", "model.encoder.blocks.1.norm1.weight"),
        ("tokenizer.adapters.rgb", "model.tokenizer.adapters.rgb.proj.weight", "model.decoders.out_proj.rgb.weight"),
        ("encoder.blocks.*.mlp", "model.encoder.blocks.0.mlp.fc1.weight", "model.encoder.blocks.0.attn.qkv.weight"),
        ("loss_balancer", "loss_balancer.log_vars", "model.encoder.global_tokens"),
    ],
)
def test_a_pattern_names_a_part_and_all_below_it(pattern: str, named: str, beside: str) -> None:
    train = recipe(f"train.frozen=[{pattern}]").train
    assert (learns(named, train), learns(beside, train)) == (False, True)


def test_factors_of_several_patterns_multiply() -> None:
    train = recipe("train.lr_multipliers={encoder:0.1,*.bias:2,encoder.blocks.0:5}").train
    assert multiplier("model.encoder.blocks.0.norm1.bias", train) == pytest.approx(1.0)
    assert multiplier("model.decoders.mask_token", train) == 1.0
    assert multiplier("model.encoder.global_tokens", recipe().train) == 1.0


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["train.frozen=encoders"], "no part 'encoders'; did you mean 'encoder'?"),
        (["train.frozen=[encoder,x]"], r"no part 'x' \(known: tokenizer, encoder, decoders\)"),
        (["train.frozen=decoders.rgb"], r"only decoders\.out_proj\.rgb, or decoders as a whole"),
        (["train.frozen=loss_balancer"], "no part 'loss_balancer'"),
        (["train.frozen=*"], "nothing would learn"),
        (["train.frozen=[tokenizer,encoder,decoders]"], "nothing would learn"),
        (["train.lr_multipliers={encoder.block:2}"], "did you mean 'encoder.blocks'"),
        (["train.frozen=encoder", "train.lr_multipliers={encoder.blocks:2}"], "'encoder.blocks' is frozen"),
    ],
)
def test_what_names_nothing_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_parts(recipe(*overrides))


def test_what_learns_and_what_is_frozen_are_all_parameters() -> None:
    config = recipe("train.frozen=[encoder,*.bias]", "train.lr_multipliers={decoders:0.5}")
    learned, frozen = split_sizes(config)
    assert learned | frozen == parameter_sizes(config.model)
    assert all(name.startswith("model.encoder.") or name.endswith(".bias") for name in frozen)
    assert list(told(config)) == [
        f"train.frozen: {sum(frozen.values()):,} of {sum(parameter_sizes(config.model).values()):,} parameters do not "
        "learn (encoder, *.bias); they stay random, as model.init_from is not set",
        "train.lr_multipliers: decoders x 0.5",
    ]
    assert list(told(recipe())) == []
    (line,) = told(recipe("train.frozen=[encoder]", "model.init_from=there"))
    assert line.endswith("learn (encoder)")
