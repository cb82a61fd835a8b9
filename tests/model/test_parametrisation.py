"""The scheme `mup`: equal to `standard` at the width of base, steady activations, and a best rate that stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from data_tools.repack.command import repack
from mmae.config.batch_split import BatchSplit
from mmae.config.recipe_file import load_config
from mmae.config.schema import Config, ModelConfig
from mmae.data.loading.loader import train_batches
from mmae.data.sampling.order import TrainOrder
from mmae.data.sampling.training_tiles import training_positions
from mmae.data.shards.index import open_index
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.module import PretrainModule
from mmae.engine.optim import lr_factor
from mmae.engine.step import prepare
from mmae.losses import scored
from mmae.model.mmae import MultiMAE
from mmae.model.parameters import parameter_groups
from mmae.model.parametrisation import BASE, Parametrisation
from mmae.types import MaskPlan
from mmae.variants import VARIANTS, Variant

Kind = Literal["standard", "mup"]
MUP = ModelConfig(parametrisation="mup")


def wide(width: int, depth: int = 2) -> Variant:
    return Variant(width, depth, max(1, width // 32), 4 * width)


def optimiser(module: nn.Module, kind: Kind, variant: Variant, lr: float) -> torch.optim.AdamW:
    groups = parameter_groups(module.named_parameters(), 0.05, False, Parametrisation(kind, variant).rate)
    return torch.optim.AdamW([group | {"lr": lr * group["rate"]} for group in groups], lr=lr, betas=(0.9, 0.95))


def test_at_the_width_of_base_both_are_one() -> None:
    small = replace(MUP, in_domains=("rgb", "semseg"), out_domains=("rgb",), num_encoded_tokens=9)
    flat = Variant(BASE.dim, 1, BASE.num_heads, BASE.mlp_dim)
    one, other = MultiMAE(small, flat), MultiMAE(replace(small, parametrisation="standard"), flat)
    for (name, weight), expected in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, expected), name
        assert Parametrisation("mup", flat).rate(name) == 1.0


def test_standard_gives_everything_one_rate(config: ModelConfig) -> None:
    model = MultiMAE(config, wide(64))
    assert {Parametrisation("standard", model.variant).rate(name) for name, _ in model.named_parameters()} == {1.0}


def test_a_rate_falls_exactly_where_a_matrix_reads_the_width(config: ModelConfig) -> None:
    narrow, broad = wide(64), wide(128)
    pairs = zip(MultiMAE(config, narrow).named_parameters(), MultiMAE(config, broad).parameters(), strict=True)
    for (name, one), two in pairs:
        reads = name.endswith("weight") and one.dim() > 1 and two.shape[-1] == 2 * one.shape[-1]
        rates = [Parametrisation("mup", variant).rate(f"model.{name}") for variant in (narrow, broad)]
        assert rates[0] / rates[1] == (2 if reads else 1), name
        assert reads or rates == [1, 1], name


def test_the_hidden_width_of_an_mlp_counts_by_itself() -> None:
    giant = Parametrisation("mup", VARIANTS["giant"])
    assert giant.rate("model.encoder.blocks.39.mlp.fc1.weight") == 768 / 1408
    assert giant.rate("model.encoder.blocks.39.mlp.fc2.weight") == 3072 / 6144
    assert giant.rate("model.encoder.blocks.39.mlp.fc2.bias") == 1.0


def test_rate_times_weight_decay_is_the_same_in_all_groups(config: ModelConfig) -> None:
    model = MultiMAE(config, wide(64))
    groups = parameter_groups(model.named_parameters(), 0.05, False, Parametrisation("mup", model.variant).rate)
    assert [group["rate"] for group in groups] == [1.0, 1.0, 12.0]
    assert [group["rate"] * group["weight_decay"] for group in groups] == pytest.approx([0.05, 0.0, 0.05])
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


COORDINATES = ModelConfig(
    in_domains=("rgb", "ired"), out_domains=("rgb", "ired"), extra_norm_pix_loss=False, input_size=16,
    num_encoded_tokens=4, decoder_dim=32, decoder_depth=1, decoder_num_heads=2,
)  # fmt: skip


def scales(kind: Kind, width: int, values: dict[str, Tensor], keep_BK: Tensor) -> dict[str, float]:
    """Root mean square of what each part gives after ten steps."""
    model = MultiMAE(replace(COORDINATES, parametrisation=kind), wide(width), seed=1)
    seen: dict[str, float] = {}
    last = model.get_submodule("encoder.blocks.1")
    parts = {"first": model.encoder.blocks[0], "last": last, "to decoders": model.decoders.proj_context}
    for name, part in {**parts, **dict(last.named_children())}.items():
        part.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.square().mean().sqrt().item()}))
    steps = optimiser(model, kind, model.variant, 3e-4)
    hidden_BN = torch.ones(len(keep_BK), 8, dtype=torch.bool).scatter(1, keep_BK, False)
    plan = MaskPlan(keep_BK, hidden_BN, torch.zeros(len(keep_BK), dtype=torch.int64))
    for _ in range(10):
        predicted = model(values, plan).patches
        loss = sum(((patches - 1).square().mean() for patches in predicted.values()), torch.zeros(()))
        steps.zero_grad()
        torch.autograd.backward(loss)
        steps.step()
    model(values, plan)
    return seen


@pytest.mark.long
@pytest.mark.parametrize(("kind", "steady"), [("mup", True), ("standard", False)])
def test_activations_keep_their_scale_over_widths(
    kind: Kind, steady: bool, make_values: Callable[[ModelConfig, int], dict[str, Tensor]]
) -> None:
    """The coordinate check of Yang et al. (2021), appendix D: within a factor of 2 from width 64 to 512."""
    values = make_values(COORDINATES, 8)
    keep_BK = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)).argsort(1)[:, :4]
    seen = [scales(kind, width, values, keep_BK) for width in (64, 128, 256, 512)]
    spread = {name: max(each[name] for each in seen) / min(each[name] for each in seen) for name in seen[0]}
    assert (max(spread.values()) < 2) == steady, spread


WIDTHS = (64, 128, 256)
RATES = tuple(2.0**power * 1e-4 for power in range(-2, 7))
STEPS = 60


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_the_best_rate_of_one_width_is_that_of_the_others(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On real tiles, depth 2. `-s` shows the losses."""
    repack(shared / "mini_mmearth" / "data_1M_v001_64", tmp_path / "shards", tiles_per_shard=70)
    best: dict[str, list[int]] = {}
    kinds: tuple[Kind, ...] = ("standard", "mup")
    for kind in kinds:
        losses = [[_trained(kind, width, rate, tmp_path / "shards") for rate in RATES] for width in WIDTHS]
        best[kind] = [row.index(min(row)) for row in losses]
        with capsys.disabled():
            print(f"\n{kind:10}", *(f"{rate:9.1e}" for rate in RATES))
            for width, row in zip(WIDTHS, losses, strict=True):
                print(f"width {width:4}", *(f"{loss:9.4f}" for loss in row))
    assert max(best["mup"]) - min(best["mup"]) <= 1
    assert max(best["mup"]) - min(best["mup"]) <= max(best["standard"]) - min(best["standard"])


