"""The picture of a file: what lies where in it, and in which order the tiles of each level follow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ccog.views.inspection.drawing import Box, Drawing, Path, Text
from ccog.views.inspection.layout import Grid, Spans

Shape = Box | Path | Text

_WIDTH, _MARGIN = 960, 20
_BAR, _BAR_HEIGHT = _WIDTH - 2 * _MARGIN, 34
_MAP = 230
_LEAST_MAP = 24
# images that are drawn and named: more than a pyramid has
_MOST_IMAGES = 32
# cells of a map along its longer side; larger grids are sampled
_MOST_CELLS = 48
_MOST_PATH = 24
_HEADER, _GAP, _LINE = "#333333", "#e5484d", "#9aa0a6"
# images and masks, full resolution first
_IMAGES = ("#2f6fb5", "#4c9bd6", "#6fb8c9", "#86c9a5", "#b3d689", "#dcdc7a", "#f0c75e", "#f2a65a")
_MASKS = "#a78bca"
# first to last tile of the file
_RAMP = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], float)
_SPARSE = "#ffffff"


def draw(size: int, names: Sequence[str], grids: Sequence[Grid], spans: Spans) -> Drawing:
    """Two bars, the whole file and what lies before its full resolution, and a map of each level's tiles."""
    colours = _colours(grids)
    shapes: list[Shape] = [
        Text(_MARGIN, 24, "The file from its first byte to its last, to scale", 13)
    ]
    shapes += _bar(34, 0, size, names, colours, spans)
    before = _start_of(spans, 0) or size
    height = 34 + _BAR_HEIGHT
    if 0 < before < size:
        shapes += _zoom(height, before / size)
        shapes.append(
            Text(
                _MARGIN + 8,
                height + 46,
                "What lies before the full resolution: the header and the overviews",
                13,
            )
        )
        shapes += _bar(height + 56, 0, before, names, colours, spans)
        height += 56 + _BAR_HEIGHT
    entries = _entries(names, colours)
    shapes += _legend(height + 22, entries)
    height += 22 + 18 * -(-len(entries) // 6)
    shapes.append(
        Text(
            _MARGIN,
            height + 20,
            "Tiles by their place in the file, dark first; white tiles are sparse",
            13,
        )
    )
    maps, bottom = _maps(height + 32, names, grids)
    return Drawing(_WIDTH, bottom, (*shapes, *maps))


def _colours(grids: Sequence[Grid]) -> list[str]:
    colours, image = [], 0
    for grid in grids:
        if grid.directory.is_mask:
            colours.append(_MASKS)
        else:
            colours.append(_IMAGES[min(image, len(_IMAGES) - 1)])
            image += 1
    return colours


def _start_of(spans: Spans, owner: int) -> int | None:
    at = np.flatnonzero(spans.owner == owner)
    return int(spans.starts[at[0]]) if at.size else None


def _bar(
    y: float, start: int, stop: int, names: Sequence[str], colours: Sequence[str], spans: Spans
) -> Iterator[Shape]:
    """A stretch of the file as a bar; each sliver shows what owns its middle byte."""
    edges = start + (stop - start) * np.arange(_BAR + 1) / _BAR
    owner = _owners(spans, ((edges[1:] + edges[:-1]) / 2).astype(np.int64))
    cuts = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), _BAR]
    yield Box(_MARGIN, y, _BAR, _BAR_HEIGHT, "#ffffff", _LINE)
    for a, b in itertools.pairwise(cuts):
        who = int(owner[a])
        fill, title = (
            (_GAP, "gap")
            if who == -2
            else (_HEADER, "header")
            if who < 0
            else (colours[who], names[who])
        )
        yield Box(
            _MARGIN + a,
            y,
            b - a,
            _BAR_HEIGHT,
            fill,
            None,
            f"{title}: bytes {edges[a]:,.0f} to {edges[b]:,.0f}",
        )


