"""NumPy, dask or xarray input as a Raster: band-first dask pixels, a mask, and metadata.

Masked pixels become nodata. Without a nodata value the pixels stay masked arrays, up to the tasks
that write the internal mask.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
from rasterio.dtypes import check_dtype
from rasterio.transform import array_bounds
from rasterio.warp import calculate_default_transform

from ccog.errors import DtypeError, OptionError, RasterError, ReprojectionError
from ccog.geometry.options import CreationOptions
from ccog.geometry.raster_facts import MaskKind
from ccog.geometry.tiling_scheme import Scheme, advice, check_grid, scheme_of
from ccog.input.arrays import Cut, UserArray, checked_mask, checked_pixels
from ccog.input.encoding import REMEDY, Encoding, rounded
from ccog.input.from_xarray import arrays_and_metadata, is_xarray, mask_of
from ccog.input.metadata import Metadata, misfit, same_value, with_options
from ccog.input.source import Source
from ccog.wording import plural

_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
           "float16", "float32", "float64", "complex64", "complex128")  # fmt: skip

# what to cast to, by kind of dtype
_NEAREST_DTYPES = {"f": "float32", "c": "complex64", "M": "int64", "m": "int64"}

# limits of GDAL (pixels a side) and of TIFF
_MOST_PIXELS = 2**31 - 1
_MOST_BANDS = 65535


@dataclass(frozen=True, kw_only=True)
class Raster:
    """(band, y, x) pixels, (y, x) mask (True valid) or None, and metadata.

    Masks of files are bytes, and so is an alpha band that is the mask. For ``mask_kind`` and the
    values of nodata see :class:`~ccog.geometry.raster_facts.RasterFacts`.
    """

    pixels: da.Array
    mask: da.Array | None
    metadata: Metadata
    file_header: Metadata | None = None
    mask_kind: MaskKind = "array"
    nodata_by_band: tuple[float | int | None, ...] | None = None
    nodata_values: tuple[float, ...] | None = None
    #: Whether pixels are masked arrays; then a pixel is valid if their mask and ``mask`` say so.
    is_masked: bool = False
    #: None where they are to be computed.
    overviews: tuple[Raster, ...] | None = None
    #: What a file says that its overviews were made by.
    overviews_made_by: str = ""
    #: The type of the values that the user holds, where the pixels are their encoding.
    decoded: str | None = None

    @property
    def header(self) -> Metadata:
        """What the header of the file is made from."""
        return self.metadata if self.file_header is None else self.file_header

    @property
    def has_mask(self) -> bool:
        """Whether the file has an internal mask."""
        return self.is_masked or (self.mask is not None and self.mask_kind != "each")

    @property
    def stored_type(self) -> str:
        """Name of the pixels' type in the file, as rasterio has it."""
        return self.metadata.stored_type or str(self.pixels.dtype.name)

    @property
    def count(self) -> int:
        """Bands."""
        return int(self.pixels.shape[0])

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel in memory, all bands."""
        return self.count * int(self.pixels.dtype.itemsize)

    @property
    def levels(self) -> tuple[Raster, ...]:
        """Full resolution, and overviews if they are given."""
        return (self, *(self.overviews or ()))

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[1])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[2])

    def suited_to(self, options: CreationOptions) -> Raster:
        """The raster as a file with these options can store it; refused where none can."""
        scheme = scheme_of(options)
        if scheme is not None:
            self._check_on_scheme(scheme, options)
        raster = self._with_alpha_as_mask() if self.alpha_becomes_mask(options) else self
        options.check_raster(raster.pixels.dtype.name, raster.count, raster.metadata.bits)
        return raster

    def alpha_becomes_mask(self, options: CreationOptions) -> bool:
        """Whether a file with these options has the alpha band as its mask.

        JPEG has no alpha: one beside grey or RGB becomes the mask (GDALCOGCreator::Create).
        """
        is_jpeg = options.effective_compress == "JPEG"
        by_pixel = options.interleave in (None, "PIXEL")
        return is_jpeg and by_pixel and self.metadata.has_alpha and self.count in (2, 4)

    def _check_on_scheme(self, scheme: Scheme, options: CreationOptions) -> None:
        crs, transform = self.metadata.crs, self.metadata.transform
        asked = f"TILING_SCHEME={options.tiling_scheme} needs a raster in {scheme.crs}"
        if crs is None or transform is None:
            raise ReprojectionError(
                f"{asked}, this one has CRS {crs} and transform {transform}: give both"
            )
        if crs.to_epsg() == int(scheme.crs.partition(":")[2]):
            check_grid(transform, self.height, self.width, options)
            return
        bounds = array_bounds(self.height, self.width, transform)
        moved, width, height = calculate_default_transform(
            crs, scheme.crs, self.width, self.height, *bounds
        )
        raise ReprojectionError(
            f"{asked}, this one is in {crs}; " + advice(moved, height, width, options)
        )

    def _with_alpha_as_mask(self) -> Raster:
        if self.is_masked:
            raise RasterError(
                "the masked array has an alpha band, and JPEG keeps one mask: "
                "give nodata=, or fill the array (dask.array.ma.filled) "
                "and let its alpha band say what is transparent"
            )
        levels = self.overviews
        return replace(
            self,
            pixels=self.pixels[:-1],
            mask=self.pixels[-1],
            metadata=self.metadata.without_last_band(),
            mask_kind="file",
            nodata_by_band=None,
            nodata_values=None,
            overviews=levels and tuple(level._with_alpha_as_mask() for level in levels),
        )


def read_raster(
    arr: Any, mask: Any, options: Mapping[str, Any], cut: Cut, *, is_ordered: bool = False
) -> Raster:
    """The user's array, mask and metadata options (upper-case keys of METADATA_OPTIONS), checked.

    NumPy arrays are cut into chunks by ``cut``. Of an array that ``is_ordered`` it is known that
    bands come first.
    """
    if is_xarray(mask):
        mask = mask_of(mask, arr.array if isinstance(arr, Source) else arr)
    if isinstance(arr, Source):
        return _read_source(arr, mask, options, cut)
    if is_xarray(arr):
        named = [name for name, value in options.items() if value is not None]
        arrays, described = arrays_and_metadata(arr, named)
        return _from_arrays(arrays, mask, described, options, cut)
    array = UserArray.in_usual_order(arr, "the array")
    raster = _from_arrays([array], mask, Metadata(), options, cut)
    if not is_ordered:
        _check_order(raster.pixels.shape)
    return raster


def _read_source(source: Source, mask: Any, options: Mapping[str, Any], cut: Cut) -> Raster:
    """A raster whose metadata, mask and nodata values are its file's; what the user gives wins."""
    if source.header is None:
        mask = source.mask if mask is None else mask
        return read_raster(source.array, mask, options, cut)
    array = UserArray.in_usual_order(source.array, "the array")
    raster = replace(
        _from_arrays([array], mask, source.metadata, options, cut),
        file_header=with_options(source.header, options, source.array.shape[0]),
        nodata_values=source.nodata_values,
    )
    by_band = source.nodata_by_band
    if by_band is not None and same_value(raster.metadata.nodata, by_band[0]):
        raster = replace(raster, nodata_by_band=by_band)
    if mask is not None or source.mask is None:
        return raster
    return replace(raster, mask=source.mask, mask_kind=source.mask_kind)


