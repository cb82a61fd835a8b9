"""One history: records of later steps are archived, those of earlier steps stay, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmae.engine.history.record_archive import archive_records, is_ahead
from mmae.run.state import read_run


def line(kind: str | None, step: int, **values: Any) -> str:
    return json.dumps({**({"kind": kind} if kind else {}), "time": 1.0, "step": step, **values}) + "\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that was trained to step 12, in two starts, by two ranks."""
    run = tmp_path / "run"
    log = [line("start", 0, wandb="aaaaaaaa", wandb_from=0), *(line("train", step) for step in range(1, 8))]
    log += [line("resume", 7, wandb="bbbbbbbb", wandb_from=7), *(line("train", step) for step in range(8, 13))]
    texts = {
        "log.jsonl": "".join([*log, line("val", 12), line("end", 12)]),
        "samples_rank0.jsonl": "".join(line(None, step) for step in range(12)),
        "samples_rank1.jsonl": "".join(line(None, step) for step in range(12)),
        "damaged_rank1.jsonl": line(None, 10),
        "damaged_rank0.jsonl": line(None, 3),
        "quarantine/rank_0.jsonl": line(None, 2) + line(None, 11),
        "pictures/step_9.png": "9", "pictures/step_12.png": "12", "pictures/mine.png": "mine",
        "profile/steps_1-2.json.gz": "early", "profile/steps_8-10.json.gz": "late",
        "logs/rank_0.log": "what was said", "notes.txt": "mine",
        "wandb/offline-run-20260101_000000-aaaaaaaa/run-aaaaaaaa.wandb": "a",
        "wandb/offline-run-20260102_000000-bbbbbbbb/run-bbbbbbbb.wandb": "b",
    }  # fmt: skip
    for name, text in texts.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(text)
    return run


def archived(run: Path, step: int) -> Path:
    archive = run / "aside-1"
    archive.mkdir()
    archive_records(run, step, archive)
    return archive


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def steps(path: Path) -> list[int]:
    return [record["step"] for record in records(path)]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_records_of_later_steps_are_archived_and_one_history_is_left(run: Path) -> None:
    assert is_ahead(run, 9)
    archive = archived(run, 9)
    assert not is_ahead(run, 9)
    kept = records(run / "log.jsonl")
    assert [(record["kind"], record["step"]) for record in kept if record["kind"] != "train"] == [
        ("start", 0), ("resume", 7), ("archived", 9)
    ]  # fmt: skip
    assert [record["step"] for record in kept if record["kind"] == "train"] == list(range(1, 10))
    # The start that they are of is repeated.
    assert [(record["kind"], record["step"]) for record in records(archive / "log.jsonl")] == [
        ("resume", 7), ("train", 10), ("train", 11), ("train", 12), ("val", 12), ("end", 12)
    ]  # fmt: skip
    assert read_run(archive).step == 12
    for rank in (0, 1):
        assert steps(run / f"samples_rank{rank}.jsonl") == list(range(9))
        assert steps(archive / f"samples_rank{rank}.jsonl") == [9, 10, 11]
    assert (steps(run / "damaged_rank0.jsonl"), steps(run / "damaged_rank1.jsonl")) == ([3], [])
    assert steps(archive / "damaged_rank1.jsonl") == [10]
    assert (steps(run / "quarantine" / "rank_0.jsonl"), steps(archive / "quarantine" / "rank_0.jsonl")) == ([2], [11])
    assert files(archive) == {
        "log.jsonl", "samples_rank0.jsonl", "samples_rank1.jsonl", "damaged_rank1.jsonl", "quarantine/rank_0.jsonl",
        "pictures/step_12.png", "profile/steps_8-10.json.gz",
        "wandb/offline-run-20260102_000000-bbbbbbbb/run-bbbbbbbb.wandb",
    }  # fmt: skip
    assert {"pictures/step_9.png", "pictures/mine.png", "profile/steps_1-2.json.gz", "logs/rank_0.log", "notes.txt",
            "wandb/offline-run-20260101_000000-aaaaaaaa/run-aaaaaaaa.wandb"} <= files(run)  # fmt: skip
    assert {key: kept[-1][key] for key in ("folder", "wandb", "wandb_from")} == {
        "folder": "aside-1", "wandb": ["bbbbbbbb"], "wandb_from": 7
    }  # fmt: skip


def test_back_behind_an_earlier_start_both_starts_are_archived(run: Path) -> None:
    archive = archived(run, 5)
    assert [(record["kind"], record["step"]) for record in records(archive / "log.jsonl")][:4] == [
        ("start", 0), ("train", 6), ("train", 7), ("resume", 7)
    ]  # fmt: skip
    assert [record["kind"] for record in records(run / "log.jsonl")] == ["start", *["train"] * 5, "archived"]
    assert not list((run / "wandb").iterdir())


def test_a_log_that_is_not_ahead_is_not_touched(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert not is_ahead(run, 12)
    archive = archived(run, 12)
    assert files(archive) == set()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not is_ahead(run / "nowhere", 0)


@pytest.mark.parametrize("torn", ['{"kind": "train", "st', "\0\0\0", "[]", '{"kind": "train", "step": "x"}\n'])
def test_a_line_that_cannot_be_read_stays(run: Path, torn: str) -> None:
    with (run / "log.jsonl").open("a") as file:
        file.write(torn)
    archived(run, 9)
    *_, before, last = (run / "log.jsonl").read_text().splitlines()
    assert before == torn.strip("\n")
    assert json.loads(last)["kind"] == "archived"


def test_a_start_that_is_killed_in_between_loses_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (run / "log.jsonl").read_text()
    replaced: list[Path] = []

    class KilledError(Exception): ...

    def dying(source: Path, target: Path) -> None:
        if replaced:
            raise KilledError
        replaced.append(target)
        source.rename(target)

    monkeypatch.setattr("mmae.disk.files.os.replace", dying)
    with pytest.raises(KilledError):
        archived(run, 9)
    monkeypatch.undo()
    assert (run / "log.jsonl").read_text() == whole
    assert steps(run / "aside-1" / "log.jsonl") == [7, 10, 11, 12, 12, 12]
    assert is_ahead(run, 9)
    (run / "aside-2").mkdir()
    archive_records(run, 9, run / "aside-2")
    assert not is_ahead(run, 9)
