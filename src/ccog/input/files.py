"""Files that rasterio opens, as lazy arrays.

Each chunk is read by a task that opens the file by name, so that workers in other processes can
read it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import rasterio
from dask.array.core import normalize_chunks
from dask.base import tokenize
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window

from ccog.errors import RasterError, StoreError, warn_user
from ccog.geometry.raster_facts import MaskKind
from ccog.input.description import describe, exact_nodata
from ccog.input.gdal_options import Opener
from ccog.input.metadata import Metadata
from ccog.input.overviews import overviews_of
from ccog.input.source import VRT_CONNECTION, Source, chunk_shape, file_stamp
from ccog.redaction import Address, harmless, in_words, redact_logs, redacted
from ccog.wording import plural

# (height, width) in pixels
Sides = tuple[int, int]

# types of files that NumPy has not, and what they are read as
_WHOLE_COMPLEX = {"complex_int16": "complex64", "complex_int32": "complex128"}


# rasterio logs the names of files at DEBUG, and GDAL's messages with them
redact_logs(
    "rasterio", "rasterio._base", "rasterio._env", "rasterio._err", "rasterio._io", "rasterio.env"
)


def open_raster(path: str, chunk: int | None = None, *, tags: bool = True) -> Source:
    """Describe the raster at ``path`` without reading its pixels.

    ``chunk`` is the side of the chunks in pixels. All is carried over that GDAL's CreateCopy
    carries over; without ``tags`` the tags of the dataset and of its bands are not.
    """
    if os.path.exists(path):
        path = os.path.abspath(path)  # workers may run in another directory
    try:
        with rasterio.open(path) as dataset:
            source = _described(dataset, path, chunk, tags)
            overviews = overviews_of(dataset, path, chunk, source.array.dtype)
            return replace(source, overviews=overviews)
    except RasterioError as error:
        raise StoreError(_not_opened(path, redacted(error))) from harmless(error)


def _not_opened(path: str, reason: str) -> str:
    """Why a file cannot be opened, or cannot be seen through GDAL's vrt:// as a user asks."""
    is_changed = path.startswith(VRT_CONNECTION)
    file = path.removeprefix(VRT_CONNECTION).partition("?")[0] if is_changed else path
    if "Invalid band number" in reason:
        with contextlib.suppress(RasterioError), rasterio.open(file) as dataset:
            reason += f"; it has {plural(dataset.count, 'band')}"
    return f"cannot open {redacted(file)}: {reason}"


def with_mask_of(source: Source, path: str) -> Source:
    """The source with a mask that says what the file at ``path`` says by nodata values.

    A source that has a mask keeps it.

    Raises
    ------
    RasterError
        The file has neither mask nor nodata value, or says by an alpha band what is valid.
    """
    if source.mask is not None:
        return source
    path = os.path.abspath(path) if os.path.exists(path) else path
    with rasterio.open(path) as dataset:
        if MaskFlags.nodata not in dataset.mask_flag_enums[0]:
            raise RasterError(
                f"{redacted(path)} has no nodata value that a mask could be made of; give one with "
                "--nodata, or leave out --add-mask: a mask and an alpha band are kept without it"
            )
        sides = source.array.chunks[1][0], source.array.chunks[2][0]
        token = tokenize(path, file_stamp(path), dataset.shape, *sides)
        mask = _lazy_mask(dataset, path, sides, 0, f"read-dataset-mask-{token}")
    return replace(source, mask=mask, mask_kind="file", overviews=None)


def _described(dataset: Any, path: str, chunk: int | None, tags: bool) -> Source:
    header = describe(dataset, tags=tags)
    types = _stored_types(dataset, header.description or "")
    dtype = _common_dtype(types)
    sides = _chunk_sides(dataset, dtype) if chunk is None else (chunk, chunk)
    token = tokenize(path, file_stamp(path), dataset.shape, dtype, dataset.count, *sides)
    kind = _mask_kind(dataset)
    mask = None
    if kind is not None:
        bands = list(dataset.indexes) if kind == "each" else 1
        mask = _lazy_mask(dataset, path, sides, bands, f"read-mask-{token}")
    return Source(
        array=_lazy_pixels(dataset, path, sides, dtype, f"read-raster-{token}"),
        mask=mask,
        mask_kind=kind or "file",
        nodata_by_band=_nodata_by_band(dataset),
        nodata_values=_nodata_values(dataset),
        metadata=_metadata(dataset, types[0]),
        header=header,
    )


def _common_dtype(dtypes: tuple[str, ...]) -> np.dtype[Any]:
    """The type of the first band, in which GDAL stores all (GTiffDataset::CreateCopy)."""
    if len(set(dtypes)) > 1:
        warn_user(
            f"the bands are of different types ({', '.join(dtypes)}), and all are stored as "
            f"{dtypes[0]}, as by GDAL: values that it cannot hold are clamped"
        )
    return np.dtype(_WHOLE_COMPLEX.get(dtypes[0], dtypes[0]))


def _chunk_sides(dataset: Any, dtype: np.dtype[Any]) -> tuple[int, int]:
    height, width = dataset.shape
    pixel_bytes = dtype.itemsize * dataset.count
    return chunk_shape(height, width, dataset.block_shapes[0], pixel_bytes)


