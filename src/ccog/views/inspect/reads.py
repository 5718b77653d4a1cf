"""How many range requests typical reads of a file cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ccog.geometry.intervals import Size
from ccog.tiff.header import framing
from ccog.views.inspect.header import Header
from ccog.views.inspect.tiles import Array, Grid, sum_of

# readers built on object_store or obstore, async-tiff for one, join ranges that are this near
_COALESCE = 1 << 20
_WINDOW_TILES = 8
_THUMBNAIL = 256
_EVERYTHING = slice(None), slice(None)


@dataclass(frozen=True, kw_only=True)
class ReadCost:
    """What one typical read costs after the file is opened.

    Attributes
    ----------
    name
        The read, for people.
    tiles
        Tiles it needs, masks included; sparse ones cost nothing.
    size
        Bytes it needs.
    gdal
        Range requests of GDAL, which joins ranges that touch. It knows of leaders and trailers, and
        of masks beside the image, only where the ghost area says ``BLOCK_ORDER=ROW_MAJOR``
        (GTiffRasterBand::CacheMultiRange).
    coalescing
        Range requests of readers that join ranges up to 1 MiB apart.
    """

    name: str
    tiles: int
    size: int
    gdal: int
    coalescing: int


def read_costs(header: Header, grids: Sequence[Grid], group: Size | None) -> tuple[ReadCost, ...]:
    """Costs of a thumbnail, of one tile, and of a window of 8 x 8 tiles in the middle of the image.

    Where tiles lie in groups, also of one of these, as files of ``layout="chunk"`` have them.
    """
    full, small = grids[0], _thumbnail(grids)
    rows, cols = full.offsets.shape[1:]
    thumbnail = f"thumbnail ({small.directory.width} x {small.directory.height})"
    costs = [_cost(header, grids, small, thumbnail, _EVERYTHING)]
    window = min(rows, _WINDOW_TILES), min(cols, _WINDOW_TILES)
    sides = [
        ("one tile", (1, 1)),
        (f"window of {window[1]} x {window[0]} tiles", window),
    ]
    if group is not None:
        sides.append((f"chunk of {group[1]} x {group[0]} tiles", group))
    for name, (height, width) in sides:
        tiles = _middle(rows, height), _middle(cols, width)
        costs.append(_cost(header, grids, full, name, tiles))
    return tuple(costs)


def _middle(count: int, size: int) -> slice:
    """The group of ``size`` tiles in the middle of an axis."""
    start = count // 2 // size * size
    return slice(start, start + size)


def _thumbnail(grids: Sequence[Grid]) -> Grid:
    """The smallest image with at least 256 pixels on its longer side, else the largest."""
    images = [grid for grid in grids if not grid.directory.is_mask] or list(grids)
    images.sort(key=lambda grid: grid.directory.width * grid.directory.height)
    enough = (grid for grid in images if max(grid.directory.size) >= _THUMBNAIL)
    return next(enough, images[-1])


@dataclass(frozen=True)
class _Ranges:
    """First bytes of tiles, ascending, and the bytes after their last ones."""

    starts: Array
    stops: Array

    @classmethod
    def of(cls, grids: Sequence[Grid], tiles: tuple[slice, slice]) -> _Ranges:
        """The stored tiles of a window of some grids."""
        starts, stops = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for grid in grids:
            if grid.is_empty:
                continue
            offsets, counts = grid.offsets[:, *tiles], grid.counts[:, *tiles]
            stored = counts > 0
            starts.append(offsets[stored])
            stops.append(offsets[stored] + counts[stored])
        start, stop = np.concatenate(starts), np.concatenate(stops)
        order = np.argsort(start, kind="stable")
        return cls(start[order], stop[order])

    def requests(self, join: int) -> int:
        """Ranges that are left when those at most ``join`` bytes apart are read together."""
        if not self.starts.size:
            return 0
        reach = np.maximum.accumulate(self.stops)[:-1]
        return 1 + int(np.count_nonzero(self.starts[1:] - reach > join))


def _cost(
    header: Header,
    grids: Sequence[Grid],
    image: Grid,
    name: str,
    tiles: tuple[slice, slice],
) -> ReadCost:
    same_size = (grid for grid in grids if grid.directory.size == image.directory.size)
    masks = [grid for grid in same_size if grid.directory.is_mask and grid is not image]
    both = _Ranges.of([image, *masks], tiles)
    if "BLOCK_ORDER=ROW_MAJOR" in header.ghost:
        gdal = both.requests(sum(framing(header.ghost)))
    else:
        gdal = _Ranges.of([image], tiles).requests(0) + _Ranges.of(masks, tiles).requests(0)
    return ReadCost(
        name=name,
        tiles=int(both.starts.size),
        size=sum_of(both.stops - both.starts),
        gdal=gdal,
        coalescing=both.requests(_COALESCE),
    )
