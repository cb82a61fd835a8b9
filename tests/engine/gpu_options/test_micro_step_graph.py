"""A micro-batch as CUDA graphs: what training learns, what is captured, and where it is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mmae.config.schema import Config, TrainConfig
from mmae.engine.gpu_options.float8_linears import use_float8
from mmae.engine.gpu_options.micro_step_graph import MicroStepGraph, check_graphs, use_graphs
from mmae.engine.module import PretrainModule
from mmae.errors import InputError
from mmae.losses import scored
from mmae.model.recompute import Recompute
from tests.support.recorded_graphs import graphs_on_cpu
from tests.support.step_case import VARIANT, config, micro_batches

CPU = torch.device("cpu")


def pair(settings: Config, accumulation: int = 1) -> tuple[PretrainModule, PretrainModule]:
    """The same module twice; the second one runs as graphs."""
    train = settings.train
    recompute = Recompute(train.activation_checkpointing, train.checkpoint_blocks_every)
    plain, graphed = (PretrainModule(settings.model, VARIANT, recompute, seed=1) for _ in range(2))
    for module in (plain, graphed) if train.float8 else ():
        use_float8(module.bfloat16(), train, 40)
    use_graphs(graphed, TrainConfig(cuda_graphs=True), accumulation)
    return plain, graphed


def run(module: PretrainModule, settings: Config, parts: int, steps: int = 2) -> list[list[Tensor]]:
    """Losses and gradients of some steps of several micro-batches; weights move in between. Results are kept."""
    torch.manual_seed(5)
    kept = []
    for step in range(steps):
        results: list[Tensor] = []
        for inputs, plan in micro_batches(settings, parts):
            weigh_O = scored(inputs, plan, settings.model).sum(1).float() + step
            part, *others = module(inputs, plan, weigh_O, 1 / parts)
            torch.autograd.backward(part)
            results += [part.detach(), *others]
        gradients = [each.grad for each in module.parameters() if each.grad is not None]
        kept.append([*results, *(each.clone() for each in gradients)])
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.sub_(0.01 * parameter.grad if parameter.grad is not None else 0)
                parameter.grad = None
    return kept


@pytest.mark.long
@pytest.mark.parametrize(
    "keys",
    [
        {"model__drop_path": 0.4, "model__task_balancer": "uncertainty", "model__positions": "learned"},
        {"train__float8": "emulated", "train__activation_checkpointing": "full"},
        {"train__activation_checkpointing": "full", "model__lean": False, "model__paper_exact": True},
        {"train__activation_checkpointing": "selective", "model__loss_on_unmasked": True, "model__num_global_tokens": 0},
    ],
)
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.usefixtures("recorded")
def test_steps_are_those_without_graphs_bit_for_bit(keys: dict[str, Any], parts: int) -> None:
    settings = config(**keys)
    plain, graphed = pair(settings, accumulation=parts)
    for expected, seen in zip(run(plain, settings, parts), run(graphed, settings, parts), strict=True):
        for a, b in zip(expected, seen, strict=True):
            assert a.equal(b)


@pytest.fixture
def recorded() -> Any:
    with graphs_on_cpu():
        yield


@pytest.mark.usefixtures("recorded")
def test_sums_of_gradients_are_wrong_without_copies() -> None:
    """Which is what torch's own function would do: the test above sees it."""
    settings = config()
    plain, graphed = pair(settings, accumulation=1)
    expected, seen = run(plain, settings, 4, 1), run(graphed, settings, 4, 1)
    assert not all(a.equal(b) for a, b in zip(expected[0], seen[0], strict=True))
