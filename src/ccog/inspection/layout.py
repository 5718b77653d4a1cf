"""What the tile arrays of a TIFF say of its storage: order, gaps, overlaps, and the requests that reads cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from ccog import tiff
from ccog.errors import RasterError
from ccog.header import LEADER, TRAILER
from ccog.inspection.directories import Counts, Header, ImageDirectory
from ccog.inspection.source import Range

Array = npt.NDArray[np.int64]

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
    """The tiles of one directory as arrays of shape (plane, row, column); 0 bytes where sparse."""

    directory: ImageDirectory
    offsets: Array
    counts: Counts

    @classmethod
    def of(cls, directory: ImageDirectory) -> Grid:
        """The tiles of a directory; without tile arrays all are sparse."""
        height, width = directory.tile
        shape = (directory.planes, -(-directory.height // height), -(-directory.width // width))
        expected = shape[0] * shape[1] * shape[2]
        if directory.offsets.size not in (0, expected):
            raise RasterError(
                f"the file is damaged: its directory at byte {directory.extent[0]} has {directory.offsets.size} tiles, "
                f"not {expected}"
            )
        if not directory.offsets.size:
            return cls(directory, np.zeros(shape, np.int64), np.zeros(shape, np.int64))
        offsets, counts = directory.offsets.reshape(shape), directory.counts.reshape(shape)
        if np.array_equal(offsets > 0, counts > 0):
            return cls(directory, offsets, counts)
        return cls(directory, np.where(counts > 0, offsets, 0), np.where(offsets > 0, counts, 0))

    @property
    def stored(self) -> npt.NDArray[np.bool_]:
        """Which tiles have bytes."""
        return self.counts > 0


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
            stored = grid.stored
            begin, count = (grid.offsets[stored], grid.counts[stored])
            runs.append(cls(begin - leader, begin + count + trailer, np.full(begin.size, k, np.int32)))
        runs = sorted((run for run in runs if run.starts.size), key=lambda run: int(run.starts[0]))
        joined = (np.concatenate([getattr(run, name) for run in runs]) for name in ("starts", "stops", "owner"))
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


def framing(ghost: str) -> tuple[int, int]:
    """Bytes before and after each tile that the ghost area announces."""
    leader = LEADER if "BLOCK_LEADER=SIZE_AS_UINT4" in ghost else 0
    return leader, TRAILER if "BLOCK_TRAILER=LAST_4_BYTES_REPEATED" in ghost else 0


def header_pieces(header: Header) -> list[Range]:
    """All stretches that are no tiles: file header, ghost area, directories, values, tile arrays."""
    pieces = [(0, 16 if header.big else 8), header.ghost_extent]
    return pieces + [piece for directory in header.directories for piece in directory.pieces()]


def tile_order(grid: Grid) -> str:
    """How the tiles follow each other in the file: the first rule that all of them obey."""
    offsets = grid.offsets[grid.stored]
    if offsets.size < 2:
        return "-"
    planes, rows, cols = grid.offsets.shape
    if bool(np.all(offsets[1:] > offsets[:-1])):
        return "row-major" if planes == 1 else "row-major, plane by plane"
    here = np.s_[:1, :_CORNER, :_CORNER]
    corner = Grid(grid.directory, grid.offsets[here], grid.counts[here])
    for name, rule in _rules(rows, cols):
        # most rules fail in a corner already, which spares sorting millions of tiles
        if all(_obeys(part, rule) for part in (corner, grid)):
            return name
    return "none found"


def _obeys(grid: Grid, rule: Rule) -> bool:
    plane, y, x = np.nonzero(grid.stored)
    order = np.lexsort((rule(y, x), plane))
    return bool(np.all(np.diff(grid.offsets[grid.stored][order]) > 0))


def _rules(rows: int, cols: int) -> Iterator[tuple[str, Rule]]:
    yield "Morton", morton
    yield "column-major", lambda y, x: x * rows + y
    yield "row-major, backwards", lambda y, x: -(y * cols + x)
    for side in (n for n in _GROUPS if n < 2 * max(rows, cols)):
        yield f"groups of {side} x {side} tiles, Morton", partial(_grouped, side, morton)
        across = -(-cols // side)
        yield f"groups of {side} x {side} tiles, row-major", partial(_grouped, side, partial(_row_major, across))


def _row_major(cols: int, y: Array, x: Array) -> Array:
    return y * cols + x


def _grouped(side: int, outer: Rule, y: Array, x: Array) -> Array:
    """Row-major inside square groups, the groups by another rule."""
    return outer(y // side, x // side) * side * side + (y % side) * side + x % side


def morton(y: Array, x: Array) -> Array:
    """Interleaved bits of row and column, the column's lowest first (Z-order)."""
    return _spread(y) << 1 | _spread(x)


