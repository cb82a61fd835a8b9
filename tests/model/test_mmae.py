from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES, output_source
from mmae.model.encoder import drop_path_rates
from mmae.model.initialise import initialise
from mmae.model.masking import plan_from_ids
from mmae.model.mmae import MultiMAE
from mmae.model.recompute import Recompute
from mmae.types import MaskPlan
from mmae.variants import VARIANTS, Variant

MakeValues = Callable[[ModelConfig, int], dict[str, Tensor]]


def make_plan(config: ModelConfig, batch: int) -> MaskPlan:
    generator = torch.Generator().manual_seed(2)
    keep = torch.stack([torch.randperm(config.num_tokens, generator=generator) for _ in range(batch)])
    return plan_from_ids(keep[:, : config.num_encoded_tokens], config.num_tokens)


CASES = {
    "rectangular": {},
    "one modality": {"in_domains": ("semseg",), "out_domains": ("semseg",), "extra_norm_pix_loss": False,
                     "num_encoded_tokens": 2},
    "output only": {"in_domains": ("depth", "ired"), "out_domains": ("dynamic_world", "rgb")},
    "all modalities": {"in_domains": tuple(MODALITIES), "out_domains": tuple(MODALITIES)},
    "no global tokens": {"num_global_tokens": 0},
    "one token": {"num_encoded_tokens": 1, "num_global_tokens": 3},
    "learned positions": {"positions": "learned"},
    "odd patch": {"patch_size": 12, "input_size": (36, 60), "num_encoded_tokens": 7},
}  # fmt: skip


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())
def test_shapes_and_gradients(
    changes: dict[str, object], config: ModelConfig, variant: Variant, make_values: MakeValues
) -> None:
    config = replace(config, **changes)  # type: ignore[arg-type]
    model = MultiMAE(config, variant)
    output = model(make_values(config, 2), make_plan(config, 2))
    assert output.encoded_BLD.shape == (2, config.num_encoded_tokens + config.num_global_tokens, variant.dim)
    for name in config.outputs:
        source = output_source(name)
        side = source.patch(config.patch_size)
        assert output.patches[name].shape == (2, config.tokens_per_modality, source.channels, side, side)
        assert output.patches[name].isfinite().all()
    torch.autograd.backward([patch.square().sum() for patch in output.patches.values()])
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_the_encoder_reads_visible_tokens_only(config: ModelConfig, variant: Variant) -> None:
    model = MultiMAE(config, variant).eval()
    plan = make_plan(config, 2)
    tokens = torch.randn(2, config.num_tokens, variant.dim)
    other = torch.where(plan.hidden_BN[:, :, None], torch.randn_like(tokens), tokens)
    assert torch.equal(model.encode(tokens, plan), model.encode(other, plan))


