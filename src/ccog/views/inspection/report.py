"""What ``ccog.inspect`` found, as frozen values that show themselves as text and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ccog.views.inspection.directories import SAMPLE_FORMAT, Header, ImageDirectory, read_header
from ccog.views.inspection.drawing import Drawing, to_png, to_svg
from ccog.views.inspection.layout import (
    Grid,
    ReadCost,
    Spans,
    compression,
    header_pieces,
    read_costs,
    tile_order,
)
from ccog.views.inspection.picture import draw
from ccog.views.inspection.source import Range, open_ranges
from ccog.views.inspection.tables import byte_text, html_table, plural, text_table

_FORMATS = {1: "uint", 2: "int", 3: "float", 4: "void", 5: "complex_int", 6: "complex"}


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Inspection:
    """What the header of a TIFF says of the file: see :func:`ccog.inspect`.

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
    ghost_area
        GDAL's structural metadata, empty where there is none.
    header_size
        Bytes that are no tiles: directories, their values and the tile arrays.
    header_end
        The byte after the last of them; larger than ``header_size`` plus alignment where they are scattered.
    levels
        Directories in the order of the file.
    gaps, overlaps
        Stretches that nothing points to, or that two things claim; the first 1000.
    reads
        What typical reads cost.
    requests, bytes_read
        What looking cost.
    """

    url: str
    size: int
    big_tiff: bool
    bands: int
    dtype: str
    ghost_area: str
    header_size: int
    header_end: int
    levels: tuple[LevelReport, ...]
    gaps: tuple[Range, ...]
    overlaps: tuple[Range, ...]
    reads: tuple[ReadCost, ...]
    requests: int
    bytes_read: int
    drawing: Drawing = field(repr=False, compare=False)

    def __repr__(self) -> str:
        """Tables for a terminal."""
        return "\n".join(
            [*self._facts(), "", *text_table(*self._levels()), "", *text_table(*self._reads())]
        )

    def _repr_html_(self) -> str:
        facts = "".join(f"<div>{escape(line)}</div>" for line in self._facts())
        return (
            f"<div>{facts}{html_table(*self._levels())}{html_table(*self._reads())}{self.svg}</div>"
        )

    @property
    def svg(self) -> str:
        """The picture of the file as an SVG element."""
        return to_svg(self.drawing)

    def save_png(self, path: Any) -> None:
        """Save the picture as a PNG; needs Pillow (``pip install 'ccog[png]'``)."""
        Path(path).write_bytes(to_png(self.drawing))

    def _facts(self) -> list[str]:
        kind = "BigTIFF" if self.big_tiff else "classic TIFF"
        ghost = (
            ", ".join(_printable(line.strip()) for line in self.ghost_area.splitlines()) or "none"
        )
        return [
            f"{self.url}: {byte_text(self.size)}, {kind}, {self.bands} {'bands' if self.bands > 1 else 'band'} "
            f"of {self.dtype}",
            f"Header: {byte_text(self.header_size)}, ends at byte {self.header_end:,}",
            f"Ghost area: {ghost}",
            f"Gaps: {_ranges(self.gaps)}; overlaps: {_ranges(self.overlaps)}",
            f"Looking took {plural(self.requests, 'range request')} and {byte_text(self.bytes_read)}",
        ]

    def _levels(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        titles = (
            "Level",
            "Size",
            "Tile",
            "Tiles",
            "Sparse",
            "Bytes",
            "Ratio",
            "Compression",
            "Tile order",
        )
        return titles, [_level_row(level) for level in self.levels]

    def _reads(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        titles = ("Read", "Tiles", "Bytes", "Requests: GDAL", "Requests: joining within 1 MiB")
        return titles, [
            (r.what, f"{r.tiles:,}", byte_text(r.size), f"{r.gdal:,}", f"{r.coalescing:,}")
            for r in self.reads
        ]


def _level_row(level: LevelReport) -> Sequence[str]:
    planes = f" x {level.planes} planes" if level.planes > 1 else ""
    return (
        level.name,
        f"{level.width} x {level.height}",
        f"{level.tile[1]} x {level.tile[0]}",
        f"{level.tiles[1]} x {level.tiles[0]}{planes}",
        f"{level.sparse:,}",
        byte_text(level.size),
        "-" if np.isinf(level.ratio) else f"{level.ratio:.2f}",
        level.compression,
        level.order,
    )


def inspect(url: Any, storage_options: Mapping[str, Any] | None = None) -> Inspection:
    """Look at how a GeoTIFF is stored, by reading only its header.

    Parameters
    ----------
    url
        Local path, URL of any protocol that fsspec knows (``https://``, ``s3://``, ...), or the bytes of a file.
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
    with open_ranges(url, storage_options) as reader:
        return report(read_header(reader))


def report(header: Header) -> Inspection:
    """What a header says, worked out."""
    grids = [Grid.of(directory) for directory in header.directories]
    spans = Spans.of(header, grids)
    names = level_names(header.directories)
    levels = tuple(_level(name, grid) for name, grid in zip(names, grids, strict=True))
    pieces = header_pieces(header)
    first = header.directories[0]
    return Inspection(
        header.url,
        header.size,
        header.big,
        first.samples,
        _dtype(first),
        header.ghost,
        sum(stop - start for start, stop in set(pieces)),
        max(stop for _, stop in pieces),
        levels,
        spans.gaps(header.size),
        spans.overlaps(),
        read_costs(header, grids),
        header.requests,
        header.bytes_read,
        draw(header.size, names, grids, spans),
    )


def level_names(directories: Sequence[ImageDirectory]) -> list[str]:
    """A name for each directory: overviews are numbered by size, masks named after the image of their size."""
    names: dict[tuple[int, int], str] = {}
    found, overviews, others = [], 0, 0
    for directory in directories:
        size = (directory.height, directory.width)
        if directory.is_mask:
            found.append(f"mask of {names.get(size, 'nothing')}")
            continue
        if directory.is_overview:
            overviews += 1
            name = f"overview {overviews}"
        else:
            others += 1
            name = "full resolution" if others == 1 else f"image {others}"
        names.setdefault(size, name)
        found.append(name)
    return found


def _level(name: str, grid: Grid) -> LevelReport:
    directory = grid.directory
    stored, size = grid.stored_count, grid.size
    raw = directory.width * directory.height * directory.samples * directory.bits / 8
    return LevelReport(
        name,
        directory.width,
        directory.height,
        directory.tile,
        (grid.offsets.shape[1], grid.offsets.shape[2]),
        directory.planes,
        stored,
        grid.offsets.size - stored,
        size,
        raw / size if size else float("inf"),
        tile_order(grid) if directory.is_tiled else f"strips, {tile_order(grid)}",
        grid.extent,
        compression(directory),
    )


def _dtype(directory: ImageDirectory) -> str:
    return f"{_FORMATS.get(directory.value(SAMPLE_FORMAT, 1), 'uint')}{directory.bits}"


def _printable(text: str) -> str:
    """Without what a terminal would take for a command."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _ranges(ranges: tuple[Range, ...]) -> str:
    if not ranges:
        return "none"
    total = sum(stop - start for start, stop in ranges)
    return f"{plural(len(ranges), 'range')}, {byte_text(total)}, first at byte {ranges[0][0]:,}"
