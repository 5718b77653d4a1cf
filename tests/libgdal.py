"""GDAL's own functions, for what rasterio does not hand on."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import rasterio


def libgdal() -> ctypes.CDLL:
    """The GDAL of rasterio's wheel; skips the test where there is none."""
    libraries = Path(rasterio.__file__).parents[1].glob("rasterio.libs/libgdal*")
    path = next(libraries, None)
    if path is None:
        pytest.skip("GDAL is called in the library of rasterio's wheels")
    return ctypes.CDLL(str(path))


def c_texts(texts: Sequence[object]) -> Any:
    """Texts as C has them: pointers, and a null at the end."""
    return (ctypes.c_char_p * (len(texts) + 1))(*(str(text).encode() for text in texts), None)


def create_copy(source: Path, target: Path, options: Sequence[str]) -> bytes:
    """The COG that GDAL writes with these KEY=VALUE, of which a key may come several times."""
    gdal = libgdal()
    for name in ("GDALOpen", "GDALGetDriverByName", "GDALCreateCopy"):
        getattr(gdal, name).restype = ctypes.c_void_p
    pairs, path = c_texts(options), str(target).encode()
    with rasterio.Env():
        driver = ctypes.c_void_p(gdal.GDALGetDriverByName(b"COG"))
        opened = ctypes.c_void_p(gdal.GDALOpen(str(source).encode(), 0))
        copy = gdal.GDALCreateCopy(driver, path, opened, 0, pairs, None, None)
        for dataset in (ctypes.c_void_p(copy), opened):
            gdal.GDALClose(dataset)
    return target.read_bytes()
