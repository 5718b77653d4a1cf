"""What a write would make and cost, as frozen values that show themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ccog.tiff.header import CLASSIC_LIMIT
from ccog.views.drawing import Drawing
from ccog.views.georeference import Georeference
from ccog.views.plan.sizes import PlannedSizes
from ccog.views.tables import Pictured, Report, Table
from ccog.wording import about_bytes, byte_text, plural, size_text


@dataclass(frozen=True, kw_only=True)
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
        Tiles down and across, times ``planes`` where bands are compressed apart; a mask has as many
        again, once.
    planes
        Bands that are compressed apart, else 1.
    blocks
        Blocks down and across: one task encodes one.
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
    name
        The read, for people.
    tiles
        Tiles it needs, those of the mask included.
    requests
        Range requests of GDAL, which joins ranges that touch.
    """

    name: str
    tiles: int
    requests: int


@dataclass(frozen=True, kw_only=True)
class PlannedUpload:
    """How the file gets into a store that all workers upload to.

    Attributes
    ----------
    part_size
        What parts aim at, in bytes.
    expected_parts, most_parts
        A guess at their number, and the largest possible.
    """

    part_size: int
    expected_parts: int
    most_parts: int


@dataclass(frozen=True, kw_only=True, repr=False)
class CogPlan(Pictured):
    """What :func:`ccog.write_ccog` would write, and what that would cost: see :func:`ccog.plan`.

    It prints as tables; ``svg`` is a picture, which ``save_svg(path)`` saves.

    Attributes
    ----------
    url
        The target.
    shape, dtype
        (bands, rows, columns) of the raster, and the type of its pixels in the file.
    values
        How the values of the array become these pixels, where they were decoded; else None.
    georeference
        CRS, transform, bounds, nodata value and names of bands.
    overview_resampling
        How overviews are computed; None where there are none, or they are given.
    has_mask
        Whether there is an internal mask.
    layout
        Order of tiles: "gdal" or "chunk".
    compression
        Of the full resolution.
    levels
        Full resolution first.
    sizes
        Sizes of the header and of the file.
    tasks
        Tasks of the graph, besides those that load and rechunk the array.
    chunks
        Chunks of the array.
    upload
        Parts of the upload; None where one writer writes the file as a whole.
    memory
        A guess at the bytes that each of a worker's threads needs, the imports of the process and
        what computes the chunks aside: see "See the plan first" in the documentation.
    group_memory
        A guess at the compressed bytes of an upload group, which meet on the worker that uploads
        them: a row of blocks, or with ``layout="chunk"`` some that follow each other.
    sample
        How many blocks were compressed for these guesses; 0 where a usual ratio stands for them.
    reads
        The cost of typical reads of the file.
    warnings
        What could be better, with remedies.
    """

    url: str
    shape: tuple[int, int, int]
    dtype: str
    values: str | None
    georeference: Georeference
    overview_resampling: str | None
    has_mask: bool
    layout: str
    compression: str
    levels: tuple[PlannedLevel, ...]
    sizes: PlannedSizes
    tasks: int
    chunks: int
    upload: PlannedUpload | None
    memory: int
    group_memory: int
    sample: int
    reads: tuple[PlannedRead, ...]
    warnings: tuple[str, ...]
    drawing: Drawing = field(compare=False)

    @property
    def tasks_per_chunk(self) -> float:
        """Tasks divided by chunks."""
        return self.tasks / self.chunks

    def _report(self) -> Report:
        levels = Table(_LEVEL_TITLES, list(map(_level_row, self.levels)))
        reads = [(read.name, f"{read.tiles:,}", f"{read.requests:,}") for read in self.reads]
        return Report(
            facts=self._facts(),
            warnings=self.warnings,
            tables=[levels, Table(("Read", "Tiles", "Range requests"), reads)],
            drawing=self.drawing,
        )

    def _facts(self) -> list[str]:
        bands, height, width = self.shape
        raster = f"{width} x {height}, {plural(bands, 'band')} of {self.dtype}"
        raster += ", a mask" if self.has_mask else ""
        origin = f"from {plural(self.sample, 'block')}" if self.sample else "a guess"
        expected, most = about_bytes(self.sizes.expected), byte_text(self.sizes.largest)
        tasks, chunks = plural(self.tasks, "task"), plural(self.chunks, "chunk")
        memory, group = about_bytes(self.memory), about_bytes(self.group_memory)
        gathered = "chunks" if self.layout == "chunk" else "rows of tiles"
        values = [f"Values: {self.values}"] if self.values else []
        overviews = [f"Overviews: {self.overview_resampling}"] if self.overview_resampling else []
        return [
            f"{self.url}: {raster}, {self.compression}",
            *values,
            *self.georeference.facts(),
            *overviews,
            f"File: about {expected} ({origin}), at most {most}",
            f"Header: {self._header()}",
            f"Graph: {tasks} for {chunks}, {self.tasks_per_chunk:.2f} a chunk",
            f"Upload: {self._upload()}",
            f"Memory: about {memory} for each thread of a worker; "
            f"a worker gathers {gathered} of about {group}",
        ]

    def _header(self) -> str:
        sizes = self.sizes
        header = byte_text(sizes.header)
        if sizes.classic_header is not None:
            classic = byte_text(sizes.classic_header)
            if sizes.expected < CLASSIC_LIMIT:
                return f"{classic}, classic TIFF; {header} as BigTIFF should the file exceed 4 GiB"
            return f"{header}, BigTIFF; {classic} as classic TIFF should the file stay below 4 GiB"
        kind = "BigTIFF" if sizes.big_tiff else "classic TIFF"
        return f"{header}, {kind}" if sizes.header_is_exact else f"at most {header}, {kind}"

    def _upload(self) -> str:
        if self.upload is None:
            return "as a whole, by one writer"
        parts = plural(self.upload.expected_parts, "part")
        # a small file fills no part
        if self.upload.part_size <= self.sizes.largest:
            parts += f" of about {about_bytes(self.upload.part_size)}"
        return f"about {parts}, at most {self.upload.most_parts:,}"


_LEVEL_TITLES = ("Level", "Size", "Tile", "Tiles", "Blocks", "Pixels")


def _level_row(level: PlannedLevel) -> Sequence[str]:
    planes = f" x {level.planes} planes" if level.planes > 1 else ""
    return (
        level.name,
        size_text(level.width, level.height),
        size_text(level.tile, level.tile),
        size_text(level.tiles[1], level.tiles[0]) + planes,
        size_text(level.blocks[1], level.blocks[0]),
        byte_text(level.raw),
    )
