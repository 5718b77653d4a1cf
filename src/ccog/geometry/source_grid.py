"""Which chunks of the user's array make up a block: blocks of several need no rechunk."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ccog.errors import RasterError
from ccog.geometry.intervals import Interval, ceil_div

Array = npt.NDArray[Any]

#: Chunks of a block by band, row and column of chunks.
Nested = list[list[list[Any]]]


@dataclass(frozen=True)
class SourceGrid:
    """The chunks of an array, (band, y, x) or (y, x), by the name its keys start with."""

    name: str
    chunks: tuple[tuple[int, ...], ...]

    @cached_property
    def _edges(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(itertools.accumulate(sizes, initial=0)) for sizes in self.chunks[-2:])

    def is_aligned(self, block: tuple[int, int]) -> bool:
        """Whether blocks of ``block`` pixels begin and end where chunks do."""
        return all(map(_begin_where_chunks_do, self.chunks[-2:], block))

    def keys(self, rows: Interval, cols: Interval) -> Nested:
        """Keys of the chunks of an area that chunks fill."""
        down, across = map(_chunks_in, self._edges, (rows, cols))
        if len(self.chunks) == 2:
            return [self._band_keys((self.name,), down, across)]
        bands = range(len(self.chunks[0]))
        return [self._band_keys((self.name, band), down, across) for band in bands]

    @staticmethod
    def _band_keys(start: tuple[Any, ...], down: range, across: range) -> list[list[Any]]:
        keys = []
        for row in down:
            keys.append([(*start, row, col) for col in across])
        return keys


@dataclass(frozen=True)
class LevelSource:
    """The arrays that the blocks of a level are read from: pixels, and a mask if there is one."""

    pixels: SourceGrid
    mask: SourceGrid | None = None


def _chunks_in(edges: tuple[int, ...], side: Interval) -> range:
    """Chunks along an axis that fill an interval."""
    return range(bisect.bisect_left(edges, side.start), bisect.bisect_left(edges, side.stop))


def _begin_where_chunks_do(sizes: tuple[int, ...], side: int) -> bool:
    """Whether every multiple of ``side`` within an axis is where a chunk of it begins."""
    edges = np.cumsum(np.asarray(sizes, np.int64))
    inner = edges[:-1][edges[:-1] % side == 0]
    within = np.unique(inner[(inner > 0) & (inner < edges[-1])])
    return len(within) == ceil_div(int(edges[-1]), side) - 1


def join_chunks(nested: Nested) -> Array:
    """The chunks of a block as one array, masked where they are; of one chunk the chunk itself."""
    bands = []
    for rows in nested:
        joined = [_joined(row, -1) for row in rows]
        bands.append(_joined(joined, -2))
    return _joined(bands, 0)


def _joined(arrays: list[Array], axis: int) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    # np.concatenate forgets masks
    join = np.ma.concatenate if isinstance(arrays[0], np.ma.MaskedArray) else np.concatenate
    joined: Array = join(arrays, axis=axis)
    return joined


def split_mask(
    pixels: Array, mask: Array | None, rows: Interval, cols: Interval
) -> tuple[Array, Array | None]:
    """The (band, y, x) pixels of an area below their masks, and what these and ``mask`` call valid.

    Raises
    ------
    RasterError
        A pixel is masked in some of the bands only: the file has one mask for all.
    """
    if not isinstance(pixels, np.ma.MaskedArray):
        return pixels, mask
    masked = np.ma.getmaskarray(pixels)
    if (masked != masked[0]).any():
        raise RasterError(
            f"the bands are masked differently in rows {rows.start}:{rows.stop}, columns "
            f"{cols.start}:{cols.stop}: the internal mask is one for all bands; give nodata= to "
            "mark the masked pixels of each band"
        )
    valid = ~masked[0]
    return np.ma.getdata(pixels), valid if mask is None else valid & mask
