"""Compiling changes no number beyond rounding, and one compiled code serves all blocks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from mmae.bench.step.step_batch import made_up_band_stats, made_up_batch
from mmae.config.recipe_file import build_config
from mmae.config.schema import Config
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.module import PretrainModule, compile_parts
from mmae.engine.step import Prepared, prepare_step
from mmae.losses import scored
from mmae.model.encoder import Encoder
from mmae.model.recompute import Recompute
from mmae.variants import Variant

GRAPHS_ONLY = "aot_eager_decomp_partition"
"""Torch's compiler up to, but without, the code for the machine: seconds instead of a minute."""

VARIANT = Variant(dim=32, depth=4, num_heads=2, mlp_dim=64)
FLOAT32_BOUND = 1e-5
BF16_LOSS_BOUND, BF16_GRADIENT_BOUND = 5e-3, 0.15
"""A bf16 number has eight bits, and compiled code rounds fewer intermediate ones. Seen: 3e-4, and 0.07 on tokens."""

pytestmark = [
    pytest.mark.long,
    # Torch's own compiler looks at it.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]


@pytest.fixture(autouse=True)
def nothing_compiled_yet() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    # Torch's compiler raises it for good, and other tests count on what Python takes for too deep.
    limit = sys.getrecursionlimit()
    yield
    sys.setrecursionlimit(limit)
    torch.compiler.reset()


def make_config(**flat: Any) -> Config:
    small = {
        "model.in_domains": ["rgb", "semseg"], "model.out_domains": ["rgb", "semseg"], "model.input_size": 16,
        "model.num_encoded_tokens": 5, "model.decoder_dim": 16, "model.decoder_num_heads": 2, "model.decoder_depth": 1,
        "model.drop_path": 0.3, "model.task_balancer": "uncertainty",
    }  # fmt: skip
    return build_config({**small, **{key.replace("__", "."): value for key, value in flat.items()}}, "test")


def prepared(config: Config) -> Prepared:
    preprocess = Preprocess(config.data, config.model, made_up_band_stats(), torch.device("cpu"))
    return prepare_step([made_up_batch(config.model.domains, 4)], preprocess, config)


def run(module: PretrainModule, config: Config) -> dict[str, Tensor]:
    """Losses and gradients of a step; drop path draws the same each time."""
    torch.manual_seed(7)
    module.zero_grad()
    ((inputs, plan),) = prepared(config)
    loss, loss_O, _ = module(inputs, plan, scored(inputs, plan, config.model).sum(1).float(), 1.0)
    torch.autograd.backward(loss)
    found = {"loss": loss.detach(), "losses": loss_O}
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        found[name] = parameter.grad.clone()
    return found


def differences(seen: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[float, float]:
    """Largest max|a-b| / max|b| of the losses, and of the gradients.

    The key part of attention biases is left out: its true gradient is 0, and what is there is rounding.
    """
    assert seen.keys() == expected.keys()
    worst = {name: _difference(_without_keys(name, seen[name]), _without_keys(name, expected[name])) for name in seen}
    losses = max(worst.pop("loss"), worst.pop("losses"))
    return losses, max(worst.values())


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).abs().max() / b.float().abs().max().clamp(min=1e-12))


def _without_keys(name: str, gradient: Tensor) -> Tensor:
    if name.endswith("kv.bias"):
        parts = gradient.chunk(3 if name.endswith("qkv.bias") else 2, dim=-1)
        return torch.cat([*parts[:-2], parts[-1]], dim=-1)
    return gradient


def pair(config: Config, recompute: Recompute, dtype: torch.dtype, backend: str) -> list[PretrainModule]:
    """The same module twice; the second is compiled."""
    modules = [PretrainModule(config.model, VARIANT, recompute, seed=1).to(dtype) for _ in range(2)]
    compile_parts(modules[1], backend=backend)
    return modules


