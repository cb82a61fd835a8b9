"""A Python 3.12 in which TerraTorch and torchgeo-bench are installed: neither is a dependency of this project."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

PACKAGES: Final = ("terratorch", "torchgeo-bench")
EXISTING: Final = "MMAE_TOOLS_PYTHON"
"""Environment variable: a Python that has them already. The packages take gigabytes."""


def tools_python(folder: Path) -> Path:
    """The named Python, or that of a new environment below a folder; the test is skipped where neither can be had."""
    if named := os.environ.get(EXISTING):
        return Path(named)
    python = _python312()
    if python is None:
        pytest.skip("no Python 3.12 here: TerraTorch and torchgeo-bench need it")
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    inside = folder / "bin" / "python"
    installed = subprocess.run(
        [inside, "-m", "pip", "install", "-q", *PACKAGES], capture_output=True, text=True, check=False
    )
    if installed.returncode:
        pytest.skip(f"{' and '.join(PACKAGES)} cannot be installed here: {installed.stderr[-300:]}")
    return inside


def _python312() -> str | None:
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which("python3.12"), *map(str, sorted(root.glob("versions/3.12*/bin/python")))]
    return next((path for path in candidates if path and _runs(path)), None)


def _runs(path: str) -> bool:
    # pyenv puts commands on the path that only say that the version is not chosen.
    code = "import sys, venv; sys.exit(sys.version_info[:2] != (3, 12))"
    return subprocess.run([path, "-c", code], capture_output=True, check=False).returncode == 0
