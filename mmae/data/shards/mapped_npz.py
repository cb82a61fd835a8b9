"""Arrays in an uncompressed `.npz` that are mapped rather than read: processes on a machine share their pages.

`numpy.load` reads the same file. Each array's data begins at a multiple of 64 bytes of the file, which numpy's own
`savez` does not do. The gap is an extra field of the member's zip header, as in files that Android's zipalign writes.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ALIGNMENT: Final = 64
_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_ZIP64_EXTRA_BYTES: Final = 20
_PADDING_FIELD: Final = struct.Struct("<HHH")
_PADDING_ID: Final = 0xD935
_ENCRYPTED: Final = 1

UNREADABLE_NPZ: Final = (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, EOFError, struct.error)
"""The errors that `map_npz` raises."""
_HEADER_READERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def save_npz(file: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to a seekable binary file; its bytes depend on the arrays and their order only.

    Raises:
        ValueError: an array of objects.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.extra = _padding(file.tell() + _LOCAL_HEADER.size + len(entry.filename.encode()) + _ZIP64_EXTRA_BYTES)
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)


def _padding(offset: int) -> bytes:
    """The extra field that, when it is written at `offset`, makes the next byte of the file an aligned one."""
    gap = -(offset + _PADDING_FIELD.size) % _ALIGNMENT
    return _PADDING_FIELD.pack(_PADDING_ID, 2 + gap, _ALIGNMENT) + bytes(gap)


def map_npz(file: IO[bytes]) -> tuple[dict[str, NDArray[Any]], mmap.mmap]:
    """The arrays of an uncompressed `.npz`, read-only views of one mapping that lives as long as any of them.

    The file may be closed, but must not be cut while they are in use.

    Raises:
        UNREADABLE_NPZ: not a zip file of plain arrays, each whole within the file.
    """
    mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with zipfile.ZipFile(file) as archive:
        arrays = {entry.filename.removesuffix(".npy"): _view(mapping, file, entry) for entry in archive.infolist()}
    return arrays, mapping


def _view(mapping: mmap.mmap, file: IO[bytes], entry: zipfile.ZipInfo) -> NDArray[Any]:
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
        raise ValueError(f"{entry.filename} is compressed or encrypted")
    file.seek(max(entry.header_offset, 0))
    header = file.read(_LOCAL_HEADER.size)
    if len(header) != _LOCAL_HEADER.size or not header.startswith(_LOCAL_MAGIC):
        raise ValueError(f"{entry.filename} is not where the zip directory says")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    begin = file.seek(name_bytes + extra_bytes, 1)
    version = np.lib.format.read_magic(file)
    if version not in _HEADER_READERS:
        raise ValueError(f"{entry.filename} is of npy version {version}")
    try:
        shape, fortran, dtype = _HEADER_READERS[version](file)
    except Exception as error:  # It is parsed as Python text, and the possible errors are not documented.
        raise ValueError(f"{entry.filename} has no npy header ({type(error).__name__})") from error
    if dtype.hasobject or any(length < 0 for length in shape):
        raise ValueError(f"{entry.filename} is not a plain array")
    data = file.tell()
    if data + math.prod(shape) * dtype.itemsize != begin + entry.file_size or begin + entry.file_size > len(mapping):
        raise ValueError(f"{entry.filename} is not of the size that its header says")
    return np.ndarray(shape, dtype, mapping, data, order="F" if fortran else "C")