@pytest.mark.parametrize("recompute", [Recompute(), pytest.param(Recompute("full", 2), marks=pytest.mark.slow)])
def test_float32_gives_the_same_numbers(recompute: Recompute) -> None:
    config = make_config()
    plain, compiled = pair(config, recompute, torch.float32, GRAPHS_ONLY)
    assert max(differences(run(compiled, config), run(plain, config))) <= FLOAT32_BOUND


@pytest.mark.slow
def test_other_models_compile_too() -> None:
    config = make_config(model__positions="learned", model__num_global_tokens=0, model__paper_exact=True)
    plain, compiled = pair(config, Recompute(), torch.float32, GRAPHS_ONLY)
    assert max(differences(run(compiled, config), run(plain, config))) <= FLOAT32_BOUND


def test_bf16_stays_within_its_rounding() -> None:
    config = make_config()
    plain, compiled = pair(config, Recompute("full"), torch.bfloat16, GRAPHS_ONLY)
    losses, gradients = differences(run(compiled, config), run(plain, config))
    assert losses <= BF16_LOSS_BOUND
    assert gradients <= BF16_GRADIENT_BOUND


@pytest.mark.parametrize("sharded", [False, True])
def test_one_code_serves_all_blocks_and_all_steps(sharded: bool) -> None:
    config = make_config()
    module = PretrainModule(config.model, VARIANT)
    compile_parts(module, sharded, backend=GRAPHS_ONLY)
    run(module, config)
    parts = 2 if sharded else 4
    assert counters["stats"]["unique_graphs"] == parts
    run(module, config)
    assert counters["stats"]["unique_graphs"] == parts
    ((inputs, plan),) = prepared(config)
    for _ in range(2):
        # Validation: no gradients, and no drop path.
        with torch.no_grad():
            module.eval()(inputs, plan, torch.ones(3), 1.0)
        assert counters["stats"]["unique_graphs"] == 2 * parts
        run(module.train(), config)
    assert counters["stats"]["unique_graphs"] == 2 * parts
    assert not counters["graph_break"]


def test_drop_path_is_drawn_anew_each_step() -> None:
    config = make_config()
    module = PretrainModule(config.model, VARIANT)
    compile_parts(module, sharded=True, backend=GRAPHS_ONLY)
    ((inputs, plan),) = prepared(config)
    losses = [float(module(inputs, plan, torch.ones(3), 1.0)[0].detach()) for _ in range(4)]
    assert len(set(losses)) > 1


@pytest.mark.process
def test_real_code_for_the_blocks() -> None:
    """The code that torch compiles for this machine, for the part that takes most of the time."""
    config = make_config()
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        encoder = Encoder(config.model, VARIANT, Recompute("full"))
        for parameter in encoder.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        for block in encoder.blocks if compiled else ():
            block.forward = torch.compile(block.forward, dynamic=False)
        tokens_BKD = torch.randn(4, 5, VARIANT.dim, requires_grad=True)
        encoded_BLD = encoder.encode(tokens_BKD)
        torch.autograd.backward(encoded_BLD.square().sum())
        found.append([encoded_BLD.detach(), tokens_BKD.grad, *(_without_keys(n, g) for n, g in gradients(encoder))])
    assert counters["stats"]["unique_graphs"] == 1
    for a, b in zip(*found, strict=True):
        assert _difference(a, b) <= FLOAT32_BOUND


def gradients(module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        yield name, parameter.grad


@pytest.mark.slow
@pytest.mark.parametrize("how", ["none", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_real_code_for_the_whole(how: Any, dtype: torch.dtype) -> None:
    config = build_config({"model.size": "nano", "model.drop_path": 0.3, "model.task_balancer": "uncertainty"}, "test")
    plain, compiled = pair(config, Recompute(how), dtype, "inductor")
    losses, gradients = differences(run(compiled, config), run(plain, config))
    assert losses <= (FLOAT32_BOUND if dtype is torch.float32 else BF16_LOSS_BOUND)
    assert gradients <= (FLOAT32_BOUND if dtype is torch.float32 else BF16_GRADIENT_BOUND)
    assert not counters["graph_break"]
