"""How old a file is by the clock of the file system that holds it: another node's clock may go otherwise."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from mmae.regular_file import regular_descriptor


def asked(path: Path) -> os.stat_result:
    """What a file is; it is opened for that, so that a network file system asks its server.

    Raises:
        FileNotFoundError: it is gone.
    """
    descriptor = regular_descriptor(path)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def age_s(path: Path) -> float:
    """Seconds since a file was last touched.

    Raises:
        FileNotFoundError: it is gone.
        OSError: no file can be made beside it.
    """
    touched = asked(path).st_mtime
    probe = path.with_name(f"{path.name}-{secrets.token_hex(6)}")
    probe.touch(exist_ok=False)
    try:
        return asked(probe).st_mtime - touched
    finally:
        probe.unlink()
