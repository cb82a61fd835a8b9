"""What HDF5 says of a file that it does not open, in a user's words."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import h5py
import pytest

from data_tools.source.dataset import open_source
from data_tools.source.hdf5_faults import open_fault, read_fault
from mmae.errors import InputError

LOCKING = "[Errno {0}] Unable to synchronously open file (unable to lock file, errno = {0}, error message = '...')"
OPENING = "[Errno {0}] Unable to synchronously open file (unable to open file: name = 'x.h5', errno = {0}, flags = 0)"
READING = "Can't synchronously read data (file read failed: time = now, filename = 'x.h5', errno = {0}, size = 9)"


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_source(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (LOCKING.format(37), "No locks available): its file system cannot lock files: set HDF5_USE_FILE_LOCKING=FALSE"),
        (
            LOCKING.format(38),
            "Function not implemented): its file system cannot lock files: set HDF5_USE_FILE_LOCKING=",
        ),
        (LOCKING.format(11), "Resource temporarily unavailable): another process has it open for writing: wait until"),
        (OPENING.format(13), "Permission denied): this user may not read it: ask its owner for access"),
        (OPENING.format(24), "Too many open files): too many files are open: raise `ulimit -n`"),
        (OPENING.format(116), "Stale file handle): its file server has lost it: mount it again"),
        (OPENING.format(5), "Input/output error): the disk or the network failed: look after it, and run again"),
        (OPENING.format(40), "Too many levels of symbolic links): look after its disk, and run again"),
    ],
)
def test_errors_of_the_system_are_not_those_of_the_file(said: str, told: str) -> None:
    assert open_fault(OSError(said)).startswith(f"cannot be opened ({told}")
    assert "download" not in open_fault(OSError(said))


def test_the_number_of_an_exception_tells_too() -> None:
    assert open_fault(PermissionError(13, "Permission denied")).startswith("cannot be opened (Permission denied): this")


def test_damage_is_that_of_the_file() -> None:
    said = "Unable to synchronously open file (truncated file: eof = 9, sblock->base_addr = 0, stored_eof = 99)"
    assert open_fault(OSError(said)) == f"not a whole HDF5 file ({said}): download it again"
    assert read_fault(OSError("wrong\nmore")) == "cannot be read (wrong): download the file again"
    assert read_fault(OSError(READING.format(5))).startswith("cannot be read (Input/output error): the disk or the")
    assert open_fault(OSError()) == "not a whole HDF5 file (OSError): download it again"


def test_a_file_that_another_process_has_locked(source: Path) -> None:
    with source.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        line = refusal(source)
    assert line == (
        f"{source}: cannot be opened (Resource temporarily unavailable): another process has it open for writing: "
        "wait until that has ended"
    )
    open_source(source).__exit__(None, None, None)


def test_a_file_that_is_marked_as_being_written(source: Path, tmp_path: Path) -> None:
    """What a writer leaves behind that was killed."""
    written = tmp_path / "written.h5"
    with h5py.File(written, "w", libver="latest") as file:
        file["x"] = 1
        file.flush()
        shutil.copyfile(written, source)
    assert f"{source}: is marked as being written: wait until its writer has ended" in refusal(source)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(source: Path) -> None:
    source.chmod(0)
    assert "Permission denied): this user may not read it" in refusal(source)


def test_a_file_that_is_none(source: Path) -> None:
    source.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert "not a whole HDF5 file" in refusal(source)
