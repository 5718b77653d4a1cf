"""Overview pixels from the pixels of the level above, by GDAL's own kernels, bit for bit.

How is an odd-sized overview computed? A level of 1001 pixels has an overview of 500. Pixel ``i`` of
the overview stands for the source from ``i * 2.002`` to ``(i + 1) * 2.002``, so the weights of the
kernel differ from pixel to pixel. GDAL's COG driver works them out in
``GDALRegenerateOverviewsMultiBand``, which rasterio cannot call. But
``GDALRasterBand::RasterIOResampled`` runs the same kernels when a window is read into a smaller
buffer. Reading a piece of a level gives the very floats of the whole level if three things hold:

1. The piece lies in a dataset of the whole level's size, since GDAL computes positions from the
   absolute index and the ratio (:class:`ccog.gdal.rasterio_edges.Frame`).
2. The length of the window, divided by that of the buffer, is exactly the ratio of the levels
   (``AxisReduction.reads`` finds such windows, :class:`ccog.gdal.rasterio_edges.ExactWindow` keeps
   them).
3. With a nodata value or a mask, the window is neither all valid nor all invalid. Otherwise GDAL
   takes a shortcut that its overview builder does not take. A spare pixel outside of every kernel
   is therefore made the odd one. Levels that are too small to have one are handed to the COG driver
   itself (:mod:`ccog.gdal.small_levels`).

Nearest neighbours, and averages of complex pixels, need no kernel: :mod:`ccog.gdal.cells` has them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rasterio.enums import Resampling
from rasterio.windows import Window

from ccog.gdal.blank import is_blank, is_nodata
from ccog.gdal.cells import (
    cell_bounds,
    complex_average,
    complex_mode,
    nearest_index,
    touched_bounds,
)
from ccog.gdal.rasterio_edges import ExactWindow, Frame
from ccog.gdal.small_levels import driver_overview, halvings
from ccog.gdal.statistics import nearly_equal
from ccog.geometry.axis_reduction import AxisReduction, ExactRead
from ccog.geometry.intervals import Area, Interval, Size
from ccog.geometry.raster_facts import Palette, RasterFacts

Array = npt.NDArray[Any]

_GDAL_RESAMPLING = {
    "average": Resampling.average,
    "mode": Resampling.mode,
    "rms": Resampling.rms,
    "gauss": Resampling.gauss,
    "bilinear": Resampling.bilinear,
    "cubic": Resampling.cubic,
    "cubicspline": Resampling.cubic_spline,
    "lanczos": Resampling.lanczos,
}

_MOVES_OFF_NODATA = ("average", "rms", "bilinear", "cubic", "cubicspline", "lanczos")
_AVERAGES = ("average", "rms")

# GDAL's overview builder treats nodata of these types differently from all others
_64_BIT_INTEGERS = (np.int64, np.uint64)

# GDAL makes half floats by cutting off the last bits of the mantissa (CPLFloatToHalf)
_HALF_BITS = np.uint32(0xFFFFE000)

# a MEM mask band is allocated (lazily touched) for the whole frame: larger frames are local
_MAX_MASK_FRAME = 8 << 30


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """How level ``level`` of a raster becomes the next: the kernel, and both axes."""

    method: str
    raster: RasterFacts
    y: AxisReduction
    x: AxisReduction
    level: int

    @property
    def source_size(self) -> Size:
        """(height, width) of the level."""
        return self.y.src, self.x.src

    @property
    def target_size(self) -> Size:
        """(height, width) of the overview."""
        return self.y.dst, self.x.dst

    @property
    def is_by_band(self) -> bool:
        """Whether bands differ in what is valid."""
        return self.raster.has_band_masks or self.raster.nodata_by_band is not None

    def nodata_of(self, band: int) -> float | int | None:
        """The nodata value of a band, counted from 0."""
        by_band = self.raster.nodata_by_band
        return self.raster.nodata if by_band is None else by_band[band]


def reduce_area(
    pixels: Array, mask: Array | None, source: Area, want: Area, how: Reduction
) -> tuple[Array, Array | None]:
    """Overview pixels of the area ``want``, from the area ``source`` of the level above.

    Parameters
    ----------
    pixels
        (band, y, x) in the native dtype.
    mask
        (y, x) uint8, from 255 for valid to 0 for not, or None. (band, y, x) where each band has one
        of its own.
    source, want
        Where ``pixels`` lie in the source level, and which pixels of the overview to compute. The
        source must hold ``AxisReduction.source_of`` of each side.

    Returns
    -------
    (band, y, x) pixels in the same dtype, and the (y, x) mask or None; masks of bands have none.
    """
    if how.raster.nodata_values is not None:
        # valid is where any band has another value (GDALNoDataValuesMaskBand)
        values = np.array(how.raster.nodata_values)[:, np.newaxis, np.newaxis]
        mask = np.where((pixels != values).any(axis=0), np.uint8(255), np.uint8(0))
        how = replace(how, raster=replace(how.raster, nodata_values=None))
        return reduce_area(pixels, mask, source, want, how)[0], None
    if mask is None and _stays_blank(pixels, how):
        return np.zeros((len(pixels), *want.shape), pixels.dtype), None
    if mask is None and _stays_nodata(pixels, how):
        return np.broadcast_to(pixels[:, :1, :1], (len(pixels), *want.shape)), None
    if how.method == "nearest":
        return _nearest(pixels, mask, source, want, how)
    if np.iscomplexobj(pixels) and len(pixels):
        bounds = touched_bounds if how.method == "mode" else cell_bounds
        rows = bounds(how.y, want.rows, source.rows)
        cols = bounds(how.x, want.cols, source.cols)
        if how.method == "mode":
            return complex_mode(pixels, rows, cols), None
        is_whole = how.raster.is_whole_complex
        return complex_average(pixels, rows, cols, rms=how.method == "rms", whole=is_whole), None
    goal = _Goal(want, how)
    out = np.empty((0, *want.shape), pixels.dtype)
    if len(pixels):
        out = _all_bands(_Piece(pixels, mask, how.raster.nodata, source), goal)
    out_mask = None
    if mask is not None and not how.raster.has_band_masks:
        out_mask = _reduced_mask(mask, source, goal)
    return _with_bits(out, how.raster.source_bits), out_mask


def _with_bits(pixels: Array, bits: int | None) -> Array:
    """Pixels as GDAL keeps them between overviews: it makes each from the one before."""
    if bits is None:
        return pixels
    if pixels.dtype.kind == "f":
        cut = pixels.astype(np.float32).view(np.uint32) & _HALF_BITS
        return cut.view(np.float32).astype(np.float16).astype(pixels.dtype)
    limited: Array = np.minimum(pixels, pixels.dtype.type(2**bits - 1))
    return limited


def alpha_weighs(dtype: np.dtype[Any], count: int) -> bool:
    """Whether GDAL takes an alpha band as the mask of the others (GDALRasterBand::GetMaskBand)."""
    return count in (2, 4) and dtype in (np.uint8, np.uint16)


def _stays_blank(pixels: Array, how: Reduction) -> bool:
    """Whether zeros become zeros, which is not so where results are moved off a nodata of zero."""
    if how.is_by_band:
        return False
    nodata = how.raster.nodata
    if nodata is not None and (nodata != 0 or pixels.dtype in _64_BIT_INTEGERS):
        return False
    return bool(pixels.size) and is_blank(pixels)


def _stays_nodata(pixels: Array, how: Reduction) -> bool:
    """Whether all is nodata and stays so; MODE gives some types other values (ModeT)."""
    differ = how.raster.alphas or how.is_by_band or how.method == "mode"
    return not differ and is_nodata(pixels, how.raster.nodata)


def _nearest(
    pixels: Array, mask: Array | None, source: Area, want: Area, how: Reduction
) -> tuple[Array, Array | None]:
    rows = _as_slice(nearest_index(how.y, want.rows, source.rows))
    cols = _as_slice(nearest_index(how.x, want.cols, source.cols))
    out = pixels[:, rows][:, :, cols].copy()
    if mask is None or how.raster.has_band_masks:
        return out, None
    return out, mask[rows][:, cols].copy()


def _as_slice(index: Array) -> Array | slice:
    """Indices as a slice if they are evenly spaced: it takes a quarter of the time."""
    steps = np.diff(index)
    if not len(steps) or steps[0] < 1 or (steps != steps[0]).any():
        return index
    return slice(int(index[0]), int(index[-1]) + 1, int(steps[0]))


# Pieces of a level, and what is made of them


@dataclass(frozen=True)
class _Piece:
    """Pixels (band, y, x), their validity, and where they lie in their level.

    Masks are (y, x), or (band, y, x) until the bands are parted.
    """

    pixels: Array
    mask: Array | None
    nodata: float | int | None
    area: Area

    @property
    def is_masked(self) -> bool:
        return self.mask is not None or self.nodata is not None

    def within(self, area: Area) -> _Piece:
        """The pixels of an area that it holds."""
        at = area.slices_of(self.area)
        mask = None if self.mask is None else self.mask[at]
        return _Piece(self.pixels[(slice(None), *at)], mask, self.nodata, area)


@dataclass(frozen=True)
class _Goal:
    """Which pixels of the overview are computed, and how."""

    want: Area
    how: Reduction

    @property
    def reads(self) -> Iterator[_PieceRead]:
        """Reads that together give them."""
        rows, cols = self.how.y.reads(self.want.rows), self.how.x.reads(self.want.cols)
        return itertools.starmap(_PieceRead, itertools.product(rows, cols))


class _PieceRead(NamedTuple):
    """A window along both axes."""

    y: ExactRead
    x: ExactRead

    @property
    def fetched(self) -> Area:
        """The source pixels that GDAL fetches for it."""
        return Area(self.y.queried, self.x.queried)


def _reduced_mask(mask: Array, area: Area, goal: _Goal) -> Array:
    """The mask read as a band, and as its own mask where GDAL takes it for one (IsMaskBand)."""
    kind, is_full = goal.how.raster.mask_kind, goal.how.level == 0
    # overviews of one bit hold 0 and 1
    values = (mask != 0).view(np.uint8) if kind == "bits" and not is_full else mask
    own = values if is_full or kind != "array" else None
    reduced: Array = _by_gdal(_Piece(values[np.newaxis], own, None, area), goal)[0]
    return np.where(reduced, np.uint8(255), np.uint8(0)) if kind == "bits" else reduced


def _all_bands(piece: _Piece, goal: _Goal) -> Array:
    """Reduce a piece; an alpha band is its own mask, and that of the others if these have none."""
    if goal.how.is_by_band:
        bands = range(len(piece.pixels))
        return np.concatenate([_reduced(_band(piece, n, goal.how), goal) for n in bands])
    alphas, count, last = goal.how.raster.alphas, len(piece.pixels), piece.pixels[-1]
    if not alphas:
        return _reduced(piece, goal)
    if not piece.is_masked and count - 1 in alphas and alpha_weighs(last.dtype, count):
        piece = replace(piece, mask=_alpha_mask(last))
    # the first band decides whether masks are heeded (GDALRegenerateOverviewsMultiBand)
    heeds = piece.is_masked or 0 in alphas
    pieces = []
    for bands in _alike(count, alphas):
        part = replace(piece, pixels=piece.pixels[bands.start : bands.stop])
        if bands.start in alphas:
            part = replace(part, mask=_as_bytes(part.pixels[0]) if heeds else None)
        pieces.append(_reduced(part, goal))
    return np.concatenate(pieces)


def _alike(count: int, alphas: tuple[int, ...]) -> Iterator[range]:
    """Each alpha band, and the bands between them."""
    start = 0
    for alpha in (*alphas, count):
        if start < alpha:
            yield range(start, alpha)
        if alpha < count:
            yield range(alpha, alpha + 1)
        start = alpha + 1


def _band(piece: _Piece, n: int, how: Reduction) -> _Piece:
    """One band, with a mask of its own or of its own nodata value.

    Whether masks are heeded at all is up to the first band (GDALRegenerateOverviewsMultiBand).
    """
    pixels, mask, nodata = piece.pixels[n : n + 1], piece.mask, how.nodata_of(n)
    if mask is not None and mask.ndim > 2:
        mask = mask[n]
    if mask is None and nodata is None and _heeds_masks(how):
        mask = _mask_without_nodata(pixels[0], how)
    return _Piece(pixels, mask, nodata, piece.area)


def _heeds_masks(how: Reduction) -> bool:
    return how.raster.has_band_masks or how.nodata_of(0) is not None


def _mask_without_nodata(band: Array, how: Reduction) -> Array:
    """The mask of a band without nodata, beside others that have it.

    All is valid. But in GDAL's temporary overviews the last nodata value is that of all bands that
    have none (GTiffRasterBand::GetNoDataValue).
    """
    values = (how.level > 0 and how.raster.nodata_by_band) or ()
    last = [value for value in values if value is not None][-1:]
    is_nodata = np.zeros(band.shape, bool)
    if last:
        is_nodata = _equals_nodata(band, last[0]) | nearly_equal(band, last[0])
    return np.where(is_nodata, np.uint8(0), np.uint8(255))


def _as_bytes(values: Array) -> Array:
    """Values as GDAL converts them to bytes: rounded and clamped."""
    if values.dtype.kind == "f":
        values = np.floor(np.nan_to_num(values) + values.dtype.type(0.5))
    return np.clip(values, 0, 255).astype(np.uint8)


def _alpha_mask(alpha: Array) -> Array:
    """Alpha as weights from 0 to 255; nothing but zero becomes zero (GDALRescaledAlphaBand)."""
    if alpha.dtype == np.uint8:
        return alpha
    scaled = (alpha.astype(np.uint32) * 255 // 65535).astype(np.uint8)
    return np.where((alpha > 0) & (scaled == 0), np.uint8(1), scaled)


# Nodata


def _reduced(piece: _Piece, goal: _Goal) -> Array:
    """Reduce a piece; where it has a mask and a nodata value, GDAL's overview builder heeds both.

    A read ignores the nodata value beside a mask, so it is heeded here: pixels without a valid
    source become nodata, and a result that equals nodata is moved off it
    (GDALGetNoDataReplacementValue).
    """
    if piece.nodata is None:
        return _by_gdal(piece, goal)
    if piece.mask is not None:
        ones = _Piece(np.ones((1, *piece.mask.shape), np.uint8), piece.mask, None, piece.area)
        is_empty = _by_gdal(ones, goal) == 0
        out = _moved_off(_by_gdal(piece, goal), piece, piece.nodata, goal)
        return np.where(is_empty, out.dtype.type(piece.nodata), out)
    if goal.how.is_by_band and not _heeds_masks(goal.how):
        # GDAL weighs nodata pixels like others where the first band has no nodata value. It still
        # moves results off nodata, but not in its loops for cells of two by two pixels
        unheeding, how = replace(piece, nodata=None), goal.how
        out = _by_gdal(unheeding, goal)
        if how.method in _AVERAGES and how.y.ratio == how.x.ratio == 2:
            return out
        return _moved_off(out, unheeding, piece.nodata, goal)
    if piece.pixels.dtype in _64_BIT_INTEGERS:
        # rasterio cannot tell GDAL of such a nodata value: each band gets a mask of its own
        masks = np.where(piece.pixels == piece.nodata, np.uint8(0), np.uint8(255))
        bands = zip(piece.pixels[:, np.newaxis], masks, strict=True)
        parted = [replace(piece, pixels=band, mask=mask) for band, mask in bands]
        return np.concatenate([_reduced(band, goal) for band in parted])
    return _by_gdal(piece, goal)


def _moved_off(out: Array, piece: _Piece, nodata: float | int, goal: _Goal) -> Array:
    """``out`` of a piece, with the value next to nodata in place of nodata."""
    method = goal.how.method
    if method not in _MOVES_OFF_NODATA:
        return out
    compared, pixels = out, piece.pixels
    if method in _AVERAGES and out.dtype not in (np.uint8, np.uint16):
        # averages are compared before they are rounded to the type (GDALGetOvrWorkDataType)
        if pixels.dtype.kind != "f":
            pixels = pixels.astype(np.float32 if pixels.itemsize <= 2 else np.float64)
        compared = _by_gdal(replace(piece, pixels=pixels), goal)
    is_nodata = _equals_nodata(compared, nodata)
    return np.where(is_nodata, _replacement(nodata, out.dtype), out)


def _replacement(nodata: float | int, dtype: np.dtype[Any]) -> Any:
    """The value next to nodata (GDALGetNoDataReplacementValue)."""
    if dtype.kind in "iu":
        step = -1 if nodata == np.iinfo(dtype).max else 1
        return dtype.type(int(nodata) + step)
    largest = np.finfo(dtype).max
    return np.nextafter(dtype.type(nodata), -largest if nodata == largest else largest)


def _equals_nodata(pixels: Array, nodata: float | int | None) -> Array:
    is_nan = nodata is not None and np.isnan(nodata)
    equal: Array = np.isnan(pixels) if is_nan else pixels == nodata
    return equal


# Reading through GDAL


def _by_gdal(piece: _Piece, goal: _Goal) -> Array:
    how, want = goal.how, goal.want
    is_local = piece.mask is not None and _is_too_large(how.y, how.x)
    rows = _frame_along(how.y, piece.area.rows, is_local)
    frame = Area(rows, _frame_along(how.x, piece.area.cols, is_local))
    piece = _with_contiguous_lines(piece.within(frame.intersect(piece.area)))
    if any(_is_shortened(piece, read, how) for read in goal.reads):
        return _by_cog_driver(piece, goal)
    reads = [(read, _odd_spare(piece, read)) for read in goal.reads]
    if piece.mask is None and any(odd is not None for _, odd in reads):
        # the pixels are the user's, and other tasks may read them now
        piece = replace(piece, pixels=piece.pixels.copy())
    out = np.empty((len(piece.pixels), *want.shape), piece.pixels.dtype)
    with _opened(piece, frame, how.raster.palette) as dataset:
        for read, odd in reads:
            at = Area(read.y.keep, read.x.keep).slices_of(want)
            with _made_odd(dataset, piece, frame, odd):
                out[(slice(None), *at)] = _read(dataset, read, frame, how)
    return out


def may_round_otherwise(raster: RasterFacts, y: AxisReduction, x: AxisReduction) -> bool:
    """Whether overview pixels beside a mask may differ from GDAL's by a rounding step.

    The level is too large for its mask to lie in a dataset of its size, and the ratio is not whole.
    """
    alpha = bool(raster.alphas) and alpha_weighs(np.dtype(raster.array_type), raster.count)
    wide = raster.nodata is not None and np.dtype(raster.array_type) in _64_BIT_INTEGERS
    by_values = raster.nodata_values is not None or raster.nodata_by_band is not None
    has_mask = raster.has_mask or raster.has_band_masks or alpha or wide or by_values
    is_sampled = y.kernel.sampled or (y.is_exact and x.is_exact)
    return has_mask and not is_sampled and _is_too_large(y, x)


def _is_too_large(y: AxisReduction, x: AxisReduction) -> bool:
    return y.src * x.src > _MAX_MASK_FRAME


def _frame_along(axis: AxisReduction, have: Interval, is_local: bool) -> Interval:
    """The source pixels that the dataset has along an axis.

    The whole level where rounding depends on the position, else only the pixels at hand.
    """
    if axis.is_exact:
        step = axis.src // axis.dst
        return Interval(-(-have.start // step) * step, have.stop)
    return have if is_local else Interval(0, axis.src)


def _with_contiguous_lines(piece: _Piece) -> _Piece:
    """The piece as GDAL's MEM driver can be shown it: bands and lines further and further on.

    Offsets of 0, of memory that repeats, are not among these: to MEM they mean the usual ones.
    """
    band, line, item = piece.pixels.strides
    if item == piece.pixels.itemsize and line > 0 and (band > 0 or len(piece.pixels) == 1):
        return piece
    return replace(piece, pixels=np.array(piece.pixels, order="C"))


@contextmanager
def _opened(piece: _Piece, frame: Area, palette: Palette | None) -> Iterator[Any]:
    """A dataset of the frame with the piece in it."""
    top = piece.area.rows.start - frame.rows.start
    left = piece.area.cols.start - frame.cols.start
    with Frame(frame.shape, top, left).open(piece.pixels) as dataset:
        if palette is not None:
            dataset.write_colormap(1, dict(palette))
        if piece.nodata is not None:
            dataset.nodata = piece.nodata
        if piece.mask is not None:
            height, width = piece.mask.shape
            dataset.write_mask(piece.mask, window=Window(left, top, width, height))
        yield dataset


def _read(dataset: Any, read: _PieceRead, frame: Area, how: Reduction) -> Array:
    y, x = read
    top, left = y.offset - frame.rows.start, x.offset - frame.cols.start
    out: Array = dataset.read(
        window=ExactWindow(left, top, x.length, y.length),
        out_shape=(dataset.count, len(y.dst), len(x.dst)),
        resampling=_GDAL_RESAMPLING[how.method],
    )
    return out[:, y.keep.slice_of(y.dst), x.keep.slice_of(x.dst)]


# Levels without a spare pixel


def _is_shortened(piece: _Piece, read: _PieceRead, how: Reduction) -> bool:
    """Whether a read would take GDAL's shortcut, with no spare pixel to prevent it."""
    if not piece.is_masked or read.y.spare is not None or read.x.spare is not None:
        return False
    if piece.area.shape != how.source_size or not halvings(how.source_size, how.target_size):
        return False
    return _odd_values(piece.within(read.fetched), (0, 0)) is not None


