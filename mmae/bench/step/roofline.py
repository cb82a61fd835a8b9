"""The bound of a step on this device: what `mmae.plan.least_work` says must be done, at the speed that was measured.

Matrix products run in the step's shapes, layouts and dtype. Attention runs by the fastest kernel that torch has here.
All other bytes take the time of a copy of as many; on a CPU a small micro-batch may be faster, from its caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from mmae.bench.step.device_limit import copy_bandwidth
from mmae.bench.step.matmuls import Matmul, Replay
from mmae.bench.step.phases import timed
from mmae.config.schema import Config
from mmae.plan.least_work import Attention, Part, Product, least_work
from mmae.terminal.table import Column, Value

COLUMNS: Final = (
    Column("precision", "precision"),
    Column("micro_batch", "micro-batch"),
    Column("part", "part"),
    Column("gflop", "GFLOP", "{:.1f}"),
    Column("gigabytes", "GB", "{:.3f}"),
    Column("milliseconds", "ms", "{:.1f}"),
    Column("share", "% of the bound", "{:.1%}"),
    Column("gflops", "GFLOP/s", "{:.0f}"),
    Column("how", "how", wraps=True),
)
KEYS: Final = 3
_TRIES: Final = 3

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries (B, H, n, e), keys and values (B, H, L, e) -> (B, H, n, e)."""


class Roofline:
    """The bound, measured anew in each round."""

    def __init__(self, recipe: Config, micro_batch: int, device: torch.device, dtype: torch.dtype) -> None:
        self.parts = least_work(recipe, micro_batch, dtype.itemsize)
        self._device = device
        self._works: dict[str, tuple[Callable[[], object], str]] = {}
        self._rounds: list[dict[str, float]] = []
        for part in self.parts:
            if part.products:
                self._works[part.name] = Replay(_matmuls(part.products, dtype), device), "products, run alone"
            elif part.attention:
                run, name = _best_attention(part.attention, device, dtype)
                self._works[part.name] = run, f"torch's {name} attention, run alone"

    def seconds(self) -> float:
        """Of one more round."""
        bandwidth = copy_bandwidth(self._device)
        taken: dict[str, float] = {}
        for part in self.parts:
            run, _ = self._works.get(part.name, (None, ""))
            taken[part.name] = part.moved / bandwidth + (timed(run, self._device) if run else 0)
        self._rounds.append(taken)
        return sum(taken.values())

    def rows(self, seconds: float) -> list[dict[str, Value]]:
        """A row for each part, by the keys of `COLUMNS` but for those that identify the step.

        Args:
            seconds: what the round to show has returned. The parts of one round add up to it; medians do not.
        """
        taken = next(each for each in self._rounds if sum(each.values()) == seconds)
        return [self._row(part, taken[part.name], seconds) for part in self.parts]

    def _row(self, part: Part, seconds: float, whole: float) -> dict[str, Value]:
        run = self._works.get(part.name)
        ways = [*([run[1]] if run else []), *(["bytes at the speed of a copy"] if part.moved else [])]
        return {
            "part": part.name,
            "gflop": part.flops / 1e9,
            "gigabytes": part.bytes / 1e9,
            "milliseconds": seconds * 1e3,
            "share": seconds / whole,
            "gflops": part.flops / seconds / 1e9 if part.flops else None,
            "how": ", ".join(ways),
        }


def _matmuls(products: tuple[Product, ...], dtype: torch.dtype) -> dict[Matmul, int]:
    found: dict[Matmul, int] = {}
    for each in products:
        matmul = Matmul(each.b, each.m, each.k, each.n, dtype, each.left_transposed, each.right_transposed)
        found[matmul] = found.get(matmul, 0) + each.times
    return found


def _best_attention(shape: Attention, device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], str]:
    """The fastest of torch's ways, forward and backward, as often as a step makes it; and its name."""
    tried = {name: _Attended(shape, attend, device, dtype) for name, attend in _ways(device, dtype)}
    taken: dict[str, float] = {}
    for name, run in tried.items():
        try:
            run()
        except RuntimeError:
            # No such kernel for this device, dtype or width.
            continue
        taken[name] = min(timed(run, device) for _ in range(_TRIES))
    best = min(taken, key=lambda name: taken[name])
    return tried[best], best


def torch_kernels(device: torch.device) -> Iterator[tuple[str, Attend]]:
    """Torch's attention kernels for a device, by name. One that does not take a dtype or width is a RuntimeError."""
    kinds = [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
    if device.type == "cuda":
        kinds += [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]
    for kind in kinds:
        yield kind.name.lower().removesuffix("_attention"), _by(kind)


def _ways(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, Attend]]:
    yield from torch_kernels(device)
    if dtype != torch.float32:
        yield "float32", _in_float32


def _by(kind: SDPBackend) -> Attend:
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with sdpa_kernel(kind):
            return scaled_dot_product_attention(query, key, value)

    return attend


def _in_float32(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    def whole(x: Tensor) -> Tensor:
        return x.to(torch.float32, memory_format=torch.contiguous_format)

    return scaled_dot_product_attention(whole(query), whole(key), whole(value)).to(query.dtype)


class _Attended:
    """Attention and its gradients, in the layout that a projection to queries, keys and values leaves."""

    def __init__(self, shape: Attention, attend: Attend, device: torch.device, dtype: torch.dtype) -> None:
        self._attend, self._times = attend, shape.times

        def made(length: int) -> Tensor:
            numbers = torch.randn(shape.batch, length, shape.heads, shape.width, device=device)
            return numbers.to(dtype).transpose(1, 2).requires_grad_()

        self._inputs = made(shape.queries), made(shape.keys), made(shape.keys)
        self._gradient = made(shape.queries).detach()

    def __call__(self) -> None:
        for _ in range(self._times):
            torch.autograd.grad(self._attend(*self._inputs), self._inputs, self._gradient)
