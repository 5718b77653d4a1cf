"""NumPy, dask or xarray input, normalised: band-first dask pixels, mask and georeferencing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError

from ccog.errors import ArgumentTypeError, DtypeError, OptionError, RasterError

_Y_NAMES = ("y", "latitude", "lat", "northing", "Y", "LATITUDE", "LAT")
_X_NAMES = ("x", "longitude", "lon", "easting", "X", "LONGITUDE", "LON")

_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
           "float32", "float64", "complex64", "complex128", "complex_int16")  # fmt: skip

#: Options of write_ccog that describe the raster rather than the file's layout.
METADATA_OPTIONS = (
    "CRS",
    "TRANSFORM",
    "NODATA",
    "UPDATE_TAGS",
    "DESCRIPTIONS",
    "OFFSETS",
    "SCALES",
    "UNITS",
    "COLORMAP",
)


@dataclass(frozen=True)
class Metadata:
    """What the file says of its pixels; all as rasterio takes it (band tags and colour maps by band number)."""

    crs: CRS | None = None
    transform: Affine | None = None
    nodata: float | int | None = None
    tags: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    descriptions: tuple[str | None, ...] | None = None
    offsets: tuple[float, ...] | None = None
    scales: tuple[float, ...] | None = None
    units: tuple[str, ...] | None = None
    colormap: Mapping[int, tuple[int, ...]] | None = None


@dataclass(frozen=True)
class Raster:
    """(band, y, x) pixels, (y, x) mask (non-zero valid) or None, and metadata."""

    pixels: da.Array
    mask: da.Array | None
    metadata: Metadata

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
    pixels, metadata = _from_xarray(arr) if _is_xarray(arr) else (_as_dask(arr, "the array"), Metadata())
    pixels = _band_first(pixels)
    _check_shape(pixels)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    _check_dtype(pixels.dtype)
    metadata = _with_options(metadata, options, int(pixels.shape[0]))
    _check_nodata(metadata.nodata, pixels.dtype)
    return Raster(pixels, _read_mask(mask, pixels), metadata)


def _is_xarray(arr: Any) -> bool:
    return hasattr(arr, "dims") and hasattr(arr, "coords") and hasattr(arr, "attrs")


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


def _from_xarray(arr: Any) -> tuple[da.Array, Metadata]:
    if hasattr(arr, "data_vars"):
        raise ArgumentTypeError(
            f"the array is an xarray.Dataset of {sorted(map(str, arr.data_vars))}; "
            "pass one variable, or ds.to_dataarray('band')"
        )
    y, x = _dimension(arr, _Y_NAMES, "y"), _dimension(arr, _X_NAMES, "x")
    others = [d for d in arr.dims if d not in (y, x)]
    if len(others) > 1:
        raise RasterError(
            f"the array has dimensions {arr.dims}; write one raster at a time: (y, x) or (band, y, x), "
            f"e.g. arr.isel({others[0]}=0)"
        )
    arr = arr.transpose(*others, y, x)
    data = arr.data if isinstance(arr.data, da.Array | np.ndarray) else arr.to_numpy()
    return _as_dask(data, "the array"), _georeferencing(arr, y, x)


def _dimension(arr: Any, names: Sequence[str], what: str) -> Any:
    found = [d for d in arr.dims if d in names]
    rio = getattr(arr, "rio", None)
    chosen = getattr(rio, f"_{what}_dim", None)
    if chosen in arr.dims:
        return chosen
    if len(found) != 1:
        raise RasterError(
            f"cannot tell which of the dimensions {arr.dims} is {what}; name it one of {', '.join(names)}"
        )
    return found[0]


def _georeferencing(arr: Any, y: Any, x: Any) -> Metadata:
    try:
        import rioxarray  # noqa: F401
    except ImportError:
        return Metadata(transform=_from_coordinates(arr, y, x))
    arr = arr.rio.set_spatial_dims(x_dim=x, y_dim=y)
    crs = arr.rio.crs
    return Metadata(
        crs=None if crs is None else CRS.from_user_input(crs),
        transform=_rio_transform(arr, y, x),
        nodata=_python_number(arr.rio.nodata),
    )


def _rio_transform(arr: Any, y: Any, x: Any) -> Affine | None:
    """The stored GeoTransform where the coordinates agree with it (they carry rounding), else the coordinates'."""
    stored = arr.rio._cached_transform()
    computed = _from_coordinates(arr, y, x)
    if stored is None or stored == Affine.identity():
        return computed if computed is not None else stored
    if computed is None or not stored.is_rectilinear:
        return stored
    pixel = max(abs(stored.a), abs(stored.e))
    agrees = all(math.isclose(p, q, abs_tol=1e-3 * pixel) for p, q in zip(stored[:6], computed[:6], strict=True))
    return stored if agrees else computed


def _from_coordinates(arr: Any, y: Any, x: Any) -> Affine | None:
    if y not in arr.coords or x not in arr.coords or min(arr.sizes[y], arr.sizes[x]) < 2:
        return None
    ys, xs = np.asarray(arr[y].values, float), np.asarray(arr[x].values, float)
    dy, dx = (ys[-1] - ys[0]) / (len(ys) - 1), (xs[-1] - xs[0]) / (len(xs) - 1)
    centres = Affine(dx, 0, xs[0] - dx / 2, 0, dy, ys[0] - dy / 2)
    return Affine(dx, 0, xs[0], 0, dy, ys[0]) if _are_corners(centres, arr.attrs.get("transform")) else centres