def _by_cog_driver(piece: _Piece, goal: _Goal) -> Array:
    """``goal`` of a piece that is a whole level, made by GDAL's overview builder."""
    how = goal.how
    options: dict[str, Any] = {
        "count": halvings(how.source_size, how.target_size),
        "method": how.method.upper(),
        "palette": how.raster.palette,
    }
    bands = [driver_overview(band, piece.mask, piece.nodata, **options) for band in piece.pixels]
    overview = np.stack(bands)
    whole = Area(Interval(0, how.y.dst), Interval(0, how.x.dst))
    return overview[(slice(None), *goal.want.slices_of(whole))]


# Spare pixels


@dataclass(frozen=True)
class _OddPixel:
    """A pixel of a level and what it is to be: values of its bands, or of its mask."""

    row: int
    col: int
    values: Array


def _odd_spare(piece: _Piece, read: _PieceRead) -> _OddPixel | None:
    """The spare pixel of a read, if it has to be the odd one.

    None where what GDAL fetches is not all alike, or nothing is masked.
    """
    y, x = read
    if not piece.is_masked or (y.spare is None and x.spare is None):
        return None
    row = y.queried.start if y.spare is None else y.spare
    col = x.queried.start if x.spare is None else x.spare
    at = row - y.queried.start, col - x.queried.start
    values = _odd_values(piece.within(read.fetched), at)
    return None if values is None else _OddPixel(row, col, values)


