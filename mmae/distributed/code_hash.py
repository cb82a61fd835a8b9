"""A hash of the code that runs, independent of its folder."""

from __future__ import annotations

from pathlib import Path

import xxhash


def code_hash(package: Path) -> str:
    """The hash over the names and bytes of a package's Python files."""
    whole = xxhash.xxh3_64()
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).parts):
        for part in (path.relative_to(package).as_posix().encode(), path.read_bytes()):
            whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()