def _are_corners(centres: Affine, stored: Any) -> bool:
    """Whether coordinates are of pixels' corners, as stackstac's are: half a pixel off the transform beside them."""
    if not isinstance(stored, Affine) or not all(
        math.isclose(p, q, rel_tol=1e-6) for p, q in ((centres.a, stored.a), (centres.e, stored.e))
    ):
        return False
    offsets = (stored.c - centres.c) / stored.a, (stored.f - centres.f) / stored.e
    return all(abs(offset % 1 - 0.5) < 1e-3 for offset in offsets)


def _python_number(value: Any) -> float | int | None:
    if value is None:
        return None
    number = value.item() if hasattr(value, "item") else value
    return number if isinstance(number, int | float) and not isinstance(number, bool) else float(number)


def _band_first(pixels: da.Array) -> da.Array:
    if pixels.ndim not in (2, 3):
        raise RasterError(
            f"the array has {pixels.ndim} dimensions, shape {pixels.shape}; "
            "write (y, x) or (band, y, x), one raster at a time"
        )
    return pixels[np.newaxis] if pixels.ndim == 2 else pixels


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
    if dtype.name in _DTYPES:
        return
    advice = {"f": "float32 or float64", "c": "complex64 or complex128", "M": "int64", "m": "int64"}.get(
        dtype.kind, "float64"
    )
    raise DtypeError(f"GeoTIFF cannot hold {dtype}; cast the array first, e.g. arr.astype({advice.split(' ')[0]!r})")


def _with_options(metadata: Metadata, options: Mapping[str, Any], count: int) -> Metadata:
    changes: dict[str, Any] = {}
    if options.get("CRS") is not None:
        changes["crs"] = _crs(options["CRS"])
    if options.get("TRANSFORM") is not None:
        changes["transform"] = _transform(options["TRANSFORM"])
    if options.get("NODATA") is not None:
        changes["nodata"] = _number("nodata", options["NODATA"])
    if options.get("UPDATE_TAGS"):
        changes["tags"] = _tags(options["UPDATE_TAGS"], count)
    for key, kind in (("DESCRIPTIONS", str), ("UNITS", str), ("OFFSETS", float), ("SCALES", float)):
        if options.get(key) is not None:
            changes[key.lower()] = _per_band(key.lower(), options[key], count, kind)
    if options.get("COLORMAP") is not None:
        changes["colormap"] = _colormap(options["COLORMAP"])
    return replace(metadata, **changes)


def _crs(value: Any) -> CRS:
    try:
        return CRS.from_user_input(value)
    except (CRSError, TypeError, ValueError) as error:
        raise OptionError(f"crs={value!r} is no coordinate reference system: {error}") from error


def _transform(value: Any) -> Affine:
    try:
        return value if isinstance(value, Affine) else Affine(*[float(v) for v in list(value)[:6]])
    except (TypeError, ValueError) as error:
        raise OptionError(f"transform={value!r} is not six numbers (a, b, c, d, e, f) or an affine.Affine") from error


def _number(name: str, value: Any) -> float | int:
    try:
        number = _python_number(value) if not isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        raise OptionError(f"{name}={value!r} is not a number") from None
    if number is None:
        raise OptionError(f"{name}={value!r} is not a number")
    return number


def _tags(value: Any, count: int) -> dict[int, dict[str, str]]:
    if not isinstance(value, Mapping) or not all(isinstance(v, Mapping) for v in value.values()):
        raise OptionError(f"update_tags is {{0: {{dataset tags}}, 1: {{tags of band 1}}, ...}}, not {value!r}")
    for band in value:
        if not isinstance(band, int) or not 0 <= band <= count:
            raise OptionError(f"update_tags has an entry for band {band!r}; 0 (the dataset) to {count} are allowed")
    return {band: {str(k): str(v) for k, v in tags.items()} for band, tags in value.items()}


def _per_band(name: str, value: Any, count: int, kind: type) -> tuple[Any, ...]:
    values = [value] if isinstance(value, str | int | float) else list(value)
    if len(values) != count:
        raise OptionError(f"{name} has {len(values)} entries for {count} bands: {values!r}")
    try:
        return tuple(v if v is None and kind is str else kind(v) for v in values)
    except (TypeError, ValueError):
        raise OptionError(f"{name}={values!r}: every entry must be a {kind.__name__}") from None


def _colormap(value: Any) -> dict[int, tuple[int, ...]]:
    if not isinstance(value, Mapping):
        raise OptionError(f"colormap is {{pixel value: (red, green, blue[, alpha])}}, not {value!r}")
    return {int(k): tuple(int(c) for c in v) for k, v in value.items()}


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
    if _is_xarray(mask):
        data = mask.data if isinstance(mask.data, da.Array | np.ndarray) else mask.to_numpy()
        mask = data
    found = _as_dask(mask, "the mask")
    if found.ndim == 3 and found.shape[0] == 1:
        found = found[0]
    if found.shape != pixels.shape[1:]:
        raise RasterError(f"the mask has shape {found.shape}, the raster {pixels.shape[1:]} (y, x); they must be equal")
    if found.dtype.kind not in "biuf":
        raise DtypeError(f"the mask has dtype {found.dtype}; pass booleans or integers, non-zero meaning valid")
    return found != 0
