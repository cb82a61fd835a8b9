"""Splits the records of TensorBoard's event files by step.

A file is a sequence of records: length (uint64), checksum, an `Event` message, checksum (tensorboard
`summary/writer/record_writer.py`). Records are copied as they are, so no checksum changes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from mmae.run.layout import TENSORBOARD

_HEAD, _CHECKSUM = 12, 4


def event_files(run: Path) -> list[Path]:
    """The event files of a run; none where the package `tensorboard` is missing."""
    files = sorted((run / TENSORBOARD).glob("events.out.tfevents.*"))
    return files if files and find_spec("tensorboard") is not None else []


def split_events(path: Path, step: int) -> Iterator[tuple[bool, bytes]]:
    """The parts of an event file in order, and whether each is of a later step than `step`.

    The first record, which names the format, goes to both sides once there is a later one. A damaged record, or one
    that a killed process left half-written at the end, goes with the record before it.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    version, later = b"", False
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while head := file.read(_HEAD):
            length = struct.unpack("<Q", head[:8])[0] if len(head) == _HEAD else size
            if file.tell() + length + _CHECKSUM > size:
                yield later, head + file.read()
                return
            body = file.read(length + _CHECKSUM)
            with suppress(DecodeError):
                event = Event.FromString(body[:length])
                later = event.step > step
                version = head + body if event.file_version else version
            if later and version:
                yield True, version
                version = b""
            yield later, head + body
