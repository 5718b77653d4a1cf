"""The picture of a plan: the pyramid, and the chunks of the array over the tiles of the file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from ccog.geometry.pyramid import Level, ceil_div
from ccog.views.inspection.drawing import Box, Drawing, Path, Text

Shape = Box | Path | Text

_MARGIN, _MAP, _LEAST = 20, 360, 6
_PYRAMID, _STEP = 330, 46
_HEAD = 34
# lines of each kind and direction; larger grids are drawn as their upper left corner
_MOST_TILES = 32
_TILE, _CHUNK, _FRAME, _FILL = "#b9c4d0", "#e5484d", "#333333", "#eaf2fa"
_LEVELS = ("#2f6fb5", "#4c9bd6", "#6fb8c9", "#86c9a5", "#b3d689", "#dcdc7a", "#f0c75e", "#f2a65a")
_MOST_LEVELS = 14


def draw(levels: Sequence[Level], chunks: tuple[tuple[int, ...], ...]) -> Drawing:
    """Levels as a pyramid, and beside it chunk borders (y, x) over tile borders of the full resolution."""
    shown = levels[:_MOST_LEVELS]
    shapes: list[Shape] = [Text(_MARGIN, 22, _heading(len(levels) - len(shown)), 13)]
    shapes += _pyramid(shown)
    x = 2 * _MARGIN + _PYRAMID
    corner = _corner(levels[0], chunks)
    shapes.append(Text(x, 22, _title(levels[0], chunks), 13))
    grid, bottom = _grid(levels[0], chunks, corner, x)
    shapes += grid
    if corner != levels[0].size:
        bottom += 16
        shapes.append(Text(x, bottom, f"The first {corner[1]} x {corner[0]} pixels", 11))
    height = max(_HEAD + _STEP * len(shown), bottom) + _MARGIN
    return Drawing(x + _MAP + _MARGIN, height, tuple(shapes))


def _heading(hidden: int) -> str:
    more = f"; {hidden} smaller not shown" if hidden > 0 else ""
    return f"Levels, widths by square root{more}"


def _pyramid(levels: Sequence[Level]) -> Iterator[Shape]:
    """The smallest level on top; widths by square root, so that small ones can be seen."""
    middle = _MARGIN + _PYRAMID / 2
    for k, level in enumerate(reversed(levels)):
        top = _HEAD + k * _STEP
        wide = max(_LEAST, _PYRAMID * (level.width / levels[0].width) ** 0.5)
        colour = _LEVELS[min(level.index, len(_LEVELS) - 1)]
        name = f"overview {level.index}" if level.index else "full resolution"
        text = f"{name}: {level.width} x {level.height}, {level.tiles[1]} x {level.tiles[0]} tiles"
        yield Box(middle - wide / 2, top, wide, _STEP - 22, colour, None, text)
        yield Text(middle, top + _STEP - 9, text, 11, centred=True)


def _corner(level: Level, chunks: tuple[tuple[int, ...], ...]) -> tuple[int, int]:
    """Rows and columns that are drawn: all, or of a large grid some tiles and at least one chunk."""
    most = max(_MOST_TILES * level.blocksize, *(2 * sizes[0] for sizes in chunks))
    return min(level.height, most), min(level.width, most)


def _title(level: Level, chunks: tuple[tuple[int, ...], ...]) -> str:
    rows, cols = map(max, chunks)
    return f"Chunks of {cols} x {rows} (red) over tiles of {level.blocksize} x {level.blocksize} (grey)"


def _grid(
    level: Level, chunks: tuple[tuple[int, ...], ...], corner: tuple[int, int], left: float
) -> tuple[list[Shape], float]:
    scale = _MAP / max(corner)
    height, width = max(_LEAST, corner[0] * scale), max(_LEAST, corner[1] * scale)
    shapes: list[Shape] = [Box(left, _HEAD, width, height, _FILL, _FRAME)]
    tiles = [
        range(0, side, level.blocksize * ceil_div(side, level.blocksize * 2 * _MOST_TILES))
        for side in corner
    ]
    edges = [_edges(sizes, side) for sizes, side in zip(chunks, corner, strict=True)]
    for colour, (rows, cols), line in ((_TILE, tiles, 0.6), (_CHUNK, edges, 1.6)):
        shapes += [
            Path(((left, y), (left + width, y)), colour, line)
            for y in (_HEAD + r * scale for r in rows)
        ]
        shapes += [
            Path(((x, _HEAD), (x, _HEAD + height)), colour, line)
            for x in (left + c * scale for c in cols)
        ]
    return shapes, _HEAD + height


def _edges(sizes: tuple[int, ...], stop: int) -> list[int]:
    """Where chunks begin, thinned out where there are too many."""
    found = list(itertools.takewhile(lambda at: at < stop, itertools.accumulate(sizes, initial=0)))
    return found[:: ceil_div(len(found), 2 * _MOST_TILES)]
