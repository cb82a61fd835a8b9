"""Real shards for the tests that start whole trainings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.launch import DEADLINE, Command, Finished, run_command


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs a command in the test's own folder."""

    def call(*words: str | Path, deadline: float = DEADLINE, **environment: str) -> Finished:
        return run_command(*words, cwd=tmp_path, deadline=deadline, **environment)

    return call


@pytest.fixture(scope="session")
def synthetic_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a made-up data set in which every no-data case occurs."""
    folder = tmp_path_factory.mktemp("synthetic")
    for words in (("synth", "tiles", "--tiles", "48"), ("repack", "tiles", "shards")):
        done = run_command("mmae", *words, cwd=folder)
        assert done.status == 0, done.err
    return folder / "shards"
