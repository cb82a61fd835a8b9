"""The forward and backward pass of a micro-batch as two CUDA graphs (`train.cuda_graphs`).

A graph is a list of kernels with their addresses, which the host starts as one. What changes between micro-batches
therefore has to lie in the same memory each time: inputs are copied there, weights are updated in place (which
DeepSpeed does at ZeRO stages 0 to 2), and torch's generators count on by themselves. Gradients leave the graphs through
autograd, so that DeepSpeed's hooks see them as ever.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from mmae.config.schema import TrainConfig
from mmae.engine.module import PretrainModule
from mmae.errors import InputError
from mmae.types import Inputs, MaskPlan

Losses = tuple[Tensor, Tensor, Tensor]


def check_graphs(train: TrainConfig, device: torch.device) -> None:
    """Refuse `train.cuda_graphs` where it cannot be heeded.

    Raises:
        InputError: there is no GPU, or torch is too old.
    """
    if not train.cuda_graphs:
        return
    if device.type != "cuda":
        raise InputError(
            f"train.cuda_graphs=true needs a GPU, and this training runs on the {device.type}: leave it out"
        )
    # Loader threads pin memory all the time, which an older torch takes for a part of the graph.
    if "capture_error_mode" not in inspect.signature(torch.cuda.make_graphed_callables).parameters:
        raise InputError(f"train.cuda_graphs=true needs torch 2.14 or newer, and this is {torch.__version__}")


def use_graphs(module: PretrainModule, train: TrainConfig, accumulation: int) -> None:
    """Have the module's training run as CUDA graphs, if the recipe asks for it. Before its first use.

    Args:
        accumulation: micro-batches of which the gradients add up.
    """
    if train.cuda_graphs:
        module.forward = MicroStepGraph(module, accumulation > 1)  # type: ignore[method-assign]


class MicroStepGraph:
    """A module's `forward` that is captured at the first training step, and replayed for each later micro-batch.

    Validation, and a micro-batch of another shape, run as they would without it.

    Args:
        adds_up: a gradient is kept until later micro-batches have added theirs.
    """

    def __init__(self, module: PretrainModule, adds_up: bool) -> None:
        self._module, self._adds_up = module, adds_up
        self._plain = module.forward
        self._graphs: Any = None
        self._form: list[object] = []
        self._places: list[int] = []
        self._learned = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def __call__(self, inputs: Inputs, plan: MaskPlan, count_O: Tensor, share: float) -> Losses:
        if not (self._module.training and torch.is_grad_enabled()):
            return self._plain(inputs, plan, count_O, share)
        batch = {"inputs": _named(inputs), "plan": _named(plan), "count_O": count_O}
        form = [share, *_form(batch)]
        if self._graphs is None:
            self._capture(batch, share)
            self._form, self._places = form, list(self._all_places())
        if form != self._form:
            return self._plain(inputs, plan, count_O, share)
        if self._places != list(self._all_places()):
            raise RuntimeError("weights have moved in memory since the CUDA graphs were captured")
        part, part_O, finite_OB = self._graphs(batch, self._learned)
        # The next replay overwrites its results, and they are read some steps later.
        return part.clone(), part_O.clone(), finite_OB.clone()

    def _capture(self, batch: dict[str, Any], share: float) -> None:
        def forward(batch: dict[str, Any], _learned: list[Tensor]) -> Losses:
            inputs, plan = Inputs(**batch["inputs"]), MaskPlan(**batch["plan"])
            return self._plain(inputs, plan, batch["count_O"], share)

        # Replays read inputs where they lay at the capture.
        own = torch.utils._pytree.tree_map(torch.clone, batch)
        device = batch["count_O"].device
        # Nested arguments are taken, although torch's types say otherwise.
        sample: Any = (own, self._learned)
        # The runs before a capture draw numbers, which a run without graphs does not.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self._graphs = torch.cuda.make_graphed_callables(
                forward, sample, allow_unused_input=True, capture_error_mode="thread_local"
            )
        if self._adds_up:
            # A replay leaves gradients where the last one did; autograd would keep that memory as the sum.
            for parameter in self._learned:
                parameter.register_hook(torch.clone)  # type: ignore[no-untyped-call]

    def _all_places(self) -> Iterator[int]:
        yield from (parameter.data_ptr() for parameter in self._module.parameters())
        yield from (buffer.data_ptr() for buffer in self._module.buffers())


def _named(record: Inputs | MaskPlan) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(record).items()}


def _form(batch: dict[str, Any]) -> Iterator[object]:
    """Which tensors there are, and of which shape and dtype."""
    yield from (list(batch["inputs"][name]) for name in ("values", "valid", "token_valid"))
    yield from ((tensor.shape, tensor.dtype) for tensor in tree_leaves(batch))
