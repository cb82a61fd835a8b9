"""Muon against torch's own, and what DeepSpeed and the skip flag need of it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmae.config.batch_split import BatchSplit
from mmae.config.deepspeed import load_deepspeed_json, merge
from mmae.config.recipe_file import load_config
from mmae.config.schema import ModelConfig, TrainConfig
from mmae.engine.build import freeze
from mmae.engine.matrices.muon import MATRICES, MuonAndAdamW, Row
from mmae.engine.matrices.newton_schulz import orthogonal
from mmae.engine.module import PretrainModule
from mmae.engine.optim import build_optimizer
from mmae.errors import InputError
from mmae.model.counts.block_matrices import matrices_above
from mmae.model.counts.named_parts import learns
from mmae.model.parameters import parameter_groups
from mmae.plan.time_and_disk import muon_flops
from mmae.variants import Variant

TRAIN = TrainConfig(optimizer="muon", blr=0.02, global_batch=256)
MODEL = ModelConfig(decoder_dim=16, decoder_depth=1, decoder_num_heads=2)
VARIANT = Variant(32, 1, 2, 64)


def module() -> PretrainModule:
    return PretrainModule(MODEL, VARIANT)


def built(module: nn.Module) -> MuonAndAdamW:
    optimizer = build_optimizer(module, TRAIN, MODEL)
    assert isinstance(optimizer, MuonAndAdamW)
    return optimizer


def gradients(module: nn.Module, seed: int) -> None:
    drawn = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=drawn)


def cut(stack: Tensor, parts: int) -> list[Tensor]:
    return list(stack.reshape(-1, stack.shape[-2] // parts, stack.shape[-1]))


def test_singular_values_come_near_one() -> None:
    """The paper's polynomial does not converge to 1: five iterations bring 0.01 to 1 to between 0.7 and 1.2."""
    drawn = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(3, 24, 24, generator=drawn))[0] for _ in range(2))
    values = torch.linspace(0.02, 1.0, 24)
    made = orthogonal((left * values) @ right, torch.float32)
    assert torch.equal(orthogonal(torch.zeros(2, 3, 5), torch.float32), torch.zeros(2, 3, 5))
    found = torch.linalg.svdvals(made)
    assert (found.min() > 0.6, found.max() < 1.25) == (True, True), found


def test_its_matrices_are_those_of_the_blocks() -> None:
    names = {name: parameter for name, parameter in module().named_parameters() if matrices_above(name)}
    modules = {name.removesuffix(".weight").removeprefix("model.") for name in names}
    attention = {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}
    assert modules == {
        *(f"encoder.blocks.0.{each}" for each in attention), *(f"decoders.blocks.0.{each}" for each in attention),
        *(f"decoders.{each}" for each in ("cross_attention.q", "cross_attention.kv", "cross_attention.proj")),
        "decoders.mlp.fc1", "decoders.mlp.fc2",
    }  # fmt: skip
    qkv, kv = (names[f"model.{name}.weight"] for name in ("encoder.blocks.0.attn.qkv", "decoders.cross_attention.kv"))
    shapes = [
        matrix.shape for weight, name in ((qkv, "qkv"), (kv, "kv")) for matrix in cut(weight, {"qkv": 3, "kv": 2}[name])
    ]
    assert shapes == [(32, 32)] * 3 + [(16, 16)] * 2 * len(MODEL.outputs)


def test_it_learns_what_torch_learns() -> None:
    """torch.optim.Muon takes single matrices, whose products in bfloat16 are rounded in another order than a stack's.

    Where torch multiplies a stack as it does its matrices, both are equal bit for bit; for small ones it does not.
    """
    ours = module()
    optimizer = built(ours)
    optimizer.divide(None, torch.bfloat16)
    named = dict(ours.named_parameters())
    before = {name: weight.detach().clone() for name, weight in named.items()}
    pieces = {
        name: [nn.Parameter(each.clone()) for each in cut(weight.detach(), matrices_above(name))]
        for name, weight in named.items() if matrices_above(name)
    }  # fmt: skip
    rest = {name: nn.Parameter(weight.detach().clone()) for name, weight in named.items() if name not in pieces}
    theirs: list[torch.optim.Optimizer] = [
        torch.optim.Muon(
            list(itertools.chain.from_iterable(pieces.values())), lr=TRAIN.lr, weight_decay=TRAIN.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            parameter_groups(rest.items(), TRAIN.weight_decay, False), lr=TRAIN.lr, betas=TRAIN.opt_betas, fused=True
        ),
    ]  # fmt: skip
    for step in range(3):
        gradients(ours, step)
        for name, weight in named.items():
            assert weight.grad is not None
            if name in rest:
                rest[name].grad = weight.grad.clone()
            else:
                for piece, gradient in zip(pieces[name], cut(weight.grad, matrices_above(name)), strict=True):
                    piece.grad = gradient.clone()
        for each in (optimizer, *theirs):
            each.step()
    for name, weight in named.items():
        if name in rest:
            assert torch.equal(weight, rest[name]), name
        else:
            expected = torch.stack([*pieces[name]]).view(weight.shape)
            assert (weight - expected).norm() < 0.05 * (weight - before[name]).norm(), name


