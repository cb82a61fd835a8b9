"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.commands import DEADLINE, Command, Finished, run_command
from tests.support.group import end_groups
from tests.support.paths import ROOT
from tests.support.unit_tier import refuse_processes

NOT_UNIT = ("process", "long", "slow", "gpu")
"""Markers of what `--unit` leaves out."""
_UNIT_EXAMPLES = 30
"""Examples of a property under `--unit`, where a test says no number of its own; else hypothesis' own number."""
START_PROCESSES = ("integration", "launchers")
"""Folders in which every test starts processes."""


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real tiles and golden numbers: MMAE_SHARED, by default beside the checkout."""
    folder = Path(os.environ.get("MMAE_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"MMAE_SHARED: {folder} is missing, and under CI nothing may be skipped for that")
        pytest.skip(f"MMAE_SHARED: {folder} is missing")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--unit", action="store_true", help="only quick tests, which start no process and need no GPU")


def pytest_configure(config: pytest.Config) -> None:
    """What may not depend on how the tests were started, or on how busy the machine is."""
    # A shell that starts them in the background leaves interrupts ignored, nohup hangups; and children inherit that.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    examples = _UNIT_EXAMPLES if config.getoption("--unit") else settings().max_examples
    settings.register_profile(
        "mmae", max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("mmae")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Other plugins are configured by now: they may have asked the system for its name by a process."""
    starts_the_test_processes = bool(getattr(session.config.option, "numprocesses", None))
    if session.config.getoption("--unit") and not starts_the_test_processes:
        refuse_processes()


def pytest_sessionfinish() -> None:
    """End what lives for many tests."""
    end_groups()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark whole folders, leave out what `--unit` excludes, and skip what needs a GPU where there is none."""
    for item in items:
        if item.path.relative_to(ROOT / "tests").parts[0] in START_PROCESSES:
            item.add_marker(pytest.mark.process)
    if config.getoption("--unit"):
        left_out = [item for item in items if any(map(item.get_closest_marker, NOT_UNIT))]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_tests and not _cuda_is_available():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


def _cuda_is_available() -> bool:
    # Imported for tests that need it only: it takes seconds.
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def environment_as_found() -> Iterator[None]:
    """Undo what a test changes in the environment.

    A command that runs in the test's own process chooses its network interface there, for example, and the commands
    of later tests would inherit that choice.
    """
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs a command in the test's own folder."""

    def call(*words: str | Path, deadline: float = DEADLINE, **environment: str) -> Finished:
        return run_command(*words, cwd=tmp_path, deadline=deadline, **environment)

    return call


@pytest.fixture
def here(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """As `command`, for commands of mmae, in this process: another one would import for seconds what this one has."""

    def call(*words: str | Path, cwd: Path = tmp_path) -> Finished:
        from mmae.cli import main

        capfd.readouterr()
        with chdir(cwd):
            status = main([str(word) for word in words])
        return Finished(status, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def synthetic_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a made-up data set in which every no-data case occurs."""
    folder = tmp_path_factory.mktemp("synthetic")
    for words in (("synth", "tiles", "--tiles", "48"), ("repack", "tiles", "shards")):
        done = run_command("mmae", *words, cwd=folder)
        assert done.status == 0, done.err
    return folder / "shards"
