"""What a write would make and cost, as frozen values that show themselves as text and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from ccog.tiff.header import CLASSIC_LIMIT
from ccog.views.inspection.drawing import Drawing, to_svg
from ccog.views.inspection.tables import byte_text, html_table, plural, text_table


@dataclass(frozen=True)
class PlannedLevel:
    """One resolution of the file to be.

    Attributes
    ----------
    name
        "full resolution", "overview 1", ...
    width, height
        Pixels.
    tile
        Side of a tile in pixels.
    tiles
        Tiles down and across, times ``planes`` where bands are compressed apart; a mask has as many again, once.
    planes
        Bands that are compressed apart, else 1.
    blocks
        Work blocks down and across: one task encodes one.
    raw
        Bytes of its pixels, mask aside.
    """

    name: str
    width: int
    height: int
    tile: int
    tiles: tuple[int, int]
    planes: int
    blocks: tuple[int, int]
    raw: int


@dataclass(frozen=True)
class PlannedRead:
    """What a typical read of the file costs once it is open.

    Attributes
    ----------
    what
        The read, for people.
    tiles
        Tiles it needs, those of the mask included.
    requests
        Range requests of GDAL, which joins ranges that touch.
    """

    what: str
    tiles: int
    requests: int


@dataclass(frozen=True)
class CogPlan:
    """What :func:`ccog.write_ccog` would write, and what that would cost: see :func:`ccog.plan`. Sizes are in bytes.

    Attributes
    ----------
    url
        The target.
    shape, dtype
        (bands, rows, columns) of the raster, and the type of its pixels in the file.
    has_mask
        Whether there is an internal mask.
    layout
        Order of tiles: "gdal" or "chunk".
    compression
        Of the full resolution.
    levels
        Full resolution first.
    header_size
        Bytes before the first tile; ``header_is_exact`` unless statistics are written, which make it smaller by a
        few bytes a band, or ``big_tiff`` is undecided.
    classic_header_size
        The header of a classic TIFF where ``big_tiff`` is undecided, else None.
    big_tiff
        Whether the file is a BigTIFF; None where that depends on how well the pixels compress.
    largest_size
        What the file cannot exceed, whatever the pixels.
    expected_size
        A guess: bytes of the pixels times a ratio that is usual for the compression, or that of the sample.
    tasks
        Tasks of the graph, besides those that load and rechunk the array.
    chunks
        Chunks of the array.
    part_size, most_parts, expected_parts
        What parts of the upload aim at, their largest possible and guessed number; None where there are no parts.
    memory
        A guess at the memory each of a worker's threads needs, the imports of the process and what computes the
        chunks aside: see ``docs/guides/planning.md``.
    unit_memory
        A guess at the compressed bytes of a row of work blocks, or with ``layout="chunk"`` of some that follow each
        other, which meet on the worker that uploads them.
    sample
        How many work blocks were compressed for these guesses; 0 where a usual ratio stands for them.
    reads
        What typical reads of the file cost.
    warnings
        What could be better, with remedies.
    """

    url: str
    shape: tuple[int, int, int]
    dtype: str
    has_mask: bool
    layout: str
    compression: str
    levels: tuple[PlannedLevel, ...]
    header_size: int
    header_is_exact: bool
    classic_header_size: int | None
    big_tiff: bool | None
    largest_size: int
    expected_size: int
    tasks: int
    chunks: int
    part_size: int | None
    most_parts: int | None
    expected_parts: int | None
    memory: int
    unit_memory: int
    sample: int
    reads: tuple[PlannedRead, ...]
    warnings: tuple[str, ...]
    drawing: Drawing = field(repr=False, compare=False)

    @property
    def tasks_per_chunk(self) -> float:
        """Tasks divided by chunks."""
        return self.tasks / self.chunks

    @property
    def svg(self) -> str:
        """The pyramid, and the chunks over the tiles, as an SVG element."""
        return to_svg(self.drawing)

    def __repr__(self) -> str:
        """Tables for a terminal."""
        warned = [f"Warning: {text}" for text in self.warnings]
        tables = ["", *text_table(*self._levels()), "", *text_table(*self._reads())]
        return "\n".join([*self._facts(), *tables, *([""] if warned else []), *warned])

    def _repr_html_(self) -> str:
        facts = "".join(f"<div>{escape(line)}</div>" for line in self._facts())
        warned = "".join(
            f'<div style="color:#b3261e"><b>Warning:</b> {escape(text)}</div>'
            for text in self.warnings
        )
        return f"<div>{facts}{warned}{html_table(*self._levels())}{html_table(*self._reads())}{self.svg}</div>"

    def _facts(self) -> list[str]:
        bands, height, width = self.shape
        mask = ", a mask" if self.has_mask else ""
        return [
            f"{self.url}: {width} x {height}, {plural(bands, 'band')} of {self.dtype}{mask}, {self.compression}",
            f"File: about {byte_text(self.expected_size)} ({self._origin()}), at most {byte_text(self.largest_size)}",
            f"Header: {self._header()}",
            f"Graph: {plural(self.tasks, 'task')} for {plural(self.chunks, 'chunk')}, "
            f"{self.tasks_per_chunk:.2f} a chunk",
            f"Upload: {self._upload()}",
            f"Memory: about {byte_text(self.memory)} for each thread of a worker; one gathers "
            f"{'chunks' if self.layout == 'chunk' else 'rows of tiles'} of about {byte_text(self.unit_memory)}",
        ]

    def _origin(self) -> str:
        return f"from {plural(self.sample, 'block')}" if self.sample else "a guess"

    def _header(self) -> str:
        if self.big_tiff is None:
            classic, big = byte_text(self.classic_header_size or 0), byte_text(self.header_size)
            if self.expected_size < CLASSIC_LIMIT:
                return f"{classic}, classic TIFF; {big} as BigTIFF should the file exceed 4 GiB"
            return f"{big}, BigTIFF; {classic} as classic TIFF should the file stay below 4 GiB"
        kind = "BigTIFF" if self.big_tiff else "classic TIFF"
        return f"{'' if self.header_is_exact else 'at most '}{byte_text(self.header_size)}, {kind}"

    def _upload(self) -> str:
        if self.part_size is None or self.most_parts is None:
            return "as a whole, by one writer"
        size = (
            f" of about {byte_text(self.part_size)}" if self.part_size <= self.largest_size else ""
        )
        return (
            f"about {plural(self.expected_parts or 1, 'part')}{size}, at most {self.most_parts:,}"
        )

    def _levels(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        titles = ("Level", "Size", "Tile", "Tiles", "Work blocks", "Pixels")
        return titles, [_level_row(level) for level in self.levels]

    def _reads(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        return ("Read", "Tiles", "Range requests"), [
            (r.what, f"{r.tiles:,}", f"{r.requests:,}") for r in self.reads
        ]


def _level_row(level: PlannedLevel) -> Sequence[str]:
    return (
        level.name,
        f"{level.width} x {level.height}",
        f"{level.tile} x {level.tile}",
        f"{level.tiles[1]} x {level.tiles[0]}"
        + (f" x {level.planes} planes" if level.planes > 1 else ""),
        f"{level.blocks[1]} x {level.blocks[0]}",
        byte_text(level.raw),
    )
