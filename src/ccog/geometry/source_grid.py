"""Which chunks of the user's array make up a block: blocks of several need no rechunk."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ccog.geometry.intervals import Interval, ceil_div

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
