"""`mmae runs`: what is there, and what may go."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mmae.cli import main
from mmae.run.prune import removable
from mmae.run.state import read_run
from tests.support.reported_run import START, history, val_record, write_run


def checkpoint(run: Path, name: str, whole: bool = True, size: int = 1000) -> Path:
    folder = run / "checkpoints" / name
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"x" * size)
    for file in ("state.json", "manifest.json") if whole else ():
        (folder / file).write_text("{}")
    return folder


def test_runs_are_listed_with_their_best_validation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_a_finished_run_needs_its_last_checkpoint_and_what_its_recipe_keeps(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", checkpoint__keep_every=50)
    for step in (40, 50, 90, 100):
        checkpoint(run, f"global_step{step}")
    checkpoint(run, "damaged-global_step30")
    checkpoint(run, ".global_step20.tmp")
    found = {each.path.name: each.why for each in removable(run, read_run(run))}
    assert found == {
        "damaged-global_step30": "damaged", ".global_step20.tmp": "half-written",
        "global_step40": "older than the last", "global_step90": "older than the last",
    }  # fmt: skip
    shutil.rmtree(run / "checkpoints" / "global_step100")
    checkpoint(run, "global_step100", whole=False)
    assert not any(each.why == "older than the last" for each in removable(run, read_run(run)))


@pytest.mark.parametrize("records", [history()[:3], [{"kind": "start", **START}]])
def test_nothing_of_a_run_under_way_is_touched(tmp_path: Path, records: list[dict[str, object]]) -> None:
    run = write_run(tmp_path / "run", [{**record, "host": "elsewhere"} for record in records])
    checkpoint(run, ".global_step20.tmp")
    assert removable(run, read_run(run)) == []


def test_nothing_is_removed_without_a_yes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run")
    for step in (50, 100):
        checkpoint(run, f"global_step{step}")
    assert main(["runs", str(tmp_path), "--prune"]) == 2
    assert "add --yes" in capsys.readouterr().err
    monkeypatch.setattr("mmae.run.list_runs._agreed", lambda _: False)
    assert main(["runs", str(tmp_path), "--prune"]) == 0
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["global_step100", "global_step50"]
    assert main(["runs", str(tmp_path), "--prune", "--yes"]) == 0
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["global_step100"]
    assert main(["runs", str(tmp_path), "--prune", "--yes"]) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_a_folder_without_runs_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 2
    assert main(["runs", str(tmp_path / "none")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
