"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))
