"""Work on one block: encode its tiles, reduce it, and put reduced patches together again.

Every block gives its encoded tiles and, for each level that is made from it, a partial overview:
the pixels of that level that it can compute alone, and halos, source pixels along its seams from
which the next level computes the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ccog.gdal.blank import is_blank
from ccog.gdal.encode import Codec, EncodedTiles, encode_block
from ccog.gdal.resample import Reduction, alpha_weighs, reduce_area
from ccog.gdal.statistics import BandStatistics, block_statistics
from ccog.geometry.cog import CogGeometry
from ccog.geometry.intervals import Area, Interval
from ccog.geometry.level_reductions import LevelReduction
from ccog.geometry.seams import Seam
from ccog.geometry.tile_order import along_curve

Array = npt.NDArray[Any]


# ---- values that travel between workers: named tuples, in which dask sees the arrays ----


class PixelPatch(NamedTuple):
    """Pixels and mask of an area, whose rows and columns are (start, stop).

    Pixels are None where all are zeros, so that next to nothing is held of a sparse raster.
    """

    rows: tuple[int, int]
    cols: tuple[int, int]
    pixels: Array | None
    mask: Array | None


class PartialOverview(NamedTuple):
    """A block's contribution to one reduction.

    ``reduced`` are pixels of the next level, ``halos`` source pixels that neighbours need too.
    """

    reduced: list[PixelPatch]
    halos: list[PixelPatch]


class EncodedBlock(NamedTuple):
    """Tiles of a block, chunk by chunk where they lie so, and the statistics of its bands if any.

    Statistics are of full resolution only, and so is the number of valid pixels that are ``nan``,
    all bands together, where they are counted.
    """

    chunks: list[EncodedTiles]
    statistics: tuple[BandStatistics, ...] | None
    nan: int = 0


class BlockResult(NamedTuple):
    """All that comes of a block; nothing is encoded where an earlier run has uploaded it."""

    encoded: EncodedBlock | None
    overviews: list[PartialOverview]


class BlockPixels(NamedTuple):
    """Pixels and mask of a whole block."""

    pixels: Array
    mask: Array | None


# ---- values that are planned ----


@dataclass(frozen=True, kw_only=True)
class BlockReduction:
    """A block's share in a reduction: the area it reduces alone, and the halos it gives away.

    ``mask`` says that the mask is reduced, or heeded, with the pixels.
    """

    reduction: Reduction
    pixels: bool
    mask: bool
    alone: Area
    halos: tuple[Area, ...]


@dataclass(frozen=True, kw_only=True)
class Validity:
    """Which pixels count in statistics: nodata does not, nor does what an alpha band masks."""

    nodata: float | int | None
    nodata_by_band: tuple[float | int | None, ...] | None
    alpha: bool


@dataclass(frozen=True, kw_only=True)
class BlockJob:
    """A block of a level: where it lies, how its chunks are compressed, its reductions.

    NaN is counted where there is another nodata value.
    """

    area: Area
    chunks: tuple[Area, ...]
    codec: Codec
    reductions: tuple[BlockReduction, ...]
    statistics: Validity | None
    counts_nan: bool


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """How a block of an overview is put together from partial overviews.

    Seams within the block are computed from halos, which make up ``source``. The partial
    overviews come by themselves, or as one of those of a block (``pick``).
    """

    reduction: Reduction
    row_seams: tuple[Seam, ...]
    col_seams: tuple[Seam, ...]
    source: Area
    count: int
    dtype: str
    mask: bool
    band_masks: bool
    pick: int | None


def block_job(geometry: CogGeometry, codec: Codec, k: int, i: int, j: int) -> BlockJob:
    """The job of block (i, j) of level ``k``."""
    area = Area(geometry.level(k).rows(i), geometry.level(k).cols(j))
    counted = k == 0 and geometry.options.statistics == "YES"
    reductions = [
        _block_reduction(geometry, f, area, i, j) for f in geometry.reductions.from_level(k)
    ]
    return BlockJob(
        area=area,
        chunks=tuple(_chunks(geometry, k, area)),
        codec=codec,
        reductions=tuple(reductions),
        statistics=_validity(geometry) if counted else None,
        counts_nan=k == 0 and geometry.raster.has_nan_beside_nodata,
    )


def _validity(geometry: CogGeometry) -> Validity:
    raster = geometry.raster
    return Validity(
        nodata=raster.nodata,
        nodata_by_band=raster.nodata_by_band,
        alpha=raster.has_alpha and alpha_weighs(np.dtype(raster.array_type), raster.count),
    )


def _chunks(geometry: CogGeometry, k: int, area: Area) -> Iterator[Area]:
    """The chunks of a block in the order of the file; all of it where tiles lie row by row."""
    level = geometry.level(k)
    (high, wide), split = level.chunk, level.chunks_a_side
    if split == 1:
        yield area
        return
    for i, j in along_curve((split, split)).tolist():
        top, left = area.rows.start + i * high, area.cols.start + j * wide
        rows = area.rows.intersect(Interval(top, top + high))
        cols = area.cols.intersect(Interval(left, left + wide))
        if len(rows) and len(cols):
            yield Area(rows, cols)


def _block_reduction(
    geometry: CogGeometry, flow: LevelReduction, area: Area, i: int, j: int
) -> BlockReduction:
    halos = [
        Area(area.rows.intersect(seam.source), area.cols) for seam in flow.row_seams.needing(i)
    ]
    halos += [
        Area(area.rows, area.cols.intersect(seam.source)) for seam in flow.col_seams.needing(j)
    ]
    return BlockReduction(
        reduction=_reduction(geometry, flow),
        pixels=flow.pixels,
        mask=flow.mask or _heeds_band_masks(geometry, flow),
        alone=Area(flow.row_seams.alone(i), flow.col_seams.alone(j)),
        halos=tuple(halos),
    )


def assembly(
    geometry: CogGeometry, flow: LevelReduction, i: int, j: int, *, pick: int | None
) -> Assembly:
    """How block (i, j) of the level that ``flow`` leads to is put together."""
    level = geometry.level(flow.target)
    rows, cols = level.rows(i), level.cols(j)
    return Assembly(
        reduction=_reduction(geometry, flow),
        row_seams=tuple(flow.row_seams.overlapping(rows)),
        col_seams=tuple(flow.col_seams.overlapping(cols)),
        source=Area(flow.y.source_of(rows), flow.x.source_of(cols)),
        count=geometry.raster.count if flow.pixels else 0,
        dtype=geometry.raster.array_type,
        mask=flow.mask,
        band_masks=_heeds_band_masks(geometry, flow),
        pick=pick,
    )


def _heeds_band_masks(geometry: CogGeometry, flow: LevelReduction) -> bool:
    return geometry.raster.has_band_masks and flow.pixels and flow.source == 0


def _reduction(geometry: CogGeometry, flow: LevelReduction) -> Reduction:
    raster = geometry.raster
    if not flow.pixels:
        # a mask has neither colours nor alpha
        raster = replace(raster, alphas=(), palette=None, nodata_values=None)
    return Reduction(method=geometry.method, raster=raster, y=flow.y, x=flow.x, level=flow.source)


# ---- work ----


def encode_and_reduce(job: BlockJob, pixels: Array, mask: Array | None) -> BlockResult:
    """Encode and reduce a block of full resolution; masks of single bands are not stored."""
    statistics = None
    stored = None if mask is None or mask.ndim > 2 else mask
    if job.statistics is not None:
        statistics = _statistics(job.statistics, pixels, mask)
    nan = _nan_count(pixels, mask) if job.counts_nan else 0
    encoded = EncodedBlock(_encode(job, pixels, stored), statistics, nan)
    return BlockResult(encoded, _reduce_block(job, pixels, mask))


def _nan_count(pixels: Array, mask: Array | None) -> int:
    """Valid pixels that are NaN, all bands together; the least value tells quickly of none."""
    with np.errstate(invalid="ignore"):
        if pixels.dtype.kind == "f" and not np.isnan(pixels.min()):
            return 0
    nan = np.isnan(pixels)
    if mask is not None:
        nan &= mask != 0
    return int(np.count_nonzero(nan))


def _statistics(
    validity: Validity, pixels: Array, mask: Array | None
) -> tuple[BandStatistics, ...]:
    """Statistics of the bands, together where they are alike."""
    has_band_masks = mask is not None and mask.ndim > 2
    if validity.nodata_by_band is None and not has_band_masks:
        return block_statistics(pixels, mask, validity.nodata, alpha=validity.alpha)
    by_band: list[BandStatistics] = []
    for n in range(len(pixels)):
        nodata = validity.nodata if validity.nodata_by_band is None else validity.nodata_by_band[n]
        of_band = mask
        if mask is not None and has_band_masks:
            # a mask of one band counts only beside a nodata value
            of_band = None if nodata is None else mask[n]
        by_band += block_statistics(pixels[n : n + 1], of_band, nodata, alpha=False)
    return tuple(by_band)


def only_reduce(job: BlockJob, pixels: Array, mask: Array | None) -> BlockResult:
    """Reduce a block of full resolution whose tiles are uploaded already."""
    return BlockResult(None, _reduce_block(job, pixels, mask))


def encode_overview(
    job: BlockJob, assemblies: tuple[Assembly, ...], contributions: list[list[Any]]
) -> BlockResult:
    """Put an overview block together from ``contributions`` to each reduction; encode, reduce."""
    pixels, mask = _put_together(job.area, assemblies, contributions)
    encoded = EncodedBlock(_encode(job, pixels, mask), None)
    return BlockResult(encoded, _reduce_block(job, pixels, mask))


def only_reduce_overview(
    job: BlockJob, assemblies: tuple[Assembly, ...], contributions: list[list[Any]]
) -> BlockResult:
    """Put an overview block together whose tiles are uploaded already, and reduce it."""
    pixels, mask = _put_together(job.area, assemblies, contributions)
    return BlockResult(None, _reduce_block(job, pixels, mask))


def pick_overview(block: BlockResult, n: int) -> PartialOverview:
    """A block's contribution to its ``n``-th reduction, without the tiles it came with."""
    return block.overviews[n]


