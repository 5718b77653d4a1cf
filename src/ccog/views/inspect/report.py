"""``ccog.inspect``: how a file is stored, as frozen values that show themselves."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ccog.redaction import addressed, hidden
from ccog.tiff import tags
from ccog.tiff.directories import Range
from ccog.views.drawing import Drawing
from ccog.views.georeference import Georeference
from ccog.views.inspect.directory import ImageDirectory, sum_of
from ccog.views.inspect.georeference import georeference, overview_resampling
from ccog.views.inspect.header import Header, read_header
from ccog.views.inspect.order import TileOrder, tile_order
from ccog.views.inspect.picture import draw
from ccog.views.inspect.ranges import open_ranges
from ccog.views.inspect.reads import ReadCost, read_costs
from ccog.views.inspect.spans import Spans
from ccog.views.tables import Pictured, Report, Table
from ccog.wording import byte_text, plural, size_text


@dataclass(frozen=True, kw_only=True)
class LevelReport:
    """One directory of the file: the full resolution, an overview, or a mask of either.

    Attributes
    ----------
    name
        "full resolution", "overview 1", ...; a mask says whose it is.
    width, height
        Pixels.
    tile
        (height, width) of a tile in pixels.
    tiles
        Tiles down and across, times ``planes`` where bands are stored apart.
    stored, sparse
        Tiles with and without bytes.
    size
        Bytes of its tiles, leaders and trailers aside.
    ratio
        Bytes of its pixels divided by ``size``; infinite where all tiles are sparse.
    order
        How its tiles follow each other in the file.
    extent
        Its first byte and the one after its last, or None where all tiles are sparse.
    compression
        Name of the compression, with the predictor.
    """

    name: str
    width: int
    height: int
    tile: tuple[int, int]
    tiles: tuple[int, int]
    planes: int
    stored: int
    sparse: int
    size: int
    ratio: float
    order: str
    extent: Range | None
    compression: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Inspection(Pictured):
    """What the header of a TIFF says of the file: see :func:`ccog.inspect`.

    It prints as tables; ``svg`` is a picture, which ``save_svg(path)`` saves.

    Attributes
    ----------
    url
        What was inspected.
    size
        Bytes of the file.
    big_tiff
        Whether it is a BigTIFF.
    bands, dtype
        Of the full resolution.
    georeference
        CRS, transform, bounds, nodata value and names of bands.
    overview_resampling
        How overviews were made; None where the file does not say.
    ghost_area
        GDAL's structural metadata, empty where there is none.
    header_size
        Bytes that are not tiles: directories, their values and the tile arrays.
    header_end
        The byte after the last of them. It is larger than ``header_size`` plus alignment where they
        are scattered.
    levels
        Directories in the order of the file.
    gaps, overlaps
        Ranges that nothing points to, or that two parts of the file claim; the first 1000.
    reads
        The cost of typical reads.
    requests, bytes_read
        The cost of this inspection.
    """

    url: str
    size: int
    big_tiff: bool
    bands: int
    dtype: str
    georeference: Georeference
    overview_resampling: str | None
    ghost_area: str
    header_size: int
    header_end: int
    levels: tuple[LevelReport, ...]
    gaps: tuple[Range, ...]
    overlaps: tuple[Range, ...]
    reads: tuple[ReadCost, ...]
    requests: int
    bytes_read: int
    drawing: Drawing = field(compare=False)

    def _report(self) -> Report:
        kind = "BigTIFF" if self.big_tiff else "classic TIFF"
        bands = plural(self.bands, "band")
        header, read = byte_text(self.header_size), byte_text(self.bytes_read)
        ghost = ", ".join(line.strip() for line in self.ghost_area.splitlines())
        overviews = [f"Overviews: {self.overview_resampling}"] if self.overview_resampling else []
        facts = [
            f"{self.url}: {byte_text(self.size)}, {kind}, {bands} of {self.dtype}",
            *(_printable(fact) for fact in self.georeference.facts()),
            *overviews,
            f"Header: {header}, ends at byte {self.header_end:,}",
            f"Ghost area: {_printable(ghost) or 'none'}",
            f"Gaps: {_ranges(self.gaps)}; overlaps: {_ranges(self.overlaps)}",
            f"Looking took {plural(self.requests, 'range request')} and {read}",
        ]
        levels = Table(_LEVEL_TITLES, list(map(_level_row, self.levels)))
        reads = [
            (of.name, f"{of.tiles:,}", byte_text(of.size), f"{of.gdal:,}", f"{of.coalescing:,}")
            for of in self.reads
        ]
        tables = [levels, Table(_READ_TITLES, reads)]
        return Report(facts=facts, tables=tables, drawing=self.drawing)


_LEVEL_TITLES = (
    *("Level", "Size", "Tile", "Tiles", "Sparse"),
    *("Bytes", "Ratio", "Compression", "Tile order"),
)
_READ_TITLES = "Read", "Tiles", "Bytes", "Requests: GDAL", "Requests: joining within 1 MiB"


def _level_row(level: LevelReport) -> Sequence[str]:
    planes = f" x {level.planes} planes" if level.planes > 1 else ""
    return (
        level.name,
        size_text(level.width, level.height),
        size_text(level.tile[1], level.tile[0]),
        size_text(level.tiles[1], level.tiles[0]) + planes,
        f"{level.sparse:,}",
        byte_text(level.size),
        "-" if math.isinf(level.ratio) else f"{level.ratio:.2f}",
        level.compression,
        level.order,
    )


def _printable(text: str) -> str:
    """Without what a terminal would take for a command."""
    return re.sub("[^ -~]", "?", text)


def _ranges(ranges: tuple[Range, ...]) -> str:
    if not ranges:
        return "none"
    total = byte_text(sum(stop - start for start, stop in ranges))
    return f"{plural(len(ranges), 'range')}, {total}, first at byte {ranges[0][0]:,}"


def inspect(url: Any, storage_options: Mapping[str, Any] | None = None) -> Inspection:
    """Look at how a GeoTIFF is stored, by reading only its header.

    Parameters
    ----------
    url
        Local path, URL of any protocol that fsspec knows (``https://``, ``s3://``, ...), or the
        bytes of a file.
    storage_options
        As fsspec takes them for the protocol.

    Returns
    -------
    Inspection
        Prints as tables; in a notebook also as a picture.

    Raises
    ------
    ccog.RasterError
        The file is not a TIFF, is damaged, or has more directories or tiles than any real file.
    ccog.StoreError
        It does not exist, cannot be read, or is not a regular file (a pipe, a device, a directory).
    ccog.MissingDependencyError
        The package for the protocol is not installed.
    """
    url, storage_options = addressed(url), hidden(storage_options)
    with open_ranges(url, storage_options) as reader:
        return _inspection(read_header(reader))


def _inspection(header: Header) -> Inspection:
    orders = [tile_order(directory) for directory in header.directories]
    spans, extents = Spans.of(header), header.extents()
    full = header.directories[0]
    kind = tags.SAMPLE_FORMAT_NAMES.get(full.value(tags.SAMPLE_FORMAT, 1), "uint")
    return Inspection(
        url=header.url,
        size=header.size,
        big_tiff=header.layout.big,
        bands=full.samples,
        dtype=f"{kind}{full.bits}",
        georeference=georeference(header),
        overview_resampling=overview_resampling(header),
        ghost_area=header.ghost,
        header_size=sum(stop - start for start, stop in extents),
        header_end=max(stop for _, stop in extents),
        levels=tuple(map(_level, header.names, header.directories, orders)),
        gaps=spans.gaps(header.size),
        overlaps=spans.overlaps(),
        reads=read_costs(header, orders[0].group),
        requests=header.requests,
        bytes_read=header.bytes_read,
        drawing=draw(header, spans),
    )


def _level(name: str, directory: ImageDirectory, order: TileOrder) -> LevelReport:
    grid = directory.grid
    stored, size = directory.stored.counts.size, sum_of(directory.stored.counts)
    raw = directory.width * directory.height * directory.samples * directory.bits / 8
    code, predictor = directory.value(tags.COMPRESSION, 1), directory.value(tags.PREDICTOR, 1)
    compression = tags.COMPRESSION_NAMES.get(code, str(code))
    compression += f", predictor {predictor}" if predictor > 1 else ""
    return LevelReport(
        name=name,
        width=directory.width,
        height=directory.height,
        tile=directory.tile,
        tiles=(grid.rows, grid.cols),
        planes=grid.planes,
        stored=stored,
        sparse=directory.offsets.size - stored,
        size=size,
        ratio=raw / size if size else math.inf,
        order=order.name if directory.is_tiled else f"strips, {order.name}",
        extent=directory.tiles_extent,
        compression=compression,
    )
