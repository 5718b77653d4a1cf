"""NumPy's memory maps of files, read chunk by chunk when the chunks are worked on."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ccog.errors import StoreError

Array = npt.NDArray[Any]


def map_below(arr: Array) -> np.memmap[Any, Any] | None:
    """The memory map of a file that an array is a view of, or is itself."""
    owner: object = arr
    while isinstance(owner, np.ndarray):
        base: object = owner.base
        if isinstance(owner, np.memmap) and isinstance(base, mmap.mmap):
            return owner
        owner = base
    return None


class MappedChunk:
    """A chunk of a memory map.

    Another process maps the file itself: what travels is where the chunk lies in it. Pixels travel
    only where there is no such file, or the map has changes of its own.
    """

    def __init__(self, view: Array, whole: np.memmap[Any, Any]) -> None:
        self._view, self._whole = view, whole

    def __call__(self) -> Array:
        """The pixels."""
        return self._view

    def __reduce__(self) -> tuple[Any, ...]:
        path = self._whole.filename
        if path is None or self._whole.mode == "c" or not os.path.exists(path):
            return _Pixels, (np.array(self._view),)
        offset = _address(self._view) - _address(self._whole) + self._whole.offset
        view = self._view
        return ChunkOfFile, (str(path), offset, view.dtype, view.shape, view.strides)


@dataclass(frozen=True)
class _Pixels:
    view: Array

    def __call__(self) -> Array:
        return self.view


@dataclass(frozen=True)
class ChunkOfFile:
    """Where the pixels of a chunk lie in a file: the first byte, and steps in bytes."""

    path: str
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self) -> Array:
        """The pixels."""
        try:
            whole = np.memmap(self.path, np.uint8, mode="r")
            return np.ndarray(self.shape, self.dtype, whole, self.offset, self.strides)
        except (OSError, TypeError, ValueError) as error:
            raise StoreError(
                f"cannot read the memory map {self.path} here: {error}; all workers need the "
                "file, unchanged, until the write is done"
            ) from error


def _address(arr: Array) -> int:
    return int(arr.__array_interface__["data"][0])
