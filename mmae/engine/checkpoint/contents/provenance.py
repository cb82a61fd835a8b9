"""The versions of the software that wrote a checkpoint."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

import deepspeed
import numpy as np
import torch

import mmae


@cache
def versions() -> dict[str, str]:
    """Versions of mmae and its main dependencies; `git` is the commit of mmae's checkout, if it runs from one."""
    found = {
        "mmae": mmae.__version__,
        "torch": torch.__version__,
        "deepspeed": deepspeed.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    commit = git_commit(Path(mmae.__file__).resolve().parent.parent)
    return {**found, "git": commit} if commit else found


def git_commit(root: Path) -> str:
    """The commit that is checked out at `root`, with `+` where tracked files differ from it; empty without git.

    A package that is only installed below another project's checkout does not belong to it.
    """
    head = _git(root, "rev-parse", "--show-toplevel", "HEAD").splitlines()
    if len(head) != 2 or Path(head[0]).resolve() != root.resolve():
        return ""
    return head[1] + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