def _from_arrays(
    arrays: list[UserArray],
    mask: Any,
    described: Metadata,
    options: Mapping[str, Any],
    cut: Cut,
) -> Raster:
    arrays = [array.as_dask(cut, len(arrays)) for array in arrays]
    shape = _shape(arrays)
    dtype = _native_dtype(arrays[0])
    metadata = with_options(described, options, shape[0])
    encoding = next((array.encoding for array in arrays if array.encoding is not None), None)
    is_masked = any(array.is_masked for array in arrays)
    _check_metadata(metadata, described, dtype, encoding, is_masked=is_masked)
    nodata = metadata.nodata
    with_masks = is_masked and nodata is None
    bands = [checked_pixels(array, dtype, nodata, with_masks=with_masks) for array in arrays]
    return Raster(
        pixels=bands[0] if len(bands) == 1 else da.concatenate(bands),
        mask=None if mask is None else checked_mask(mask, shape[1:], cut),
        metadata=metadata,
        is_masked=with_masks,
        decoded=None if encoding is None else str(encoding.decoded),
    )


def _shape(arrays: list[UserArray]) -> tuple[int, int, int]:
    """(band, y, x) of the arrays whose bands follow each other, if there can be such a file."""
    array, axes = arrays[0].array, arrays[0].axes
    if array.ndim not in (2, 3):
        raise RasterError(
            f"the array has {plural(array.ndim, 'dimension')}, shape {array.shape}; "
            "write (y, x) or (band, y, x), one raster at a time"
        )
    sides = tuple(array.shape[axis] for axis in axes)
    count = sides[0] if len(sides) == 3 and len(arrays) == 1 else len(arrays)
    shape = (count, *sides[-2:])
    if any(math.isnan(side) for side in shape):
        raise RasterError(
            f"the array has unknown chunk sizes, shape {shape}; "
            "call arr.compute_chunk_sizes() first"
        )
    if 0 in shape:
        raise RasterError(
            f"the array is empty, shape {shape} (band, y, x); every side must be at least 1"
        )
    if max(shape[1:]) > _MOST_PIXELS:
        raise RasterError(
            f"the array is too large, shape {shape}: "
            f"GDAL takes at most {_MOST_PIXELS} pixels a side"
        )
    if shape[0] > _MOST_BANDS:
        raise RasterError(
            f"the array has {shape[0]} bands; TIFF takes at most {_MOST_BANDS} (is it band last?)"
        )
    return shape


