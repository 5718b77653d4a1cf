"""Files that rasterio opens, as lazy arrays.

Each chunk is read by a task that opens the file by name, so that workers in other processes can
read it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import rasterio
import rasterio.shutil
from dask.array.core import normalize_chunks
from dask.base import tokenize
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window

from ccog.errors import StoreError
from ccog.input.overviews import overviews_of
from ccog.input.source import Source, chunk_shape, file_stamp
from ccog.redaction import Address, harmless, redact_logs, redacted

# (height, width) in pixels
Sides = tuple[int, int]

# compressions of the source worth keeping: lossless, and known to the COG driver
_KEPT_COMPRESSIONS = {"deflate", "lzw", "zstd"}

# metadata domains that say how the file is stored, or that have a field of their own
_DERIVED_DOMAINS = frozenset(
    {"", "IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "RPC", "TIFF", "COLOR_PROFILE"}
)

# rasterio logs the names of files at DEBUG, and GDAL's messages with them
redact_logs(
    "rasterio", "rasterio._base", "rasterio._env", "rasterio._err", "rasterio._io", "rasterio.env"
)


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
            source = _described(dataset, path, chunk, tags)
            overviews = overviews_of(dataset, path, chunk, source.array.dtype)
            return replace(source, overviews=overviews)
    except RasterioError as error:
        raise StoreError(f"cannot open {redacted(path)}: {redacted(error)}") from harmless(error)


def _described(dataset: Any, path: str, chunk: int | None, tags: bool) -> Source:
    dtype = _common_dtype(dataset.dtypes)
    sides = _chunk_sides(dataset, dtype) if chunk is None else (chunk, chunk)
    token = tokenize(path, file_stamp(path), dataset.shape, dtype, dataset.count, *sides)
    mask = None
    if _has_mask(dataset):
        mask = _lazy_mask(dataset, path, sides, f"read-mask-{token}")
    return Source(
        array=_lazy_pixels(dataset, path, sides, dtype, f"read-raster-{token}"),
        mask=mask,
        options=_options(dataset, path, tags),
        dropped_tags=0 if tags else sum(map(len, _user_tags(dataset).values())),
    )


def _common_dtype(dtypes: tuple[str, ...]) -> np.dtype[Any]:
    # complex_int16 has no NumPy dtype; rasterio reads it as complex64
    names = ["complex64" if name == "complex_int16" else name for name in dtypes]
    return np.result_type(*names)


def _chunk_sides(dataset: Any, dtype: np.dtype[Any]) -> tuple[int, int]:
    height, width = dataset.shape
    pixel_bytes = dtype.itemsize * dataset.count
    return chunk_shape(height, width, dataset.block_shapes[0], pixel_bytes)


def _has_mask(dataset: Any) -> bool:
    flags = dataset.mask_flag_enums[0]
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


# Pixels


def _lazy_pixels(
    dataset: Any, path: str, sides: Sides, dtype: np.dtype[Any], name: str
) -> da.Array:
    """Dask array (band, y, x)."""
    return da.map_blocks(
        _read_pixels,
        path=Address(path),
        shape=dataset.shape,
        sides=sides,
        bands=tuple(dataset.indexes),
        kind=dtype.name,
        chunks=((dataset.count,), *_chunks(dataset.shape, sides)),
        dtype=dtype,
        meta=np.empty((0, 0, 0), dtype),
        name=name,
    )


def _lazy_mask(dataset: Any, path: str, sides: Sides, name: str) -> da.Array:
    """Dask array (y, x), 255 valid and 0 not."""
    return da.map_blocks(
        _read_mask,
        path=Address(path),
        shape=dataset.shape,
        sides=sides,
        chunks=_chunks(dataset.shape, sides),
        dtype=np.dtype("uint8"),
        meta=np.empty((0, 0), "uint8"),
        name=name,
    )


def _chunks(shape: Sides, sides: Sides) -> tuple[tuple[int, ...], ...]:
    chunks: tuple[tuple[int, ...], ...] = normalize_chunks(sides, shape)
    return chunks


def _read_pixels(
    *,
    path: str,
    shape: Sides,
    sides: Sides,
    bands: tuple[int, ...],
    kind: str,
    block_id: tuple[int, ...],
) -> Any:
    window = _window(shape, sides, block_id[1:])
    pixels = _read(path, lambda dataset: dataset.read(list(bands), window=window))
    return pixels.astype(kind, copy=False)


def _read_mask(*, path: str, shape: Sides, sides: Sides, block_id: tuple[int, ...]) -> Any:
    window = _window(shape, sides, block_id)
    return _read(path, lambda dataset: dataset.read_masks(1, window=window))


def _window(shape: Sides, sides: Sides, block: tuple[int, ...]) -> Window:
    row, col = block[0] * sides[0], block[1] * sides[1]
    return Window(col, row, min(sides[1], shape[1] - col), min(sides[0], shape[0] - row))


def _read(path: str, read: Callable[[Any], Any]) -> Any:
    try:
        with rasterio.open(path) as dataset:
            return read(dataset)
    except RasterioError as error:
        # GDAL's own error says more, but cannot be pickled on its way from a worker
        reason = redacted(f"{error} ({error.__cause__})" if error.__cause__ else error)
    raise StoreError(f"cannot read {redacted(path)}: {reason}")


# Metadata


def _options(dataset: Any, path: str, tags: bool) -> dict[str, Any]:
    gcps, gcps_crs = dataset.gcps
    has_palette = dataset.colorinterp[0] == ColorInterp.palette
    has_alpha = dataset.colorinterp[-1] == ColorInterp.alpha
    options: dict[str, Any] = {
        "crs": gcps_crs if gcps else dataset.crs,
        "transform": None if gcps else _transform(dataset, path),
        "gcps": gcps or None,
        "rpcs": dataset.rpcs,
        "nodata": dataset.nodata,
        "descriptions": _unless_all(dataset.descriptions, None),
        "units": _unless_all(tuple(unit or None for unit in dataset.units), None),
        "scales": _unless_all(dataset.scales, 1.0),
        "offsets": _unless_all(dataset.offsets, 0.0),
        "colormap": dataset.colormap(1) if has_palette else None,
        "colorinterp": dataset.colorinterp if tags or has_alpha else None,
        "dtype": _stored_type(dataset),
        "COMPRESS": _kept_compression(dataset),
        "INTERLEAVE": _kept_interleave(dataset),
        "update_tags": _carried_tags(dataset, tags),
    }
    return {key: value for key, value in options.items() if value is not None}


def _transform(dataset: Any, path: str) -> Any:
    """The transform, or None where the file has none.

    rasterio gives the identity then, so GDAL itself is asked by a copy to VRT.
    """
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
    """The band order of the source, as ``rio convert`` keeps it; GDAL before 3.11 has no option."""
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
    tags: dict[Any, dict[str, str]] = {}
    for band in (0, *dataset.indexes):
        tags[band] = dataset.tags(band)
        tags[band].pop("AREA_OR_POINT", None)
        for domain in dataset.tag_namespaces(band):
            if domain not in _DERIVED_DOMAINS:
                tags[band, domain] = dataset.tags(band, domain)
    return tags