def _odd_values(fetched: _Piece, at: tuple[int, int]) -> Array | None:
    """What the pixel at a place is to be; None where what is fetched is not all alike."""
    if fetched.mask is not None:
        is_valid = fetched.mask != 0
        if is_valid.any() != is_valid.all():
            return None
        return np.full((1, 1), 0 if is_valid.all() else 255, np.uint8)
    invalid = _equals_nodata(fetched.pixels, fetched.nodata).reshape(len(fetched.pixels), -1)
    opaque, empty = ~invalid.any(axis=1), invalid.all(axis=1)
    if not (opaque | empty).any():
        return None
    values = fetched.pixels[(slice(None), *at)].copy()
    values[opaque] = fetched.nodata
    values[empty] = 1 if fetched.nodata == 0 else 0
    return values


@contextmanager
def _made_odd(dataset: Any, piece: _Piece, frame: Area, odd: _OddPixel | None) -> Iterator[None]:
    """While a pixel of the dataset, and of the piece that it shows, is the odd one."""
    if odd is None:
        yield
        return
    row, col = odd.row - piece.area.rows.start, odd.col - piece.area.cols.start
    if piece.mask is None:
        before = piece.pixels[:, row, col].copy()
        piece.pixels[:, row, col] = odd.values
        yield
        piece.pixels[:, row, col] = before
        return
    window = Window(odd.col - frame.cols.start, odd.row - frame.rows.start, 1, 1)
    dataset.write_mask(odd.values, window=window)
    yield
    dataset.write_mask(piece.mask[row : row + 1, col : col + 1], window=window)
