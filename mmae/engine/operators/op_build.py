"""Builds of DeepSpeed's C++ ops by torch: ahead of time, or by the first start, which then says why it takes long."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from torch.utils import cpp_extension

from mmae.engine.operators.op_lock import LOCK, break_dead, said_while_waiting


def announce_builds(say: Callable[[str], None], look_s: float = 5.0) -> None:
    """From now on, say after some seconds that this process builds an op, or waits for another process's build.

    DeepSpeed calls torch's `load` for each op. This replaces it by a function that reports.
    """
    build = getattr(cpp_extension.load, "__wrapped__", cpp_extension.load)

    @wraps(build)
    def load(name: str, *args: Any, **more: Any) -> Any:
        lock = build_folder(name) / LOCK
        if waits_for_files() and break_dead(lock):
            say(f"removed {lock}: no living build holds it")
        with said_while_waiting(lock, name, say, look_s):
            return build(name, *args, **more)

    cpp_extension.load = load


def waits_for_files() -> bool:
    """Whether this release of torch waits until a lock file is gone, as older releases do."""
    return hasattr(cpp_extension, "FileBaton")


def build_folder(name: str) -> Path:
    """Where torch builds an extension."""
    return Path(cpp_extension._get_build_directory(name, verbose=False))


def build(name: str) -> str | None:
    """Build an op (such as `ShareMemComm`), if it is not built yet.

    Returns:
        its name as an extension; None where the accelerator does not use it.
    """
    from deepspeed.accelerator import get_accelerator

    builder = get_accelerator().create_op_builder(f"{name}Builder")
    if builder is None or not hasattr(builder, "NAME"):
        return None
    builder.load(verbose=False)
    return str(builder.NAME)
