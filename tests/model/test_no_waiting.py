"""From a batch's arrival on the device to the optimiser step, the host never waits for a value.

Two ways of looking. On torch's meta device no tensor holds a number: what asks for one fails, no shape can follow from
one, and a tensor that is made on the host shows. On a CPU every operator call is looked at, those that read numbers of
a device being known by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from mmae.bench.step.step_batch import made_up_band_stats, made_up_batch
from mmae.config.recipe_file import build_config
from mmae.config.schema import Config
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.module import PretrainModule
from mmae.engine.step import StepStats, optimiser_step, prepare_step
from mmae.model.recompute import Recompute
from mmae.types import Batch
from mmae.variants import Variant
from tests.support.watching import watching


class PlainEngine:
    """What a step asks of DeepSpeed's engine."""

    def __init__(self, module: PretrainModule) -> None:
        self.module = module

    def __call__(self, *args: object) -> Any:
        return self.module(*args)

    def backward(self, loss: Tensor, scale_wrt_gas: bool) -> None:
        torch.autograd.backward(loss)

    def step(self) -> None: ...


Step = Callable[[], StepStats]


def make_step(config: Config, device: torch.device, dtype: torch.dtype = torch.float32) -> Step:
    """Training's step up to the optimiser, on tiles that have arrived on the device."""
    train = config.train
    recompute = Recompute(train.activation_checkpointing, train.checkpoint_blocks_every)
    module = PretrainModule(config.model, Variant(32, 3, 2, 64), recompute).to(device, dtype)
    preprocess = Preprocess(config.data, config.model, made_up_band_stats(), device)
    batches: list[Batch] = [made_up_batch(config.model.domains, 4).to(device) for _ in range(2)]

    engine: Any = PlainEngine(module)

    def step() -> StepStats:
        return optimiser_step(engine, prepare_step(batches, preprocess, config), config)

    return step


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of one rank, without processes: what is summed over ranks is the rank's own."""
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: None)


SMALL = {
    "model.input_size": [24, 40], "model.num_encoded_tokens": 20, "model.decoder_dim": 16, "model.decoder_num_heads": 2,
    "model.decoder_depth": 1, "train.global_batch": 8,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "published": {
        "model.paper_exact": True, "data.crop": "resize", "data.flip": "horizontal", "data.labels": "nearest",
    },
    "all at once": {
        "model.task_balancer": "uncertainty", "model.sample_tasks_uniformly": True, "model.positions": "learned",
        "model.alphas": [0.3, 1.0, 2.5, 0.7, 1.0, 1.0], "model.drop_path": 0.1, "model.input_size": 32,
        "train.activation_checkpointing": "full",
    },
    "drop path": {"model.drop_path": 0.1, "train.activation_checkpointing": "full", "train.checkpoint_blocks_every": 2},
    "selective": {"train.activation_checkpointing": "selective"},
    "one alpha": {"model.alphas": 0.5, "model.loss_on_unmasked": True},
    "labels only": {
        "model.in_domains": ["semseg", "dynamic_world"], "model.out_domains": ["semseg"],
        "model.extra_norm_pix_loss": False, "model.num_encoded_tokens": 9,
    },
    "every modality": {
        "model.in_domains": ["rgb", "sentinel1", "semseg", "canopy_height"],
        "model.out_domains": ["rgb", "depth", "dynamic_world", "sentinel1"], "model.num_global_tokens": 0,
    },
}  # fmt: skip


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def config(request: pytest.FixtureRequest) -> Config:
    return build_config({**SMALL, **request.param}, "test")


@pytest.mark.long
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_step_waits_for_nothing(device: str, config: Config) -> None:
    step = make_step(config, torch.device(device))
    with watching() as seen:
        step()
    assert seen.waits == []
    assert seen.calls > 500


@contextmanager
def nothing_waits() -> Iterator[None]:
    """torch refuses to wait for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_waits_for_nothing_on_a_gpu(dtype: torch.dtype, config: Config) -> None:
    step = make_step(config, torch.device("cuda"), dtype)
    with nothing_waits():
        stats = step()
    assert stats.loss.isfinite()


@pytest.mark.gpu
def test_waiting_for_a_gpu_is_refused() -> None:
    x = torch.ones(3, device="cuda")
    with nothing_waits(), pytest.raises(RuntimeError, match="synchronizing"):
        x.sum().item()


WAITS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x[0]),
    "if": lambda x: 1 if x.any() else 0,
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 0),
    "mask": lambda x: x[x > 0],
    "mask of one axis": lambda x: x[:, None][x > 0, :],
    "assigned mask": lambda x: x.clone().__setitem__(x > 0, x[:2] * 2),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),  # type: ignore[no-untyped-call]
    "unique_consecutive": lambda x: x.unique_consecutive(),  # type: ignore[no-untyped-call]
    "equal": lambda x: x.equal(x),
    "repeat_interleave": lambda x: x.repeat_interleave(x.long()),
    "bincount": lambda x: x.long().bincount(),
}
READ_OR_SENT: dict[str, Callable[[Tensor], object]] = {
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "list": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "host's number": lambda x: x + torch.tensor(2.0),
    "host's list": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "host's tensor": lambda x: torch.ones(3, device="cpu").to(x.device),
}
"""What a CPU's tensors do not show."""


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("culprit", WAITS)
def test_what_waits_is_seen(culprit: str, device: str) -> None:
    x = torch.tensor([1.0, 0.0, 2.0], device=device)
    with watching() as seen:
        try:
            WAITS[culprit](x)
        except (NotImplementedError, RuntimeError) as refused:
            assert device == "meta"
            seen.waits.append(str(refused))
    assert seen.waits


@pytest.mark.parametrize("culprit", READ_OR_SENT)
def test_what_crosses_to_the_host_is_seen(culprit: str) -> None:
    x = torch.ones(3, device="meta")
    with watching() as seen:
        try:
            READ_OR_SENT[culprit](x)
        except (NotImplementedError, RuntimeError, TypeError) as refused:
            seen.waits.append(str(refused))
    assert seen.waits


def test_what_does_not_wait_is_not_seen() -> None:
    x = torch.ones(3, device="meta")
    with watching() as seen:
        torch.where(x > 0, x * 2, 0.0)[torch.zeros(2, dtype=torch.int64, device="meta")].scatter(0, x.long(), 1.0)
    assert seen.waits == []
    assert seen.calls > 3
