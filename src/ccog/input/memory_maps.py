"""NumPy's memory maps of files, read chunk by chunk when the chunks are worked on."""

from __future__ import annotations

import mmap
import os
from functools import partial
from typing import Any, NamedTuple

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
        place = PlaceInFile.of(self._view, self._whole)
        if place is None:
            return partial, (np.asarray, np.array(self._view))
        return partial, (_mapped, place)


class PlaceInFile(NamedTuple):
    """Where pixels lie in a file: the first byte, and steps in bytes."""

    path: str
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, view: Array, whole: np.memmap[Any, Any]) -> PlaceInFile | None:
        """That of a view of a map; None where no other map of the file would show the same."""
        path = whole.filename
        if path is None or whole.mode == "c" or not os.path.exists(path):
            return None
        offset = _address(view) - _address(whole) + whole.offset
        return cls(str(path), offset, view.dtype, view.shape, view.strides)


def _mapped(place: PlaceInFile) -> Array:
    path, offset, dtype, shape, strides = place
    try:
        whole = np.memmap(path, np.uint8, mode="r")
        return np.ndarray(shape, dtype, whole, offset, strides)
    except (OSError, TypeError, ValueError) as error:
        raise StoreError(
            f"cannot read the memory map {path} here: {error}; all workers need the "
            "file, unchanged, until the write is done"
        ) from error


def _address(arr: Array) -> int:
    return int(arr.__array_interface__["data"][0])
