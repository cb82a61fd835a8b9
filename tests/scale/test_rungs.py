"""The runs of a ladder: what is planned, what it costs, which are done, and how they are started."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from subprocess import run

import pytest

from mmae.errors import EXIT_LOST_NUMBERS, InputError
from mmae.run.log_reader import line_of, new_record
from mmae.scale import rung_runs
from mmae.scale.rung_runs import DIVERGED, DONE, NEW, STARTED, array_script, reached, run_all, rungs_left, state_of
from mmae.scale.rungs import LadderPlan, RungPlan, plan_ladder
from mmae.scaling_law.ladder_file import read_ladder, write_ladder
from tests.support.commands import Command
from tests.support.tiny_sets import write_set


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_set(tmp_path / "set", {"train": list(range(9)), "val": [90]})
    return tmp_path / "set"


OF_THE_SET = ["train.global_batch=8", "model.in_domains=rgb,depth", "model.out_domains=rgb,depth"]


def plan(shards: Path, *overrides: str, sizes: str = "nano,micro", budgets: str = "64,0.128k") -> LadderPlan:
    words = [f"data.shards={shards}", *OF_THE_SET, *overrides]
    return plan_ladder("mini", words, sizes, budgets, shards.parent / "out")


def test_every_size_meets_every_budget_with_a_schedule_of_its_own(shards: Path) -> None:
    found = plan(shards)
    assert [rung.name for rung in found.rungs] == ["nano-64", "micro-64", "nano-128", "micro-128"]
    assert [rung.tiles for rung in found.rungs] == [64, 64, 128, 128]
    train = found.rungs[2].config.train
    # 30 of 300 steps warm up in mini.
    assert (train.max_steps, train.warmup_steps) == (16, 2)
    assert [rung.flops for rung in found.rungs] == sorted(rung.flops for rung in found.rungs)
    assert found.rungs[0].parameters == 100_032
    assert {rung.config.eval.every for rung in found.rungs} == {0}
    # However a number is written, the run has one folder.
    names = {plan(shards, sizes="nano", budgets=budget).rungs[0].name for budget in ("2k", "2000", "2.0K", "0.002M")}
    assert names == {"nano-2k"}
    # Probes, where they are asked for, are made once, at the end.
    assert [rung.config.eval.every for rung in plan(shards, "eval.every=3").rungs] == [8, 8, 16, 16]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sizes": "nano,tini"}, "did you mean 'tiny'"),
        ({"budgets": "4"}, "less than one step"),
        ({"budgets": "2k,2000"}, "two runs would be the same"),
        ({"budgets": "2k,,4k"}, "a list with commas"),
        ({"budgets": "../../x"}, "a list with commas"),
    ],
)
def test_what_is_no_ladder_is_refused(shards: Path, arguments: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan(shards, **arguments)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.global_batch=16", "more than the 9 training tiles"),
        ("eval.every=1", "there is no task 'bime'; did you mean 'biome'"),
        ("train.frozen=[encoder.blocks.11]", "nano: train.frozen: the model has no part"),
        ("train.optimizer=muon", "muon needs whole matrices, which ZeRO-3 divides"),
        ("model.out_domains=rgb,semseg", "no dataset 'esa_worldcover'"),
    ],
)
def test_what_would_end_a_run_is_refused_before_the_first_one(shards: Path, override: str, words: str) -> None:
    overrides = [f"data.shards={shards}", *OF_THE_SET, "eval.tasks=[bime]", override]
    with pytest.raises(InputError, match=words):
        plan_ladder("mini", overrides, "nano", "64", shards.parent / "out", "zero3")


def test_a_ladder_needs_a_val_split(tmp_path: Path) -> None:
    write_set(tmp_path / "set", {"train": list(range(9))})
    with pytest.raises(InputError, match="no set has a val split"):
        plan(tmp_path / "set")


def test_keys_that_the_ladder_sets_are_refused(shards: Path) -> None:
    with pytest.raises(InputError, match=r"train\.max_steps is set by mmae ladder"):
        plan(shards, "train.max_steps=3")


def test_a_dry_run_says_the_cost_and_writes_nothing(shards: Path, here: Command) -> None:
    words = ["ladder", "mini", "--sizes", "nano", "--budgets", "64,128", "--out", "out", f"data.shards={shards}"]
    done = here(*words, "--dry-run", *OF_THE_SET)
    assert done.status == 0
    assert "nano-128" in done.out
    assert "PFLOP" in done.out
    assert not (shards.parent / "out").exists()


def end(rung: RungPlan, why: str = "finished", losses: object = None) -> None:
    """Leave the log of a run that has ended."""
    last = rung.config.train.max_steps
    records = [
        new_record("start", step=0),
        new_record("train", step=last, step_seconds=0.5),
        new_record("val", step=last, losses=losses or {"rgb": 0.5, "depth": None}),
        new_record("eval", step=last, scores={"biome": 0.25}),
        new_record("end", step=last, why=why),
    ]
    rung.folder.path.mkdir(parents=True, exist_ok=True)
    rung.folder.log_file.write_bytes(b"".join(map(line_of, records)))


def test_a_run_is_done_once_its_last_step_is_validated(shards: Path) -> None:
    rung = plan(shards).rungs[0]
    assert (state_of(rung), reached(rung)) == (NEW, None)
    end(rung, "stopped")
    assert state_of(rung) == STARTED
    end(rung, "lost numbers")
    assert state_of(rung) == DIVERGED
    end(rung)
    assert state_of(rung) == DONE
    found = reached(rung)
    assert found is not None
    assert (found.losses, found.probes, found.seconds, found.tiles) == ({"rgb": 0.5}, {"biome": 0.25}, 4.0, 64)


def test_done_runs_are_skipped_and_a_failed_one_ends_the_ladder(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan(shards)
    started: list[str] = []
    said: list[str] = []
    end(planned.rungs[0])

    def launch(command: Sequence[str]) -> tuple[int, bool]:
        name = next(word for word in command if word.startswith("run.dir=")).rpartition("/")[2]
        started.append(name)
        if name == "micro-64":
            return EXIT_LOST_NUMBERS, False
        end(next(rung for rung in planned.rungs if rung.name == name))
        return (0, False) if name == "nano-128" else (7, False)

    monkeypatch.setattr(rung_runs, "_run", launch)
    with pytest.raises(InputError, match=r"micro-128 ended with status 7"):
        run_all(planned, "zero1", False, said.append, lambda: None)
    assert started == ["micro-64", "nano-128", "micro-128"]
    assert "nano-64: done before" in said[0]
    assert any("micro-64 lost its numbers" in line for line in said)

    monkeypatch.setattr(rung_runs, "_run", lambda command: (0, True))
    end(planned.rungs[1])
    end(planned.rungs[3], "stopped")
    assert run_all(planned, "zero1", False, said.append, lambda: None) is False
    assert "start the same command again" in said[-1]


@pytest.mark.process
def test_a_job_array_starts_each_run(shards: Path, tmp_path: Path) -> None:
    planned = plan(shards, "log.wandb_name=it's")
    launcher = tmp_path / "launchers" / "slurm.sbatch"
    launcher.parent.mkdir()
    launcher.write_text('printf "%s\\n" "$@"\n')
    script = tmp_path / "array"
    end(planned.rungs[0])
    end(planned.rungs[1], "lost numbers")
    left = rungs_left(planned)
    script.write_text(array_script(planned, left, "zero2", False, launcher))
    # What has ended is left out.
    assert "#SBATCH --array=0-1\n" in script.read_text()
    environment = {"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1"}
    done = run(["bash", str(script), "data.workers=0"], env=environment, capture_output=True, text=True, check=True)
    words = rung_runs.launcher_words(planned, planned.rungs[3], "zero2", False)
    assert done.stdout.splitlines() == [*words, "data.workers=0"]
    assert shlex.quote("log.wandb_name=it's") in script.read_text()


def _forget(ladder: Path, key: str) -> None:
    """Make a ladder one of an earlier version, which did not know the key."""
    file = ladder / "ladder.json"
    stored = json.loads(file.read_text())
    del stored["recipe"][key]
    file.write_text(json.dumps(stored))


def test_a_ladder_of_another_recipe_is_not_mixed(shards: Path, here: Command) -> None:
    words = ["ladder", "mini", "--sizes", "nano", "--budgets", "64", "--out", "out", f"data.shards={shards}"]
    words += [*OF_THE_SET, "--slurm"]
    first = here(*words)
    assert first.status == 0
    assert "too few points for a law: 1 run of 1 size" in first.out
    assert read_ladder(shards.parent / "out").rungs == ()
    again = here(*words, "train.blr=0.5")
    assert again.status == 2
    assert "train.blr is 0.008 in this ladder, and 0.5 now" in again.err
    _forget(shards.parent / "out", "train.optimizer")
    assert here(*words).status == 0
    assert "train.optimizer is 'adamw' in this ladder, and 'muon' now" in here(*words, "train.optimizer=muon").err
    # What a ladder leaves that was killed before its first run is not somebody's.
    (shards.parent / "cut").mkdir()
    for name in (".ladder.lock", ".ladder.json.9-ab.tmp"):
        (shards.parent / "cut" / name).touch()
    assert here(*[word if word != "out" else "cut" for word in words]).status == 0
    (shards.parent / "mine").mkdir()
    (shards.parent / "mine" / "notes").write_text(json.dumps("mine"))
    other = here(*[word if word != "out" else "mine" for word in words])
    assert other.status == 2
    assert "holds something, but no ladder" in other.err


def test_no_secret_of_an_address_is_in_a_script(shards: Path) -> None:
    planned = plan(shards, "log.wandb_name=a")
    hidden = LadderPlan(planned.recipe, ("data.shards=https://me:word@host/x",), planned.shared, planned.rungs)
    script = array_script(hidden, hidden.rungs, "zero1", False, shards / "launchers" / "slurm.sbatch")
    assert "word" not in script
    assert "https://***@host/x" in script


@pytest.mark.slow
def test_a_ladder_whose_runs_are_done_is_fitted_and_drawn(shards: Path, here: Command) -> None:
    budgets = "64,128,256"
    planned = plan(shards, sizes="nano,micro,tiny", budgets=budgets)
    for rung in planned.rungs:
        end(rung, losses={"rgb": 0.1 + 30 * rung.parameters**-0.4 + 3 * rung.tiles**-0.5})
    words = ["ladder", "mini", "--sizes", "nano,micro,tiny", "--budgets", budgets, "--out", "out"]
    (shards.parent / "out" / "ladder.json").unlink(missing_ok=True)
    refused = here(*words, f"data.shards={shards}", *OF_THE_SET)
    assert "holds something, but no ladder" in refused.err
    write_ladder(shards.parent / "out", planned.shared, [])
    done = here(*words, f"data.shards={shards}", *OF_THE_SET)
    assert done.status == 0, done.err
    assert "| good" in done.out
    assert "left out size tiny: tiny at 256 tiles" in " ".join(done.out.split())
    off = re.findall(r"\): ([+-][\d.]+)%, ", " ".join(done.out.split()))
    assert len(off) == 6
    assert max(abs(float(each)) for each in off) < 3
    assert len(read_ladder(shards.parent / "out").rungs) == 9
    page = (shards.parent / "out" / "ladder.html").read_text()
    assert "Validation loss of rgb" in page
    assert "tiny, law" in page
    assert "probe biome" in page
