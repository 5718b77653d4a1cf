"""How many range requests typical reads of a planned file cost."""

from __future__ import annotations

import math

import numpy as np

from ccog.geometry.cog import CogGeometry
from ccog.geometry.intervals import Size, ceil_div
from ccog.views.plan.report import PlannedRead

_THUMBNAIL = 256

# side in pixels of the largest read that is looked at
_MOST_READ = 16_384


def planned_reads(geometry: CogGeometry, chunk: Size) -> tuple[PlannedRead, ...]:
    """Costs of a thumbnail, of one tile and of a chunk of this size."""
    sides = [max(level.size) for level in geometry.pyramid.levels]
    k = max((k for k, side in enumerate(sides) if side >= _THUMBNAIL), default=0)
    small, blocksize = geometry.level(k), geometry.level(0).blocksize
    height, width = (min(side, _MOST_READ) for side in chunk)
    name = "a chunk" if (height, width) == chunk else "the corner of a chunk"
    tiles = ceil_div(height, blocksize), ceil_div(width, blocksize)
    return (
        _read(geometry, k, f"thumbnail ({small.width} x {small.height})", small.tiles),
        _read(geometry, 0, "one tile", (1, 1)),
        _read(geometry, 0, f"{name} ({width} x {height})", tiles),
    )


def _read(geometry: CogGeometry, k: int, name: str, tiles: Size) -> PlannedRead:
    """What the upper left tiles of a level cost."""
    count = math.prod(tiles) * (geometry.file_order.encoded_planes(k) + geometry.raster.has_mask)
    return PlannedRead(name, count, _requests(geometry, k, tiles))


def _requests(geometry: CogGeometry, k: int, tiles: Size) -> int:
    """By row, tiles of a row touch, so do whole rows, and bands where all is read.

    By chunk, GDAL reads the tiles of all bands together, then those of the mask, and joins some: of
    either, those that touch are one request.
    """
    level, planes = geometry.level(k), geometry.file_order.encoded_planes(k)
    if tiles == level.tiles:
        chunks = map(ceil_div, level.size, level.chunk)
        return 2 * math.prod(chunks) if geometry.by_chunk and geometry.raster.has_mask else 1
    if not geometry.by_chunk:
        return geometry.file_order.planes(k) * (1 if tiles[1] == level.tiles[1] else tiles[0])
    positions = geometry.file_order.tile_positions(k, tiles)
    requests = 0
    for part in (positions[:planes], positions[planes:]):
        in_order = np.sort(part, axis=None)
        requests += bool(part.size) + int(np.count_nonzero(np.diff(in_order) > 1))
    return requests
