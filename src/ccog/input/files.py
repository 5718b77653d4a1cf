"""Files that rasterio opens."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError

from ccog.errors import RasterError, StoreError, warn_user
from ccog.geometry.raster_facts import MaskKind
from ccog.input.description import describe, exact_nodata, is_jpeg, palette_of
from ccog.input.given_overviews import GivenOverviews
from ccog.input.lazy_file import LazyFile
from ccog.input.metadata import Metadata
from ccog.input.source import Source, absolute_path, file_behind
from ccog.redaction import Address, harmless, redacted
from ccog.wording import plural

# types of files that NumPy has not, and what they are read as
_WHOLE_COMPLEX = {"complex_int16": "complex64", "complex_int32": "complex128"}


def open_raster(path: str, chunk: int | None = None, *, tags: bool = True) -> Source:
    """Describe the raster at ``path`` without reading its pixels.

    ``chunk`` is the side of the chunks in pixels. All is carried over that GDAL's CreateCopy
    carries over; without ``tags`` the tags of the dataset and of its bands are not.
    """
    path = Address(absolute_path(path))
    try:
        with rasterio.open(path) as dataset:
            return _source(dataset, path, chunk, tags=tags)
    except RasterioError as error:
        reason, file = redacted(error, path), file_behind(path)
        if "Invalid band number" in reason:
            with contextlib.suppress(RasterioError), rasterio.open(file) as dataset:
                reason += f"; it has {plural(dataset.count, 'band')}"
        raise StoreError(f"cannot open {redacted(file)}: {reason}") from harmless(error, path)


def with_mask_of(source: Source, path: str) -> Source:
    """The source with a mask that says what the file at ``path`` says by nodata values.

    A source that has a mask keeps it.
    """
    if source.mask is not None:
        return source
    path = Address(absolute_path(path))
    with rasterio.open(path) as dataset:
        if MaskFlags.nodata not in dataset.mask_flag_enums[0]:
            raise RasterError(
                f"{redacted(path)} has no nodata value that a mask could be made of; give one with "
                "--nodata, or leave out --add-mask: a mask and an alpha band are kept without it"
            )
        file = LazyFile.of(dataset, path, None, source.array.dtype)
    file = replace(file, sides=source.array.chunksize[1:])
    return replace(source, mask=file.dataset_mask, mask_kind="file", overviews=None)


def _source(dataset: Any, path: str, chunk: int | None, *, tags: bool) -> Source:
    header = describe(dataset, tags=tags)
    stored_type = _stored_type(dataset, header)
    dtype = np.dtype(_WHOLE_COMPLEX.get(stored_type, stored_type))
    file = LazyFile.of(dataset, path, chunk, dtype)
    kind = _mask_kind(dataset)
    mask = None
    if kind is not None:
        mask = file.band_masks if kind == "each" else file.mask
    nodata = dataset.nodatavals
    return Source(
        array=file.pixels,
        mask=mask,
        mask_kind=kind or "file",
        nodata_by_band=nodata if len(set(map(str, nodata))) > 1 else None,
        nodata_values=_nodata_values(dataset),
        overviews=_overviews(dataset, path, chunk, dtype),
        metadata=_metadata(dataset, stored_type),
        is_jpeg=is_jpeg(dataset),
        header=header,
    )


def _stored_type(dataset: Any, header: Metadata) -> str:
    """The type of the first band, in which GDAL stores all (GTiffDataset::CreateCopy)."""
    dtypes = dataset.dtypes
    if 'dataType="CInt32"' in (header.description or ""):
        return "complex_int32"  # rasterio takes it for floats
    if len(set(dtypes)) > 1:
        warn_user(
            f"the bands are of different types ({', '.join(dtypes)}), and all are stored as "
            f"{dtypes[0]}, as by GDAL: values that it cannot hold are clamped"
        )
    return str(dtypes[0])


def _mask_kind(dataset: Any) -> MaskKind | None:
    """How GDAL weighs the mask; None where there is none besides nodata and alpha."""
    flags = dataset.mask_flag_enums[0]
    if not flags:
        return "each"
    if flags != [MaskFlags.per_dataset]:
        return None
    has_file = any(name.lower().endswith(".msk") for name in dataset.files)
    return "bits" if dataset.driver in ("GTiff", "COG") and not has_file else "file"


def _nodata_values(dataset: Any) -> tuple[float, ...] | None:
    """Values of the bands that together mean nodata; None where GDAL does not heed them."""
    flags = dataset.mask_flag_enums[0]
    if MaskFlags.nodata not in flags or MaskFlags.per_dataset not in flags:
        return None
    return tuple(map(float, dataset.tags()["NODATA_VALUES"].split()))


def _overviews(
    dataset: Any, path: str, chunk: int | None, dtype: np.dtype[Any]
) -> GivenOverviews | None:
    counts = {len(dataset.overviews(band)) for band in dataset.indexes}
    # GDAL copies none that some bands lack
    if len(counts) > 1 or counts == {0}:
        return None
    arrays, masks, methods = [], [], []
    for number in range(*counts):
        with rasterio.open(path, overview_level=number) as level:
            file = LazyFile.of(level, path, chunk, dtype, overview=number)
            flags = level.mask_flag_enums[0]
            methods.append(level.tags(1).get("RESAMPLING", ""))
        has_mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        arrays.append(file.pixels)
        masks.append(file.mask if has_mask else None)
    return GivenOverviews(
        arrays=tuple(arrays),
        masks=tuple(masks),
        made_by=methods[0],
        is_of_vrt=dataset.driver == "VRT",
    )


def _metadata(dataset: Any, dtype: str) -> Metadata:
    """What the pixels of the copy depend on; its header has the rest."""
    points, crs_of_points = dataset.gcps
    # GDAL heeds ground control points only where there is no transform
    by_points = bool(points) and dataset.transform.is_identity
    bits = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    return Metadata(
        crs=crs_of_points if by_points else dataset.crs,
        transform=None if by_points else dataset.transform,
        nodata=exact_nodata(dataset),
        colormap=palette_of(dataset),
        colorinterp=dataset.colorinterp,
        stored_type=dtype if dtype in _WHOLE_COMPLEX else None,
        bits=None if bits is None else int(bits),
    )