def _encode(job: BlockJob, pixels: Array, mask: Array | None) -> list[EncodedTiles]:
    """Tiles of each chunk of a block."""
    encoded = []
    for chunk in job.chunks:
        rows, cols = _within(chunk, job.area)
        of_mask = None if mask is None else mask[rows, cols]
        encoded.append(encode_block(pixels[:, rows, cols], of_mask, job.codec))
    return encoded


def _within(area: Area, outer: Area) -> tuple[slice, slice]:
    """Rows and columns of an area, counted from those of one that holds it."""
    return area.rows.slice_of(outer.rows), area.cols.slice_of(outer.cols)


def _put_together(
    area: Area, assemblies: tuple[Assembly, ...], contributions: list[list[Any]]
) -> BlockPixels:
    """Pixels and mask of an overview block, which may come through different reductions."""
    canvases = [
        _assemble(area, how, _picked(partials, how.pick))
        for how, partials in zip(assemblies, contributions, strict=True)
    ]
    pixels = next(canvas.pixels for canvas in canvases if len(canvas.pixels))
    mask = next((canvas.mask for canvas in canvases if canvas.mask is not None), None)
    return BlockPixels(pixels, mask)


def _picked(contributions: list[Any], n: int | None) -> list[PartialOverview]:
    """Partial overviews, from blocks with all they give (``n``) or by themselves."""
    if n is None:
        return contributions
    return [pick_overview(block, n) for block in contributions]