def test_a_prediction_does_not_depend_on_the_order_of_visible_tokens(
    config: ModelConfig, variant: Variant, make_values: MakeValues
) -> None:
    model, plan, values = MultiMAE(config, variant).eval(), make_plan(config, 2), make_values(config, 2)
    ascending = plan_from_ids(plan.keep_BK.sort(dim=1).values, config.num_tokens)
    here, there = model(values, plan), model(values, ascending)
    for name in config.outputs:
        torch.testing.assert_close(here.patches[name], there.patches[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_checkpointing_changes_no_gradient(
    drop_path: float, config: ModelConfig, variant: Variant, make_values: MakeValues
) -> None:
    config = replace(config, drop_path=drop_path)
    plan, values = make_plan(config, 4), make_values(config, 4)
    gradients: list[list[Tensor]] = []
    ways: tuple[Recompute, ...] = (Recompute("none"), Recompute("selective"), Recompute("full"), Recompute("full", 2))
    for recompute in ways:
        model = MultiMAE(config, variant, recompute)
        torch.manual_seed(5)
        loss = torch.stack([patch.square().mean() for patch in model(values, plan).patches.values()]).sum()
        gradients.append(list(torch.autograd.grad(loss, list(model.parameters()))))
    for plain, *recomputed in zip(*gradients, strict=True):
        assert all(torch.equal(plain, other) for other in recomputed)


def test_drop_path_drops_in_training_only(config: ModelConfig, variant: Variant, make_values: MakeValues) -> None:
    dropping = MultiMAE(replace(config, drop_path=0.9), variant)
    plain = MultiMAE(config, variant)
    plan, values = make_plan(config, 2), make_values(config, 2)
    plain_encoded = plain(values, plan).encoded_BLD
    assert torch.equal(dropping.eval()(values, plan).encoded_BLD, plain_encoded)
    torch.manual_seed(0)
    assert not torch.equal(dropping.train()(values, plan).encoded_BLD, plain_encoded)


def test_learned_positions_start_as_fixed_ones(config: ModelConfig, variant: Variant, make_values: MakeValues) -> None:
    learned = MultiMAE(replace(config, positions="learned"), variant)
    plan, values = make_plan(config, 2), make_values(config, 2)
    fixed = MultiMAE(config, variant)(values, plan)
    seen = learned(values, plan)
    assert torch.equal(seen.encoded_BLD, fixed.encoded_BLD)
    assert all(torch.equal(seen.patches[name], fixed.patches[name]) for name in config.outputs)
    tables = {name: parameter for name, parameter in learned.named_parameters() if "positions" in name}
    assert tables.keys() == {f"tokenizer.adapters.{name}.positions.table" for name in config.in_domains} | {
        "decoders.positions.table"
    }
    torch.autograd.backward([patch.square().sum() for patch in seen.patches.values()])
    # Every place of every modality and every decoder learns.
    for name, table in tables.items():
        assert table.grad is not None
        assert table.grad.any(dim=-1).all() or name.startswith("tokenizer"), name


def test_learned_positions_in_half_precision(config: ModelConfig, variant: Variant, make_values: MakeValues) -> None:
    model = MultiMAE(replace(config, positions="learned"), variant).to(torch.bfloat16)
    output = model(make_values(config, 2), make_plan(config, 2))
    torch.autograd.backward([patch.float().sum() for patch in output.patches.values()])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert output.encoded_BLD.dtype == torch.bfloat16


def test_drop_path_grows_linearly() -> None:
    assert drop_path_rates(0.3, 4).tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert drop_path_rates(0.3, 1).tolist() == [0.0]


def test_half_precision_stays_half(config: ModelConfig, variant: Variant, make_values: MakeValues) -> None:
    model = MultiMAE(config, variant).to(torch.bfloat16)
    output = model(make_values(config, 2), make_plan(config, 2))
    assert {patch.dtype for patch in output.patches.values()} | {output.encoded_BLD.dtype} == {torch.bfloat16}


@pytest.mark.parametrize("size", VARIANTS)
def test_sizes(size: str) -> None:
    with torch.device("meta"):
        model = MultiMAE(ModelConfig(size=size))
    variant = VARIANTS[size]
    shapes = {tuple(model.get_parameter(f"encoder.blocks.{i}.mlp.fc1.weight").shape) for i in range(variant.depth)}
    assert shapes == {(variant.mlp_dim, variant.dim)}
    assert len(model.encoder.blocks) == variant.depth


def test_initial_weights_have_their_distributions() -> None:
    state = MultiMAE(ModelConfig(size="tiny")).state_dict()
    # q, k, v lie one above the other: each is a matrix of its own.
    for name, parts in (("attn.qkv", 3), ("attn.proj", 1), ("mlp.fc1", 1)):
        matrix = state[f"encoder.blocks.3.{name}.weight"]
        check_xavier(matrix, len(matrix) // parts)
    for name, parts in (("cross_attention.kv", 2), ("cross_attention.q", 1), ("blocks.0.attn.qkv", 3), ("mlp.fc2", 1)):
        for matrix in state[f"decoders.{name}.weight"]:
            check_xavier(matrix, len(matrix) // parts)
    assert not torch.equal(*state["decoders.cross_attention.q.weight"][:2])
    convolution = state["tokenizer.adapters.rgb.proj.weight"].flatten(1)
    check_xavier(convolution, len(convolution))
    assert 0.9 * 192**-0.5 < state["tokenizer.adapters.rgb.proj.bias"].abs().max() <= 192**-0.5
    for name in ("decoders.task_embeddings", "tokenizer.adapters.semseg.class_emb.weight", "encoder.global_tokens"):
        assert state[name].std().item() == pytest.approx(0.02, rel=0.2)
    norms = [name for name in state if "norm" in name and "norm_rgb" not in name]
    assert all((state[name] == (1 if name.endswith("weight") else 0)).all() for name in norms)
    biases = [name for name in state if name.endswith("bias") and "tokenizer" not in name]
    assert not any(state[name].any() for name in [*biases, "decoders.mask_token"])


def check_xavier(matrix: Tensor, fan_out: int) -> None:
    bound = math.sqrt(6 / (fan_out + matrix.shape[1]))
    assert 0.99 * bound < matrix.abs().max() <= bound
    assert matrix.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_initial_weights_follow_from_the_seed_and_the_name_alone(config: ModelConfig, variant: Variant) -> None:
    def state(config: ModelConfig, seed: int) -> dict[str, Tensor]:
        return MultiMAE(config, variant, seed=seed).state_dict()

    first = state(config, 0)
    torch.rand(7)
    again, fewer, other = state(config, 0), state(replace(config, in_domains=("semseg", "rgb")), 0), state(config, 1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(torch.equal(first[name], fewer[name]) for name in first if name.startswith("encoder."))
    qkv, proj = "encoder.blocks.0.attn.qkv.weight", "encoder.blocks.0.attn.proj.weight"
    assert not torch.equal(first[qkv], other[qkv])
    assert not torch.equal(first[proj], first[proj.replace(".0.", ".1.")])


def test_initialisation_covers_every_module(config: ModelConfig, variant: Variant) -> None:
    model = MultiMAE(config, variant)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    initialise(model, 0)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_an_unknown_module_is_not_left_uninitialised() -> None:
    with pytest.raises(TypeError, match="Bilinear"):
        initialise(nn.Sequential(nn.Bilinear(2, 2, 2)), 0)


def test_buffers_are_not_saved(config: ModelConfig, variant: Variant) -> None:
    model = MultiMAE(config, variant)
    assert list(model.state_dict()) == [name for name, _ in model.named_parameters()]
