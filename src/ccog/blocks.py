"""What a worker does with one block: encode its tiles, reduce it, and put reduced pieces together again.

A block hands on ``(encoded, pieces)``. A piece is a plain tuple ``(rows, cols, pixels, mask)``, rows and cols
being (start, stop): reduced pixels of the next level, or source strips along seams from which the next
level computes what no block could reduce alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ccog.encode import Codec, Encoded, encode_block
from ccog.plan import CogPlan, Gap
from ccog.pyramid import Interval
from ccog.resample import Area, Reduction, reduce_area

Array = npt.NDArray[Any]
Piece = tuple[tuple[int, int], tuple[int, int], Array, "Array | None"]

#: (reduced pieces of the next level, strips of this level)
Pieces = tuple[list[Piece], list[Piece]]


@dataclass(frozen=True)
class Handover:
    """What a block passes on to the next level: where it reduces alone, and the strips it gives away."""

    how: Reduction
    done: Area
    strips: tuple[Area, ...]


@dataclass(frozen=True)
class BlockJob:
    """One block of one level: where it lies, how it is compressed and what it hands on (None at the top)."""

    area: Area
    codec: Codec
    handover: Handover | None


@dataclass(frozen=True)
class Assembly:
    """How a block of an overview is put together: seams within it and the source they are computed from."""

    how: Reduction
    row_gaps: tuple[Gap, ...]
    col_gaps: tuple[Gap, ...]
    source: Area
    count: int
    dtype: str
    has_mask: bool


def block_job(plan: CogPlan, codec: Codec, k: int, i: int, j: int) -> BlockJob:
    """The job of block (i, j) of level ``k``."""
    level = plan.level(k)
    area = Area(level.rows(i), level.cols(j))
    if k == plan.top:
        return BlockJob(area, codec, None)
    rows, cols = plan.seams[k]
    strips = [Area(area.rows.intersect(gap.source), area.cols) for gap in rows.gaps_from(area.rows)]
    strips += [Area(area.rows, area.cols.intersect(gap.source)) for gap in cols.gaps_from(area.cols)]
    return BlockJob(area, codec, Handover(reduction(plan, k), Area(rows.done[i], cols.done[j]), tuple(strips)))


def assembly(plan: CogPlan, k: int, i: int, j: int) -> Assembly:
    """How block (i, j) of overview level ``k`` is put together."""
    level = plan.level(k)
    rows, cols = plan.seams[k - 1]
    how = reduction(plan, k - 1)
    source = Area(how.y.source_of(level.rows(i)), how.x.source_of(level.cols(j)))
    return Assembly(
        how,
        tuple(rows.gaps_in(level.rows(i))),
        tuple(cols.gaps_in(level.cols(j))),
        source,
        plan.count,
        plan.dtype,
        plan.has_mask,
    )


def reduction(plan: CogPlan, k: int) -> Reduction:
    """How level ``k`` becomes the next."""
    y, x = plan.pyramid.reduction(k)
    return Reduction(plan.method, plan.nodata, y, x, k)


def source_block(job: BlockJob, pixels: Array, mask: Array | None, *after: object) -> tuple[Encoded, Pieces]:
    """Encode and reduce a block of full resolution; ``after`` only orders tasks."""
    valid = None if mask is None else np.where(mask, np.uint8(255), np.uint8(0))
    return _process(job, pixels, valid)


def overview_block(job: BlockJob, how: Assembly, children: list[Pieces]) -> tuple[Encoded, Pieces]:
    """Put an overview block together from what its children hand on, then encode and reduce it."""
    canvas = _Canvas.empty(job.area, how)
    reduced = [piece for done, _ in children for piece in done]
    strips = [piece for _, strips in children for piece in strips]
    canvas.paste(reduced)
    for gap in how.row_gaps:
        source = Area(gap.source, how.source.cols)
        canvas.paste([_reduce(strips, source, Area(gap.dst, job.area.cols), how)])
    for gap in how.col_gaps:
        source = Area(how.source.rows, gap.source)
        canvas.paste([_reduce(strips, source, Area(job.area.rows, gap.dst), how)])
    return _process(job, canvas.pixels, canvas.mask)


def _process(job: BlockJob, pixels: Array, mask: Array | None) -> tuple[Encoded, Pieces]:
    encoded = encode_block(pixels, mask, job.codec)
    if job.handover is None:
        return encoded, ([], [])
    done, strips = [], []
    want = job.handover.done
    if len(want.rows) and len(want.cols):
        out, out_mask = reduce_area(pixels, mask, job.area, want, job.handover.how)
        done.append(_piece(want, out, out_mask))
    for strip in job.handover.strips:
        at = (strip.rows.slice_of(job.area.rows), strip.cols.slice_of(job.area.cols))
        strips.append(_piece(strip, pixels[(slice(None), *at)].copy(), None if mask is None else mask[at].copy()))
    return encoded, (done, strips)


def _piece(area: Area, pixels: Array, mask: Array | None) -> Piece:
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
        mask = np.empty(area.shape, np.uint8) if how.has_mask else None
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
            self.pixels[(slice(None), *here)] = pixels[(slice(None), *there)]
            if self.mask is not None and mask is not None:
                self.mask[here] = mask[there]


