"""CUDA graphs on a CPU: operators are recorded with their tensors, and replayed on the same memory.

As with real graphs, what the host decided at the capture stays so, results appear where the capture left them, inputs
are read where they lay, generators count on, and a number that the host asks for ends the capture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from tests.support.watching import waits


class RecordedGraph(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The operators that were called within it."""

    replays = 0
    """Of all graphs of this process."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not {Tensor, nn.Parameter}.issuperset(types):
            return NotImplemented  # The class calls operators on what it wraps.
        if waits(func, args):
            raise RuntimeError(f"{func} cannot be captured: it waits for the device")
        out = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        RecordedGraph.replays += 1
        with torch.no_grad():
            for func, args, kwargs, out in self._calls:
                memory = {each.untyped_storage().data_ptr() for each in tree_leaves((args, kwargs)) if _is_made(each)}
                results = [each for each in tree_leaves(out) if _is_made(each)]
                shared = [each.untyped_storage().data_ptr() in memory for each in results]
                if results and all(shared) and not func._schema.is_mutable:
                    continue  # A view: it shows what its memory holds.
                again = [each for each in tree_leaves(func(*args, **kwargs)) if _is_made(each)]
                for old, new, same in zip(results, again, shared, strict=True):
                    if not same:
                        old.copy_(new)


def _is_made(each: object) -> bool:
    return isinstance(each, Tensor) and each.numel() > 0


def make_graphed_callables(
    call: Callable[..., Any], sample_args: Any, allow_unused_input: bool, capture_error_mode: str
) -> Callable[..., Any]:
    """Takes and gives what torch's own function does."""
    assert capture_error_mode == "thread_local"
    surface, _ = tree_flatten(sample_args)
    torch.rand(3)  # Runs before the capture draw numbers, too.
    with RecordedGraph() as forward:
        result = call(*sample_args)
    outputs, form = tree_flatten(result)
    wanted = [each for each in surface if each.requires_grad]
    given = [torch.zeros_like(each) if each.requires_grad else None for each in outputs]
    with RecordedGraph() as backward:
        found = torch.autograd.grad(
            [each for each in outputs if each.requires_grad], wanted, [each for each in given if each is not None],
            allow_unused=allow_unused_input,
        )  # fmt: skip
    gradients = iter(found)
    kept = [next(gradients) if each.requires_grad else None for each in surface]

    class Graphed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
            for static, new in zip(surface, inputs, strict=True):
                if static.data_ptr() != new.data_ptr():
                    static.copy_(new)
            forward.replay()
            return tuple(each.detach() for each in outputs)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
            for static, new in zip(given, grads, strict=True):
                if static is not None:
                    static.copy_(new)
            backward.replay()
            return tuple(None if each is None else each.detach() for each in kept)

    def graphed(*args: Any) -> Any:
        return tree_unflatten(Graphed.apply(*tree_leaves(args)), form)

    return graphed


@contextmanager
def graphs_on_cpu() -> Iterator[None]:
    """Within the context `train.cuda_graphs=true` records and replays on a CPU."""
    with (
        patch.object(torch.cuda, "make_graphed_callables", make_graphed_callables),
        patch("mmae.engine.build.check_graphs", lambda train, device: None),
    ):
        yield


@contextmanager
def graphs_on_cpu_needed(_folder: Path) -> Iterator[None]:
    """The same, for a training that must replay some."""
    before = RecordedGraph.replays
    with graphs_on_cpu():
        yield
    assert RecordedGraph.replays > before + 2