def _mask_kind(dataset: Any) -> MaskKind | None:
    """How GDAL weighs the mask; None where there is none besides nodata and alpha."""
    flags = dataset.mask_flag_enums[0]
    if not flags:
        return "each"
    if flags != [MaskFlags.per_dataset]:
        return None
    has_file = any(name.lower().endswith(".msk") for name in dataset.files)
    return "bits" if dataset.driver in ("GTiff", "COG") and not has_file else "file"


def _nodata_by_band(dataset: Any) -> tuple[float | int | None, ...] | None:
    """The nodata values of the bands where they differ."""
    values = dataset.nodatavals
    return tuple(values) if len(set(map(str, values))) > 1 else None


def _nodata_values(dataset: Any) -> tuple[float, ...] | None:
    """Values of the bands that together mean nodata; None where GDAL does not heed them."""
    flags = dataset.mask_flag_enums[0]
    if MaskFlags.nodata not in flags or MaskFlags.per_dataset not in flags:
        return None
    return tuple(map(float, dataset.tags()["NODATA_VALUES"].split()))


# Pixels


def _lazy_pixels(
    dataset: Any, path: str, sides: Sides, dtype: np.dtype[Any], name: str
) -> da.Array:
    """Dask array (band, y, x)."""
    return da.map_blocks(
        _read_pixels,
        path=Address(path),
        opener=Opener.current(),
        shape=dataset.shape,
        sides=sides,
        bands=tuple(dataset.indexes),
        kind=dtype.name,
        chunks=((dataset.count,), *_chunks(dataset.shape, sides)),
        dtype=dtype,
        meta=np.empty((0, 0, 0), dtype),
        name=name,
    )


def _lazy_mask(
    dataset: Any, path: str, sides: Sides, bands: int | list[int], name: str
) -> da.Array:
    """Dask array (y, x) of the mask of a band, or (band, y, x): from 255 for valid to 0 for not.

    Band 0 is all bands together: a pixel is valid where one of them is.
    """
    depth = ((len(bands),),) if isinstance(bands, list) else ()
    chunks = (*depth, *_chunks(dataset.shape, sides))
    return da.map_blocks(
        _read_mask,
        path=Address(path),
        opener=Opener.current(),
        shape=dataset.shape,
        sides=sides,
        bands=bands,
        chunks=chunks,
        dtype=np.dtype("uint8"),
        meta=np.empty((0,) * len(chunks), "uint8"),
        name=name,
    )


def _chunks(shape: Sides, sides: Sides) -> tuple[tuple[int, ...], ...]:
    chunks: tuple[tuple[int, ...], ...] = normalize_chunks(sides, shape)
    return chunks


def _read_pixels(
    *,
    path: str,
    opener: Opener,
    shape: Sides,
    sides: Sides,
    bands: tuple[int, ...],
    kind: str,
    block_id: tuple[int, ...],
) -> Any:
    window = _window(shape, sides, block_id[1:])
    return _read(path, opener, lambda dataset: _bands(dataset, bands, window, kind))


def _bands(dataset: Any, bands: tuple[int, ...], window: Window, kind: str) -> Any:
    if len(set(dataset.dtypes)) == 1:
        return dataset.read(list(bands), window=window, out_dtype=kind)
    # rasterio reads bands of one type at once, and others one by one
    return np.stack([dataset.read(band, window=window, out_dtype=kind) for band in bands])


def _read_mask(
    *,
    path: str,
    opener: Opener,
    shape: Sides,
    sides: Sides,
    bands: int | list[int],
    block_id: tuple[int, ...],
) -> Any:
    window = _window(shape, sides, block_id[-2:])
    if bands == 0:
        return _read(path, opener, lambda dataset: dataset.dataset_mask(window=window))
    return _read(path, opener, lambda dataset: dataset.read_masks(bands, window=window))


def _window(shape: Sides, sides: Sides, block: tuple[int, ...]) -> Window:
    row, col = block[0] * sides[0], block[1] * sides[1]
    return Window(col, row, min(sides[1], shape[1] - col), min(sides[0], shape[0] - row))


def _read(path: str, opener: Opener, read: Callable[[Any], Any]) -> Any:
    try:
        with opener.open(path) as dataset:
            return read(dataset)
    except RasterioError as error:
        reason = in_words(error)
    raise StoreError(f"cannot read {redacted(path)}: {reason}")


# Metadata


def _metadata(dataset: Any, dtype: str) -> Metadata:
    """What the pixels of the copy depend on; its header has the rest."""
    gcps, gcps_crs = dataset.gcps
    return Metadata(
        crs=gcps_crs if gcps else dataset.crs,
        transform=None if gcps else dataset.transform,
        nodata=exact_nodata(dataset),
        colormap=_colormap(dataset),
        colorinterp=dataset.colorinterp,
        stored_type=dtype if dtype in _WHOLE_COMPLEX else None,
        bits=_bits(dataset),
    )


def _colormap(dataset: Any) -> dict[int, tuple[int, ...]] | None:
    """The palette of the first band; a band may be said to have one, and have none."""
    try:
        palette: dict[int, tuple[int, ...]] = dataset.colormap(1)
        return palette
    except ValueError:
        return None


def _bits(dataset: Any) -> int | None:
    bits = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    return None if bits is None else int(bits)


def _stored_types(dataset: Any, description: str) -> tuple[str, ...]:
    """Types of the bands; rasterio takes complex numbers of 32-bit integers for floats."""
    if 'dataType="CInt32"' in description:
        return ("complex_int32",) * int(dataset.count)
    return tuple(dataset.dtypes)
