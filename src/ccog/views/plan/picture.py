"""The picture of a plan: the chunks of the array over the tiles of the file."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence

from ccog.geometry.intervals import Size, ceil_div
from ccog.geometry.pyramid import Level
from ccog.views.drawing import Drawing, box, line, text

_MARGIN, _TOP, _MAP, _LEAST = 20, 34, 360, 6
# lines of each kind and direction; larger grids are drawn as their upper left corner
_MOST_TILES = 32
_TILE, _CHUNK, _FRAME, _FILL = "#b9c4d0", "#e5484d", "#333333", "#eaf2fa"

#: Sizes of chunks along y and along x.
Chunks = tuple[tuple[int, ...], ...]


def draw(level: Level, chunks: Chunks) -> Drawing:
    """Borders of chunks over those of the tiles of a level."""
    corner = _corner(level, chunks)
    side = level.blocksize
    rows, cols = map(max, chunks)
    title = f"Chunks of {cols} x {rows} (red) over tiles of {side} x {side} (grey)"
    if corner != level.size:
        title += f": the first {corner[1]} x {corner[0]} pixels"
    height, width = (max(_LEAST, side * _MAP / max(corner)) for side in corner)
    tiles = [_thinned(range(0, stop, side)) for stop in corner]
    cuts = []
    for sizes, stop in zip(chunks, corner, strict=True):
        starts = list(itertools.accumulate(sizes, initial=0))
        cuts.append(_thinned(starts[: bisect.bisect_left(starts, stop)]))
    shapes = [
        text(_MARGIN, 22, title, 13),
        box(_MARGIN, _TOP, width, height, _FILL, line=_FRAME),
        *_lines(tiles, corner, _TILE, 0.6),
        *_lines(cuts, corner, _CHUNK, 1.6),
    ]
    return Drawing(2 * _MARGIN + max(width, 7 * len(title)), _TOP + height + _MARGIN, shapes)


def _corner(level: Level, chunks: Chunks) -> Size:
    """Rows and columns that are drawn: of a large grid some tiles and at least a chunk."""
    most = max(_MOST_TILES * level.blocksize, *(2 * sizes[0] for sizes in chunks))
    return min(level.height, most), min(level.width, most)


def _lines(
    edges: Sequence[Sequence[int]], corner: Size, colour: str, width: float
) -> Iterator[str]:
    """Lines along rows and columns of pixels."""
    scale = _MAP / max(corner)
    right, bottom = _MARGIN + corner[1] * scale, _TOP + corner[0] * scale
    for edge in edges[0]:
        y = _TOP + edge * scale
        yield line(_MARGIN, y, right, y, colour, width)
    for edge in edges[1]:
        x = _MARGIN + edge * scale
        yield line(x, _TOP, x, bottom, colour, width)


def _thinned(edges: Sequence[int]) -> Sequence[int]:
    """Only some where there are too many."""
    return edges[:: ceil_div(len(edges), 2 * _MOST_TILES)]
