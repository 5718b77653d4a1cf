"""What a worker does with one block: encode its tiles, reduce it, and put reduced pieces together again.

A block of full resolution becomes ``(encoded, pieces)``, one of an overview ``(pixels, pieces)``. A piece is
a plain tuple ``(rows, cols, pixels, mask)``, rows and cols being (start, stop): reduced pixels of the next
level, or source strips along seams from which the next level computes what no block could reduce alone.
Its pixels are None where all are zeros, so that next to nothing is held of a sparse raster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ccog.gdal.blank import is_blank
from ccog.gdal.encode import Codec, Tiles, encode_block
from ccog.gdal.resample import Area, Reduction, alpha_weighs, reduce_area
from ccog.gdal.statistics import BandStatistics, block_statistics
from ccog.geometry.cog import CogGeometry, Flow, Gap
from ccog.geometry.pyramid import Interval
from ccog.geometry.tile_order import along_curve

Array = npt.NDArray[Any]
Piece = tuple[tuple[int, int], tuple[int, int], "Array | None", "Array | None"]

#: Tiles of a block, chunk by chunk where they lie so, and of full resolution the statistics of its bands if wanted.
Encoded = tuple[list[Tiles], "tuple[BandStatistics, ...] | None"]

#: Pixels and mask of an overview block.
Overview = tuple[Array, "Array | None"]

#: (reduced pieces of the target level, strips of the source level) of one flow
Pieces = tuple[list[Piece], list[Piece]]


#: How a flow's pieces are put together, the pieces or whole blocks, and which pieces of a block
Brought = tuple["Assembly", list[Any], "int | None"]


@dataclass(frozen=True)
class Handover:
    """What a block passes on through a flow: where it reduces alone, and the strips it gives away."""

    how: Reduction
    pixels: bool
    mask: bool
    done: Area
    strips: tuple[Area, ...]


@dataclass(frozen=True)
class Validity:
    """What makes a pixel count in statistics besides the mask: the nodata value, and whether alpha is a mask."""

    nodata: float | int | None
    alpha: bool


@dataclass(frozen=True)
class BlockJob:
    """One block of one level: where it lies, how its chunks are compressed and what it hands on."""

    area: Area
    chunks: tuple[Area, ...]
    codec: Codec
    handovers: tuple[Handover, ...]
    statistics: Validity | None


@dataclass(frozen=True)
class Assembly:
    """How what a flow brings is put together: seams within the block and the source they are computed from."""

    how: Reduction
    row_gaps: tuple[Gap, ...]
    col_gaps: tuple[Gap, ...]
    source: Area
    count: int
    dtype: str
    mask: bool


def block_job(plan: CogGeometry, codec: Codec, k: int, i: int, j: int) -> BlockJob:
    """The job of block (i, j) of level ``k``."""
    area = Area(plan.level(k).rows(i), plan.level(k).cols(j))
    validity = Validity(
        plan.nodata, plan.has_alpha and alpha_weighs(np.dtype(plan.array_type), plan.count)
    )
    wanted = validity if k == 0 and plan.options.statistics == "YES" else None
    handovers = tuple(_handover(plan, flow, area, i, j) for flow in plan.flows_from(k))
    return BlockJob(area, tuple(_chunks(plan, k, area)), codec, handovers, wanted)


def _chunks(plan: CogGeometry, k: int, area: Area) -> Iterator[Area]:
    """The chunks of a block in the order of their bytes in the file; all of it where tiles lie row by row."""
    level = plan.level(k)
    (high, wide), split = level.chunk, level.split
    for i, j in along_curve((split, split)).tolist():
        top, left = area.rows.start + i * high, area.cols.start + j * wide
        rows = area.rows.intersect(Interval(top, top + high))
        cols = area.cols.intersect(Interval(left, left + wide))
        if len(rows) and len(cols):
            yield Area(rows, cols)


def _handover(plan: CogGeometry, flow: Flow, area: Area, i: int, j: int) -> Handover:
    strips = [Area(area.rows.intersect(gap.source), area.cols) for gap in flow.rows.fed(i)]
    strips += [Area(area.rows, area.cols.intersect(gap.source)) for gap in flow.cols.fed(j)]
    done = Area(flow.rows.done(i), flow.cols.done(j))
    return Handover(_reduction(plan, flow), flow.pixels, flow.mask, done, tuple(strips))


def assembly(plan: CogGeometry, flow: Flow, i: int, j: int) -> Assembly:
    """How block (i, j) of the flow's target is put together."""
    level = plan.level(flow.target)
    rows, cols = level.rows(i), level.cols(j)
    return Assembly(
        _reduction(plan, flow),
        tuple(flow.rows.gaps_in(rows)),
        tuple(flow.cols.gaps_in(cols)),
        Area(flow.y.source_of(rows), flow.x.source_of(cols)),
        plan.count if flow.pixels else 0,
        plan.array_type,
        flow.mask,
    )


