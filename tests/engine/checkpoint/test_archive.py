"""What a start does not go on with is moved within the run's folder, and an archive is itself a run folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmae.engine.checkpoint.archive import archive_later_checkpoints, archive_run
from mmae.run.folder import RunFolder
from mmae.run.layout import ARCHIVE, CHECKPOINTS, CONFIG, DS_CONFIG, LATEST, LOG
from tests.support.checkpoint_files import save_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    for step in (3, 6, 9):
        save_checkpoint(tmp_path / CHECKPOINTS, step)
    (tmp_path / CONFIG).write_text("a: 1\n")
    (tmp_path / DS_CONFIG).write_text("{}\n")
    records = [{"kind": "start", "step": 0}, *({"kind": "train", "step": step} for step in (3, 6, 9))]
    (tmp_path / LOG).write_text("".join(json.dumps(record) + "\n" for record in records))
    return RunFolder(tmp_path)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_run_is_moved(run: RunFolder) -> None:
    before = names(run.path)
    archive = archive_run(run)
    assert archive is not None
    assert names(run.path) == [archive.name]
    assert archive.name.startswith(ARCHIVE)
    assert names(archive) == before


def test_without_a_run_nothing_is_made(tmp_path: Path) -> None:
    assert archive_run(RunFolder(tmp_path)) is None
    assert names(tmp_path) == []


def test_two_archives_of_one_second_have_two_names(run: RunFolder) -> None:
    first = archive_run(run)
    (run.path / LOG).touch()
    second = archive_run(run)
    assert first is not None
    assert second is not None
    assert first != second


def test_only_later_checkpoints_and_records_are_moved(run: RunFolder) -> None:
    archive = archive_later_checkpoints(run, 3)
    assert archive is not None
    assert [name for name in names(run.checkpoints) if name != LATEST] == ["global_step3"]
    assert names(archive / CHECKPOINTS) == ["global_step6", "global_step9", LATEST]
    assert (archive / CHECKPOINTS / LATEST).read_text() == "global_step9"
    assert [json.loads(line)["step"] for line in (archive / LOG).read_text().splitlines()] == [0, 6, 9]
    assert (archive / CONFIG).read_text() == run.config_file.read_text()
    assert archive_later_checkpoints(run, 3) is None


def test_where_nothing_is_later_nothing_is_moved(run: RunFolder) -> None:
    assert archive_later_checkpoints(run, 9) is None
