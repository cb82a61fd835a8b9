"""A library that is not installed, in one line: which command needs it, and how it is installed."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, requires
from types import MappingProxyType
from typing import Final

_OURS: Final = frozenset({"mmae", "data_tools", "ds_configs", "launchers"})
_SOLD_AS: Final = MappingProxyType({"PIL": "pillow", "yaml": "pyyaml"})
"""Modules with another name than their package."""

_EXTRA: Final = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")


def missing_package(error: ModuleNotFoundError, command: str) -> str | None:
    """The line for a command that lacks a library; None for a module of this project or of Python, which is a bug."""
    module = (error.name or "").partition(".")[0]
    if not module or module in _OURS or module in sys.stdlib_module_names:
        return None
    package = _SOLD_AS.get(module, module).replace("_", "-")
    extra = _extra_of(package)
    install = "pip install mmae" if extra is None else f"pip install 'mmae[{extra}]'"
    return f"{command} needs {package}, which is not installed: {install}"


def _extra_of(package: str) -> str | None:
    """The extra of mmae that installs a package; None if mmae itself does, or nothing is known."""
    try:
        listed = requires("mmae") or []
    except PackageNotFoundError:
        return None
    for requirement in listed:
        name = re.match(r"[\w.-]+", requirement)
        if name and name[0].lower().replace("_", "-") == package.lower():
            found = _EXTRA.search(requirement)
            return found[1] if found else None
    return None
