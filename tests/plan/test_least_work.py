"""The least work of a step, against the counted model and the products of a real one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from mmae.bench.step.matmuls import Matmul
from mmae.bench.step.roofline import _matmuls
from mmae.bench.step.step_batch import made_up_band_stats, made_up_batch
from mmae.config.recipe_file import load_config
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.module import PretrainModule
from mmae.engine.step import prepare
from mmae.losses import scored
from mmae.model.counts.flops import model_flops
from mmae.plan.least_work import Part, Product, least_work, optimiser_bytes, step_seconds
from tests.support.recorded_products import record


@pytest.mark.parametrize("recipe", ["debug", "paper", "vit_h"])
def test_operations_are_those_of_the_model(recipe: str) -> None:
    config = load_config(recipe, [])
    assert sum(part.flops for part in least_work(config, 3, 2)) == 3 * model_flops(config.model).total.model


def test_products_are_those_of_a_real_step() -> None:
    config = load_config("debug", ["model.size=nano", "model.drop_path=0.0"])
    cpu = torch.device("cpu")
    module = PretrainModule(config.model)
    preprocess = Preprocess(config.data, config.model, made_up_band_stats(), cpu)
    inputs, plan = prepare(made_up_batch(config.model.domains, 3), preprocess, config, train=True)
    count_O = scored(inputs, plan, config.model).sum(1).float()

    def size(product: Matmul) -> tuple[int, ...]:
        # An operand may be stored either way, and a transposed product has its outer sides exchanged.
        return product.b, product.k, *sorted((product.m, product.n))

    seen: Counter[tuple[int, ...]] = Counter()
    for product, times in record(lambda: torch.autograd.backward(module(inputs, plan, count_O, 1.0)[0])).items():
        seen[size(product)] += times
    parts = least_work(config, 3, 4)
    least: Counter[tuple[int, ...]] = Counter()
    for part in parts:
        for product, times in _matmuls(part.products, torch.float32).items():
            least[size(product)] += times
    # What a real step does more is attention, and products with indicators in place of look-ups.
    assert not least - seen
    assert sum(part.flops for part in parts if part.products) == sum(
        2 * b * k * m * n * times for (b, k, m, n), times in least.items()
    )


def test_a_part_takes_the_longer_of_its_two_times() -> None:
    product = Product(1, 10, 10, 10, 2)
    part = Part("one", 2, (product,), moved=500)
    assert (part.flops, part.bytes) == (4000, 2 * 300 * 2 + 500)
    assert part.seconds(2000, 1e9) == pytest.approx(2 + 500 / 1e9)
    assert part.seconds(1e9, 600) == pytest.approx(2 + 500 / 600)
    assert step_seconds([part, replace(part, moved=0)], 2000, 1e9) == pytest.approx(4 + 500 / 1e9)


def test_bytes_of_the_optimiser() -> None:
    """AdamW reads and writes weight and two moments, and reads the gradient, which its norm has read before."""
    assert (optimiser_bytes(2), optimiser_bytes(4)) == (30, 32)


def test_what_does_not_occur_is_left_out() -> None:
    config = load_config("debug", ["model.decoder_depth=0"])
    assert "decoders' self-attention" not in {part.name for part in least_work(config, 1, 2)}