def _flat(optimizer: MuonAndAdamW, ours: PretrainModule, first: int, last: int) -> tuple[nn.Parameter, dict[str, Row]]:
    """The numbers first to last of all matrices, as a rank of ZeRO-1 has them, and their rows."""
    (group,) = [group for group in optimizer.param_groups if group[MATRICES]]
    named, rows, place = dict(ours.named_parameters()), {}, 0
    for name in group[MATRICES]:
        numel = named[name].numel()
        start, end = max(first, place), min(last, place + numel)
        size = max(0, end - start)
        rows[name] = Row(tuple(named[name].shape), start - first, start - place, size, 0 < size < numel)
        place += numel
    flat = nn.Parameter(torch.cat([named[name].detach().flatten() for name in group[MATRICES]])[first:last].clone())
    flat.grad = torch.cat([_gradient(named[name]).flatten() for name in group[MATRICES]])[first:last].clone()
    group["params"] = [flat]
    optimizer.divide(rows, torch.float32)
    return flat, rows


def _gradient(weight: nn.Parameter) -> Tensor:
    assert weight.grad is not None
    return weight.grad


def test_a_cut_through_a_matrix_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks one after another: what each gives to the sum of a cut parameter is known from the whole."""
    whole = module()
    optimizer = built(whole)
    gradients(whole, 1)
    names = next(group[MATRICES] for group in optimizer.param_groups if group[MATRICES])
    numbers = sum(dict(whole.named_parameters())[name].numel() for name in names)
    middle = numbers // 2 + 5
    ranks: list[tuple[MuonAndAdamW, nn.Parameter]] = []
    for first, last in ((0, middle), (middle, numbers)):
        part = module()
        gradients(part, 1)
        own = built(part)
        flat, rows = _flat(own, part, first, last)
        assert sum(row.cut for row in rows.values()) == 1
        ranks.append((own, flat))
    given: list[Tensor] = []
    # A first pass writes down what the ranks give, a second one has their sum.
    for adds_up in (False, True):
        total = sum(given, torch.zeros((), dtype=torch.int32))

        def reduce(tensor: Tensor, total: Tensor = total, adds_up: bool = adds_up) -> None:
            tensor.copy_(total) if adds_up else given.append(tensor.clone())

        monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
        for own, flat in ranks:
            kept = flat.detach().clone()
            own.step()
            if not adds_up:
                flat.data.copy_(kept)
                own.state.clear()
    optimizer.step()
    named = dict(whole.named_parameters())
    expected = torch.cat([named[name].detach().flatten() for name in names])
    assert torch.equal(torch.cat([flat.detach() for _, flat in ranks]), expected)


def test_a_skipped_step_leaves_every_bit_and_a_scale_is_divided_out() -> None:
    ours, scaled = module(), module()
    one, other = built(ours), built(scaled)
    for each in (ours, scaled):
        gradients(each, 2)
    for parameter in scaled.parameters():
        parameter.grad = _gradient(parameter) * 4
    other.grad_scale = torch.tensor(4.0)  # type: ignore[attr-defined]
    one.step()
    other.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), scaled.parameters(), strict=True))
    before = [parameter.detach().clone() for parameter in ours.parameters()]
    momenta = [state["exp_avg"].clone() for state in one.state.values()]
    for parameter in ours.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    one.found_inf = torch.tensor(1.0)  # type: ignore[attr-defined]
    one.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), before, strict=True))
    assert all(torch.equal(state["exp_avg"], b) for state, b in zip(one.state.values(), momenta, strict=True))
    one.found_inf = torch.tensor(0.0)  # type: ignore[attr-defined]
    gradients(ours, 3)
    one.step()
    assert not any(torch.equal(a, b) for a, b in zip(ours.parameters(), before, strict=True))


@pytest.mark.parametrize(("file", "says"), [("zero3", "ZeRO-3"), ("zero2_offload", "offload_optimizer")])
def test_what_divides_or_offloads_matrices_is_refused(file: str, says: str) -> None:
    path, parsed = load_deepspeed_json(file)
    with pytest.raises(InputError, match=says):
        merge(path, parsed, TRAIN, BatchSplit(64, 1, 1))
    merge(path, parsed, replace(TRAIN, optimizer="adamw"), BatchSplit(64, 4, 1))


@pytest.mark.parametrize("word", ["model.parametrisation=mup", "model.paper_exact=true"])
def test_what_is_made_for_another_optimiser_is_refused(word: str) -> None:
    with pytest.raises(InputError, match=word.partition("=")[0]):
        load_config("debug", ["train.optimizer=muon", word])
    load_config("debug", [word])


def test_parts_that_are_frozen_or_slowed_are_so_for_muon_too() -> None:
    ours = module()
    train = replace(TRAIN, frozen=("decoders",), lr_multipliers={"encoder": 0.5})
    for name, parameter in ours.named_parameters():
        parameter.requires_grad_(learns(name, train))
    groups = build_optimizer(ours, train, MODEL).param_groups
    (muons,) = [group for group in groups if group[MATRICES]]
    assert muons["lr"] == 0.5 * TRAIN.lr
    assert {name.split(".")[1] for name in muons[MATRICES]} == {"encoder"}


def test_the_products_of_a_step_are_those_that_a_plan_counts() -> None:
    words = ["train.optimizer=muon", "model.size=nano", "model.decoder_dim=16", "model.decoder_num_heads=2"]
    config = load_config("debug", [*words, "train.frozen=[encoder.blocks.0]"])
    ours = PretrainModule(config.model)
    freeze(ours, config.train)
    optimizer = build_optimizer(ours, config.train, config.model)
    gradients(ours, 4)
    with FlopCounterMode(display=False) as counter:
        optimizer.step()
    assert counter.get_total_flops() == muon_flops(config, stage=0, world=1) > 0
    assert muon_flops(load_config("debug", words[1:]), 0, 1) == 0
