"""Variables of Zarr and netCDF files as lazy arrays. Values stay as they are stored."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from dask.base import tokenize

from ccog.errors import RasterError, StoreError, needs
from ccog.input.source import Source, chunk_shape, file_stamp
from ccog.redaction import Hidden, harmless, redacted
from ccog.wording import plural

# metadata options of write_ccog, and the attributes that they come from
_ATTRIBUTES = {
    "descriptions": "long_name",
    "units": "units",
    "scales": "scale_factor",
    "offsets": "add_offset",
}
_NODATA_ATTRIBUTES = ("_FillValue", "missing_value")


def open_variable(
    path: str,
    name: str | None,
    chunk: int | None = None,
    storage: Mapping[str, Any] | None = None,
) -> Source:
    """Describe a variable of a file; the only one if ``name`` is None.

    ``chunk`` is the side of the chunks in pixels; ``storage`` are options of fsspec for a URL.
    """
    dataset = _open_dataset(path, Hidden(storage or {}))
    variable = _variable(dataset, path, name)
    if variable.ndim < 2:
        dims = ", ".join(map(str, variable.dims))
        raise RasterError(
            f"variable {variable.name} of {redacted(path)} has "
            f"{plural(variable.ndim, 'dimension')} ({dims}); a raster has (y, x) or (band, y, x)"
        )
    if variable.ndim > 3:
        leading = variable.dims[:-2]
        variable = variable.squeeze([dim for dim in leading if variable.sizes[dim] == 1])
    if variable.ndim == 3 and "band" not in variable.coords:
        # bands of a file, as GDAL has them, whatever they are: also times
        variable = variable.rename({variable.dims[0]: "band"})
    chunks = _chunk_lengths(variable, chunk)
    stamp = os.path.abspath(path), file_stamp(path)
    token = tokenize(*stamp, variable.name, variable.shape, variable.dtype, chunks)
    return Source(array=variable.chunk(chunks, token=token), options=_options(variable))


def _open_dataset(path: str, storage: Hidden) -> Any:
    try:
        import rioxarray  # noqa: F401
        import xarray
    except ImportError as error:
        raise needs("reading Zarr and netCDF files", "xarray", "rioxarray") from error
    is_remote = "://" in path
    engine = None  # xarray chooses it, as for OPeNDAP
    if path.lower().endswith(".zarr"):
        engine = "zarr"
    elif is_remote and not path.startswith("http"):
        engine = "h5netcdf"
    if engine is not None and find_spec(engine) is None:
        raise needs(f"opening {redacted(path)}", engine)
    try:
        # not chunks={}: the chunks wanted are multiples of those stored
        return xarray.open_dataset(
            path,
            engine=engine,
            chunks=None,
            mask_and_scale=False,
            decode_times=False,
            decode_coords="all",
            **({"storage_options": dict(storage)} if storage and is_remote else {}),
        )
    except Exception as error:  # the libraries of formats and stores have no common one
        reason = redacted(error, storage, path)
        cause = harmless(error, storage, path)
        raise StoreError(f"cannot open {redacted(path)}: {reason}") from cause


def _variable(dataset: Any, path: str, name: str | None) -> Any:
    if name is not None and name not in dataset.variables:
        listed = ", ".join(map(str, dataset.data_vars))
        raise RasterError(f"{redacted(path)} has no variable {name}; it has {listed}")
    if name is not None:
        return dataset[name]
    names = [name for name, variable in dataset.data_vars.items() if variable.ndim >= 2]
    if len(names) != 1:
        listed = ", ".join(map(str, names)) or "none"
        raise RasterError(
            f"{redacted(path)} has {len(names)} variables of two or more dimensions "
            f"({listed}); name one: --variable NAME"
        )
    return dataset[names[0]]


def _chunk_lengths(variable: Any, chunk: int | None) -> dict[Any, int]:
    """Chunk lengths by dimension: as stored, but along the last two some multiples of it."""
    stored = variable.encoding.get("preferred_chunks") or {}
    lengths = {dim: int(stored.get(dim, 1)) for dim in variable.dims[:-2]}
    y, x = variable.dims[-2:]
    if chunk is not None:
        return {**lengths, y: chunk, x: chunk}
    block = int(stored.get(y, 1)), int(stored.get(x, 1))
    pixel_bytes = variable.dtype.itemsize * math.prod(lengths.values())
    rows, cols = chunk_shape(variable.sizes[y], variable.sizes[x], block, pixel_bytes)
    return {**lengths, y: rows, x: cols}


def _options(variable: Any) -> dict[str, Any]:
    attrs = variable.attrs
    bands = math.prod(variable.shape[:-2])
    options: dict[str, Any] = {}
    for option, name in _ATTRIBUTES.items():
        if attrs.get(name) is not None:
            options[option] = (_python_value(attrs[name]),) * bands
    for name in _NODATA_ATTRIBUTES:
        if name in attrs:
            options.setdefault("nodata", _python_value(attrs[name]))
    return options


def _python_value(value: Any) -> Any:
    """The Python value of a NumPy scalar, or of an array of one."""
    return np.asarray(value).item() if isinstance(value, np.generic | np.ndarray) else value
