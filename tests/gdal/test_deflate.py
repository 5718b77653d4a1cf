"""Tiles of DEFLATE that are compressed without the driver are the driver's, byte for byte."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio

import ccog
from ccog.gdal import encode
from ccog.gdal.deflate import tile_kind
from ccog.gdal.encode import Codec
from conftest import GEO, gdal_cog, terrain

TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]  # fmt: skip


def smooth(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Pixels that neighbours resemble, so that levels and predictors make a difference."""
    steps = np.random.default_rng(1).normal(0, 3, shape)
    return (np.cumsum(steps, axis=-1) + 60).clip(0, 100).astype(dtype)


def codec_of(dtype: str, options: dict[str, str], *, planar: bool = False) -> Codec:
    return Codec(
        blocksize=128,
        dtype=dtype,
        image=tuple(options.items()),
        mask=(),
        nodata=None,
        sparse=False,
        planar=planar,
    )


def tiles_by_driver(pixels: np.ndarray, codec: Codec) -> list[list[bytes]]:
    with ExitStack() as files:
        planes = encode._compress_by_driver(files, pixels, codec)
        return [list(map(bytes, tiles)) for tiles in planes]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("level", [None, "1", "6", "7", "8", "9", "12"])
def test_tiles_without_the_driver_are_the_drivers(
    dtype: str, count: int, level: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "_LEAST_DEFLATED", 0)
    pixels = smooth((count, 150, 140), dtype)
    for predictor in ["1", "2", "3"] if dtype.startswith("float") else ["1", "2"]:
        options = {"compress": "DEFLATE", "predictor": predictor}
        options |= {} if level is None else {"zlevel": level}
        for planar in [False, True][:count]:
            codec = codec_of(dtype, options, planar=planar)
            direct = encode._deflated(pixels, codec)
            assert direct is not None, (predictor, planar)
            assert [list(map(bytes, tiles)) for tiles in direct] == tiles_by_driver(pixels, codec)


def test_mask_tiles_without_the_driver_are_the_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_LEAST_DEFLATED", 0)
    mask = (np.random.default_rng(0).random((1, 300, 260)) > 0.2).view("uint8")
    codec = codec_of("uint8", {"compress": "DEFLATE", "nbits": "1"})
    direct = encode._deflated(mask, codec)
    assert direct is not None
    assert [list(map(bytes, tiles)) for tiles in direct] == tiles_by_driver(mask, codec)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint16", {"compress": "LZW"}),
        ("uint16", {"compress": "DEFLATE", "nbits": "12"}),
        ("uint8", {"compress": "DEFLATE", "photometric": "YCBCR"}),
        (">u2", {"compress": "DEFLATE"}),
    ],
)
def test_what_is_not_known_goes_through_the_driver(dtype: str, options: dict[str, str]) -> None:
    assert tile_kind(np.zeros((1, 16, 16), dtype), options) is None


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_the_file_is_the_same_where_gdal_has_no_libdeflate(
    library: bool, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not library:
        monkeypatch.setattr("ccog.gdal.deflate.has_libdeflate", lambda: False)
    pixels = terrain((2, 1100, 1300))
    mask = np.random.default_rng(0).random((1100, 1300)) > 0.2 if masked else None
    options: dict[str, Any] = {"compress": "deflate", "predictor": "yes", "blocksize": 256}
    array = da.from_array(pixels, chunks=(2, 512, 1024))
    written = ccog.write_ccog(array, mask=mask, COG_creation_options=GEO | options).compute()
    assert written == gdal_cog(pixels, options, mask)


def test_who_asks_gdal_for_zlib_gets_zlib() -> None:
    pixels, options = smooth((1, 1100, 1300), "uint16"), {"compress": "deflate", "blocksize": 256}
    array = da.from_array(pixels, chunks=(1, 512, 1024))
    written = {}
    for env in ({}, {"GDAL_TIFF_DEFLATE_SUBCODEC": "ZLIB"}):
        delayed = ccog.write_ccog(
            array, rasterio_env_options=env, COG_creation_options=GEO | options
        )
        written[len(env)] = delayed.compute(scheduler="threads")
        with rasterio.Env(**env):
            assert written[len(env)] == gdal_cog(pixels, options)
    assert written[0] != written[1]