def _spread(values: Array) -> Array:
    out = values.astype(np.int64)
    for shift, mask in ((16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F),
                        (2, 0x3333333333333333), (1, 0x5555555555555555)):  # fmt: skip
        out = (out | out << shift) & mask
    return out


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
        Range requests of GDAL, which joins ranges that touch, and knows of leaders and trailers only where the
        ghost area says ``BLOCK_ORDER=ROW_MAJOR`` (GTiffRasterBand::CacheMultiRange).
    coalescing
        Range requests of readers that join ranges up to 1 MiB apart.
    """

    what: str
    tiles: int
    size: int
    gdal: int
    coalescing: int


def read_costs(header: Header, grids: list[Grid]) -> tuple[ReadCost, ...]:
    """Costs of a thumbnail, of one tile, and of an aligned window of 8 x 8 tiles in the middle of the image."""
    if not grids:
        return ()
    full = grids[0]
    thumbnail = _thumbnail(grids)
    _, rows, cols = full.offsets.shape
    tall, wide = min(rows, _WINDOW_TILES), min(cols, _WINDOW_TILES)
    y, x = rows // 2 // _WINDOW_TILES * _WINDOW_TILES, cols // 2 // _WINDOW_TILES * _WINDOW_TILES
    size = thumbnail.directory
    return (
        _cost(header, grids, thumbnail, f"thumbnail ({size.width} x {size.height})", slice(None), slice(None)),
        _cost(header, grids, full, "one tile", slice(rows // 2, rows // 2 + 1), slice(cols // 2, cols // 2 + 1)),
        _cost(header, grids, full, f"window of {wide} x {tall} tiles", slice(y, y + tall), slice(x, x + wide)),
    )


def _thumbnail(grids: list[Grid]) -> Grid:
    """The smallest image with at least 256 pixels on its longer side, else the largest of the smaller."""
    images = sorted((g for g in grids if not g.directory.is_mask), key=lambda g: g.directory.width * g.directory.height)
    enough = [g for g in images if max(g.directory.width, g.directory.height) >= _THUMBNAIL]
    return enough[0] if enough else images[-1]


def _cost(header: Header, grids: list[Grid], grid: Grid, what: str, rows: slice, cols: slice) -> ReadCost:
    size = (grid.directory.height, grid.directory.width)
    same = [g for g in grids if g is grid or (g.directory.is_mask and (g.directory.height, g.directory.width) == size)]
    chosen = [(g.offsets[:, rows, cols], g.counts[:, rows, cols]) for g in same]
    offsets, counts = (np.concatenate([pair[k].reshape(-1) for pair in chosen]) for k in (0, 1))
    offsets, counts = offsets[counts > 0], counts[counts > 0]
    order = np.argsort(offsets, kind="stable")
    starts, stops = offsets[order], (offsets + counts)[order]
    leader, trailer = framing(header.ghost) if "BLOCK_ORDER=ROW_MAJOR" in header.ghost else (0, 0)
    return ReadCost(
        what,
        int(offsets.size),
        int(counts.sum()),
        _requests(starts, stops, leader + trailer),
        _requests(starts, stops, COALESCE),
    )


def _requests(starts: Array, stops: Array, join: int) -> int:
    """Ranges that are left when those at most ``join`` bytes apart are read together."""
    return 0 if not starts.size else 1 + int(np.count_nonzero(starts[1:] - np.maximum.accumulate(stops)[:-1] > join))


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
