"""GDAL's CreateCopy itself, for what rasterio cannot hand on: an option that is given several times."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import pytest
import rasterio


def create_copy(source: Path, target: Path, options: Sequence[str]) -> bytes:
    """The COG that GDAL writes with these KEY=VALUE; skips where rasterio does not bring GDAL."""
    libraries = Path(rasterio.__file__).parents[1] / "rasterio.libs"
    gdal = next(libraries.glob("libgdal*"), None)
    if gdal is None:
        pytest.skip("this rasterio does not bring its own GDAL")
    library = ctypes.CDLL(str(gdal))
    for name in ("GDALOpen", "GDALGetDriverByName", "GDALCreateCopy"):
        getattr(library, name).restype = ctypes.c_void_p
    pairs = (ctypes.c_char_p * (len(options) + 1))(*(text.encode() for text in options), None)
    with rasterio.Env():
        driver = ctypes.c_void_p(library.GDALGetDriverByName(b"COG"))
        opened = ctypes.c_void_p(library.GDALOpen(str(source).encode(), 0))
        path = str(target).encode()
        copy = library.GDALCreateCopy(driver, path, opened, 0, pairs, None, None)
        for dataset in (ctypes.c_void_p(copy), opened):
            library.GDALClose(dataset)
    return target.read_bytes()
