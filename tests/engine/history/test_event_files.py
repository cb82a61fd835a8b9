"""Event files as TensorBoard writes and reads them, split by step."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmae.engine.history import event_files as module
from mmae.engine.history.event_files import event_files, split_events
from mmae.engine.history.record_archive import archive_records, is_ahead
from mmae.engine.telemetry.trackers import TensorBoardTracker


def write(run: Path, steps: range) -> None:
    tracker = TensorBoardTracker(run)
    for step in steps:
        tracker.log(step, {"train/loss": float(step)})
    tracker.close()


def seen(run: Path) -> list[int]:
    """The steps that TensorBoard shows."""
    shown = EventAccumulator(str(run / "tensorboard"), purge_orphaned_data=False).Reload()
    return [event.step for event in shown.Scalars("train/loss")] if "train/loss" in shown.Tags()["scalars"] else []


def test_tensorboard_shows_one_history_and_the_rest_beside(tmp_path: Path) -> None:
    write(tmp_path, range(1, 13))
    (file,) = event_files(tmp_path)
    whole = file.read_bytes()
    assert is_ahead(tmp_path, 9)
    assert not is_ahead(tmp_path, 12)
    archive = tmp_path / "archive"
    archive_records(tmp_path, 9, archive)
    assert seen(tmp_path) == list(range(1, 10))
    assert seen(archive) == [10, 11, 12]
    kept, archived = file.read_bytes(), (archive / "tensorboard" / file.name).read_bytes()
    assert whole.startswith(kept)
    assert whole.endswith(archived[-100:])


@pytest.mark.parametrize("missing", [1, 5, 40])
def test_a_half_written_record_goes_with_the_record_before(tmp_path: Path, missing: int) -> None:
    write(tmp_path, range(1, 13))
    (file,) = event_files(tmp_path)
    file.write_bytes(file.read_bytes()[:-missing])
    archive_records(tmp_path, 9, tmp_path / "archive")
    assert seen(tmp_path) == list(range(1, 10))
    assert seen(tmp_path / "archive") == [10, 11]


def test_a_file_of_earlier_steps_and_an_empty_one_have_no_later_part(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    (file,) = event_files(tmp_path)
    assert not any(goes for goes, _ in split_events(file, 9))
    assert b"".join(part for _, part in split_events(file, 9)) == file.read_bytes()
    file.write_bytes(b"")
    assert list(split_events(file, 0)) == []


def test_without_tensorboard_there_are_no_event_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert event_files(tmp_path) == []
    write(tmp_path, range(1, 4))
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert event_files(tmp_path) == []


def test_a_damaged_file_does_not_prevent_a_start(tmp_path: Path) -> None:
    write(tmp_path, range(1, 13))
    (file,) = event_files(tmp_path)
    whole = bytearray(file.read_bytes())
    for place in range(0, len(whole), 7):
        whole[place] ^= 0xFF
        file.write_bytes(whole)
        parts = [part for _, part in split_events(file, 9)]
        # Nothing is left out, and only the format is given to both sides.
        if len(parts) > 1 and parts.count(parts[0]) == 2:
            parts.reverse()
            parts.remove(parts[-1])
            parts.reverse()
        assert b"".join(parts) == whole
        whole[place] ^= 0xFF