def _assemble(area: Area, how: Assembly, partials: list[PartialOverview]) -> _Canvas:
    halos = list(itertools.chain(*(partial.halos for partial in partials)))
    reduced = list(itertools.chain(*(partial.reduced for partial in partials)))
    if not how.mask and all(patch.pixels is None for patch in reduced + halos):
        zeros = np.broadcast_to(np.zeros((), how.dtype), (how.count, *area.shape))
        return _Canvas(area, zeros, None)
    canvas = _Canvas.empty(area, how)
    canvas.paste(reduced)
    for seam in how.row_seams:
        source = Area(seam.source, how.source.cols)
        canvas.paste([_reduce_seam(halos, source, Area(seam.dst, area.cols), how)])
    for seam in how.col_seams:
        source = Area(how.source.rows, seam.source)
        canvas.paste([_reduce_seam(halos, source, Area(area.rows, seam.dst), how)])
    return canvas


def _reduce_seam(halos: list[PixelPatch], source: Area, want: Area, how: Assembly) -> PixelPatch:
    canvas = _Canvas.empty(source, how, band_masks=how.band_masks)
    canvas.paste(halos)
    return _patch(want, *reduce_area(canvas.pixels, canvas.mask, source, want, how.reduction))


def _reduce_block(job: BlockJob, pixels: Array, mask: Array | None) -> list[PartialOverview]:
    if mask is None and _stays_blank(job, pixels):
        return [_blank_overview(share) for share in job.reductions]
    return [_partial_overview(job.area, share, pixels, mask) for share in job.reductions]