def _owners(spans: Spans, at: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Who owns each byte: a directory, -1 the header, -2 nobody."""
    index = np.searchsorted(spans.starts, at, side="right") - 1
    inside = (index >= 0) & (at < spans.stops[np.maximum(index, 0)])
    return np.where(inside, spans.owner[np.maximum(index, 0)], np.int32(-2))


def _zoom(y: float, share: float) -> list[Shape]:
    end = _MARGIN + max(1.0, share * _BAR)
    return [
        Path(((_MARGIN, y), (_MARGIN, y + 56)), _LINE, 0.7),
        Path(
            ((end, y), (end, y + 8), (_MARGIN + _BAR, y + 28), (_MARGIN + _BAR, y + 56)), _LINE, 0.7
        ),
    ]


def _entries(names: Sequence[str], colours: Sequence[str]) -> list[tuple[str, str]]:
    """Names and colours of the legend: masks share one."""
    images = [
        (name, colour) for name, colour in zip(names, colours, strict=True) if colour != _MASKS
    ][:_MOST_IMAGES]
    masks = [("masks", _MASKS)] if _MASKS in colours else []
    return [("header", _HEADER), *images, *masks, ("gap", _GAP)]


def _legend(y: float, entries: list[tuple[str, str]]) -> Iterator[Shape]:
    for k, (name, colour) in enumerate(entries):
        x, line = _MARGIN + 153 * (k % 6), y + 18 * (k // 6)
        yield Box(x, line - 9, 10, 10, colour)
        yield Text(x + 15, line, name, 11)


def _maps(top: float, names: Sequence[str], grids: Sequence[Grid]) -> tuple[list[Shape], float]:
    """Maps of the images from left to right, in as many lines as they need, and where the last one ends."""
    shapes: list[Shape] = []
    x, y, line = float(_MARGIN), top, 0.0
    images = [
        (name, grid) for name, grid in zip(names, grids, strict=True) if not grid.directory.is_mask
    ]
    for k, (name, grid) in enumerate(images[:_MOST_IMAGES]):
        _, rows, cols = grid.offsets.shape
        side = max(_LEAST_MAP, _MAP * 0.66**k)
        width, height = (side * n / max(rows, cols) for n in (cols, rows))
        wide = max(width, 100)
        if x + wide > _WIDTH - _MARGIN:
            x, y, line = float(_MARGIN), y + line + 24, 0.0
        shapes += _Map(grid, x, y, max(width, 4), max(height, 4)).shapes()
        shapes.append(Text(x, y + max(height, 4) + 14, f"{name}, {cols} x {rows}", 10.5))
        x, line = x + wide + 18, max(line, max(height, 4) + 14)
    return shapes, y + line + _MARGIN


@dataclass(frozen=True)
class _Map:
    """The tile grid of one level, each tile coloured by its place in the file."""

    grid: Grid
    x: float
    y: float
    width: float
    height: float

    def shapes(self) -> Iterator[Shape]:
        _, rows, cols = self.grid.offsets.shape
        step = max(1, -(-max(rows, cols) // _MOST_CELLS))
        offsets = self.grid.offsets[0, ::step, ::step]
        ranks = _ranks(offsets)
        tall, wide = self.height / offsets.shape[0], self.width / offsets.shape[1]
        for (r, c), rank in np.ndenumerate(ranks):
            fill = _SPARSE if rank < 0 else _ramp(rank)
            yield Box(
                self.x + c * wide, self.y + r * tall, wide, tall, fill, _LINE if step == 1 else None
            )
        if step > 1:
            yield from self._frame()
        if max(rows, cols) <= _MOST_PATH:
            yield from self._path(ranks, tall, wide)

    def _frame(self) -> Iterator[Shape]:
        x, y, right, bottom = self.x, self.y, self.x + self.width, self.y + self.height
        yield Path(((x, y), (right, y), (right, bottom), (x, bottom), (x, y)), _LINE, 0.7)

    def _path(self, ranks: npt.NDArray[np.float64], tall: float, wide: float) -> Iterator[Shape]:
        """A line through the tiles in the order of the file."""
        flat = ranks.reshape(-1)
        order = [k for k in np.argsort(flat, kind="stable") if flat[k] >= 0]
        if len(order) > 1:
            points = [divmod(int(k), ranks.shape[1]) for k in order]
            yield Path(
                tuple((self.x + (c + 0.5) * wide, self.y + (r + 0.5) * tall) for r, c in points),
                "#ffffff",
                0.8,
            )


def _ranks(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Place of each tile in the file, from 0 to 1, and -1 for sparse tiles."""
    found = np.full(offsets.size, -1.0)
    flat = offsets.reshape(-1)
    stored = np.flatnonzero(flat > 0)
    found[stored[np.argsort(flat[stored], kind="stable")]] = np.linspace(0, 1, stored.size)
    return found.reshape(offsets.shape)


def _ramp(rank: float) -> str:
    at = rank * (len(_RAMP) - 1)
    low = min(int(at), len(_RAMP) - 2)
    mixed = _RAMP[low] + (_RAMP[low + 1] - _RAMP[low]) * (at - low)
    red, green, blue = (round(float(part)) for part in mixed)
    return f"#{red:02x}{green:02x}{blue:02x}"
