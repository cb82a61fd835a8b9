"""Why an HDF5 file cannot be opened or read, from the library's message, and what to do about it.

HDF5 puts the system's error number into its text. For some errors only, h5py sets it as the exception's number too.
"""

from __future__ import annotations

import errno
import os
import re
from types import MappingProxyType
from typing import Final

from mmae.terminal.error_line import first_line

_NUMBER: Final = re.compile(r"errno = (\d+)")
_NO_LOCKS: Final = "its file system cannot lock files: set HDF5_USE_FILE_LOCKING=FALSE and run again"
_WRITTEN: Final = "another process has it open for writing: wait until that has ended"
_REMEDIES: Final = MappingProxyType(
    {
        errno.ENOLCK: _NO_LOCKS,
        errno.ENOSYS: _NO_LOCKS,
        errno.ENOTSUP: _NO_LOCKS,
        errno.EAGAIN: _WRITTEN,
        errno.EACCES: "this user may not read it: ask its owner for access",
        errno.EPERM: "this user may not read it: ask its owner for access",
        errno.ENOENT: "it is gone: is its folder still mounted?",
        errno.EMFILE: "too many files are open: raise `ulimit -n`",
        errno.ENFILE: "too many files are open on this machine",
        errno.ENOMEM: "memory is short: end other programs",
        errno.EIO: "the disk or the network failed: look after it, and run again",
        errno.ESTALE: "its file server has lost it: mount it again",
        errno.ETIMEDOUT: "its file server does not answer: look after it, and run again",
    }
)
"""What to do about errors of the system, which do not mean that the file is damaged."""


def open_fault(error: BaseException) -> str:
    """Why a file cannot be opened, and what to do."""
    said = first_line(error)
    if "already open for write" in said:
        return (
            "is marked as being written: wait until its writer has ended; if that broke off, clear the mark with "
            "`h5clear -s FILE`, or download the file again"
        )
    system = _system_fault(error)
    return f"cannot be opened ({system}" if system else f"not a whole HDF5 file ({said}): download it again"


def read_fault(error: BaseException) -> str:
    """Why something in an opened file cannot be read, and what to do."""
    system = _system_fault(error)
    return f"cannot be read ({system}" if system else f"cannot be read ({first_line(error)}): download the file again"


def _system_fault(error: BaseException) -> str | None:
    """`<the system's words>): <what to do>`; None if the file itself is damaged."""
    found = _NUMBER.search(str(error))
    number = int(found.group(1)) if found else getattr(error, "errno", None)
    if not number:
        return None
    return f"{os.strerror(number)}): {_REMEDIES.get(number, 'look after its disk, and run again')}"
