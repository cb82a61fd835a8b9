"""Which checkpoint a start goes on from: what was named, the newest good one, or none where there never was one."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mmae.engine.checkpoint.contents.train_state import TrainState
from mmae.engine.checkpoint.load import ResumePoint
from mmae.engine.checkpoint.manifest import MANIFEST
from mmae.engine.checkpoint.resume import find
from mmae.errors import InputError
from mmae.run.layout import ARCHIVE, LATEST, STATE
from mmae.run.restart import note_followed
from mmae.run.spec import RunSpec, make_run_spec
from tests.support.checkpoint_files import WEIGHTS, save_checkpoint, state_of
from tests.support.small_model import SMALL
from tests.support.tiny_sets import write_set


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_set(tmp_path / "shards", {"train": list(range(9))})
    return tmp_path / "shards"


@pytest.fixture
def run(shards: Path) -> Path:
    """A run that was trained to step 9, with three checkpoints."""
    planned = plan(shards)
    planned.folder.write_configs(planned.config, planned.ds_config, planned.band_stats)
    for step in (3, 6, 9):
        save_checkpoint(planned.folder.checkpoints, step, state(planned, step))
    planned.folder.log_file.write_text("{}\n")
    return planned.folder.path


def plan(shards: Path, *overrides: str, run: str = "run", resume: Path | None = None, fresh: bool = False) -> RunSpec:
    words = [*SMALL, f"data.shards={shards}", f"run.dir={shards.parent / run}", *overrides]
    return make_run_spec("debug", "zero1", words, 2, resume=None if resume is None else str(resume), fresh=fresh)


def state(planned: RunSpec, step: int) -> TrainState:
    fingerprints = " ".join(each.index.fingerprint for each in planned.tiles.sets)
    return replace(state_of(step), shards=fingerprints)


def taken(found: ResumePoint | None) -> str | None:
    return None if found is None else found.path.name


def spoil(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).write_text((checkpoint / WEIGHTS).read_text().swapcase())


def asides(run: Path) -> list[Path]:
    return sorted(run.glob(f"{ARCHIVE}*"))


def test_the_newest_is_taken(run: Path, shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = find(plan(shards))
    assert taken(found) == "global_step9"
    assert found is not None
    assert found.notes == ()
    assert capsys.readouterr().err == ""


def test_a_new_run_begins(shards: Path) -> None:
    assert find(plan(shards, run="new")) is None
    assert find(plan(shards, run="new", fresh=True)) is None
    assert not (shards.parent / "new").exists()


def test_damaged_checkpoints_are_named_and_renamed(run: Path, shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(run / "checkpoints" / "global_step9")
    (run / "checkpoints" / "global_step6" / WEIGHTS).unlink()
    found = find(plan(shards))
    assert taken(found) == "global_step3"
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[-1].split(";")[0] for line in lines] == [
        "renamed to damaged-global_step9",
        "renamed to damaged-global_step6",
    ]
    assert found is not None
    assert list(found.notes) == lines
    assert (run / "checkpoints" / "damaged-global_step9" / WEIGHTS).is_file()


def test_hashes_can_be_left_out(run: Path, shards: Path) -> None:
    spoil(run / "checkpoints" / "global_step9")
    assert taken(find(plan(shards, "checkpoint.verify_hashes=false"))) == "global_step9"
    (run / "checkpoints" / "global_step9" / WEIGHTS).write_text("short")
    assert taken(find(plan(shards, "checkpoint.verify_hashes=false"))) == "global_step6"


def test_if_all_checkpoints_are_damaged_the_start_is_refused(run: Path, shards: Path) -> None:
    for checkpoint in (run / "checkpoints").glob("global_step*"):
        spoil(checkpoint)
    for _ in range(2):
        with pytest.raises(InputError, match=r"no good checkpoint is left .*damaged-global_step3.* --fresh"):
            find(plan(shards))
    assert find(plan(shards, fresh=True)) is None
    assert len(list((asides(run)[0] / "checkpoints").glob("damaged-*"))) == 3


def test_leftovers_of_killed_saves_are_removed_and_never_taken(run: Path, shards: Path) -> None:
    checkpoints = run / "checkpoints"
    (checkpoints / "global_step9").rename(checkpoints / ".replaced-global_step9")
    (checkpoints / ".saving-global_step12").mkdir()
    (checkpoints / ".saving-global_step12" / STATE).touch()
    assert taken(find(plan(shards))) == "global_step9"
    assert not list(checkpoints.glob(".*"))


def test_the_pointer_is_only_a_hint(run: Path, shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pointer = run / "checkpoints" / LATEST
    for text, says in (("global_step6", "names global_step6"), ("global_step77", ""), ("../../etc", ""), ("\0", "")):
        pointer.write_text(text)
        assert taken(find(plan(shards))) == "global_step9"
        said = capsys.readouterr().err
        assert says in said if says else said == ""
    pointer.unlink()
    assert taken(find(plan(shards))) == "global_step9"


def test_a_checkpoint_from_before_manifests_is_taken_with_a_warning(run: Path, shards: Path) -> None:
    checkpoint = run / "checkpoints" / "global_step9"
    (checkpoint / MANIFEST).unlink()
    assert taken(find(plan(shards))) == "global_step6"  # it had one
    old = run / "checkpoints" / "global_step12"
    (run / "checkpoints" / "damaged-global_step9").rename(old)
    about = json.loads((old / STATE).read_text())
    del about["format"]
    (old / STATE).write_text(json.dumps(about))
    found = find(plan(shards))
    assert taken(found) == "global_step12"
    assert found is not None
    assert ["has no manifest" in note for note in found.notes] == [True]


def test_a_named_checkpoint_comes_first(run: Path, shards: Path) -> None:
    found = find(plan(shards, resume=run / "checkpoints" / "global_step6"))
    assert taken(found) == "global_step6"
    # What it leads to is the run's newest from now on; the rest is a run that can be gone on with.
    assert sorted(path.name for path in (run / "checkpoints").glob("global*")) == ["global_step3", "global_step6"]
    (aside,) = asides(run)
    assert taken(find(plan(shards, run="third", resume=aside))) == "global_step9"


def log_of(folder: Path) -> list[tuple[str, int]]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [(line["kind"], line["step"]) for line in lines]


def write_log(run: Path, end: int) -> None:
    """The log of a training that was killed after step `end`."""
    lines = [{"kind": "start", "step": 0}, *({"kind": "train", "step": step} for step in range(1, end + 1))]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_records_of_later_steps_leave_with_their_checkpoints(run: Path, shards: Path) -> None:
    write_log(run, 11)
    found = find(plan(shards, resume=run / "checkpoints" / "global_step6"))
    (aside,) = asides(run)
    assert found is not None
    assert found.notes == (f"resume: what this start does not go on with is now in {aside}",)
    assert log_of(run) == [("start", 0), *(("train", step) for step in range(1, 7)), ("archived", 6)]
    assert log_of(aside) == [("start", 0), *(("train", step) for step in range(7, 12))]
    assert [path.name for path in (aside / "checkpoints").glob("global*")] == ["global_step9"]


def test_a_log_that_a_killed_training_left_ahead_of_its_checkpoint_is_cut_back(run: Path, shards: Path) -> None:
    write_log(run, 11)
    assert taken(find(plan(shards))) == "global_step9"
    (aside,) = asides(run)
    assert log_of(run)[-2:] == [("train", 9), ("archived", 9)]
    assert log_of(aside) == [("start", 0), ("train", 10), ("train", 11)]
    assert not (aside / "checkpoints").exists()
    # Once.
    assert taken(find(plan(shards))) == "global_step9"
    assert asides(run) == [aside]


def test_records_before_the_first_save_are_archived_by_a_new_beginning(run: Path, shards: Path) -> None:
    write_log(run, 2)
    for checkpoint in (run / "checkpoints").glob("global*"):
        shutil.rmtree(checkpoint)
    assert find(plan(shards)) is None
    (aside,) = asides(run)
    assert log_of(run) == [("start", 0), ("archived", 0)]
    assert log_of(aside) == [("start", 0), ("train", 1), ("train", 2)]


@pytest.mark.parametrize("within", ["checkpoints/global_step9", ".", "checkpoints"])
def test_another_runs_checkpoint_begins_a_new_one(run: Path, shards: Path, within: str) -> None:
    found = find(plan(shards, run="branch", resume=run / within))
    assert taken(found) == "global_step9"
    assert len(list((run / "checkpoints").glob("global*"))) == 3


def test_a_run_that_is_replaced_is_archived(run: Path, shards: Path) -> None:
    (run.parent / "copy").mkdir()
    other = (run / "checkpoints").rename(run.parent / "copy" / "checkpoints")
    for name in ("config.yaml", "band_stats.json"):
        (run.parent / "copy" / name).write_text((run / name).read_text())
    save_checkpoint(run / "checkpoints", 30, state(plan(shards), 30))
    assert taken(find(plan(shards, resume=other / "global_step6"))) == "global_step6"
    (aside,) = asides(run)
    assert {path.name for path in aside.iterdir()} == {
        "checkpoints", "config.yaml", "ds_config.json", "band_stats.json", "log.jsonl"
    }  # fmt: skip
    assert not (run / "checkpoints").exists()


def test_a_damaged_one_that_was_named_is_an_error_and_stays(run: Path, shards: Path) -> None:
    checkpoint = run / "checkpoints" / "global_step6"
    spoil(checkpoint)
    with pytest.raises(InputError, match=r"--resume .*global_step6: damaged: .*hash differs"):
        find(plan(shards, resume=checkpoint))
    assert len(list((run / "checkpoints").glob("global*"))) == 3
    for each in (run / "checkpoints").glob("global*"):
        (each / STATE).write_text("")
    with pytest.raises(InputError, match="holds no good checkpoint"):
        find(plan(shards, resume=run))
    assert len(list((run / "checkpoints").glob("global*"))) == 3


def test_paths_that_are_not_checkpoints_are_refused(run: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere", run / "config.yaml"):
        with pytest.raises(InputError, match="neither a checkpoint"):
            plan(shards, resume=path)
    with pytest.raises(InputError, match=r"no such checkpoint .*global_step3, global_step6, global_step9"):
        plan(shards, resume=run / "checkpoints" / "global_step7")
    with pytest.raises(InputError, match="contradict"):
        plan(shards, resume=run, fresh=True)


def test_the_recipe_of_a_named_checkpoint_must_not_change(run: Path, shards: Path) -> None:
    with pytest.raises(InputError, match=r"train\.seed is 0 in this run, and 1 now: it cannot change"):
        plan(shards, "train.seed=1", run="branch", resume=run)
    assert plan(shards, "train.seed=1", fresh=True).changes == {}


def test_fresh_archives_the_run(run: Path, shards: Path) -> None:
    (run / "aside-20260101-000000").mkdir()
    assert find(plan(shards, fresh=True)) is None
    assert [path.name for path in run.iterdir() if not path.name.startswith(ARCHIVE)] == []
    aside = asides(run)[-1]
    assert len(asides(run)) == 2
    assert plan(shards).folder.stored_config() is None  # a killed start leaves it so, and the next one begins
    assert taken(find(plan(shards, run="branch", resume=aside))) == "global_step9"


@pytest.mark.parametrize("name", ["MMAE_RESTARTS", "SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"])
def test_a_command_that_is_started_again_by_itself_does_not_go_back(
    run: Path, shards: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "0")
    assert plan(shards, fresh=True).fresh
    monkeypatch.setenv(name, "1")
    assert taken(find(plan(shards, resume=run / "checkpoints" / "global_step3"))) == "global_step9"
    assert taken(find(plan(shards, fresh=True))) == "global_step9"
    # A first start that came to nothing is made again.
    assert plan(shards, run="new", resume=run).resume is not None


@pytest.mark.parametrize("fresh", [True, False])
def test_a_first_start_that_died_too_early_is_made_again(
    run: Path, shards: Path, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    """Before it had set aside what it was not to go on with."""
    monkeypatch.setenv("MMAE_LAUNCH", "host-1-2")
    monkeypatch.setenv("MMAE_RESTARTS", "1")
    resume = None if fresh else run / "checkpoints" / "global_step3"
    again = plan(shards, fresh=fresh, resume=resume)
    assert not again.followed_before
    assert find(again) is None if fresh else taken(find(again)) == "global_step3"
    note_followed(run, os.environ)
    again.folder.write_configs(again.config, again.ds_config, again.band_stats)
    monkeypatch.setenv("MMAE_RESTARTS", "2")
    later = plan(shards, fresh=fresh, resume=resume)
    assert later.followed_before
    assert find(later) is None if fresh else taken(find(later)) == "global_step3"
    assert len(asides(run)) == 1
    # The same command in another launch is one of its own.
    monkeypatch.setenv("MMAE_LAUNCH", "host-1-3")
    assert not plan(shards, fresh=fresh, resume=resume).followed_before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_checkpoint_is_refused_before_it_is_read(run: Path, shards: Path) -> None:
    checkpoint = run / "checkpoints" / "global_step9"
    os.chown(checkpoint / "offloaded_tensors" / "rank00" / "0.swp", 12345, 12345)
    spoil(checkpoint)
    with pytest.raises(InputError, match="belongs to another user"):
        find(plan(shards))
    assert checkpoint.is_dir()
