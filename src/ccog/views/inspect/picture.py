"""The picture of a file: what owns which bytes, and in which order the tiles of levels lie."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ccog.geometry.intervals import ceil_div
from ccog.views.drawing import Box, Drawing, Shape, Text
from ccog.views.inspect.tiles import HEADER, Grid, Spans

_WIDTH, _MARGIN = 960, 20
_BAR, _BAR_TOP, _BAR_HEIGHT = _WIDTH - 2 * _MARGIN, 34, 34
# levels in a line, the room that one has, and the side of its map
_IN_LINE, _CELL, _MAP = 6, 153, 140
# more images than a pyramid has
_MOST_IMAGES = 18
# tiles along the longer side of a map; larger grids are sampled
_MOST_TILES = 36
_NOBODY = -2
_HEADER_COLOUR, _GAP_COLOUR, _LINE, _SPARSE = "#333333", "#e5484d", "#9aa0a6", "#ffffff"
# images, full resolution first, and masks
_IMAGES = (
    "#2f6fb5",
    "#4c9bd6",
    "#6fb8c9",
    "#86c9a5",
    "#b3d689",
    "#dcdc7a",
    "#f0c75e",
    "#f2a65a",
)
_MASKS = "#a78bca"
# first to last tile of a level (viridis)
_RAMP = (
    *("#440154", "#482878", "#3e4989", "#31688e", "#26828e"),
    *("#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"),
)


def draw(size: int, names: Sequence[str], grids: Sequence[Grid], spans: Spans) -> Drawing:
    """The whole file as a bar, and a map of the tiles of each level."""
    colours = _colours(grids)
    shapes: list[Shape] = [
        Text(_MARGIN, 24, "The file from its first byte to its last, to scale", 13),
        Box(_MARGIN, _BAR_TOP, _BAR, _BAR_HEIGHT, _SPARSE, _LINE),
        *_bar(size, names, colours, spans),
    ]
    top = _BAR_TOP + _BAR_HEIGHT + 22
    shapes += _legend(top, has_masks=_MASKS in colours)
    shapes.append(
        Text(
            _MARGIN,
            top + 26,
            "Tiles by their place in the file, dark first; white: sparse",
            13,
        )
    )
    images = [k for k, grid in enumerate(grids) if not grid.directory.is_mask][:_MOST_IMAGES]
    for n, k in enumerate(images):
        x, y = (
            _MARGIN + _CELL * (n % _IN_LINE),
            top + 40 + (_MAP + 36) * (n // _IN_LINE),
        )
        shapes += _named(x, y + 10, names[k], colours[k])
        shapes += _map(grids[k], x, y + 18)
    height = top + 40 + (_MAP + 36) * ceil_div(len(images), _IN_LINE)
    return Drawing(_WIDTH, height, tuple(shapes))


def _colours(grids: Sequence[Grid]) -> list[str]:
    images = itertools.chain(_IMAGES, itertools.repeat(_IMAGES[-1]))
    colours = []
    for grid in grids:
        colours.append(_MASKS if grid.directory.is_mask else next(images))
    return colours


def _bar(size: int, names: Sequence[str], colours: Sequence[str], spans: Spans) -> Iterator[Shape]:
    """Slivers of the file, each of which shows what owns its middle byte."""
    edges = size * np.arange(_BAR + 1) / _BAR
    owner = _owners(spans, ((edges[1:] + edges[:-1]) / 2).astype(np.int64))
    cuts = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), _BAR]
    for first, stop in itertools.pairwise(cuts):
        who = int(owner[first])
        if who >= 0:
            fill, name = colours[who], names[who]
        else:
            fill, name = (_HEADER_COLOUR, "header") if who == HEADER else (_GAP_COLOUR, "gap")
        title = f"{name}: bytes {edges[first]:,.0f} to {edges[stop]:,.0f}"
        yield Box(_MARGIN + first, _BAR_TOP, stop - first, _BAR_HEIGHT, fill, title=title)


def _owners(spans: Spans, at: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Who owns each byte: a directory, the header or nobody."""
    index = np.searchsorted(spans.starts, at, side="right") - 1
    inside = (index >= 0) & (at < spans.stops[np.maximum(index, 0)])
    return np.where(inside, spans.owner[np.maximum(index, 0)], np.int32(_NOBODY))


def _legend(y: float, *, has_masks: bool) -> Iterator[Shape]:
    entries = [("header", _HEADER_COLOUR), ("gap", _GAP_COLOUR)]
    entries += [("masks", _MASKS)] if has_masks else []
    for k, (name, colour) in enumerate(entries):
        yield from _named(_MARGIN + _CELL * k, y, name, colour)


def _named(x: float, y: float, name: str, colour: str) -> list[Shape]:
    return [Box(x, y - 9, 10, 10, colour), Text(x + 15, y, name)]


def _map(grid: Grid, x: float, y: float) -> Iterator[Shape]:
    """The tiles of one level, each coloured by its place in the file."""
    step = ceil_div(max(grid.offsets.shape[1:]), _MOST_TILES)
    ranks = _ranks(grid.offsets[0, ::step, ::step])
    side = _MAP / max(ranks.shape)
    for (row, col), rank in np.ndenumerate(ranks):
        yield Box(x + col * side, y + row * side, side, side, _colour(rank), _LINE)


def _ranks(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Place of each tile in the file, from 0 to 1, and -1 for sparse tiles."""
    ranks = np.full(offsets.size, -1.0)
    flat = offsets.reshape(-1)
    stored = np.flatnonzero(flat > 0)
    in_order = stored[np.argsort(flat[stored], kind="stable")]
    ranks[in_order] = np.linspace(0, 1, stored.size)
    return ranks.reshape(offsets.shape)


def _colour(rank: float) -> str:
    if rank < 0:
        return _SPARSE
    return _RAMP[min(int(rank * len(_RAMP)), len(_RAMP) - 1)]
