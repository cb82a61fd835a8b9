"""Muon for the matrices of the blocks and AdamW for all other parameters, as one optimiser that DeepSpeed can divide.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with the step's scale of Liu et al.,
"Muon is Scalable for LLM Training" (2025): a step is as large as AdamW's usually is, so that both have one rate.

At ZeRO stages 1 and 2 a rank has a row of the numbers of all parameters, cut anywhere, and Muon needs whole matrices.
A rank makes those of its row orthogonal, by itself where it has all of their numbers. The few that a cut goes through
are put together on all ranks. The momentum is divided as AdamW's is, and stands where AdamW's first moment stands; the
second one stays 0. So checkpoints have one form for both optimisers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmae.engine.matrices.newton_schulz import orthogonal
from mmae.model.counts.block_matrices import matrices_above

MOMENTUM: Final = 0.95
MATRICES: Final = "matrices"
"""Key of a group: the names of its parameters if Muon trains them, else nothing."""

_OF_ADAMW: Final = 0.2
"""Root mean square of the numbers of AdamW's usual step, at a rate of 1."""


def with_matrices(groups: Sequence[dict[str, Any]], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Optimiser groups, each cut into one for AdamW and one for Muon; none of them is empty.

    Args:
        names: of the parameters, by their `id`.
    """
    cut = []
    for group in groups:
        for wanted in (False, True):
            chosen = [each for each in group["params"] if bool(matrices_above(names[id(each)])) == wanted]
            if chosen:
                said = [names[id(each)] for each in chosen] if wanted else []
                cut.append({**group, "params": chosen, MATRICES: said})
    return cut


@dataclass(frozen=True)
class Row:
    """The numbers of a parameter that a rank updates.

    Attributes:
        shape: of the whole parameter.
        offset: of the first number in the flat tensor of the rank's numbers.
        start: of the first number in the parameter, flattened.
        size: how many there are; 0 where the rank has none.
        cut: several ranks have some.
    """

    shape: tuple[int, ...]
    offset: int
    start: int
    size: int
    cut: bool


class MuonAndAdamW(torch.optim.AdamW):
    """Trains groups with a name in `MATRICES` by Muon, the others by torch's fused AdamW.

    Until `divide` is called, each parameter is a tensor of its own.

    Args:
        groups: as `with_matrices` returns them.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, lr=lr, betas=betas, fused=True)
        # Not the inherited step: hooks on this optimiser would run within it once more.
        self._rest = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=lr, betas=betas, fused=True)
        self._rows: Mapping[str, Row] | None = None
        self._dtype = torch.float32

    def divide(self, rows: Mapping[str, Row] | None, dtype: torch.dtype) -> None:
        """Say where the numbers lie, and what products of matrices are computed in.

        Args:
            rows: by the parameters' names, the same names on all ranks; None: each parameter is a tensor of its own.
        """
        self._rows, self._dtype = rows, dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Collective where the numbers are divided over ranks."""
        for group in self.param_groups:
            for number, name in enumerate(group[MATRICES]):
                self._step(group, number, name)
        rest: Any = self._rest
        rest.param_groups = [group for group in self.param_groups if not group[MATRICES]]
        # What is set on the optimiser from outside, for its fused kernel.
        rest.state, rest.grad_scale, rest.found_inf = self.state, self._set("grad_scale"), self._set("found_inf")
        rest.step()

    def _set(self, name: str) -> Tensor | None:
        found: Tensor | None = getattr(self, name, None)
        return found

    def _step(self, group: dict[str, Any], number: int, name: str) -> None:
        owner = group["params"][number if self._rows is None else 0]
        if owner.grad is None:
            return
        whole = Row(tuple(owner.shape), 0, 0, owner.numel(), cut=False)
        row = whole if self._rows is None else self._rows[name]
        momentum = self._momentum(owner)
        weight, gradient, momentum = (each.view(-1)[row.offset :][: row.size] for each in (owner, owner.grad, momentum))
        scale, skipped = self._set("grad_scale"), self._set("found_inf")
        if scale is not None:
            gradient = gradient / scale
        moved = momentum.lerp(gradient, 1 - MOMENTUM)
        ahead = gradient.lerp(moved, MOMENTUM)
        if row.cut:
            ahead = _joined(ahead, row)
        if not row.size:
            return
        parts = matrices_above(name)
        matrices = ahead.view(*row.shape[:-2], parts, row.shape[-2] // parts, row.shape[-1])
        change = orthogonal(matrices, self._dtype).flatten()[row.start :][: row.size].to(weight.dtype)
        lr, factor = group["lr"], _OF_ADAMW * math.sqrt(max(matrices.shape[-2:]))
        if skipped is None:
            momentum.copy_(moved)
            weight.mul_(1 - lr * group["weight_decay"]).sub_(change, alpha=lr * factor)
            return
        stays = skipped.to(weight.device).bool()
        momentum.copy_(torch.where(stays, momentum, moved))
        changed = weight * (1 - lr * group["weight_decay"]) - change * (lr * factor)
        weight.copy_(torch.where(stays, weight, changed))

    def _momentum(self, owner: Tensor) -> Tensor:
        state = self.state[owner]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=owner.device)
            state["exp_avg"] = torch.zeros_like(owner)
            state["exp_avg_sq"] = torch.zeros_like(owner)
        momentum: Tensor = state["exp_avg"]
        return momentum


def _joined(own: Tensor, row: Row) -> Tensor:
    """All numbers of a parameter, flat float32, of which each rank has some."""
    whole = torch.zeros(math.prod(row.shape), dtype=torch.float32, device=own.device)
    whole[row.start :][: row.size].copy_(own)
    # Of each number one rank has the bits, all others zeros: as integers nothing is rounded.
    dist.all_reduce(whole.view(torch.int32))
    return whole


def rows_of_all(own: Mapping[str, Row], sizes_of_ranks: Sequence[Mapping[str, int]]) -> Iterator[tuple[str, Row]]:
    """Each row, with what only all ranks together know: whether others have numbers of the same parameter."""
    for name, row in own.items():
        whole = math.prod(row.shape)
        cut = any(0 < sizes[name] < whole for sizes in sizes_of_ranks)
        yield name, Row(row.shape, row.offset, row.start, row.size, cut)
