"""What the tile arrays of a TIFF say of its storage: order, gaps, overlaps, and the requests that reads cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from ccog.errors import RasterError
from ccog.geometry.tile_order import morton
from ccog.tiff import directories as tiff
from ccog.tiff.header import framing
from ccog.views.inspection.directories import Counts, Header, ImageDirectory
from ccog.views.inspection.source import Range

Array = npt.NDArray[np.int64]

#: First bytes, ascending, and the bytes after the last ones.
Extents = tuple[Array, Array]

#: From rows and columns of tiles to keys that ascend in the order of the file.
Rule = Callable[[Array, Array], Array]

#: Readers built on object_store or obstore, async-tiff for one, join ranges that are this near (1 MiB).
COALESCE = 1 << 20

#: Sides of groups of tiles that are tried when neither row-major nor Morton order fits.
_GROUPS = (2, 4, 8, 16, 32, 64, 128)
_CORNER = 64
_WINDOW_TILES = 8
_THUMBNAIL = 256
# word alignment leaves single bytes unused, which is no gap
_LEAST_GAP = 2
_MOST_LISTED = 1000


@dataclass(frozen=True)
class Grid:
    """The tiles of one directory as arrays of shape (plane, row, column); 0 bytes where sparse.

    Where the file has no tile yet, one zero stands for all of them: a file of 174 bytes can have billions.
    """

    directory: ImageDirectory
    offsets: Array
    counts: Counts

    @classmethod
    def of(cls, directory: ImageDirectory) -> Grid:
        """The tiles of a directory; without tile arrays all are sparse."""
        shape = directory.grid
        expected = shape[0] * shape[1] * shape[2]
        if directory.offsets.size not in (0, expected):
            raise RasterError(
                f"the file is damaged: its directory at byte {directory.extent[0]} has {directory.offsets.size} tiles, "
                f"not {expected}"
            )
        if not directory.offsets.size:
            nothing = np.broadcast_to(np.int64(0), shape)
            return cls(directory, nothing, nothing)
        offsets, counts = directory.offsets.reshape(shape), directory.counts.reshape(shape)
        if np.array_equal(offsets > 0, counts > 0):
            return cls(directory, offsets, counts)
        return cls(directory, np.where(counts > 0, offsets, 0), np.where(offsets > 0, counts, 0))

    @property
    def is_empty(self) -> bool:
        """Whether the file has no tile of it, so that its arrays are of one zero, and not to be gone through."""
        return not self.directory.offsets.size

    @property
    def stored(self) -> npt.NDArray[np.bool_]:
        """Which tiles have bytes."""
        return np.broadcast_to(np.False_, self.counts.shape) if self.is_empty else self.counts > 0

    @property
    def places(self) -> tuple[Array, Counts]:
        """Offsets and byte counts of the tiles that have bytes, row by row."""
        if self.is_empty:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        stored = self.stored
        return self.offsets[stored], self.counts[stored]

    @property
    def stored_count(self) -> int:
        """How many tiles have bytes."""
        return 0 if self.is_empty else int(np.count_nonzero(self.counts > 0))

    @property
    def size(self) -> int:
        """Bytes of all tiles."""
        return 0 if self.is_empty else _sum(self.counts)

    @property
    def extent(self) -> Range | None:
        """First byte of its tiles and the one after their last; None where all are sparse."""
        offsets, counts = self.places
        return (int(offsets.min()), int((offsets + counts).max())) if offsets.size else None


@dataclass(frozen=True)
class Spans:
    """Stretches of the file, sorted by their first byte; ``owner`` is -1 for the header, else the directory."""

    starts: Array
    stops: Array
    owner: npt.NDArray[np.int32]

    @classmethod
    def of(cls, header: Header, grids: list[Grid]) -> Spans:
        """Everything in the file that something points to, leaders and trailers of tiles included."""
        leader, trailer = framing(header.ghost)
        pieces = np.array(sorted(set(header_pieces(header))), np.int64)
        runs = [cls(pieces[:, 0], pieces[:, 1], np.full(len(pieces), -1, np.int32))]
        for k, grid in enumerate(grids):
            begin, count = grid.places
            runs.append(
                cls(begin - leader, begin + count + trailer, np.full(begin.size, k, np.int32))
            )
        runs = sorted((run for run in runs if run.starts.size), key=lambda run: int(run.starts[0]))
        joined = (
            np.concatenate([getattr(run, name) for run in runs])
            for name in ("starts", "stops", "owner")
        )
        return cls(*joined)._sorted()

    def _sorted(self) -> Spans:
        """In order of the first bytes; most files are, level by level."""
        if bool(np.all(self.starts[1:] >= self.starts[:-1])):
            return self
        order = np.argsort(self.starts, kind="stable")
        return Spans(self.starts[order], self.stops[order], self.owner[order])

    def gaps(self, size: int) -> tuple[Range, ...]:
        """Unused stretches of two bytes or more, the end of the file included."""
        reach = np.maximum.accumulate(self.stops)
        at = np.flatnonzero(self.starts[1:] - reach[:-1] >= _LEAST_GAP)[:_MOST_LISTED]
        found = [(int(reach[k]), int(self.starts[k + 1])) for k in at]
        return tuple(found + [(int(reach[-1]), size)] * (size - int(reach[-1]) >= _LEAST_GAP))

    def overlaps(self) -> tuple[Range, ...]:
        """Stretches that two things claim."""
        reach = np.maximum.accumulate(self.stops)[:-1]
        at = np.flatnonzero(self.starts[1:] < reach)[:_MOST_LISTED]
        return tuple((int(self.starts[k + 1]), int(min(reach[k], self.stops[k + 1]))) for k in at)


def _sum(counts: Counts) -> int:
    """The sum of byte counts: exact to 9 PB, and those of a damaged file do not overflow."""
    return int(counts.sum(dtype=float))


def header_pieces(header: Header) -> list[Range]:
    """All stretches that are not tiles: file header, ghost area, directories, values, tile arrays."""
    pieces = [(0, 16 if header.big else 8), header.ghost_extent]
    return pieces + [piece for directory in header.directories for piece in directory.pieces()]


def tile_order(grid: Grid) -> str:
    """How the tiles follow each other in the file: the first rule that all of them obey."""
    offsets, _ = grid.places
    if offsets.size < 2:
        return "-"
    planes, rows, cols = grid.offsets.shape
    if bool(np.all(offsets[1:] > offsets[:-1])):
        return "row-major" if planes == 1 else "row-major, plane by plane"
    for name, rule in _rules(rows, cols):
        if _fits(grid, rule):
            return name
    group = tile_group(grid)
    return "none found" if group is None else f"groups of {group[1]} x {group[0]} tiles, Morton"


def _fits(grid: Grid, rule: Rule) -> bool:
    """Whether all tiles obey a rule; most fail in a corner already, which spares sorting millions of tiles."""
    here = np.s_[:1, :_CORNER, :_CORNER]
    corner = Grid(grid.directory, grid.offsets[here], grid.counts[here])
    return all(_obeys(part, rule) for part in (corner, grid))


def tile_group(grid: Grid) -> tuple[int, int] | None:
    """(rows, columns) of the groups of tiles, row-major in each, whose order is Morton's; None where there are none."""
    group = _first_group(grid)
    if group is None or _fits(grid, morton):
        return None
    return group if _fits(grid, partial(_grouped, group, morton)) else None


