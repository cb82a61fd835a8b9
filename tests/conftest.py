"""What all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real tiles and golden numbers: MMAE_SHARED, by default beside the checkout."""
    folder = Path(os.environ.get("MMAE_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"MMAE_SHARED: {folder} is missing, and under CI nothing may be skipped for that")
        pytest.skip(f"MMAE_SHARED: {folder} is missing")
    return folder


def pytest_configure() -> None:
    """What may not depend on how the tests were started, or on how busy the machine is."""
    # A shell that starts them in the background leaves interrupts ignored, nohup hangups; and children inherit that.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    settings.register_profile("mmae", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("mmae")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))
