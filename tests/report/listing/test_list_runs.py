"""`mmae runs`: what is there, and what may go."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mmae.cli import main
from mmae.report.listing.prune import prunable
from mmae.run.locking.lock import held
from mmae.run.state import read_run
from tests.support.checkpoint_files import WEIGHTS, save_checkpoint
from tests.support.reported_run import START, history, val_record, write_run


def test_runs_are_listed_with_their_best_validation(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    better = val_record(70, losses={"rgb": 0.5, "semseg": 1.0})
    lost = val_record(80, losses={"rgb": 0.1, "semseg": None}, lost={"semseg": 3})
    write_run(tmp_path / "deep" / "one", [*history()[:-1], better, lost, history()[-1]])
    write_run(tmp_path / "two", [])
    write_run(tmp_path / "two" / "aside-20260101", [])
    assert main(["runs", str(tmp_path), "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [(row["run"], row["state"], row["best_val"], row["best_step"]) for row in rows] == [
        ("deep/one", "finished", 1.5, 70), ("two", "no record yet", None, None)
    ]  # fmt: skip
    assert max(map(len, capfd.readouterr().out.splitlines())) <= 100


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished run with four checkpoints, of which its recipe keeps one, and what was left by killed processes."""
    run = write_run(tmp_path / "runs" / "run", checkpoint__keep_every=50)
    for step in (40, 50, 90, 100):
        save_checkpoint(run / "checkpoints", step)
    for name in ("damaged-global_step30", ".saving-global_step20", ".replaced-global_step10"):
        (run / "checkpoints" / name).mkdir()
    return run


def names(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").iterdir()}


def offered(run: Path) -> dict[str, str]:
    return {each.path.name: each.why for each in prunable(run, read_run(run)).there}


LEFT = {"damaged-global_step30": "damaged", ".saving-global_step20": "half-written"}
OLDER = dict.fromkeys(("global_step40", "global_step90"), "older than the last")


def test_a_finished_run_needs_its_last_checkpoint_what_its_recipe_keeps_and_what_a_start_may_bring_back(
    finished: Path,
) -> None:
    assert offered(finished) == LEFT | OLDER
    (finished / "checkpoints" / "latest").write_text("global_step90")
    assert "global_step90" not in offered(finished)


def test_older_checkpoints_stay_while_the_last_one_is_damaged(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = finished / "checkpoints" / "global_step100" / WEIGHTS
    same_size = bytes(reversed(weights.read_bytes()))
    weights.write_bytes(same_size)
    before = names(finished)
    assert main(["runs", str(finished.parent), "--prune", "--yes"]) == 2
    assert "global_step100: is damaged" in capfd.readouterr().err
    assert names(finished) == before
    weights.write_bytes(same_size[:-1])
    assert offered(finished) == LEFT
    shutil.rmtree(weights.parent)
    assert offered(finished) == LEFT | {"global_step40": "older than the last"}


@pytest.mark.parametrize("records", [history()[:3], [{"kind": "start", **START}]])
def test_nothing_of_a_run_under_way_is_touched(tmp_path: Path, records: list[dict[str, object]]) -> None:
    run = write_run(tmp_path / "run", [{**record, "host": "elsewhere"} for record in records])
    (run / "checkpoints" / ".saving-global_step20").mkdir(parents=True)
    assert offered(run) == {}


def test_nothing_is_removed_of_a_run_that_goes_on_while_a_person_thinks(
    finished: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names(finished)
    with held(finished):
        assert main(["runs", str(finished.parent), "--prune", "--yes"]) == 2
    assert "another training writes this run" in capfd.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def answer(_: str) -> str:
        with (finished / "log.jsonl").open("a") as log:
            log.write(json.dumps({"kind": "resume", **START}) + "\n")
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    assert main(["runs", str(finished.parent), "--prune"]) == 2
    assert "has gone on meanwhile" in capfd.readouterr().err
    assert names(finished) == before


def test_nothing_is_removed_without_a_yes(
    finished: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names(finished)
    assert main(["runs", str(finished.parent), "--prune"]) == 2
    assert "add --yes" in capfd.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer in ("", "no", None):
        monkeypatch.setattr("builtins.input", lambda _, said=answer: _end_of_file() if said is None else said)
        assert main(["runs", str(finished.parent), "--prune"]) == 0
    assert names(finished) == before
    assert main(["runs", str(finished.parent), "--prune", "--yes"]) == 0
    assert before - names(finished) == LEFT.keys() | OLDER.keys()
    assert main(["runs", str(finished.parent), "--prune", "--yes"]) == 0
    assert "nothing to remove" in capfd.readouterr().out


def _end_of_file() -> str:
    raise EOFError


def test_a_folder_without_runs_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 2
    assert main(["runs", str(tmp_path / "none")]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 2