def _trained(kind: Kind, width: int, rate: float, shards: Path) -> float:
    """Mean loss of the last 20 steps."""
    words = [
        "model.decoder_dim=64",
        "model.decoder_depth=0",
        "train.global_batch=16",
        f"train.max_steps={STEPS}",
        "train.warmup_steps=15",
        "data.workers=0",
    ]
    config = load_config("mini", [*words, f"model.parametrisation={kind}", f"data.shards={shards}"])
    variant = wide(width)
    module = PretrainModule(config.model, variant, seed=0)
    steps, losses = optimiser(module, kind, variant, rate), []
    peaks = [group["lr"] for group in steps.param_groups]
    for step, loss in enumerate(_losses(module, config, shards)):
        for group, peak in zip(steps.param_groups, peaks, strict=True):
            group["lr"] = peak * lr_factor(step, config.train)
        steps.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(module.parameters(), config.train.clip_grad)
        steps.step()
        losses.append(loss.item())
    return sum(losses[-20:]) / 20


def _losses(module: PretrainModule, config: Config, shards: Path) -> Iterator[Tensor]:
    index = open_index(shards)
    preprocess = Preprocess(config.data, config.model, index.band_stats, torch.device("cpu"))
    order = TrainOrder(len(training_positions(index, config.data)), 16, 0)
    for batch in train_batches(
        index, config.model.domains, config.data, seed=0, order=order, split=BatchSplit(16, 1, 1), rank=0,
        start_step=0, stop_step=STEPS, pin=False,
    ):  # fmt: skip
        inputs, plan = prepare(batch, preprocess, config, train=True)
        count_O = scored(inputs, plan, config.model).sum(1).float()
        yield module(inputs, plan, count_O, 1.0)[0]
