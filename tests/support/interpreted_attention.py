"""A program that runs the attention kernels in Triton's interpreter, and prints their errors beside float64 as JSON.

Triton must find TRITON_INTERPRET before it is imported, so this needs a process of its own. The words of the command
line name the checks: a key of `CHECKS` each.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from mmae.bench.attention.attention_ways import compared
from mmae.bench.attention.command import head_widths
from mmae.config.schema import AttentionKernel, ModelConfig
from mmae.engine.module import PretrainModule, compile_parts
from mmae.model.layers import StackedCrossAttention, StackedSelfAttention
from mmae.model.masking import plan_from_ids
from mmae.model.mmae import MultiMAE
from mmae.model.recompute import Checkpointing, Recompute
from mmae.model.short_attention.operators import short_cross_attention, short_self_attention
from mmae.plan.least_work import Attention

Errors = dict[str, float]
Way = tuple[Checkpointing, str | None]
"""What is recomputed, and the compiler, if any."""
FORWARD = (torch.ops.mmae.short_self_attention.default, torch.ops.mmae.short_cross_attention.default)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALL = ModelConfig(
    size="nano", in_domains=("rgb", "depth"), out_domains=("rgb",), extra_norm_pix_loss=False, input_size=24,
    num_encoded_tokens=7, decoder_dim=40, decoder_depth=1, decoder_num_heads=2,
)  # fmt: skip


def drawn(draw: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=draw).to(dtype)


def error(found: Tensor, exact: Tensor) -> float:
    """The largest difference as a share of the largest number."""
    assert found.shape == exact.shape
    if found.numel() == 0:
        return 0.0
    # Of one key the weight is 1 whatever its score, and queries and keys have no gradient.
    scale = exact.abs().max().item()
    return (found - exact).abs().max().item() / max(scale, 1e-3)


def exactly(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    return scaled_dot_product_attention(query, key, value).transpose(1, 2)


def worst(operator: Callable[..., Tensor], packed: list[Tensor], gradient: Tensor) -> float:
    """The largest error of the result and of the gradients, whose shapes and dtypes are those of what is packed."""
    leaves = [each.detach().requires_grad_() for each in packed]
    doubles = [each.detach().double().requires_grad_() for each in packed]
    pieces = [doubles[0].unbind(2)] if len(doubles) == 1 else [(doubles[0],), doubles[1].unbind(2)]
    result = operator(*leaves)
    exact = exactly(*(piece for each in pieces for piece in each))
    assert result.dtype == packed[0].dtype
    gradients = torch.autograd.grad(result, leaves, gradient)
    exact_gradients = torch.autograd.grad(exact, doubles, gradient.double())
    assert [each.dtype for each in gradients] == [each.dtype for each in packed]
    return max(error(*pair) for pair in zip((result, *gradients), (exact, *exact_gradients), strict=True))


def case(queries: int, keys: int, heads: int, width: int, dtype: torch.dtype, batch: int = 1) -> float:
    """The worst error of self-attention over `queries` tokens, and of `queries` that read `keys` tokens."""
    draw = torch.Generator().manual_seed(queries * 64 + keys)

    def made(length: int, *pieces: int) -> Tensor:
        return drawn(draw, dtype, batch, length, *pieces, heads, width)

    gradient = made(queries)
    own = worst(short_self_attention, [made(queries, 3)], gradient)
    return max(own, worst(short_cross_attention, [made(queries), made(keys, 2)], gradient))


def widths() -> Errors:
    """Heads of every size with the lengths of the recipes; the dtypes take turns."""
    chosen = zip(head_widths(), cycle(DTYPES))
    return {f"{name}, {width} columns": case(49, 50, 1, width, DTYPES[name]) for width, name in chosen}


def all_widths() -> Errors:
    """Heads of every size in every dtype."""
    return {
        f"{name}, {width} columns": max(case(49, 50, 1, width, dtype), case(5, 3, 2, width, dtype))
        for width in head_widths()
        for name, dtype in DTYPES.items()
    }


def lengths() -> Errors:
    """Lengths at which blocks change, one token, no sequence; widths that are no size's."""
    cases = [(1, 64, 1, 5, 2), (64, 1, 2, 128, 1), (16, 17, 1, 24, 1), (33, 32, 3, 1, 1), (3, 4, 2, 40, 0)]
    return {str(each): case(*each[:4], torch.float32, each[4]) for each in cases}


def sweep() -> Errors:
    """Many lengths, widths and dtypes, drawn by chance."""
    draw = random.Random(0)
    errors: Errors = {}
    for _ in range(300):
        numbers = draw.randint(1, 64), draw.randint(1, 64), draw.randint(1, 3), draw.randint(1, 128)
        name = draw.choice(list(DTYPES))
        errors[f"{name}, {numbers}"] = case(*numbers, DTYPES[name], draw.randint(1, 2))
    return errors


