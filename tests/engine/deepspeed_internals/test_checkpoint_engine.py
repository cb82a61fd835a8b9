"""Saves and loads of real engines go through our writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from mmae.engine.deepspeed_internals.checkpoint_engine import WriterInterface, end_failed_save, replace_writer
from tests.support.dots_engine import ON_ENGINES, STAGES, engine_of, factors, held, take_step

pytestmark = ON_ENGINES


class Recorder(WriterInterface):
    """Writes plainly, and notes the names."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def save(self, state_dict: Any, path: str | Path) -> None:
        self.names.append(Path(path).name)
        torch.save(state_dict, path)


@pytest.mark.parametrize("stage", STAGES)
def test_saves_and_loads_go_through_our_writer_and_nothing_else_is_written(stage: int, tmp_path: Path) -> None:
    engine, writer = engine_of(stage), Recorder()
    replace_writer(engine, writer)
    take_step(engine, factors(0))
    before = held(engine)
    engine.save_checkpoint(str(tmp_path), tag="a", client_state={}, save_latest=False)
    assert sorted(writer.names) == sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert writer.names
    take_step(engine, factors(1))
    engine.load_checkpoint(str(tmp_path), tag="a")
    for old, new in zip(before, held(engine), strict=True):
        assert torch.equal(old, new)
    engine.destroy()


@pytest.mark.parametrize("stage", STAGES)
def test_a_failed_save_ends_as_a_good_one_does(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, calls = engine_of(stage), []
    monkeypatch.setattr(dist, "barrier", lambda: calls.append("barrier"))
    if stage == 3:
        monkeypatch.setattr(engine.optimizer, "checkpoint_event_epilogue", lambda: calls.append("epilogue"))
    end_failed_save(engine)
    assert calls == (["epilogue", "barrier"] if stage == 3 else ["barrier"])
    engine.destroy()
