"""What can befall ranks of a group while they train: context managers for `Job.around`."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist

from mmae.engine import build
from mmae.engine.module import PretrainModule
from mmae.engine.saving import Saved, Saver

FROZEN, BUFFER = "model.encoder.norm.weight", "seen"


@contextmanager
def small_files_at_step_4(run: Path) -> Iterator[None]:
    """While step 4 is saved, the last rank cannot write a file of more than 64 kB."""
    save = Saver.save

    def limited(self: Saver, step: int) -> list[Saved]:
        if step != 4 or dist.get_rank() != dist.get_world_size() - 1:
            return save(self, step)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
        try:
            return [*save(self, step), *self.finish()]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, ignored)

    def as_well(self: Saver, step: int) -> list[Saved]:
        # A save under way is waited for by all ranks or by none.
        return limited(self, step) if step != 4 or _is_last() else [*save(self, step), *self.finish()]

    with patch.object(Saver, "save", as_well):
        yield


def _is_last() -> bool:
    return dist.get_rank() == dist.get_world_size() - 1


@contextmanager
def full_disk_for_the_last_step(run: Path) -> Iterator[None]:
    """From step 6 on less is free than a checkpoint takes."""
    from mmae.engine import saving

    room = saving.shutil.disk_usage
    save = Saver.save

    def saving_step(self: Saver, step: int) -> list[Saved]:
        used = type("Usage", (), {"free": 10})()
        with patch.object(saving.shutil, "disk_usage", lambda path: used if step >= 6 else room(path)):
            return save(self, step)

    with patch.object(Saver, "save", saving_step):
        yield


@contextmanager
def partly_frozen(run: Path) -> Iterator[None]:
    """A model with a frozen parameter, whose value is none that a start gives it, and a persistent buffer."""
    fresh = not (run / "checkpoints").exists()

    class Frozen(PretrainModule):
        def __init__(self, *args: Any, **words: Any) -> None:
            super().__init__(*args, **words)
            self.register_buffer(BUFFER, torch.full((3,), 7.0 if fresh else 0.0))
            self.model.encoder.norm.weight.requires_grad_(False)

    build_engine = build.build_engine

    def built(*args: Any, **words: Any) -> Any:
        import deepspeed

        engine = build_engine(*args, **words)
        weight = engine.module.model.encoder.norm.weight
        with (
            torch.no_grad(),
            deepspeed.zero.GatheredParameters([weight], modifier_rank=0, enabled=hasattr(weight, "ds_id")),
        ):
            weight.fill_(1.5 if fresh else 0.25)
        return engine

    with patch.object(build, "PretrainModule", Frozen), patch.object(build, "build_engine", built):
        yield
