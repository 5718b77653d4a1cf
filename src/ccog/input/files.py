"""Inputs of the command line as lazy arrays: files that rasterio opens, and variables of Zarr and netCDF files.

Each chunk is read by a task that opens the file by name, so that workers in other processes can
read it too.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np
import rasterio
import rasterio.shutil
from dask.base import tokenize
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window

from ccog.errors import MissingDependencyError, RasterError, StoreError
from ccog.redaction import Address, harmless, redact_logs, redacted

#: Side, in pixels, that chunks have at most unless asked otherwise.
DEFAULT_CHUNK = 4096

#: Bytes, all bands together, that a chunk holds at most unless asked otherwise.
MAX_CHUNK_BYTES = 64 * 2**20

#: Sides of chunks are multiples of this where the file's own blocks allow it.
_UNIT = 512

# compressions of the source worth keeping: lossless, and known to the COG driver
_KEPT_COMPRESSIONS = {"deflate", "lzw", "zstd"}


# a path that xarray opens, and the variable after a colon; "NETCDF:..." and the like are GDAL's
_VARIABLE = re.compile(
    r"(?!(?:netcdf|hdf5|zarr):)(?P<path>.+\.(?:zarr|nc|nc4|h5))/?(?::(?P<variable>[^:/]+))?", re.I
)

# metadata domains that say how the file is stored, or that have a field of their own
_DERIVED_DOMAINS = frozenset(
    {"", "IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "RPC", "TIFF", "COLOR_PROFILE"}
)

# attributes that say how a variable is stored; they are carried as nodata, scales and offsets
_NODATA_ATTRS = ("_FillValue", "missing_value")


# rasterio logs the names of files at DEBUG, and what GDAL says of them
redact_logs(
    "rasterio", "rasterio._base", "rasterio._env", "rasterio._err", "rasterio._io", "rasterio.env"
)


@dataclass(frozen=True)
class Source:
    """A raster to write: pixels, mask and what the file says about them, as ``write_ccog`` takes it."""

    array: Any
    mask: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    dropped_tags: int = 0


def open_source(
    text: str, chunk: int | None = None, *, variable: str | None = None, tags: bool = False
) -> Source:
    """Open what a user names: a Zarr or netCDF path, ``path:variable``, or anything rasterio opens.

    Raises
    ------
    StoreError
        It cannot be opened.
    RasterError
        The file has several variables and none was named, or no such variable.
    """
    match = _VARIABLE.fullmatch(text)
    if match:
        return open_variable(match["path"], variable or match["variable"], chunk)
    if variable:
        raise RasterError(
            f"{redacted(text)} is no Zarr or netCDF file (.zarr, .nc, .nc4, .h5), so it has no variable {variable}"
        )
    return open_raster(text, chunk, tags=tags)


def open_raster(path: str, chunk: int | None = None, *, tags: bool = False) -> Source:
    """Describe the raster at ``path`` without reading its pixels.

    ``chunk`` is the side of the chunks in pixels. Georeferencing, nodata, palette, alpha, units and
    a lossless compression are carried over, as by ``rio convert``; with ``tags`` also colour
    interpretation and the tags of all domains, as by GDAL's CreateCopy.
    """
    if os.path.exists(path):
        path = os.path.abspath(path)  # workers may run in another directory
    try:
        with rasterio.open(path) as dataset:
            return _describe(dataset, path, chunk, tags)
    except RasterioError as error:
        raise StoreError(f"cannot open {redacted(path)}: {redacted(error)}") from harmless(error)


def open_variable(path: str, name: str | None, chunk: int | None = None) -> Source:
    """Describe a variable of a Zarr or netCDF file; the only one if ``name`` is None. Values stay as stored."""
    xarray = _import_xarray()
    try:
        # not chunks={}: the chunks wanted are multiples of those stored
        dataset = xarray.open_dataset(
            path,
            engine="zarr" if path.lower().endswith(".zarr") else None,
            chunks=None,
            mask_and_scale=False,
            decode_times=False,
            decode_coords="all",
        )
    except ImportError as error:
        raise MissingDependencyError(
            f"cannot open {redacted(path)}: {error}; pip install 'ccog[xarray]'"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"cannot open {redacted(path)}: {redacted(error)}") from harmless(error)
    found = _only_variable(dataset, path) if name is None else _named_variable(dataset, path, name)
    others = [dim for dim in found.dims[:-2] if found.sizes[dim] == 1]
    found = found.squeeze(others) if found.ndim > 3 else found
    chunks = _variable_chunks(found, chunk)
    token = tokenize(
        os.path.abspath(path), _stamp(path), found.name, found.shape, found.dtype, chunks
    )
    return Source(found.chunk(chunks, token=token), options=_variable_options(found))


def _stamp(path: str) -> tuple[int, int] | None:
    """Size and time of a local file, so that one that has changed has another name in dask."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def chunk_shape(
    height: int, width: int, block: tuple[int, int], pixel_bytes: int, limit: int = MAX_CHUNK_BYTES
) -> tuple[int, int]:
    """Chunk of about ``DEFAULT_CHUNK`` pixels a side and at most ``limit`` bytes that suits blocks of ``block``.

    Files in strips are read in strips: a chunk that cuts strips would decode each of them many
    times.
    """
    side = min(DEFAULT_CHUNK, math.isqrt(limit // pixel_bytes))
    if block[1] >= width > side:
        rows = limit // (pixel_bytes * width)
        return _multiple(rows, _unit(block[0])), width
    return _multiple(side, _unit(block[0])), _multiple(side, _unit(block[1]))


def read_window(
    path: str, bands: tuple[int, ...], window: Window, dtype: str, *, mask: bool = False
) -> Any:
    """Pixels (band, y, x), or the mask (y, x), of one window."""
    try:
        with rasterio.open(path) as dataset:
            if mask:
                return dataset.read_masks(1, window=window)
            return dataset.read(list(bands), window=window).astype(dtype, copy=False)
    except RasterioError as error:
        # GDAL's own error says more, but cannot be pickled on its way from a worker
        said = redacted(f"{error} ({error.__cause__})" if error.__cause__ else error)
    raise StoreError(f"cannot read {redacted(path)}: {said}")


def _describe(dataset: Any, path: str, chunk: int | None, tags: bool) -> Source:
    dtype = _common_dtype(dataset.dtypes)
    if chunk is None:
        pixel_bytes = dtype.itemsize * dataset.count
        height, width = dataset.shape
        rows, cols = chunk_shape(height, width, dataset.block_shapes[0], pixel_bytes)
    else:
        rows = cols = chunk
    token = tokenize(path, _stamp(path), dataset.shape, dtype, dataset.count, rows, cols)
    array = _lazy(dataset, path, (rows, cols), dtype, token)
    mask = _lazy(dataset, path, (rows, cols), None, token) if _has_mask(dataset) else None
    dropped = 0 if tags else sum(map(len, _user_tags(dataset).values()))
    return Source(array, mask, _options(dataset, path, tags), dropped)


def _lazy(
    dataset: Any, path: str, chunk: tuple[int, int], dtype: np.dtype[Any] | None, token: str
) -> Any:
    """Dask array (band, y, x) of the pixels, or (y, x) of the mask where ``dtype`` is None."""
    height, width = dataset.shape
    chunks: tuple[tuple[int, ...], ...] = (_split(height, chunk[0]), _split(width, chunk[1]))
    if dtype is not None:
        chunks = ((dataset.count,), *chunks)
    kind = np.dtype("uint8") if dtype is None else dtype
    return da.map_blocks(
        _read_block,
        path=Address(path),
        shape=(height, width),
        chunk=chunk,
        bands=tuple(dataset.indexes),
        kind=kind.name,
        mask=dtype is None,
        chunks=chunks,
        dtype=kind,
        meta=np.empty((0,) * len(chunks), kind),
        name=f"read-{'mask' if dtype is None else 'raster'}-{token}",
    )


def _read_block(
    *,
    path: str,
    shape: tuple[int, int],
    chunk: tuple[int, int],
    bands: tuple[int, ...],
    kind: str,
    mask: bool,
    block_id: tuple[int, ...],
) -> Any:
    row, col = block_id[-2] * chunk[0], block_id[-1] * chunk[1]
    window = Window(col, row, min(chunk[1], shape[1] - col), min(chunk[0], shape[0] - row))
    return read_window(path, bands, window, kind, mask=mask)


def _import_xarray() -> Any:
    try:
        import rioxarray  # noqa: F401
        import xarray
    except ImportError as error:
        raise MissingDependencyError(
            "Zarr and netCDF files need xarray: pip install 'ccog[xarray]'"
        ) from error
    return xarray


def _only_variable(dataset: Any, path: str) -> Any:
    names = [name for name, found in dataset.data_vars.items() if found.ndim >= 2]
    if len(names) != 1:
        listed = ", ".join(map(str, names)) or "none"
        raise RasterError(
            f"{redacted(path)} has {len(names)} variables of two or more dimensions ({listed}); "
            "name one: --variable NAME"
        )
    return dataset[names[0]]


def _named_variable(dataset: Any, path: str, name: str) -> Any:
    if name not in dataset.variables:
        raise RasterError(
            f"{redacted(path)} has no variable {name}; it has {', '.join(map(str, dataset.data_vars))}"
        )
    return dataset[name]


def _variable_chunks(variable: Any, chunk: int | None) -> dict[Any, int]:
    """Chunk lengths by dimension: the last two grow to multiples of those stored, the rest stay one or as stored."""
    stored = variable.encoding.get("preferred_chunks") or {}
    lengths = {dim: int(stored.get(dim, 1)) for dim in variable.dims[:-2]}
    y, x = variable.dims[-2:]
    if chunk is not None:
        return {**lengths, y: chunk, x: chunk}
    block = int(stored.get(y, 1)), int(stored.get(x, 1))
    pixel_bytes = variable.dtype.itemsize * math.prod(lengths.values())
    rows, cols = chunk_shape(variable.sizes[y], variable.sizes[x], block, pixel_bytes)
    return {**lengths, y: rows, x: cols}


def _variable_options(variable: Any) -> dict[str, Any]:
    attrs = variable.attrs
    bands = math.prod(variable.shape[:-2])
    single = {
        "descriptions": attrs.get("long_name"),
        "units": attrs.get("units"),
        "scales": attrs.get("scale_factor"),
        "offsets": attrs.get("add_offset"),
    }
    options: dict[str, Any] = {
        key: (_plain(value),) * bands for key, value in single.items() if value is not None
    }
    nodata = next((attrs[key] for key in _NODATA_ATTRS if key in attrs), None)
    return options if nodata is None else {**options, "nodata": _plain(nodata)}


def _plain(value: Any) -> Any:
    """The Python value of a NumPy scalar, or of an array of one."""
    return np.asarray(value).item() if isinstance(value, np.generic | np.ndarray) else value


def _options(dataset: Any, path: str, tags: bool) -> dict[str, Any]:
    gcps, gcps_crs = dataset.gcps
    has_alpha = dataset.colorinterp[-1] == ColorInterp.alpha
    found: dict[str, Any] = {
        "crs": gcps_crs if gcps else dataset.crs,
        "transform": None if gcps else _transform(dataset, path),
        "gcps": gcps or None,
        "rpcs": dataset.rpcs,
        "nodata": dataset.nodata,
        "descriptions": _unless_all(dataset.descriptions, None),
        "units": _unless_all(tuple(unit or None for unit in dataset.units), None),
        "scales": _unless_all(dataset.scales, 1.0),
        "offsets": _unless_all(dataset.offsets, 0.0),
        "colormap": dataset.colormap(1) if dataset.colorinterp[0] == ColorInterp.palette else None,
        "colorinterp": dataset.colorinterp if tags or has_alpha else None,
        "dtype": _stored_type(dataset),
        "COMPRESS": _kept_compression(dataset),
        "INTERLEAVE": _kept_interleave(dataset),
        "update_tags": _carried_tags(dataset, tags),
    }
    return {key: value for key, value in found.items() if value is not None}


def _transform(dataset: Any, path: str) -> Any:
    """The transform, but None where the file has none: rasterio then says identity, so GDAL itself is asked."""
    if not dataset.transform.is_identity:
        return dataset.transform
    with MemoryFile(ext=".vrt") as memory:
        rasterio.shutil.copy(path, memory.name, driver="VRT")
        return dataset.transform if b"<GeoTransform>" in memory.read() else None


def _stored_type(dataset: Any) -> str | None:
    """The type of the file where NumPy has none for it."""
    return "complex_int16" if set(dataset.dtypes) == {"complex_int16"} else None


def _unless_all(values: tuple[Any, ...], default: Any) -> tuple[Any, ...] | None:
    return None if all(value == default for value in values) else tuple(values)


def _kept_compression(dataset: Any) -> str | None:
    name = dataset.compression.value.lower() if dataset.compression else None
    return name if name in _KEPT_COMPRESSIONS else None


def _kept_interleave(dataset: Any) -> str | None:
    """The band order of the source, which ``rio convert`` hands on too; GDAL before 3.11 has no such option."""
    version = tuple(int(part) for part in rasterio.__gdal_version__.split(".")[:2])
    name = dataset.interleaving.value.upper() if dataset.interleaving else None
    return name if version >= (3, 11) and name in ("PIXEL", "BAND") else None


def _carried_tags(dataset: Any, tags: bool) -> dict[Any, dict[str, str]] | None:
    carried = _user_tags(dataset) if tags else {}
    if dataset.tags().get("AREA_OR_POINT") == "Point":
        carried.setdefault(0, {})["AREA_OR_POINT"] = "Point"
    return {key: value for key, value in carried.items() if value} or None


def _user_tags(dataset: Any) -> dict[Any, dict[str, str]]:
    """Tags of the dataset (0) and of each band, and those of other domains by (band, domain)."""
    found: dict[Any, dict[str, str]] = {}
    for band in (0, *dataset.indexes):
        found[band] = {k: v for k, v in dataset.tags(band).items() if k != "AREA_OR_POINT"}
        for domain in dataset.tag_namespaces(band):
            if domain not in _DERIVED_DOMAINS:
                found[band, domain] = dataset.tags(band, domain)
    return found


def _common_dtype(dtypes: tuple[str, ...]) -> np.dtype[Any]:
    # complex_int16 has no NumPy dtype; rasterio reads it as complex64
    return np.result_type(*("complex64" if name == "complex_int16" else name for name in dtypes))


def _has_mask(dataset: Any) -> bool:
    flags = dataset.mask_flag_enums[0]
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


def _split(length: int, chunk: int) -> tuple[int, ...]:
    full, rest = divmod(length, chunk)
    return (chunk,) * full + ((rest,) if rest else ())


def _unit(block: int) -> int:
    unit = math.lcm(block, _UNIT)
    return unit if unit <= DEFAULT_CHUNK else _UNIT


def _multiple(length: int, unit: int) -> int:
    return max(length // unit, 1) * unit
