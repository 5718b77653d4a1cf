"""Random arrays lie in their files where they lie for odc-geo and rioxarray, with the same CRS."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import odc.geo.xr  # noqa: F401
import xarray as xr
from affine import Affine
from hypothesis import HealthCheck, given, seed, settings
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

import ccog
from xarray_cases import Drawn, rasters

HEALTHY = {"suppress_health_check": list(HealthCheck), "deadline": None}


def header(arr: Any) -> tuple[Affine, Any, list[str]]:
    """Transform and CRS of the file, and the warnings of the write."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = ccog.write_ccog(arr, compute=True)
    told = [str(w.message) for w in caught if issubclass(w.category, ccog.CCOGWarning)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with MemoryFile(data) as memory, memory.open() as file:
            return file.transform, file.crs, told


def beside(found: Affine, right: Affine, shape: tuple[int, int]) -> float:
    """How far apart, in pixels, two transforms lay the corners of a raster."""
    height, width = shape
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)]).T
    here, there = (np.array(t[:6]).reshape(2, 3) @ corners for t in (found, right))
    pixel = min(np.hypot(right.a, right.d), np.hypot(right.b, right.e))
    return float(np.hypot(*(here - there)).max() / pixel)


@settings(max_examples=300, **HEALTHY)
@given(rasters())
def test_an_array_lies_in_the_file_where_it_lies(drawn: Drawn) -> None:
    check(drawn)


def check(drawn: Drawn) -> None:
    """The file of an array lies where the array lies, and every doubt is told."""
    transform, crs, told = header(drawn.arr)
    assert crs == drawn.crs, drawn.made
    if drawn.transform is None:
        assert (transform, bool(told)) == (Affine.identity(), True), drawn.made
        return
    assert drawn.is_doubtful or not told, (told, drawn.made)
    shape = shape_of(drawn.arr)
    assert beside(transform, drawn.transform, shape) < 1e-3, (transform, drawn)
    for other in (by_odc(drawn), by_rioxarray(drawn)):
        assert other is None or beside(transform, other, shape) < 2e-3, (transform, other, drawn)


def shape_of(arr: Any) -> tuple[int, int]:
    sizes = dict(arr.sizes)
    (height,) = (
        n
        for dim, n in sizes.items()
        if str(dim).lower() in ("y", "yc", "lat", "latitude", "northing")
    )
    (width,) = (
        n
        for dim, n in sizes.items()
        if str(dim).lower() in ("x", "xc", "lon", "longitude", "easting")
    )
    return height, width


def by_odc(drawn: Drawn) -> Affine | None:
    """What odc-geo says, where it is right."""
    arr, sides, grid = drawn.arr, shape_of(drawn.arr), Affine(*drawn.made["grid"])
    is_wrong = (
        # it takes transforms within 1e-6 for equal
        abs(grid.determinant) < 1e-8
        # takes dimensions that it does not know as they come
        or bool(set(arr.dims) & {"northing", "Y"})
        # takes another size for the only row of a turned grid
        or (min(sides) == 1 and bool(grid.b or grid.d))
        # does not heed coordinates of each pixel
        or (drawn.made["source"] == "rioxarray" and bool(grid.b or grid.d))
        # does not read CF's extended form
        or drawn.made["crs"][1] == "grid mapping of some coordinates"
        # and does not know corners or indexes
        or drawn.made["source"] in ("stackstac", "rasterix")
    )
    if is_wrong:
        return None
    if isinstance(arr, xr.Dataset):
        arr = arr.set_coords([name for name, v in arr.data_vars.items() if v.ndim == 0])["a"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            box = arr.odc.geobox
        except (KeyError, ValueError):
            return None
    return None if box is None or box.shape != sides else box.affine


def by_rioxarray(drawn: Drawn) -> Affine | None:
    """What ``rioxarray.to_raster`` writes, where it is right: straight grids of more than a row."""
    arr, grid = drawn.arr, Affine(*drawn.made["grid"])
    is_wrong = min(shape_of(arr)) == 1 or grid.b or grid.d or drawn.made["source"] == "stackstac"
    arr = arr["a"] if isinstance(arr, xr.Dataset) else arr
    if is_wrong or arr.dims[-2:] not in (("y", "x"), ("latitude", "longitude")):
        return None
    with MemoryFile() as memory:
        arr.drop_attrs(deep=False).rio.to_raster(memory.name, driver="COG")
        with memory.open() as file:
            return file.transform


if __name__ == "__main__":  # PYTHONPATH=tests python tests/input/test_oracle_place.py 5000 SEED
    draws, start = map(int, sys.argv[1:])
    asked = settings(max_examples=draws, derandomize=False, database=None, **HEALTHY)
    asked(seed(start)(given(rasters())(check)))()
    print(f"{draws} arrays lie where they lie")
