"""Checkpoints: restored bit for bit, whole or not there, and damage is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mmae.errors import InputError
from mmae.finetune.training.averaged_weights import AveragedWeights, Best
from mmae.finetune.training.tuning_checkpoint import Learner, TuningSaver, TuningState, load_learner, newest_good
from mmae.run.layout import newest_first


def learner(seed: int, decay: float = 0.9) -> Learner:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return Learner(model, optimizer, AveragedWeights(model, decay), Best(higher=True))


def learn(found: Learner, steps: range) -> None:
    for step in steps:
        draw = torch.Generator().manual_seed(step)
        loss = found.model(torch.randn(5, 3, generator=draw)).square().sum()
        loss.backward()
        found.optimizer.step()
        found.optimizer.zero_grad()
        found.average.update(step)
        found.best.offer(step, -loss.item(), found.model)


def state(found: Learner, step: int) -> TuningState:
    return TuningState(step, "shards", "labels", 0, 0, found.best.step, found.best.score, found.best.without)


def saved(folder: Path, found: Learner, step: int, keep: int = 2) -> TuningSaver:
    saver = TuningSaver(folder, "task.target: biome\n", {}, keep, None)
    result = saver.save(found, state(found, step))
    assert result.path is not None, result.reason
    return saver


def say_nothing(_line: str) -> None:
    """Messages are not looked at."""


def test_a_restored_learner_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    straight, first, other = learner(0), learner(0), learner(1)
    learn(straight, range(1, 9))
    learn(first, range(1, 5))
    saved(tmp_path, first, 4)
    found = newest_good(tmp_path, trust=False, hashes=True, say=say_nothing)
    assert found is not None
    load_learner(*found, other)
    assert (other.best.step, other.best.score, other.best.without) == (
        first.best.step,
        first.best.score,
        first.best.without,
    )
    learn(other, range(5, 9))
    for name, weight in straight.model.state_dict().items():
        assert torch.equal(weight, other.model.state_dict()[name]), name
    for name, weight in straight.average.state().items():
        assert torch.equal(weight, other.average.state()[name]), name
    for name, weight in straight.best.weights.items():
        assert torch.equal(weight, other.best.weights[name]), name


def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    found = learner(0)
    learn(found, range(1, 3))
    saved(tmp_path, found, 2)
    (checkpoint,) = newest_first(tmp_path)
    names = {path.name for path in checkpoint.iterdir()}
    assert names == {"model.safetensors", "optimizer.safetensors", "average.safetensors", "best.safetensors",
                     "state.json", "config.yaml", "band_stats.json", "manifest.json"}  # fmt: skip


def test_only_the_newest_stay(tmp_path: Path) -> None:
    found = learner(0)
    for step in (2, 4, 6):
        learn(found, range(step - 1, step + 1))
        saved(tmp_path, found, step)
    assert [path.name for path in newest_first(tmp_path)] == ["global_step6", "global_step4"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_checkpoint_is_renamed_and_the_one_before_it_is_taken(name: str, how: str, tmp_path: Path) -> None:
    found = learner(0)
    for step in (2, 4):
        learn(found, range(step - 1, step + 1))
        saved(tmp_path, found, step)
    path = tmp_path / "global_step4" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content if how == "flipped" else content[:-3])
    said: list[str] = []
    taken = newest_good(tmp_path, trust=False, hashes=True, say=said.append)
    assert taken is not None
    assert taken[1].step == 2
    assert "global_step4 is damaged" in said[0]
    assert (tmp_path / "damaged-global_step4").is_dir()


def test_only_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    found = learner(0)
    learn(found, range(1, 3))
    saved(tmp_path, found, 2)
    (tmp_path / "global_step2" / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"no good checkpoint is left .*--fresh"):
        newest_good(tmp_path, trust=False, hashes=True, say=say_nothing)


def test_a_folder_without_checkpoints_is_a_new_run(tmp_path: Path) -> None:
    assert newest_good(tmp_path / "checkpoints", trust=False, hashes=True, say=say_nothing) is None


def test_a_save_that_fails_says_why_and_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = learner(0)
    learn(found, range(1, 3))
    saver = saved(tmp_path, found, 2)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("mmae.finetune.training.tuning_checkpoint.write_hashed", full)
    result = saver.save(found, state(found, 3))
    assert result.path is None
    assert "No space left on device" in result.reason
    assert [path.name for path in tmp_path.iterdir() if "global" in path.name] == ["global_step2"]
    with pytest.raises(InputError, match=r"the last step \(3\) could not be saved"):
        saver.must_have(3)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    found = learner(0)
    learn(found, range(1, 3))
    saved(tmp_path, found, 2)
    other = Learner(nn.Linear(3, 2), found.optimizer, found.average, found.best)
    with pytest.raises(InputError, match="does not fit this recipe"):
        load_learner(tmp_path / "global_step2", state(found, 2), other)


def test_the_state_says_where_the_run_stands(tmp_path: Path) -> None:
    found = learner(0)
    learn(found, range(1, 3))
    saved(tmp_path, found, 2)
    told = json.loads((tmp_path / "global_step2" / "state.json").read_text())
    assert (told["step"], told["shards"], told["labels"], told["best_step"]) == (2, "shards", "labels", found.best.step)