def _reduction(plan: CogGeometry, flow: Flow) -> Reduction:
    return Reduction(
        plan.method,
        plan.nodata,
        flow.y,
        flow.x,
        flow.source,
        whole=plan.dtype == "complex_int16",
        has_alpha=plan.has_alpha and flow.pixels,
        mask_is_alpha=plan.mask_is_alpha,
    )


def source_block(job: BlockJob, pixels: Array, mask: Array | None) -> tuple[Encoded, list[Pieces]]:
    """Encode and reduce a block of full resolution."""
    valid = (
        np.where(mask, np.uint8(255), np.uint8(0))
        if mask is not None and mask.dtype == bool
        else mask
    )
    found = None
    if job.statistics is not None:
        found = block_statistics(pixels, valid, job.statistics.nodata, alpha=job.statistics.alpha)
    return (_encode(job, pixels, valid), found), _hand_over(job, pixels, valid)


def _encode(job: BlockJob, pixels: Array, mask: Array | None) -> list[Tiles]:
    """Tiles of each chunk of a block."""
    places = [
        (chunk.rows.slice_of(job.area.rows), chunk.cols.slice_of(job.area.cols))
        for chunk in job.chunks
    ]
    return [
        encode_block(pixels[(slice(None), *at)], None if mask is None else mask[at], job.codec)
        for at in places
    ]


def reduced_block(job: BlockJob, pixels: Array, mask: Array | None) -> tuple[None, list[Pieces]]:
    """What a block of full resolution hands on, where its tiles are written already."""
    valid = (
        np.where(mask, np.uint8(255), np.uint8(0))
        if mask is not None and mask.dtype == bool
        else mask
    )
    return None, _hand_over(job, pixels, valid)


def overview_block(job: BlockJob, flows: list[Brought]) -> tuple[Overview, list[Pieces]]:
    """Put an overview block together from what its flows bring, and reduce it."""
    canvases = [_assemble(job.area, how, _picked(children, n)) for how, children, n in flows]
    pixels = next(canvas.pixels for canvas in canvases if len(canvas.pixels))
    mask = next((canvas.mask for canvas in canvases if canvas.mask is not None), None)
    return (pixels, mask), _hand_over(job, pixels, mask)


def encoded_overview_block(job: BlockJob, flows: list[Brought]) -> tuple[Encoded, list[Pieces]]:
    """Put an overview block together, encode and reduce it."""
    overview, pieces = overview_block(job, flows)
    return encode_overview(job, overview), pieces


def _picked(children: list[Any], n: int | None) -> list[Pieces]:
    """The pieces of one flow, of blocks that come with all they hand on (``n``) or by themselves."""
    return children if n is None else [pieces[n] for _, pieces in children]


def encode_overview(job: BlockJob, overview: Overview) -> Encoded:
    """Encode an overview block."""
    return _encode(job, *overview), None