def _stays_blank(job: BlockJob, pixels: Array) -> bool:
    """Whether a block is zero and so is all that any kernel makes of it.

    So it is for integers of bands that are alike, none of which is transparent.
    """
    reductions = [share.reduction for share in job.reductions]
    differ = any(reduction.raster.alphas or reduction.is_by_band for reduction in reductions)
    return pixels.dtype.kind in "iu" and not differ and is_blank(pixels)


def _blank_overview(share: BlockReduction) -> PartialOverview:
    reduced = [_patch(share.alone, None, None)] if _has_pixels(share.alone) else []
    return PartialOverview(reduced, [_patch(halo, None, None) for halo in share.halos])


def _has_pixels(area: Area) -> bool:
    return bool(len(area.rows) and len(area.cols))


def _partial_overview(
    area: Area, share: BlockReduction, pixels: Array, mask: Array | None
) -> PartialOverview:
    pixels = pixels if share.pixels else pixels[:0]
    mask = mask if share.mask else None
    reduced = []
    if _has_pixels(share.alone):
        overview = reduce_area(pixels, mask, area, share.alone, share.reduction)
        reduced.append(_patch(share.alone, *overview))
    return PartialOverview(reduced, [_halo(halo, area, pixels, mask) for halo in share.halos])


def _halo(halo: Area, area: Area, pixels: Array, mask: Array | None) -> PixelPatch:
    """A copy, so that the block itself can go."""
    rows, cols = _within(halo, area)
    of_mask = None if mask is None else mask[..., rows, cols].copy()
    return _patch(halo, pixels[:, rows, cols].copy(), of_mask)


def _patch(area: Area, pixels: Array | None, mask: Array | None) -> PixelPatch:
    rows, cols = area.rows, area.cols
    return PixelPatch((rows.start, rows.stop), (cols.start, cols.stop), pixels, mask)


@dataclass(frozen=True)
class _Canvas:
    """Pixels of an area, and their mask or those of each band, filled from overlapping patches."""

    area: Area
    pixels: Array
    mask: Array | None

    @classmethod
    def empty(cls, area: Area, how: Assembly, *, band_masks: bool = False) -> _Canvas:
        pixels = np.empty((how.count, *area.shape), how.dtype)
        if band_masks:
            return cls(area, pixels, np.empty(pixels.shape, np.uint8))
        return cls(area, pixels, np.empty(area.shape, np.uint8) if how.mask else None)

    def paste(self, patches: list[PixelPatch]) -> None:
        """Copy the pixels of the patches that lie in the area."""
        for patch in patches:
            area = Area(Interval(*patch.rows), Interval(*patch.cols))
            rows = self.area.rows.intersect(area.rows)
            cols = self.area.cols.intersect(area.cols)
            common = Area(rows, cols)
            if _has_pixels(common):
                self._copy(patch, _within(common, area), _within(common, self.area))

    def _copy(
        self, patch: PixelPatch, there: tuple[slice, slice], here: tuple[slice, slice]
    ) -> None:
        pixels = 0 if patch.pixels is None else patch.pixels[(slice(None), *there)]
        self.pixels[(slice(None), *here)] = pixels
        if self.mask is not None and patch.mask is not None:
            self.mask[(..., *here)] = patch.mask[(..., *there)]
