"""A micro-batch as CUDA graphs: what training learns, what is captured, and where it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mmae.config.schema import Config, TrainConfig
from mmae.engine.gpu_options.float8_linears import use_float8
from mmae.engine.gpu_options.micro_step_graph import check_graphs, use_graphs
from mmae.engine.module import PretrainModule
from mmae.errors import InputError
from mmae.losses import scored
from mmae.model.recompute import Recompute
from mmae.types import Inputs, MaskPlan
from mmae.variants import Variant
from tests.support.recorded_graphs import RecordedGraph, graphs_on_cpu
from tests.support.step_case import config, micro_batches

CPU = torch.device("cpu")
SETTINGS = config()
VARIANT = Variant(16, 2, 2, 32)
"""With a second block: stochastic depth leaves the first one alone."""


@pytest.fixture
def recorded() -> Iterator[None]:
    with graphs_on_cpu():
        yield


def pair(settings: Config, accumulation: int = 1) -> tuple[PretrainModule, PretrainModule]:
    """The same module twice; the second one runs as graphs."""
    train = settings.train
    recompute = Recompute(train.activation_checkpointing, train.checkpoint_blocks_every)
    plain, graphed = (PretrainModule(settings.model, VARIANT, recompute, seed=1) for _ in range(2))
    for module in (plain, graphed) if train.float8 else ():
        use_float8(module.bfloat16(), train, 8 // accumulation)
    use_graphs(graphed, TrainConfig(cuda_graphs=True), accumulation)
    return plain, graphed


def whole() -> tuple[Inputs, MaskPlan, Tensor, float]:
    """All tiles as one micro-batch."""
    ((inputs, plan),) = micro_batches(SETTINGS, 1)
    return inputs, plan, torch.ones(len(SETTINGS.model.outputs)), 1.0


def run(module: PretrainModule, settings: Config, parts: int, steps: int = 2) -> list[list[Tensor]]:
    """Losses and gradients of some steps of several micro-batches; weights move in between. Results are kept."""
    torch.manual_seed(5)
    kept = []
    for step in range(steps):
        results: list[Tensor] = []
        batches = micro_batches(settings, parts)
        before = [inputs.values["rgb"].clone() for inputs, _ in batches]
        for inputs, plan in batches:
            weigh_O = scored(inputs, plan, settings.model).sum(1).float() + step
            part, *others = module(inputs, plan, weigh_O, 1 / parts)
            torch.autograd.backward(part)
            results += [part.detach(), *others]
        assert all(torch.equal(a, inputs.values["rgb"]) for a, (inputs, _) in zip(before, batches, strict=True))
        gradients = [each.grad for each in module.parameters() if each.grad is not None]
        kept.append([*results, *(each.clone() for each in gradients)])
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.sub_(0.01 * parameter.grad if parameter.grad is not None else 0)
                parameter.grad = None
    return kept


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("parts", "keys"),
    [
        (2, {"model__drop_path": 0.4, "model__task_balancer": "uncertainty", "model__positions": "learned"}),
        pytest.param(1, {"model__drop_path": 0.4, "train__activation_checkpointing": "full"}, marks=SLOW),
        pytest.param(2, {"train__float8": "emulated", "train__activation_checkpointing": "full"}, marks=SLOW),
        pytest.param(4, {"train__activation_checkpointing": "selective", "model__loss_on_unmasked": True}, marks=SLOW),
        pytest.param(1, {"model__lean": False, "model__paper_exact": True, "model__num_global_tokens": 0}, marks=SLOW),
    ],
)
@pytest.mark.usefixtures("recorded")
def test_steps_are_those_without_graphs_bit_for_bit(parts: int, keys: dict[str, Any]) -> None:
    settings = config(**keys)
    plain, graphed = pair(settings, accumulation=parts)
    for expected, seen in zip(run(plain, settings, parts), run(graphed, settings, parts), strict=True):
        for a, b in zip(expected, seen, strict=True):
            assert a.equal(b)


@SLOW
@pytest.mark.usefixtures("recorded")
def test_sums_of_gradients_are_wrong_without_copies() -> None:
    """Which is what torch's own function would do: the test above sees it."""
    settings = config()
    plain, graphed = pair(settings, accumulation=1)
    expected, seen = run(plain, settings, 4, 1), run(graphed, settings, 4, 1)
    assert not all(a.equal(b) for a, b in zip(expected[0], seen[0], strict=True))


@pytest.fixture(scope="module")
def captured() -> Iterator[tuple[PretrainModule, PretrainModule]]:
    """A module, and the same one captured with a micro-batch of eight tiles."""
    with graphs_on_cpu():
        plain, graphed = pair(SETTINGS)
        graphed(*whole())
        yield plain, graphed


def test_validation_and_other_shapes_run_without_graphs(captured: tuple[PretrainModule, PretrainModule]) -> None:
    before = RecordedGraph.replays
    inputs, plan, count_O, _ = whole()
    half, _ = micro_batches(SETTINGS, 2)
    with torch.no_grad():
        found = [module.eval()(inputs, plan, count_O, 1.0)[1] for module in captured]
    assert torch.equal(*found)
    for batch in ((*half, count_O, 1.0), (inputs, plan, count_O, 0.5)):
        assert torch.equal(*(module.train()(*batch)[1] for module in captured))
    assert RecordedGraph.replays == before
    captured[1](*whole())
    assert RecordedGraph.replays == before + 1


def test_weights_that_move_are_noticed(captured: tuple[PretrainModule, PretrainModule]) -> None:
    _, graphed = captured
    weight = next(graphed.parameters())
    place = weight.data
    weight.data = place.clone()
    with pytest.raises(RuntimeError, match="weights have moved"):
        graphed(*whole())
    weight.data = place
    graphed(*whole())


@pytest.mark.usefixtures("recorded")
def test_what_waits_for_the_device_cannot_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    _, graphed = pair(SETTINGS)
    inputs, plan, count_O, share = whole()
    losses = graphed.sample_losses
    monkeypatch.setattr(graphed, "sample_losses", lambda *args: losses(*args) * float(plan.filled_B.sum() > 0))
    with pytest.raises(RuntimeError, match="cannot be captured"):
        graphed(inputs, plan, count_O, share)


def test_refusals_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = TrainConfig(cuda_graphs=True)
    check_graphs(TrainConfig(), CPU)
    check_graphs(graphs, torch.device("cuda"))
    with pytest.raises(InputError, match="needs a GPU, and this training runs on the cpu"):
        check_graphs(graphs, CPU)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", lambda callables, sample_args, pool=None: None)
    with pytest.raises(InputError, match=r"needs torch 2\.14 or newer"):
        check_graphs(graphs, torch.device("cuda"))
