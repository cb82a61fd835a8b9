"""Checkpoints of real trainings: saves that fail, damage, what was named, two starts at once."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmae.engine.checkpoint.contents.frozen_state import FROZEN_TENSORS
from mmae.engine.checkpoint.integrity import problem_of
from mmae.engine.checkpoint.manifest import read_manifest
from mmae.run.layout import ARCHIVE, LOCK
from mmae.run.locking.lock_file import acquire
from mmae.run.locking.lock_owner import this_process
from tests.support.commands import SMALL, Command, free_port
from tests.support.compare import final_weights, train_records
from tests.support.group import Done, Job, run_jobs
from tests.support.paths import ROOT
from tests.support.trouble import BUFFER, BUFFER_VALUE, FROZEN, FROZEN_VALUE

RECIPE = (
    *SMALL, "train.global_batch=16", "train.max_steps=8", "data.workers=0", "log.every=1", "checkpoint.every=2",
    "val.every=0",
)  # fmt: skip
TROUBLE = "tests.support.trouble:"


def records(run: Path, *kinds: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] in kinds]


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def spoil(checkpoint: Path) -> None:
    """Flip a bit in the middle of the optimiser's file."""
    file = sorted(checkpoint.glob("*optim_states.pt"))[-1]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def job(run: str, shards: Path, *overrides: str, stage: int = 1, **more: Any) -> Job:
    return Job(run, f"zero{stage}", (*RECIPE, f"data.shards={shards}", *overrides), **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def done(synthetic_shards: Path, folder: Path) -> dict[str, Done]:
    """How runs ended that share a group of two ranks."""
    asynchronous = "checkpoint.asynchronous=true"
    jobs = [
        job("sync", synthetic_shards, stage=2, around=f"{TROUBLE}small_files_at_step_4"),
        job("async", synthetic_shards, asynchronous, stage=3, around=f"{TROUBLE}small_files_at_step_4"),
        job("kept", synthetic_shards, asynchronous, "checkpoint.keep_last=1", "checkpoint.keep_every=4"),
        job("full", synthetic_shards, around=f"{TROUBLE}full_disk_from_step_6"),
        job("whole", synthetic_shards),
        job("run", synthetic_shards, "train.stop_at=6"),
    ]
    return run_jobs(jobs, 2, folder)


def test_saves_that_fail_on_one_rank_and_a_full_disk(done: dict[str, Done], folder: Path) -> None:
    for name in ("sync", "async"):
        run = folder / name
        assert (done[name].status, done[name].error) == (0, ""), name
        assert checkpoints(run) == ["global_step2", "global_step6", "global_step8", "latest"]
        (failed,) = records(run, "save_failed")
        assert (failed["step"], failed["rank"]) == (4, 1)
        assert "File too large" in failed["reason"]
        assert [record["step"] for record in records(run, "save")] == [2, 6, 8]
        assert [record["step"] for record in train_records(run)] == list(range(1, 9))
        for checkpoint in (run / "checkpoints").glob("global*"):
            assert problem_of(checkpoint) is None
    assert done["kept"].status == 0
    assert checkpoints(folder / "kept") == ["global_step4", "global_step8", "latest"]
    assert done["full"].status == 2
    assert "the last step (8) could not be saved" in done["full"].error
    assert checkpoints(folder / "full") == ["global_step2", "global_step4", "latest"]
    assert ["10 bytes are free" in each["reason"] for each in records(folder / "full", "save_failed")] == [True] * 2


def test_after_damage_and_from_what_is_named(synthetic_shards: Path, done: dict[str, Done], folder: Path) -> None:
    assert (done["whole"].error, done["run"].error) == ("", "")
    spoil(folder / "run" / "checkpoints" / "global_step6")
    damaged = str(folder / "whole" / "checkpoints" / "global_step8")
    jobs = [
        job("run", synthetic_shards),
        job("branch", synthetic_shards, "train.blr=1e-3", resume=str(folder / "run" / "checkpoints" / "global_step4")),
        job("branch3", synthetic_shards, "train.blr=1e-3", stage=3, resume="async/checkpoints/global_step6"),
        job("bad", synthetic_shards, resume=damaged),
    ]
    spoil(Path(damaged))
    ended = run_jobs(jobs, 2, folder)
    assert {name: each.status for name, each in ended.items()} == {"run": 0, "branch": 0, "branch3": 0, "bad": 2}
    assert "damaged: " in ended["bad"].error
    (resumed,) = records(folder / "run", "resume")
    # The damage, and where the records of the steps after are.
    assert (resumed["step"], len(resumed["notes"])) == (4, 2)
    assert checkpoints(folder / "run") == ["damaged-global_step6", "global_step4", "global_step6", "global_step8",
                                             "latest"]  # fmt: skip
    (resumed,) = records(folder / "branch", "resume")
    assert "group 0: initial_lr 0.001 -> 6.25e-05" in resumed["reapplied"]
    # The schedule goes on with the new peak.
    whole, branch = train_records(folder / "whole"), train_records(folder / "branch")
    assert [record["lr"] for record in branch] == pytest.approx([record["lr"] / 16 for record in whole[4:]])
    assert [each["lr"] for each in train_records(folder / "branch3")] == [each["lr"] for each in branch[2:]]
    # Damage cost steps, and nothing else.
    again = train_records(folder / "run")
    assert [record["losses"] for record in again] == [record["losses"] for record in whole]
    shutil.rmtree(folder / "whole" / "checkpoints" / "global_step8")
    assert final_weights(folder / "whole").keys() == final_weights(folder / "run").keys()


@pytest.mark.slow
def test_frozen_parameters_and_buffers_come_back(synthetic_shards: Path, tmp_path: Path) -> None:
    """In the same shape and in others, where DeepSpeed's conversions lose them."""
    around = f"{TROUBLE}partly_frozen"
    shapes = [(0, 1), (1, 2), (2, 2), (3, 2)]  # ZeRO stage, ranks
    others = [((0, 1), (3, 2)), ((1, 2), (2, 1)), ((2, 2), (0, 1)), ((3, 2), (1, 1))]
    for ranks in (1, 2):
        jobs = [
            job(f"from{s}x{r}", synthetic_shards, "train.stop_at=2", stage=s, around=around)
            for s, r in shapes if r == ranks
        ]  # fmt: skip
        assert {each.error for each in run_jobs(jobs, ranks, tmp_path).values()} == {""}
    pairs = [*((shape, shape) for shape in shapes), *others]
    names = {pair: f"{pair[0][0]}x{pair[0][1]}-to-{pair[1][0]}x{pair[1][1]}" for pair in pairs}
    for ranks in (1, 2):
        jobs = [
            job(name, synthetic_shards, "train.stop_at=4", stage=to[0], around=around,
                copy_of=f"from{source[0]}x{source[1]}")
            for (source, to), name in names.items() if to[1] == ranks
        ]  # fmt: skip
        assert {each.error for each in run_jobs(jobs, ranks, tmp_path).values()} == {""}
    for name in names.values():
        stored = load_file(tmp_path / name / "checkpoints" / "global_step4" / FROZEN_TENSORS)
        assert stored.keys() == {FROZEN, BUFFER}, name
        assert torch.all(stored[FROZEN] == FROZEN_VALUE), name
        assert torch.all(stored[BUFFER] == BUFFER_VALUE), name
        exported = final_weights(tmp_path / name)[FROZEN.removeprefix("model.")]
        assert torch.all(exported == FROZEN_VALUE), name


@pytest.mark.slow
def test_the_real_command(synthetic_shards: Path, tmp_path: Path, command: Command) -> None:
    """`--fresh`, a second start while the first lives, and what a checkpoint holds."""
    words = ["--config", "debug", f"data.shards={synthetic_shards}", "run.dir=run", *RECIPE, "train.stop_at=2"]
    alone = [sys.executable, "-m", "mmae.train"]
    launched = ["deepspeed", "--num_gpus", "2", "--master_port", str(free_port()), "--module", "mmae.train"]
    first = command(*alone, *words, PYTHONPATH=str(ROOT))
    assert first.status == 0, first.err
    checkpoint = tmp_path / "run" / "checkpoints" / "global_step2"
    assert set(read_manifest(checkpoint) or ()) == {
        "mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "rng_rank_0.safetensors",
        "state.json", "config.yaml", "band_stats.json",
    }  # fmt: skip
    assert (checkpoint / "config.yaml").read_text() == (tmp_path / "run" / "config.yaml").read_text()
    assert not (tmp_path / "run" / LOCK).exists()

    lock = acquire(tmp_path / "run")
    second = command(*launched, *words)
    lock.close()
    assert second.status == 2
    assert f"({this_process().host}, process {this_process().pid}, since " in second.err
    assert second.err.count("mmae: error: ") == 1

    (tmp_path / "run" / LOCK).unlink()
    fresh = command(*alone, *words, "--fresh", "train.seed=5", PYTHONPATH=str(ROOT))
    assert fresh.status == 0, fresh.err
    (aside,) = (tmp_path / "run").glob(f"{ARCHIVE}*")
    assert problem_of(aside / "checkpoints" / "global_step2") is None
    assert problem_of(checkpoint) is None
    assert fresh.last_json["losses"] != first.last_json["losses"]