def _assemble(area: Area, how: Assembly, children: list[Pieces]) -> _Canvas:
    strips = [piece for _, strips in children for piece in strips]
    done = [piece for done, _ in children for piece in done]
    if not how.mask and all(pixels is None for _, _, pixels, _ in done + strips):
        return _Canvas(
            area, np.broadcast_to(np.zeros((), how.dtype), (how.count, *area.shape)), None
        )
    canvas = _Canvas.empty(area, how)
    canvas.paste(done)
    for gap in how.row_gaps:
        source = Area(gap.source, how.source.cols)
        canvas.paste([_reduce(strips, source, Area(gap.dst, area.cols), how)])
    for gap in how.col_gaps:
        source = Area(how.source.rows, gap.source)
        canvas.paste([_reduce(strips, source, Area(area.rows, gap.dst), how)])
    return canvas


def _hand_over(job: BlockJob, pixels: Array, mask: Array | None) -> list[Pieces]:
    if mask is None and _stays_blank(job, pixels):
        return [_blank_pieces(handover) for handover in job.handovers]
    return [_pieces(job.area, handover, pixels, mask) for handover in job.handovers]


def _stays_blank(job: BlockJob, pixels: Array) -> bool:
    """Whether a block is zero and so is all that any kernel makes of it: integers, none of which is transparent."""
    able = pixels.dtype.kind in "iu" and not any(
        handover.how.has_alpha for handover in job.handovers
    )
    return able and is_blank(pixels)


def _blank_pieces(handover: Handover) -> Pieces:
    done = (
        [_piece(handover.done, None, None)]
        if len(handover.done.rows) and len(handover.done.cols)
        else []
    )
    return done, [_piece(strip, None, None) for strip in handover.strips]


def _pieces(area: Area, handover: Handover, pixels: Array, mask: Array | None) -> Pieces:
    pixels = pixels if handover.pixels else pixels[:0]
    mask = mask if handover.mask else None
    done, strips = [], []
    want = handover.done
    if len(want.rows) and len(want.cols):
        done.append(_piece(want, *reduce_area(pixels, mask, area, want, handover.how)))
    for strip in handover.strips:
        at = (strip.rows.slice_of(area.rows), strip.cols.slice_of(area.cols))
        strips.append(
            _piece(
                strip, pixels[(slice(None), *at)].copy(), None if mask is None else mask[at].copy()
            )
        )
    return done, strips


def _piece(area: Area, pixels: Array | None, mask: Array | None) -> Piece:
    return (area.rows.start, area.rows.stop), (area.cols.start, area.cols.stop), pixels, mask


def _reduce(strips: list[Piece], source: Area, want: Area, how: Assembly) -> Piece:
    canvas = _Canvas.empty(source, how)
    canvas.paste(strips)
    return _piece(want, *reduce_area(canvas.pixels, canvas.mask, source, want, how.how))


@dataclass(frozen=True)
class _Canvas:
    """Pixels of an area, filled from overlapping pieces."""

    area: Area
    pixels: Array
    mask: Array | None

    @classmethod
    def empty(cls, area: Area, how: Assembly) -> _Canvas:
        mask = np.empty(area.shape, np.uint8) if how.mask else None
        return cls(area, np.empty((how.count, *area.shape), how.dtype), mask)

    def paste(self, pieces: list[Piece]) -> None:
        """Copy the parts of the pieces that lie in the area."""
        for rows, cols, pixels, mask in pieces:
            y, x = Interval(*rows), Interval(*cols)
            common = Area(self.area.rows.intersect(y), self.area.cols.intersect(x))
            if not len(common.rows) or not len(common.cols):
                continue
            here = (common.rows.slice_of(self.area.rows), common.cols.slice_of(self.area.cols))
            there = (common.rows.slice_of(y), common.cols.slice_of(x))
            self.pixels[(slice(None), *here)] = (
                0 if pixels is None else pixels[(slice(None), *there)]
            )
            if self.mask is not None and mask is not None:
                self.mask[here] = mask[there]