def layouts() -> Errors:
    """Gradients that are spread over memory, and inputs of a larger tensor: read where they lie, or copied."""
    draw = torch.Generator().manual_seed(0)
    wide = drawn(draw, torch.float32, 2, 9, 3, 2, 20)
    piece = wide[:, :, 0, :, :18]
    spread = drawn(draw, torch.float32, 2, 2, 18, 9).permute(0, 3, 1, 2)
    ones = torch.ones(1, 1, 1, 1).expand(2, 9, 2, 18)
    return {
        "columns of a wider tensor": worst(short_self_attention, [wide[..., 1:19]], ones),
        "a gradient in another order": worst(short_self_attention, [wide[..., :18].contiguous()], spread),
        "cross-attention of both": worst(short_cross_attention, [piece, wide[:, 2:, 1:, :, 2:]], spread),
    }


def stacked() -> Errors:
    """Layers of several decoders, by torch's kernels and by ours."""
    draw = torch.Generator().manual_seed(0)
    x, context = drawn(draw, torch.float32, 2, 2, 9, 32), drawn(draw, torch.float32, 2, 2, 5, 32)
    layers: dict[str, tuple[Callable[..., nn.Module], tuple[Tensor, ...]]] = {
        "self-attention": (StackedSelfAttention, (x,)), "cross-attention": (StackedCrossAttention, (x, context)),
    }  # fmt: skip
    errors: Errors = {}
    for name, (kind, inputs) in layers.items():
        ours, theirs = kind(2, 32, 2, "short"), kind(2, 32, 2, "torch")
        for weight, same in zip(ours.parameters(), theirs.parameters(), strict=True):
            nn.init.normal_(weight, std=0.3, generator=draw)
            same.data.copy_(weight.data)
        errors[name] = error(ours(*inputs), theirs(*inputs))
    return errors


def model() -> Errors:
    """Predictions and gradients of a whole model with our kernel, beside torch's."""
    return against_torch({"short": ("none", None)})


def recomputed() -> Errors:
    """The same where blocks are recomputed, or compiled without a break in the graph."""
    before = torch._dynamo.utils.counters["graph_break"].copy()
    ways: dict[str, Way] = {"selective": ("selective", None), "full": ("full", None), "compiled": ("none", "aot_eager")}
    errors = against_torch(ways)
    assert torch._dynamo.utils.counters["graph_break"] == before
    return errors


def against_torch(ways: dict[str, Way]) -> Errors:
    draw = torch.Generator().manual_seed(0)
    plan = plan_from_ids(torch.tensor([[0, 3, 4, 9, 11, 12, 17], [1, 2, 5, 8, 10, 13, 16]]), SMALL.num_tokens)
    values = {"rgb": drawn(draw, torch.float32, 2, 3, 24, 24), "depth": drawn(draw, torch.float32, 2, 1, 24, 24)}
    weights: dict[str, Tensor] = {}

    def run(kernel: AttentionKernel, how: Checkpointing, backend: str | None) -> list[Tensor]:
        module = PretrainModule(replace(SMALL, attention=kernel), None, Recompute(how), seed=0)
        inner = module.model
        for name, weight in inner.named_parameters():
            # Initial weights differ so little from one another that attention is an average.
            weights.setdefault(name, weight.detach() + 0.1 * drawn(draw, torch.float32, *weight.shape))
            weight.data.copy_(weights[name])
        if backend:
            compile_parts(module, backend=backend)
        patches = inner(values, plan).patches["rgb"]
        torch.autograd.backward([patches.square().sum()])
        return [patches.detach(), *(each.grad for each in inner.parameters() if each.grad is not None)]

    exact = run("torch", "none", None)
    return {
        name: max(error(*pair) for pair in zip(run("short", *way), exact, strict=True)) for name, way in ways.items()
    }


class Counts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts runs of the forward kernels."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += func in FORWARD
        return func(*args, **(kwargs or {}))


def calls() -> Errors:
    """How often a forward and backward pass of the model runs our forward kernels, by what is recomputed."""
    plan = plan_from_ids(torch.tensor([[0, 3, 4, 9, 11, 12, 17]]), SMALL.num_tokens)
    values = {"rgb": torch.zeros(1, 3, 24, 24), "depth": torch.zeros(1, 1, 24, 24)}
    found: Errors = {}
    modes: tuple[Checkpointing, ...] = ("none", "selective", "full")
    for how in modes:
        inner = MultiMAE(replace(SMALL, attention="short"), None, Recompute(how))
        with Counts() as counts:
            torch.autograd.backward([inner(values, plan).patches["rgb"].sum()])
        found[how] = counts.seen
    return found


def bench() -> Errors:
    """The errors in the table of `mmae bench attention`; times of the interpreter say nothing."""
    shape = Attention(batch=2, heads=2, queries=9, keys=9, width=16, times=1)
    found = compared(shape, torch.device("cpu"), torch.float32, own=True, repeats=1)
    across = compared(replace(shape, keys=5), torch.device("cpu"), torch.float32, own=False, repeats=1)
    return {f"{name}, {what}": max(row[1:]) for what, rows in (("self", found), ("cross", across))
            for name, row in rows.items()}  # fmt: skip


CHECKS: dict[str, Callable[[], Errors]] = {
    "widths": widths, "lengths": lengths, "layouts": layouts, "stacked": stacked, "model": model, "calls": calls,
    "all_widths": all_widths, "sweep": sweep, "bench": bench, "recomputed": recomputed,
}  # fmt: skip

if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({name: CHECKS[name]() for name in sys.argv[1:]}))
