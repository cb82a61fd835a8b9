"""Checkpoints are saved whole or not at all, and a failed save does not end the training."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from mmae.engine.checkpoint import save as save_module
from mmae.engine.checkpoint.integrity import problem_of
from mmae.engine.checkpoint.save import Saver
from mmae.errors import InputError
from mmae.run.layout import LATEST
from mmae.run.locking.lock import RunLock
from mmae.run.spec import RunSpec, make_run_spec
from tests.support.small_model import SMALL
from tests.support.tiny_sets import write_set

# A checkpoint notes the commit of the code, which git is asked for.
pytestmark = pytest.mark.process

Usage = namedtuple("Usage", "total used free")


class FakeEngine:
    """Saves a tensor through its writer, as DeepSpeed saves its state."""

    checkpoint_engine: Any
    error: OSError | None = None

    def __init__(self) -> None:
        self.module = nn.Linear(2, 2)
        self.module.bias.requires_grad_(False)

    def save_checkpoint(self, save_dir: str, tag: str, client_state: dict[str, Any], save_latest: bool) -> None:
        assert not save_latest
        assert "universal_checkpoint_info" in client_state
        self.checkpoint_engine.makedirs(f"{save_dir}/{tag}", exist_ok=True)
        self.checkpoint_engine.save({"weight": torch.arange(100.0)}, f"{save_dir}/{tag}/mp_rank_00_model_states.pt")
        if self.error is not None:
            raise self.error


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_set(tmp_path / "shards", {"train": list(range(9)), "val": [9]})
    return tmp_path / "shards"


def spec_of(shards: Path, *overrides: str) -> RunSpec:
    words = [*SMALL, f"data.shards={shards}", f"run.dir={shards.parent / 'run'}", *overrides]
    return make_run_spec("debug", "zero1", words, 1)


def saver_of(spec: RunSpec, engine: FakeEngine | None = None, lock: RunLock | None = None) -> Saver:
    return Saver(cast(Any, engine or FakeEngine()), spec, lock=lock)


def names(spec: RunSpec) -> list[str]:
    return sorted(path.name for path in spec.folder.checkpoints.iterdir())


@pytest.mark.parametrize("background", ["false", "true"])
def test_a_save_leaves_a_whole_checkpoint(shards: Path, background: str) -> None:
    spec = spec_of(shards, f"checkpoint.asynchronous={background}")
    saver = saver_of(spec)
    ended = [*saver.save(3), *saver.finish()]
    assert [(each.step, each.reason) for each in ended] == [(3, "")]
    assert saver.last == ended[0].path == spec.folder.checkpoints / "global_step3"
    assert problem_of(spec.folder.checkpoints / "global_step3") is None
    assert names(spec) == ["global_step3", LATEST]
    assert {"untrained.safetensors", "rng_rank_0.safetensors", "config.yaml", "band_stats.json", "state.json"} < {
        path.name for path in (spec.folder.checkpoints / "global_step3").iterdir()
    }
    saver.must_have(3)
    with pytest.raises(InputError, match=r"the last step \(4\) could not be saved"):
        saver.must_have(4)


def test_retention_removes_old_checkpoints(shards: Path) -> None:
    spec = spec_of(shards, "checkpoint.keep_last=2")
    saver = saver_of(spec)
    for step in (1, 2, 3, 4):
        saver.save(step)
    assert names(spec) == ["global_step3", "global_step4", LATEST]


@pytest.mark.parametrize("background", ["false", "true"])
def test_the_best_checkpoint_stays_until_a_better_one_comes(shards: Path, background: str) -> None:
    words = ("checkpoint.keep_last=1", "checkpoint.keep_best=val.loss", "val.every=1")
    spec = spec_of(shards, *words, f"checkpoint.asynchronous={background}")
    saver = saver_of(spec)
    kept = []
    for step, loss in enumerate((3.0, 2.0, 2.5, 2.0, None, 1.0), start=1):
        scores = {} if loss is None else {"val.loss": loss}
        better = saver.is_new_best(scores)
        ended = [*saver.save(step, scores), *saver.finish()]
        # What `is_new_best` had to wait for is returned once.
        assert [each.step for each in ended] == [step]
        kept.append((better, [name for name in names(spec) if name != LATEST]))
        # Nothing is remembered: each start reads the disk.
        saver = saver_of(spec)
    assert kept == [
        (True, ["global_step1"]),
        (True, ["global_step2"]),
        (False, ["global_step2", "global_step3"]),
        (False, ["global_step2", "global_step4"]),
        (False, ["global_step2", "global_step5"]),
        (True, ["global_step6"]),
    ]


def test_a_save_that_a_new_best_waits_for_is_reported_once(shards: Path) -> None:
    words = ("checkpoint.keep_best=val.loss", "val.every=1", "checkpoint.asynchronous=true")
    saver = saver_of(spec_of(shards, *words))
    assert saver.save(1, {"val.loss": 3.0}) == []
    assert not saver.is_new_best({"val.loss": 4.0})
    assert saver.is_new_best({"val.loss": 2.0})
    assert [each.step for each in saver.save(2, {"val.loss": 2.0})] == [1]
    assert [each.step for each in saver.finish()] == [2]
    assert saver.finish() == []


def test_scores_that_cannot_be_read_cost_no_checkpoint(shards: Path) -> None:
    spec = spec_of(shards, "checkpoint.keep_last=1", "checkpoint.keep_best=val.loss", "val.every=1")
    saver = saver_of(spec)
    saver.save(1, {"val.loss": 1.0})
    state = spec.folder.checkpoints / "global_step1" / "state.json"
    state.unlink()
    state.mkdir()
    assert saver.is_new_best({"val.loss": 2.0})
    saver.save(2, {"val.loss": 2.0})
    assert names(spec) == ["global_step1", "global_step2", LATEST]


def test_a_full_disk_is_known_before_anything_is_written(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(shards)
    saver = saver_of(spec)
    saver.save(1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1))
    (failed,) = saver.save(2)
    assert failed.path is None
    assert "1 bytes are free" in failed.reason
    assert saver.last == spec.folder.checkpoints / "global_step1"
    assert names(spec) == ["global_step1", LATEST]


def test_an_error_within_deepspeed_s_save_fails_it_on_all_ranks(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, engine = spec_of(shards), FakeEngine()
    caught_up: list[object] = []
    monkeypatch.setattr(save_module, "end_failed_save", caught_up.append)
    saver = saver_of(spec, engine)
    engine.error = OSError(errno.ENOSPC, "No space left on device", "0.swp")
    (failed,) = saver.save(1)
    assert (failed.path, failed.reason) == (None, ".saving-global_step1: No space left on device")
    assert caught_up == [engine]
    assert names(spec) == []
    engine.error = None
    assert saver.save(2)[0].path is not None


def test_a_lock_is_not_released_before_a_running_save_has_ended(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, lock = spec_of(shards, "checkpoint.asynchronous=true"), RunLock(None, 1.0)
    waits: list[Any] = []
    monkeypatch.setattr(lock, "before_release", waits.append)
    saver = saver_of(spec, lock=lock)
    assert waits == [saver.wait]
    saver.save(1)
    saver.wait()
    assert names(spec) == ["global_step1", LATEST]
