"""A block of one level -> its pixels in the next overview, by GDAL's own kernels, bit for bit.

GDAL's COG driver builds overviews with ``GDALRegenerateOverviewsMultiBand``, which is not reachable
from rasterio, but ``GDALRasterBand::RasterIOResampled`` runs the same kernels. Three things make a read
of a piece give the very floats of the whole:

* the piece sits in a dataset of the whole level's size (a MEM dataset whose pointer is shifted), since
  the kernel positions are products of the absolute index and the ratio;
* the window is one whose length divided by the buffer's is exactly the level's ratio (``pyramid.ExactRead``);
* where there is a nodata value or a mask, the read must not find its whole mask valid, or invalid, or GDAL
  takes a shortcut the overview builder does not take: a spare pixel outside every kernel is made the odd one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import Resampling
from rasterio.windows import Window

from ccog.gdal.blank import is_blank
from ccog.geometry.pyramid import AxisReduction, ExactRead, Interval

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

_GDAL_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "uint64": "UInt64",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
}

_MOVES_OFF_NODATA = ("average", "rms", "bilinear", "cubic", "cubicspline", "lanczos")

# a MEM mask band is allocated (lazily touched) for the whole frame: beyond this many bytes frames are local
_MAX_MASK_FRAME = 8 << 30


class _UncroppedWindow(Window):  # type: ignore[misc]
    """A window whose floats reach GDAL as they are: rasterio's crop would re-round the length."""

    def crop(self, height: int, width: int) -> _UncroppedWindow:
        return self


@dataclass(frozen=True)
class Area:
    """A rectangle of pixels of one level."""

    rows: Interval
    cols: Interval

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return len(self.rows), len(self.cols)


@dataclass(frozen=True)
class Reduction:
    """How level ``level`` becomes the next: kernel, nodata value and the reductions of both axes.

    ``whole`` says that complex pixels are stored as integers.
    """

    method: str
    nodata: float | int | None
    y: AxisReduction
    x: AxisReduction
    level: int
    whole: bool = False
    has_alpha: bool = False
    mask_is_alpha: bool = False


def reduce_area(
    pixels: Array, mask: Array | None, source: Area, want: Area, how: Reduction
) -> tuple[Array, Array | None]:
    """Overview pixels of the area ``want`` from the pixels of the area ``source`` of the level above.

    Parameters
    ----------
    pixels
        (band, y, x) in the native dtype.
    mask
        (y, x) uint8, 255 valid and 0 not, or None.
    source, want
        Where ``pixels`` lie in the source level, and what to compute of the destination level; the
        source must hold ``AxisReduction.source_of`` of each side.

    Returns
    -------
    (band, y, x) pixels in the same dtype, and the (y, x) mask or None.
    """
    if mask is None and _stays_blank(pixels, how):
        return np.zeros((len(pixels), *want.shape), pixels.dtype), None
    if how.method == "nearest":
        return _nearest(pixels, mask, source, want, how)
    if np.iscomplexobj(pixels) and len(pixels):
        return _complex_average(pixels, source, want, how), None
    out = np.empty((pixels.shape[0], *want.shape), pixels.dtype)
    out_mask = None if mask is None else np.empty(want.shape, np.uint8)
    for y in how.y.reads(want.rows):
        for x in how.x.reads(want.cols):
            at = (y.keep.slice_of(want.rows), x.keep.slice_of(want.cols))
            if len(pixels):
                out[(slice(None), *at)] = _all_bands(
                    _Piece(pixels, mask, how.nodata, source), y, x, how
                )
            if mask is not None and out_mask is not None:
                # full resolution's mask is a mask of itself, its overviews are plain bands unless made of alpha
                own = mask if how.level == 0 or how.mask_is_alpha else None
                out_mask[at] = _read(_Piece(mask[np.newaxis], own, None, source), y, x, how)[0]
    return out, out_mask


def _stays_blank(pixels: Array, how: Reduction) -> bool:
    """Whether zeros become zeros: not where they are nodata that results are moved off."""
    moved = how.nodata is not None and (how.nodata != 0 or pixels.dtype in (np.int64, np.uint64))
    return not moved and bool(pixels.size) and is_blank(pixels)


def _all_bands(piece: _Piece, y: ExactRead, x: ExactRead, how: Reduction) -> Array:
    """Read a piece; an alpha band is its own mask, and that of the colours where nothing else is."""
    if not how.has_alpha:
        return _reduced(piece, y, x, how)
    alpha = piece.pixels[-1:]
    colours = replace(piece, pixels=piece.pixels[:-1])
    if not colours.is_masked and alpha_weighs(alpha.dtype, len(piece.pixels)):
        colours = replace(colours, mask=_alpha_mask(alpha[0]))
    own = replace(piece, pixels=alpha, mask=_as_bytes(alpha[0]) if colours.is_masked else None)
    return np.concatenate([_reduced(colours, y, x, how), _reduced(own, y, x, how)])