def _first_group(grid: Grid) -> tuple[int, int] | None:
    """Shape of the group in the corner, from the tiles at its edges that lie one behind the other.

    The first row of a group ends where the next tile lies further away than the one below, and the group where the
    next row does not follow its last tile. All of it must be stored.
    """
    offsets, stored = grid.offsets[0], grid.stored[0]
    rows, cols = offsets.shape
    if rows < 2 or cols < 2 or not stored[:2, 0].all():
        return None
    across = int(
        np.count_nonzero(np.logical_and.accumulate(stored[0] & (offsets[0] < offsets[1, 0])))
    )
    inside = (
        np.logical_and.accumulate(stored[:, 0] & (offsets[:, 0] < offsets[0, across]))
        if across < cols
        else None
    )
    down = rows if inside is None else int(np.count_nonzero(inside))
    return (down, across) if down and across and (down, across) != (rows, cols) else None


def _obeys(grid: Grid, rule: Rule) -> bool:
    plane, y, x = np.nonzero(grid.stored)
    order = np.lexsort((rule(y, x), plane))
    ascends = np.diff(grid.offsets[grid.stored][order]) > 0
    return bool(np.all(ascends | (np.diff(plane[order]) > 0)))


def _rules(rows: int, cols: int) -> Iterator[tuple[str, Rule]]:
    yield "Morton", morton
    yield "column-major", lambda y, x: x * rows + y
    yield "row-major, backwards", lambda y, x: -(y * cols + x)
    for side in (n for n in _GROUPS if n < 2 * max(rows, cols)):
        yield f"groups of {side} x {side} tiles, Morton", partial(_grouped, (side, side), morton)
        across, group = -(-cols // side), (side, side)
        yield (
            f"groups of {side} x {side} tiles, row-major",
            partial(_grouped, group, partial(_row_major, across)),
        )


def _row_major(cols: int, y: Array, x: Array) -> Array:
    return y * cols + x


def _grouped(group: tuple[int, int], outer: Rule, y: Array, x: Array) -> Array:
    """Row-major inside groups, the groups by another rule."""
    down, across = group
    return outer(y // down, x // across) * down * across + (y % down) * across + x % across


@dataclass(frozen=True)
class ReadCost:
    """What one typical read costs after the file is opened.

    Attributes
    ----------
    what
        The read, for people.
    tiles
        Tiles it needs, masks included; sparse ones cost nothing.
    size
        Bytes it needs.
    gdal
        Range requests of GDAL, which joins ranges that touch, and knows of leaders and trailers, and of masks beside
        the image, only where the ghost area says ``BLOCK_ORDER=ROW_MAJOR`` (GTiffRasterBand::CacheMultiRange).
    coalescing
        Range requests of readers that join ranges up to 1 MiB apart.
    """

    what: str
    tiles: int
    size: int
    gdal: int
    coalescing: int


def read_costs(header: Header, grids: list[Grid]) -> tuple[ReadCost, ...]:
    """Costs of a thumbnail, of one tile, and of an aligned window of 8 x 8 tiles in the middle of the image.

    Where tiles lie in groups, also of one of these, as files of ``layout="chunk"`` have them.
    """
    if not grids:
        return ()
    full = grids[0]
    thumbnail = _thumbnail(grids)
    _, rows, cols = full.offsets.shape
    size, group = thumbnail.directory, tile_group(full)
    windows = [("window", (min(rows, _WINDOW_TILES), min(cols, _WINDOW_TILES)))]
    windows += [] if group is None else [("chunk", group)]
    return (
        _cost(
            header,
            grids,
            thumbnail,
            f"thumbnail ({size.width} x {size.height})",
            slice(None),
            slice(None),
        ),
        _cost(
            header,
            grids,
            full,
            "one tile",
            slice(rows // 2, rows // 2 + 1),
            slice(cols // 2, cols // 2 + 1),
        ),
        *(
            _cost(
                header,
                grids,
                full,
                f"{name} of {wide} x {tall} tiles",
                _middle(rows, tall),
                _middle(cols, wide),
            )
            for name, (tall, wide) in windows
        ),
    )


def _middle(count: int, size: int) -> slice:
    """The group of ``size`` tiles in the middle of an axis."""
    start = count // 2 // size * size
    return slice(start, start + size)


def _thumbnail(grids: list[Grid]) -> Grid:
    """The smallest image with at least 256 pixels on its longer side, else the largest of the smaller."""
    images = [grid for grid in grids if not grid.directory.is_mask] or grids
    images = sorted(images, key=lambda grid: grid.directory.width * grid.directory.height)
    enough = [g for g in images if max(g.directory.width, g.directory.height) >= _THUMBNAIL]
    return enough[0] if enough else images[-1]


def _cost(
    header: Header, grids: list[Grid], grid: Grid, what: str, rows: slice, cols: slice
) -> ReadCost:
    size = (grid.directory.height, grid.directory.width)
    masks = [
        g for g in grids if g.directory.is_mask and (g.directory.height, g.directory.width) == size
    ]
    image, mask = (
        _extents([grid], rows, cols),
        _extents([g for g in masks if g is not grid], rows, cols),
    )
    both = _joined(image, mask)
    row_major = "BLOCK_ORDER=ROW_MAJOR" in header.ghost
    frame = sum(framing(header.ghost)) if row_major else 0
    together = [both] if row_major else [image, mask]
    return ReadCost(
        what,
        int(both[0].size),
        _sum(both[1] - both[0]),
        sum(_requests(extents, frame) for extents in together),
        _requests(both, COALESCE),
    )


def _extents(grids: list[Grid], rows: slice, cols: slice) -> Extents:
    """First bytes of the stored tiles of a window, ascending, and the bytes after their last."""
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for grid in (one for one in grids if not one.is_empty):
        offsets, counts = (
            grid.offsets[:, rows, cols].reshape(-1),
            grid.counts[:, rows, cols].reshape(-1),
        )
        starts = offsets[counts > 0]
        found.append((starts, starts + counts[counts > 0]))
    return _joined(*found)


def _joined(*extents: Extents) -> Extents:
    starts, stops = (np.concatenate([pair[k] for pair in extents]) for k in (0, 1))
    order = np.argsort(starts, kind="stable")
    return starts[order], stops[order]


def _requests(extents: Extents, join: int) -> int:
    """Ranges that are left when those at most ``join`` bytes apart are read together."""
    starts, stops = extents
    return (
        0
        if not starts.size
        else 1 + int(np.count_nonzero(starts[1:] - np.maximum.accumulate(stops)[:-1] > join))
    )


#: Names of the values of the Compression tag (TIFF 6.0, libtiff and GDAL).
COMPRESSIONS = {
    1: "none",
    5: "lzw",
    6: "jpeg (old)",
    7: "jpeg",
    8: "deflate",
    32773: "packbits",
    32946: "deflate",
    34712: "jpeg2000",
    34887: "lerc",
    34925: "lzma",
    50000: "zstd",
    50001: "webp",
    50002: "jxl",
    52546: "jxl",
}


def compression(directory: ImageDirectory) -> str:
    """Name of the compression, with the predictor where there is one."""
    code = directory.value(tiff.COMPRESSION, 1)
    predictor = directory.value(tiff.PREDICTOR, 1)
    return COMPRESSIONS.get(code, str(code)) + (f", predictor {predictor}" if predictor > 1 else "")
