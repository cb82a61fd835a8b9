"""Which starts are starts again, and of which launch."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmae.run.folder import RunFolder
from mmae.run.layout import FOLLOWED
from mmae.run.restart import note_followed, was_followed

JOB = {"SLURM_JOB_ID": "77", "MMAE_LAUNCH": "a-1-1"}


@pytest.mark.parametrize(
    ("environment", "followed"),
    [
        ({}, False),
        ({"MMAE_LAUNCH": "a-1-1"}, False),
        ({"MMAE_LAUNCH": "a-1-1", "MMAE_RESTARTS": "0"}, False),
        ({"MMAE_LAUNCH": "a-1-1", "MMAE_RESTARTS": "1"}, True),
        ({"MMAE_LAUNCH": "a-1-2", "MMAE_RESTARTS": "1"}, False),
        # A launcher that was started again with its job.
        ({"MMAE_LAUNCH": "a-1-2", "MMAE_RESTARTS": "1", "SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": "2"}, True),
        # Another launcher within the same job.
        ({"MMAE_LAUNCH": "a-1-2", "MMAE_RESTARTS": "1", "SLURM_JOB_ID": "77"}, False),
        ({"SLURM_JOB_ID": "78", "SLURM_RESTART_COUNT": "1"}, False),
        # Launches without a name.
        ({"MMAE_RESTARTS": "1"}, True),
        ({"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "1"}, True),
    ],
)
def test_what_an_earlier_start_has_followed(environment: dict[str, str], followed: bool, tmp_path: Path) -> None:
    note_followed(tmp_path, JOB)
    assert was_followed(tmp_path, environment) is followed


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_a_damaged_note_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / FOLLOWED).write_text(text)
    assert not was_followed(tmp_path, {**JOB, "MMAE_RESTARTS": "1"})


def test_a_note_makes_no_run(tmp_path: Path) -> None:
    note_followed(tmp_path, JOB)
    assert RunFolder(tmp_path).stored_config() is None