def _as_bytes(values: Array) -> Array:
    """Values as GDAL converts them to bytes: rounded and clamped."""
    rounded = (
        np.floor(np.nan_to_num(values) + values.dtype.type(0.5))
        if values.dtype.kind == "f"
        else values
    )
    return np.clip(rounded, 0, 255).astype(np.uint8)


def alpha_weighs(dtype: np.dtype[Any], count: int) -> bool:
    """Whether GDAL takes an alpha band for the mask of the other bands (GDALRasterBand::GetMaskBand)."""
    return count in (2, 4) and dtype in (np.uint8, np.uint16)


def _alpha_mask(alpha: Array) -> Array:
    """Alpha as weights from 0 to 255; what is not zero stays so (GDALRescaledAlphaBand)."""
    if alpha.dtype == np.uint8:
        return alpha
    scaled = (alpha.astype(np.uint32) * 255 // 65535).astype(np.uint8)
    return np.where((alpha > 0) & (scaled == 0), np.uint8(1), scaled)


def _reduced(piece: _Piece, y: ExactRead, x: ExactRead, how: Reduction) -> Array:
    """Read a piece; where it has a mask and a nodata value, GDAL's overview builder heeds both.

    A read forgets the nodata value beside a mask, so what the kernels do with it is done here: it fills
    what has no valid source, and a result equal to it is moved off it (GDALGetNoDataReplacementValue).
    """
    if piece.nodata is None:
        return _read(piece, y, x, how)
    if piece.mask is not None:
        return _with_nodata(_read(piece, y, x, how), piece, piece.mask, y, x, how)
    if piece.pixels.dtype in (np.int64, np.uint64):
        return _reduced_64_bit(replace(piece, nodata=None), piece.nodata, y, x, how)
    return _read(piece, y, x, how)


def _reduced_64_bit(
    piece: _Piece, nodata: float | int, y: ExactRead, x: ExactRead, how: Reduction
) -> Array:
    """A piece of 64-bit integers: GDAL weighs nodata pixels like any other, yet moves results off nodata.

    Its loops for cells of two by two pixels do not even that.
    """
    out = _read(piece, y, x, how)
    if how.method in ("average", "rms") and how.y.ratio == how.x.ratio == 2:
        return out
    return _moved_off(out, piece, nodata, y, x, how)


def _moved_off(
    out: Array, piece: _Piece, nodata: float | int, y: ExactRead, x: ExactRead, how: Reduction
) -> Array:
    """What was read of a piece, where it would be nodata replaced by the value next to it."""
    if how.method not in _MOVES_OFF_NODATA:
        return out
    # averages are compared before they are rounded to the type
    exact = how.method not in ("average", "rms") or out.dtype in (np.uint8, np.uint16)
    work = out if exact else _read(_as_work_type(piece), y, x, how)
    return np.where(_equals_nodata(work, nodata), _replacement(nodata, out.dtype), out)


def _with_nodata(
    out: Array, piece: _Piece, mask: Array, y: ExactRead, x: ExactRead, how: Reduction
) -> Array:
    """What was read of a piece, moved off nodata where it is valid, and nodata where it is not."""
    ones = _Piece(np.ones((1, *mask.shape), np.uint8), mask, None, piece.area)
    empty = _read(ones, y, x, how) == 0
    nodata = 0 if piece.nodata is None else piece.nodata
    out = _moved_off(out, piece, nodata, y, x, how)
    return np.where(empty, out.dtype.type(nodata), out)


def _as_work_type(piece: _Piece) -> _Piece:
    """The piece in the type GDAL computes averages in, before it is rounded (GDALGetOvrWorkDataType)."""
    if piece.pixels.dtype.kind == "f":
        return piece
    return replace(
        piece, pixels=piece.pixels.astype(np.float32 if piece.pixels.itemsize <= 2 else np.float64)
    )


def _replacement(nodata: float | int, dtype: np.dtype[Any]) -> Any:
    """The value next to nodata (GDALGetNoDataReplacementValue)."""
    if dtype.kind in "iu":
        return dtype.type(int(nodata) - 1 if nodata == np.iinfo(dtype).max else int(nodata) + 1)
    largest = np.finfo(dtype).max
    return np.nextafter(dtype.type(nodata), -largest if nodata == largest else largest)


@dataclass(frozen=True)
class _Piece:
    """Pixels (band, y, x), their validity, and where they lie in their level."""

    pixels: Array
    mask: Array | None
    nodata: float | int | None
    area: Area

    @property
    def is_masked(self) -> bool:
        return self.mask is not None or self.nodata is not None


@dataclass(frozen=True)
class _Frame:
    """One axis of the dataset a piece is read from: where it starts in the level, and its length."""

    origin: int
    length: int

    @classmethod
    def of(cls, axis: AxisReduction, have: Interval, local: bool) -> _Frame:
        """The whole level where rounding depends on the position, else just what is at hand."""
        if axis.is_exact:
            step = axis.src // axis.dst
            origin = -(-have.start // step) * step
            return cls(origin, have.stop - origin)
        return cls(have.start, len(have)) if local else cls(0, axis.src)


def _read(piece: _Piece, y: ExactRead, x: ExactRead, how: Reduction) -> Array:
    local = piece.mask is not None and how.y.src * how.x.src > _MAX_MASK_FRAME
    rows, cols = _Frame.of(how.y, piece.area.rows, local), _Frame.of(how.x, piece.area.cols, local)
    piece = _with_odd_spare(_cropped(piece, rows, cols), y, x)
    with (
        rasterio.Env(GDAL_MEM_ENABLE_OPEN=True),
        rasterio.open(_mem_name(piece, rows, cols), "r+") as dataset,
    ):
        if piece.nodata is not None:
            dataset.nodata = piece.nodata
        if piece.mask is not None:
            top, left = piece.area.rows.start - rows.origin, piece.area.cols.start - cols.origin
            dataset.write_mask(
                piece.mask, window=Window(left, top, piece.mask.shape[1], piece.mask.shape[0])
            )
        window = _UncroppedWindow(
            x.offset - cols.origin, y.offset - rows.origin, x.length, y.length
        )
        out: Array = dataset.read(
            window=window,
            out_shape=(piece.pixels.shape[0], len(y.dst), len(x.dst)),
            resampling=_GDAL_RESAMPLING[how.method],
        )
    return out[:, y.keep.slice_of(y.dst), x.keep.slice_of(x.dst)]


def _cropped(piece: _Piece, rows: _Frame, cols: _Frame) -> _Piece:
    """The piece without what lies before the frame, each line contiguous."""
    area = Area(
        Interval(max(piece.area.rows.start, rows.origin), piece.area.rows.stop),
        Interval(max(piece.area.cols.start, cols.origin), piece.area.cols.stop),
    )
    at = (area.rows.slice_of(piece.area.rows), area.cols.slice_of(piece.area.cols))
    mask = None if piece.mask is None else piece.mask[at]
    pixels = piece.pixels[(slice(None), *at)]
    if pixels.strides[2] != pixels.itemsize or min(pixels.strides) < 0:
        pixels = np.ascontiguousarray(pixels)
    return _Piece(pixels, mask, piece.nodata, area)


def _mem_name(piece: _Piece, rows: _Frame, cols: _Frame) -> str:
    """GDAL's MEM connection string for a piece at its place in a frame.

    Only the piece's own pixels are ever touched, so the rest of the frame needs no memory.
    """
    band, line, item = piece.pixels.strides
    before = (piece.area.rows.start - rows.origin) * line + (
        piece.area.cols.start - cols.origin
    ) * item
    pointer = piece.pixels.ctypes.data - before
    return (
        f"MEM:::DATAPOINTER=0x{pointer:x},PIXELS={cols.length},LINES={rows.length},BANDS={len(piece.pixels)},"
        f"DATATYPE={_GDAL_TYPES[piece.pixels.dtype.name]},PIXELOFFSET={item},LINEOFFSET={line},"
        f"BANDOFFSET={band},GEOTRANSFORM=1/1/0/1/0/-1"
    )


def _with_odd_spare(piece: _Piece, y: ExactRead, x: ExactRead) -> _Piece:
    """The piece with its spare pixel made the odd one, where all that GDAL fetches is valid, or nothing is."""
    if not piece.is_masked or (y.spare is None and x.spare is None):
        return piece
    rows, cols = y.queried.slice_of(piece.area.rows), x.queried.slice_of(piece.area.cols)
    row = rows.start if y.spare is None else y.spare - piece.area.rows.start
    col = cols.start if x.spare is None else x.spare - piece.area.cols.start
    if piece.mask is not None:
        valid = piece.mask[rows, cols] != 0
        if valid.any() != valid.all():
            return piece
        mask = piece.mask.copy()
        mask[row, col] = 0 if valid.all() else 255
        return replace(piece, mask=mask)
    invalid = _equals_nodata(piece.pixels[:, rows, cols], piece.nodata).reshape(
        len(piece.pixels), -1
    )
    opaque, empty = ~invalid.any(axis=1), invalid.all(axis=1)
    if not (opaque | empty).any():
        return piece
    pixels = piece.pixels.copy()
    pixels[opaque, row, col] = piece.nodata
    pixels[empty, row, col] = 1 if piece.nodata == 0 else 0
    return replace(piece, pixels=pixels)


def _equals_nodata(pixels: Array, nodata: float | int | None) -> Array:
    if nodata is not None and np.isnan(nodata):
        result: Array = np.isnan(pixels)
    else:
        result = pixels == nodata
    return result


def _nearest_index(axis: AxisReduction, want: Interval, have: Interval) -> Array:
    """GDALResampleChunk_Near: source index ``int(0.5 + i * ratio)``, but within the swath."""
    index = (0.5 + np.arange(want.start, want.stop) * axis.ratio).astype(np.int64)
    swath = _swaths(axis, want)
    return (index if swath is None else np.maximum(index, swath[0])) - have.start


def _swaths(axis: AxisReduction, want: Interval) -> tuple[Array, Array] | None:
    """First source pixel, and the one after the last, of the swath each destination pixel is computed from."""
    if not axis.swath:
        return None
    starts = np.arange(0, axis.src, axis.swath)
    firsts = (0.5 + starts / axis.ratio).astype(np.int64)
    own = np.searchsorted(firsts, np.arange(want.start, want.stop), side="right") - 1
    return starts[own], np.minimum(starts[own] + axis.swath, axis.src)


def _nearest(
    pixels: Array, mask: Array | None, source: Area, want: Area, how: Reduction
) -> tuple[Array, Array | None]:
    rows = _nearest_index(how.y, want.rows, source.rows)[:, np.newaxis]
    cols = _nearest_index(how.x, want.cols, source.cols)[np.newaxis, :]
    return pixels[:, rows, cols], None if mask is None else mask[rows, cols]


def _complex_average(pixels: Array, source: Area, want: Area, how: Reduction) -> Array:
    """Mean, or root mean square, of the cells of each pixel, bounded as GDALResampleChunkC32R bounds them."""
    dtype, pixels = (
        pixels.dtype,
        pixels.astype(np.complex64),
    )  # whatever the type, GDAL reads CFloat32
    rows = _cell_bounds(how.y, want.rows, source.rows)
    cols = _cell_bounds(how.x, want.cols, source.cols)
    total = np.zeros((pixels.shape[0], *want.shape), np.complex128)
    count = np.zeros(want.shape, np.int64)
    for dy in range(int((rows[1] - rows[0]).max())):
        for dx in range(int((cols[1] - cols[0]).max())):
            y, x = rows[0] + dy, cols[0] + dx
            inside = (y < rows[1])[:, np.newaxis] & (x < cols[1])[np.newaxis, :]
            cell = pixels[:, np.minimum(y, pixels.shape[1] - 1)][
                :, :, np.minimum(x, pixels.shape[2] - 1)
            ]
            total += np.where(inside, _squared(cell) if how.method == "rms" else cell, 0)
            count += inside
    mean = total / count
    found = (_rooted(mean) if how.method == "rms" else mean).astype(np.complex64)
    return _rounded(found) if how.whole else found.astype(dtype)


def _squared(values: Array) -> Array:
    """Squares of both parts, each by itself (GDALResampleChunk_ComplexRMS)."""
    wide = values.astype(np.complex128)
    squares: Array = wide.real**2 + 1j * wide.imag**2
    return squares


def _rooted(values: Array) -> Array:
    roots: Array = np.sqrt(values.real) + 1j * np.sqrt(values.imag)
    return roots


def _rounded(values: Array) -> Array:
    """Both parts as GDAL converts floats to 16-bit integers: halves away from zero, clamped."""
    parts = values.view(np.float32)
    whole = np.clip(np.trunc(parts + np.copysign(np.float32(0.5), parts)), -32768, 32767)
    return whole.astype(np.float32).view(np.complex64)


def _cell_bounds(axis: AxisReduction, want: Interval, have: Interval) -> tuple[Array, Array]:
    index = np.arange(want.start, want.stop)
    start = (0.5 + index * axis.ratio).astype(np.int64)
    stop = (0.5 + (index + 1) * axis.ratio).astype(np.int64)
    stop = np.where((stop > axis.src) | (index == axis.dst - 1), axis.src, stop)
    swath = _swaths(axis, want)
    if swath is not None:
        start, stop = np.maximum(start, swath[0]), np.minimum(stop, swath[1])
    return start - have.start, np.maximum(start + 1, stop) - have.start