def _check_order(shape: tuple[int, int, int]) -> None:
    """Refuse images in the order (y, x, band): their columns would be fewer than any raster has."""
    bands, rows, columns = shape
    narrow = columns <= 4 and bands > 8
    narrow |= columns <= 16 and bands > 64
    if narrow and rows > columns:
        raise RasterError(
            f"the array has shape {shape}, which is {bands} bands of {rows} x {columns} pixels; "
            f"for {columns} band(s) of {bands} x {rows} pixels move the bands to the front, "
            "e.g. dask.array.moveaxis(arr, -1, 0) or numpy.moveaxis(arr, -1, 0). "
            "If the shape is right, name its dimensions: "
            "xarray.DataArray(arr, dims=('band', 'y', 'x'))"
        )


def _native_dtype(array: UserArray) -> np.dtype[Any]:
    """The type in which pixels are worked on, in native byte order."""
    dtype = array.dtype
    native = np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")
    if native.name in _DTYPES and check_dtype(native.name):
        return native
    if array.encoding is not None:
        raise DtypeError(
            f"GeoTIFF cannot hold {native}, which is encoding['dtype']; set another, or {REMEDY}"
        )
    remedy = _NEAREST_DTYPES.get(native.kind, "float64")
    raise DtypeError(
        f"GeoTIFF cannot hold {native}; cast the array first, e.g. arr.astype({remedy!r})"
    )


def _check_metadata(
    metadata: Metadata,
    described: Metadata,
    dtype: np.dtype[Any],
    encoding: Encoding | None,
    *,
    is_masked: bool,
) -> None:
    """Refuse what does not go with the pixels: their type in the file, nodata, and scales."""
    nodata, stored_type = metadata.nodata, metadata.stored_type
    if stored_type == "complex_int16" and dtype != np.complex64:
        raise DtypeError(
            f"dtype={stored_type} is stored from complex64, not {dtype}; cast the array"
        )
    allowed = None if nodata is None else misfit(nodata, dtype)
    if allowed is not None:
        remedy = "" if encoding is None else f"; the type is that of the encoding: {REMEDY}"
        raise OptionError(f"nodata={nodata} is not a {dtype}; use {allowed}{remedy}")
    for name in () if encoding is None else ("scales", "offsets"):
        encoded, asked = getattr(described, name), getattr(metadata, name)
        if encoded != asked:
            raise OptionError(
                f"{name}={asked} is not what the values are encoded with, {encoded}; "
                f"set arr.encoding instead, or {REMEDY}"
            )
    # GDAL does not round the nodata value of masked half floats
    if not is_masked or nodata is None or dtype != np.float16 or not math.isfinite(nodata):
        return
    nearest = rounded(nodata, dtype)
    if nearest != nodata:
        raise OptionError(
            f"nodata={nodata} is not a {dtype}, "
            f"so masked pixels would be {nearest} and valid; give a number that is, or nan"
        )
