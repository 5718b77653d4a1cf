"""What users name on the command line: a file that rasterio opens, or a variable of a file."""

from __future__ import annotations

import os
import re
from typing import Any

from ccog.errors import RasterError
from ccog.input.files import open_raster
from ccog.input.source import Source
from ccog.input.variables import open_variable
from ccog.redaction import redacted

# a path that xarray opens, and the variable after a colon; "NETCDF:..." and the like are GDAL's
_VARIABLE = re.compile(
    r"(?!(?:netcdf|hdf5|zarr):)(?P<path>.+\.(?:zarr|nc|nc4|h5))/?(?::(?P<variable>[^:/]+))?", re.I
)


def opened(arr: Any) -> Any:
    """The raster at a path that a user gives in place of an array; an array as it is."""
    return open_source(os.fspath(arr)) if isinstance(arr, str | os.PathLike) else arr


def open_source(
    text: str, chunk: int | None = None, *, variable: str | None = None, tags: bool = True
) -> Source:
    """Open a Zarr or netCDF path, ``path:variable``, or anything that rasterio opens.

    Raises
    ------
    StoreError
        It cannot be opened.
    RasterError
        There is no such variable, or the file has several and none was named.
    """
    match = _VARIABLE.fullmatch(text)
    if match:
        return open_variable(match["path"], variable or match["variable"], chunk)
    if variable:
        raise RasterError(
            f"{redacted(text)} is not a Zarr or netCDF file (.zarr, .nc, .nc4, .h5), "
            f"so it has no variable {variable}"
        )
    return open_raster(text, chunk, tags=tags)
