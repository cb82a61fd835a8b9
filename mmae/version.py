"""The version of this package, in its only place, and the versions of other packages."""

from __future__ import annotations

__version__ = "0.1.0"


def installed_version(package: str) -> str:
    """The version of an installed package; "absent" if it is not installed."""
    # Imported here, because every command imports this module for its own version.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
