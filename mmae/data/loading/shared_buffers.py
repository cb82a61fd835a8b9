"""Memory that workers decode into and the training process reads from: no array is copied or sent on the way.

Otherwise a worker would copy its arrays into new shared memory for every micro-batch, which takes more time than
decoding. A buffer holds the arrays of one micro-batch. It is used again when nothing refers to these arrays.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import weakref
from collections import deque
from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.shards.index_json import DatasetInfo

_ALIGNMENT: Final = 64
_NUMBERS: Final = count()


class SharedBuffers:
    """A fixed number of buffers, made before workers are forked.

    They are anonymous memory. Forked processes share it, and it does not count towards the limit of /dev/shm.

    Args:
        infos: dataset -> dtype and shape of a tile's array.
        tiles: in a micro-batch.
        number_of: buffers.
    """

    def __init__(self, infos: Mapping[str, DatasetInfo], tiles: int, number_of: int) -> None:
        self._parts: dict[str, tuple[int, np.dtype[Any], tuple[int, ...]]] = {}
        end = 0
        for name, info in infos.items():
            self._parts[name] = end, info.dtype, (tiles, *info.shape)
            end += -(-tiles * math.prod(info.shape) * info.dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        self._memory = [mmap.mmap(-1, max(end, 1)) for _ in range(number_of)]
        self._lease: Any = type("Lease", (ctypes.c_char * max(end, 1),), {})
        self._free = deque(range(number_of))
        self._written: dict[int, dict[str, NDArray[Any]]] = {}
        self.number: Final = next(_NUMBERS)
        """The number by which another process refers to these buffers."""
        _ALL[self.number] = self

    @staticmethod
    def of(number: int) -> SharedBuffers:
        """The buffers of this process by their number."""
        return _ALL[number]

    def take(self) -> int | None:
        """A free buffer; None if all are in use. For the process that created them."""
        try:
            return self._free.pop()
        except IndexError:
            return None

    def to_write(self, buffer: int) -> dict[str, NDArray[Any]]:
        """Dataset -> (tiles, *shape), for the worker to fill."""
        if buffer not in self._written:
            self._written[buffer] = self._arrays(self._memory[buffer])
        return self._written[buffer]

    def handed_over(self, buffer: int) -> dict[str, NDArray[Any]]:
        """The same arrays; the buffer is free again when nothing refers to any of them, or to views of them."""
        lease = self._lease.from_buffer(self._memory[buffer])
        weakref.finalize(lease, self._free.append, buffer).atexit = False
        return self._arrays(lease)

    def _arrays(self, memory: Any) -> dict[str, NDArray[Any]]:
        return {
            name: np.frombuffer(memory, dtype, math.prod(shape), start).reshape(shape)
            for name, (start, dtype, shape) in self._parts.items()
        }


_ALL: Final[weakref.WeakValueDictionary[int, SharedBuffers]] = weakref.WeakValueDictionary()
