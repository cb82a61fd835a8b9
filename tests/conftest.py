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
