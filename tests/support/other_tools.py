"""A Python 3.12 in which other people's tools are installed, none of which is a dependency of this project."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

PACKAGES: Final = ("terratorch", "torchgeo-bench")
EXISTING: Final = "MMAE_TOOLS_PYTHON"
"""Environment variable: a Python that has them already. The packages take gigabytes."""


def tools_python(folder: Path) -> Path:
    """A Python with TerraTorch and torchgeo-bench; see `python_with`."""
    return python_with(folder, PACKAGES, EXISTING)


def python_with(folder: Path, packages: Sequence[str], existing: str) -> Path:
    """A Python 3.12 with these packages; the test is skipped where there is none.

    Args:
        folder: a new environment is made there.
        existing: environment variable that may name a Python that has them already.
    """
    if named := os.environ.get(existing):
        return Path(named)
    python = _python312()
    if python is None:
        pytest.skip(f"no Python 3.12 here: {' and '.join(packages)} need it")
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    inside = folder / "bin" / "python"
    installed = subprocess.run(
        [inside, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True, check=False
    )
    if installed.returncode:
        pytest.skip(f"{' and '.join(packages)} cannot be installed here: {installed.stderr[-300:]}")
    return inside


def _python312() -> str | None:
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which("python3.12"), *map(str, sorted(root.glob("versions/3.12*/bin/python")))]
    return next((path for path in candidates if path and _runs(path)), None)


def _runs(path: str) -> bool:
    # pyenv puts commands on the path that only say that the version is not chosen.
    code = "import sys, venv; sys.exit(sys.version_info[:2] != (3, 12))"
    return subprocess.run([path, "-c", code], capture_output=True, check=False).returncode == 0
