"""What users name on the command line: files that rasterio opens, or a variable of a file."""

from __future__ import annotations

import glob
import itertools
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ccog.errors import RasterError, StoreError
from ccog.input.files import open_raster, with_mask_of
from ccog.input.mosaic import Overlap, open_mosaic
from ccog.input.source import Source
from ccog.input.translation import NO_NODATA, Translation
from ccog.input.variables import open_variable
from ccog.redaction import Address, hidden, redacted
from ccog.wording import byte_text

# a path that xarray opens, and the variable after a colon; "NETCDF:..." and the like are GDAL's
_VARIABLE = re.compile(
    r"(?!(?:netcdf|hdf5|zarr):)(?P<path>.+\.(?:zarr|nc|nc4|h5))/?(?::(?P<variable>[^:/]+))?", re.I
)

# files of polygons that may be a tile index, which GDAL's GTI driver reads
_TILE_INDEX = re.compile(r".+\.(?:shp|gpkg|fgb|geojson|json|parquet)", re.I)

# of a list of inputs; a million paths take less
_MOST_BYTES = 100_000_000

_UNCHANGED = Translation()

# paths of other machines, which may hold a "?", and XML
_NOT_LOCAL = re.compile(r".*://|/vsi|<", re.S)


def open_sources(
    texts: Sequence[str],
    chunk: int | None = None,
    *,
    variable: str | None = None,
    tags: bool = True,
    overlap: Overlap = "last",
    changes: Translation = _UNCHANGED,
    add_mask: bool = False,
    storage: Mapping[str, Any] | None = None,
) -> Source:
    """Open one input as :func:`open_source` does, or several as the raster that they make up.

    A text may also be a pattern of paths, such as ``tiles/*.tif``, or ``@`` and the name of a text
    file that has a path in each line.

    Raises
    ------
    StoreError
        An input cannot be opened, or a pattern matches nothing.
    RasterError
        The inputs do not make up a raster, or there is no such variable.
    """
    texts, storage = list(map(Address, texts)), hidden(storage)
    paths = list(itertools.chain(*map(_paths, texts)))
    for path in paths:
        _refuse_special(path)
    if add_mask and (len(paths) > 1 or is_variable(paths[0])):
        raise RasterError("--add-mask is for one file that GDAL reads; without it nodata is kept")
    if add_mask:
        unmasked = replace(changes, nodata=NO_NODATA).path(paths[0])
        return with_mask_of(open_raster(unmasked, chunk, tags=tags), changes.path(paths[0]))
    if len(paths) == 1:
        return open_source(
            paths[0], chunk, variable=variable, tags=tags, changes=changes, storage=storage
        )
    if variable:
        raise RasterError(f"--variable {variable} is of one file, and {len(paths)} are given")
    return open_mosaic([changes.path(path) for path in paths], chunk, overlap=overlap)


def _paths(text: str) -> list[str]:
    """The paths that a text stands for."""
    if text.startswith("@"):
        return _listed(text[1:])
    if not glob.has_magic(text) or _NOT_LOCAL.match(text) or os.path.exists(text):
        return [text]
    matches = sorted(glob.glob(text, recursive=True))
    if not matches:
        raise StoreError(
            f"no file matches {text}; in a text file, paths need no pattern: @list.txt"
        )
    return matches


def _refuse_special(path: str) -> None:
    """Refuse pipes and devices before anybody waits for them, or reads without end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # it is elsewhere, or nowhere: opening it tells
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise StoreError(
            f"{path} is not a regular file; write what comes out of it into a file, and name that"
        )


def _listed(path: str) -> list[str]:
    _refuse_special(path)
    if os.path.isdir(path):
        raise StoreError(
            f"the list of inputs {path} is a folder; for files in it give a pattern, such as "
            f"'{os.path.join(path, '*.tif')}', without the @"
        )
    if os.path.exists(path) and os.path.getsize(path) > _MOST_BYTES:
        raise StoreError(
            f"the list of inputs {path} has {byte_text(os.path.getsize(path))}, and a list of "
            f"paths has at most {byte_text(_MOST_BYTES)}; name a text file with a path in each line"
        )
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot read the list of inputs {path}: {error}") from error
    paths: list[str] = [Address(line.strip()) for line in lines if line.strip()]
    if not paths:
        raise StoreError(f"the list of inputs {path} is empty; write one path in each line")
    return paths


def is_variable(text: str) -> bool:
    """Whether xarray opens it, not GDAL."""
    return _VARIABLE.fullmatch(text) is not None


def opened(arr: Any) -> Any:
    """The raster at a path that a user gives in place of an array; an array as it is."""
    return open_sources([os.fspath(arr)]) if isinstance(arr, str | os.PathLike) else arr


def open_source(
    text: str,
    chunk: int | None = None,
    *,
    variable: str | None = None,
    tags: bool = True,
    changes: Translation = _UNCHANGED,
    storage: Mapping[str, Any] | None = None,
) -> Source:
    """Open a Zarr or netCDF path, ``path:variable``, or anything that rasterio opens.

    Files of polygons are opened as GDAL's tile indices. ``storage`` are options of fsspec for the
    URL of a Zarr or netCDF file.
    """
    text, storage = Address(text), hidden(storage)
    match = _VARIABLE.fullmatch(text)
    if match is not None:
        path, name = Address(match["path"]), variable or match["variable"]
        return changes.of_variable(open_variable(path, name, chunk, storage))
    if variable:
        raise RasterError(
            f"{redacted(text)} is not a Zarr or netCDF file (.zarr, .nc, .nc4, .h5), "
            f"so it has no variable {variable}"
        )
    try:
        return open_raster(changes.path(text), chunk, tags=tags)
    except StoreError:
        if not (_TILE_INDEX.fullmatch(text) and os.path.exists(text)):
            raise
    return open_raster(changes.path(f"GTI:{os.path.abspath(text)}"), chunk, tags=tags)
