"""What can befall ranks of a group while they train: context managers for `Job.around`."""

from __future__ import annotations

import random
import resource
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import deepspeed
import numpy as np
import torch
import torch.distributed as dist

from mmae.engine import build
from mmae.engine.checkpoint.background_save import SaveResult
from mmae.engine.checkpoint.save import Saver
from mmae.engine.module import PretrainModule
from mmae.evaluate.in_loop import probes
from mmae.evaluate.in_loop.loop_tasks import Labelled

FROZEN, BUFFER = "model.encoder.blocks.0.norm1.weight", "seen"
FROZEN_VALUE, BUFFER_VALUE = 1.5, 7.0


@contextmanager
def small_files_at_step_4(run: Path) -> Iterator[None]:
    """While step 4 is saved, the last rank cannot write a file of more than 64 kB."""
    with _saving(lambda step: _small_files() if step == 4 and _is_last() else nullcontext()):
        yield


@contextmanager
def full_disk_from_step_6(run: Path) -> Iterator[None]:
    """From step 6 on, less is free than a checkpoint takes."""
    usage = type("Usage", (), {"free": 10})()
    with _saving(lambda step: patch.object(shutil, "disk_usage", lambda path: usage) if step >= 6 else nullcontext()):
        yield


@contextmanager
def loses_step_5(run: Path) -> Iterator[None]:
    """What a kill after step 5, before its checkpoint was written, would have left."""
    yield
    if dist.get_rank() == 0:
        shutil.rmtree(run / "checkpoints" / "global_step5")


@contextmanager
def failing_probes(run: Path) -> Iterator[None]:
    """The last rank cannot encode its tiles at first; then the fit of one task fails, and random numbers are drawn."""
    encoded, score = probes._encoded, Labelled.score
    calls: list[int] = []

    def encode(*args: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 1 and _is_last():
            raise MemoryError("no memory for probes")
        return encoded(*args)

    def fit(self: Labelled, vectors_SD: torch.Tensor) -> float:
        torch.rand(3)
        np.random.rand(3)
        random.random()
        if not self.classes:
            raise ValueError("singular")
        return score(self, vectors_SD)

    with patch.object(probes, "_encoded", encode), patch.object(Labelled, "score", fit):
        yield


@contextmanager
def partly_frozen(run: Path) -> Iterator[None]:
    """A model with a frozen parameter and a persistent buffer, whose values only the first start gives it."""
    first = not (run / "checkpoints").exists()

    class Frozen(PretrainModule):
        def __init__(self, *args: Any, **words: Any) -> None:
            super().__init__(*args, **words)
            self.register_buffer(BUFFER, torch.full((3,), BUFFER_VALUE if first else 0.0))
            self.get_parameter(FROZEN).requires_grad_(False)

    build_engine = build.build_engine

    def built(*args: Any, **words: Any) -> Any:
        engine = build_engine(*args, **words)
        weight = engine.module.get_parameter(FROZEN)
        sharded = hasattr(weight, "ds_id")
        with torch.no_grad(), deepspeed.zero.GatheredParameters([weight], modifier_rank=0, enabled=sharded):
            weight.fill_(FROZEN_VALUE if first else 0.25)
        return engine

    with patch.object(build, "PretrainModule", Frozen), patch.object(build, "build_engine", built):
        yield


@contextmanager
def _saving(within: Callable[[int], AbstractContextManager[Any]]) -> Iterator[None]:
    """Every save, to its end, happens within what a step gives."""
    save = Saver.save

    def to_its_end(self: Saver, step: int, scores: Mapping[str, float]) -> list[SaveResult]:
        with within(step):
            return [*save(self, step, scores), *self.finish()]

    with patch.object(Saver, "save", to_its_end):
        yield


@contextmanager
def _small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)


def _is_last() -> bool:
    return dist.get_rank() == dist.get_world_size() - 1
