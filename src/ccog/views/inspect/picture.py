"""The picture of a file: what owns which bytes, and in which order tiles lie."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from ccog.geometry.intervals import ceil_div
from ccog.views.drawing import Drawing, box, text
from ccog.views.inspect.directory import Array
from ccog.views.inspect.header import Header
from ccog.views.inspect.spans import HEADER, NOBODY, Spans

_WIDTH, _MARGIN = 960, 20
_BAR, _BAR_TOP, _BAR_HEIGHT = _WIDTH - 2 * _MARGIN, 34, 34
_LEGEND = _BAR_TOP + _BAR_HEIGHT + 22
# levels in a line, the room that one has, and the side of its map
_IN_LINE, _CELL, _MAP = 6, 153, 140
# where the first line of maps begins, and how far the next one is
_MAPS, _LINE_HEIGHT = _LEGEND + 40, _MAP + 36
# more images than a pyramid has
_MOST_IMAGES = 18
# tiles along the longer side of a map; larger grids are sampled
_MOST_TILES = 36
_LINE, _SPARSE = "#9aa0a6", "#ffffff"
# images, full resolution first
_IMAGES = (
    *("#2f6fb5", "#4c9bd6", "#6fb8c9", "#86c9a5"),
    *("#b3d689", "#dcdc7a", "#f0c75e", "#f2a65a"),
)
# what else has bytes, by its name in the legend
_HEADER, _GAP, _MASKS = ("header", "#333333"), ("gap", "#e5484d"), ("masks", "#a78bca")
# first to last tile of a level (viridis)
_RAMP = (
    *("#440154", "#482878", "#3e4989", "#31688e", "#26828e"),
    *("#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"),
)


def draw(header: Header, spans: Spans) -> Drawing:
    """The whole file as a bar, and a map of the tiles of each level."""
    names, fills = header.names, itertools.chain(_IMAGES, itertools.repeat(_IMAGES[-1]))
    colours = [_MASKS[1] if one.is_mask else next(fills) for one in header.directories]
    shapes = [
        text(_MARGIN, 24, "The file from its first byte to its last, to scale", 13),
        box(_MARGIN, _BAR_TOP, _BAR, _BAR_HEIGHT, _SPARSE, line=_LINE),
        *_bar(header.size, names, colours, spans),
    ]
    legend = [_HEADER, _GAP] + ([_MASKS] if _MASKS[1] in colours else [])
    for k, (name, colour) in enumerate(legend):
        shapes += _named(_MARGIN + _CELL * k, _LEGEND, name, colour)
    note = "Tiles by their place in the file, dark first; white: sparse"
    shapes.append(text(_MARGIN, _LEGEND + 26, note, 13))
    images = [k for k, one in enumerate(header.directories) if not one.is_mask][:_MOST_IMAGES]
    for n, k in enumerate(images):
        line, column = divmod(n, _IN_LINE)
        x, y = _MARGIN + _CELL * column, _MAPS + _LINE_HEIGHT * line
        shapes += _named(x, y + 10, names[k], colours[k])
        shapes += _map(header.directories[k].offsets[0], x, y + 18)
    return Drawing(_WIDTH, _MAPS + _LINE_HEIGHT * ceil_div(len(images), _IN_LINE), shapes)


def _bar(size: int, names: Sequence[str], colours: Sequence[str], spans: Spans) -> Iterator[str]:
    """Slivers of the file, each of which shows what owns its middle byte."""
    levels = enumerate(zip(names, colours, strict=True))
    looks = {HEADER: _HEADER, NOBODY: _GAP} | dict(levels)
    edges = size * np.arange(_BAR + 1) / _BAR
    owner = spans.owners(((edges[1:] + edges[:-1]) / 2).astype(np.int64))
    cuts = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), _BAR]
    for first, stop in itertools.pairwise(cuts):
        name, fill = looks[int(owner[first])]
        title = f"{name}: bytes {edges[first]:,.0f} to {edges[stop]:,.0f}"
        yield box(_MARGIN + first, _BAR_TOP, stop - first, _BAR_HEIGHT, fill, title=title)


def _named(x: float, y: float, name: str, colour: str) -> list[str]:
    return [box(x, y - 9, 10, 10, colour), text(x + 15, y, name)]


def _map(offsets: Array, x: float, y: float) -> Iterator[str]:
    """The tiles of one level, each coloured by its place in the file."""
    step = ceil_div(max(offsets.shape), _MOST_TILES)
    offsets = offsets[::step, ::step]
    side = _MAP / max(offsets.shape)
    for (row, col), colour in zip(np.ndindex(offsets.shape), _ramp(offsets), strict=True):
        yield box(x + col * side, y + row * side, side, side, colour, line=_LINE)


def _ramp(offsets: Array) -> list[str]:
    """Colours of tiles, row by row: by their place in the file, white for sparse ones."""
    flat = offsets.reshape(-1)
    colours = [_SPARSE] * flat.size
    stored = np.flatnonzero(flat > 0)
    in_order = stored[np.argsort(flat[stored], kind="stable")]
    places = np.linspace(0, len(_RAMP), stored.size).astype(int).clip(max=len(_RAMP) - 1)
    for tile, place in zip(in_order.tolist(), places.tolist(), strict=True):
        colours[tile] = _RAMP[place]
    return colours
