"""NumPy, dask or xarray input, normalised: band-first dask pixels, mask and georeferencing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from rasterio.dtypes import check_dtype

from ccog.errors import ArgumentTypeError, DtypeError, OptionError, RasterError
from ccog.metadata import Metadata, with_options
from ccog.xarray_input import is_xarray, pixels_and_metadata, plain

_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
           "float16", "float32", "float64", "complex64", "complex128")  # fmt: skip


@dataclass(frozen=True)
class Raster:
    """(band, y, x) pixels, (y, x) mask (non-zero valid) or None, and metadata; an alpha band may be the mask."""

    pixels: da.Array
    mask: da.Array | None
    metadata: Metadata
    mask_is_alpha: bool = False

    @property
    def stored_type(self) -> str:
        """Name of the pixels' type in the file, as rasterio has it."""
        return self.metadata.stored_type or str(self.pixels.dtype.name)

    @property
    def count(self) -> int:
        """Bands."""
        return int(self.pixels.shape[0])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[1])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[2])


def read_raster(arr: Any, mask: Any, options: Mapping[str, Any]) -> Raster:
    """Normalise the user's array, mask and metadata options (upper-case keys of METADATA_OPTIONS).

    Raises
    ------
    RasterError, DtypeError, ArgumentTypeError, OptionError
        Whatever cannot be written, saying what was found, what is allowed and what to do.
    """
    found, metadata = arr, Metadata()
    if is_xarray(arr):
        found, metadata = pixels_and_metadata(arr, nodata_given=options.get("NODATA") is not None)
    pixels = _band_first(_as_dask(found, "the array"))
    _check_shape(pixels)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    _check_dtype(pixels.dtype)
    metadata = with_options(metadata, options, int(pixels.shape[0]))
    if metadata.stored_type is not None and pixels.dtype != np.complex64:
        raise DtypeError(f"dtype={metadata.stored_type} is stored from complex64, not {pixels.dtype}; cast the array")
    _check_nodata(metadata.nodata, pixels.dtype)
    return Raster(pixels, _read_mask(mask, pixels), metadata)


def _as_dask(arr: Any, what: str) -> da.Array:
    if isinstance(arr, da.Array):
        return arr
    if isinstance(arr, np.ndarray):
        return da.from_array(arr, chunks=_numpy_chunks(arr.shape), name=False)
    raise ArgumentTypeError(
        f"{what} is {_type_name(arr)}; pass an xarray.DataArray, a dask.array.Array or a numpy.ndarray"
    )


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _numpy_chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(n, 4096) if k >= len(shape) - 2 else n for k, n in enumerate(shape))


def _band_first(pixels: da.Array) -> da.Array:
    if pixels.ndim not in (2, 3):
        raise RasterError(
            f"the array has {pixels.ndim} dimensions, shape {pixels.shape}; "
            "write (y, x) or (band, y, x), one raster at a time"
        )
    if pixels.ndim == 3:
        return pixels
    # not pixels[np.newaxis], which makes a task for each chunk at once
    meta = np.empty((0, 0, 0), pixels.dtype)
    return da.blockwise(_add_band, "bij", pixels, "ij", new_axes={"b": 1}, dtype=pixels.dtype, meta=meta)


def _add_band(chunk: Any) -> Any:
    return chunk[np.newaxis]


def _check_shape(pixels: da.Array) -> None:
    if any(math.isnan(n) for n in pixels.shape):
        raise RasterError(
            f"the array has unknown chunk sizes, shape {pixels.shape}; call arr.compute_chunk_sizes() first"
        )
    if 0 in pixels.shape:
        raise RasterError(f"the array is empty, shape {pixels.shape} (band, y, x); every side must be at least 1")
    if max(pixels.shape[1:]) > 2**31 - 1:
        raise RasterError(f"the array is too large, shape {pixels.shape}: GDAL takes at most 2147483647 pixels a side")
    if pixels.shape[0] > 65535:
        raise RasterError(f"the array has {pixels.shape[0]} bands; TIFF takes at most 65535 (is it band last?)")


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.name in _DTYPES and check_dtype(dtype.name):
        return
    advice = {"f": "float32 or float64", "c": "complex64 or complex128", "M": "int64", "m": "int64"}.get(
        dtype.kind, "float64"
    )
    raise DtypeError(f"GeoTIFF cannot hold {dtype}; cast the array first, e.g. arr.astype({advice.split(' ')[0]!r})")


def _check_nodata(nodata: float | int | None, dtype: np.dtype[Any]) -> None:
    if nodata is None or dtype.kind == "c":
        return
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        if not math.isfinite(nodata) or nodata != int(nodata) or not info.min <= nodata <= info.max:
            raise OptionError(f"nodata={nodata} is no {dtype}; use a whole number from {info.min} to {info.max}")
    elif math.isfinite(nodata) and dtype == np.float32 and abs(nodata) > float(np.finfo(np.float32).max) * (1 + 1e-7):
        raise OptionError(f"nodata={nodata} is out of the range of {dtype}")


def _read_mask(mask: Any, pixels: da.Array) -> da.Array | None:
    if mask is None:
        return None
    if is_xarray(mask):
        mask = plain(mask)
    found = _as_dask(mask, "the mask")
    if found.ndim == 3 and found.shape[0] == 1:
        found = found[0]
    if found.shape != pixels.shape[1:]:
        raise RasterError(f"the mask has shape {found.shape}, the raster {pixels.shape[1:]} (y, x); they must be equal")
    if found.dtype.kind not in "biuf":
        raise DtypeError(f"the mask has dtype {found.dtype}; pass booleans or integers, non-zero meaning valid")
    return found != 0
