"""A whole profile of rasterio as creation options, as people pass it on from one file to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import xarray as xr

import ccog
from ccog.errors import OptionError, ReprojectionError
from ccog.gdal.rasterio_edges import GDAL_FAILURES
from conftest import GEO, gdal_cog, terrain


def source(folder: Path, dtype: str = "uint16", count: int = 2, **options: Any) -> tuple[Any, Any]:
    """The profile and pixels of a GeoTIFF."""
    pixels = terrain((count, 300, 400), dtype)
    path = folder / "source.tif"
    size = {"count": count, "height": 300, "width": 400, "dtype": dtype}
    with rasterio.open(path, "w", driver="GTiff", **size, **GEO, **options) as dataset:
        dataset.write(pixels)
    with rasterio.open(path) as dataset:
        return dataset.profile, pixels


TILED = {"tiled": True, "blockxsize": 128, "blockysize": 128}


@pytest.mark.parametrize(
    ("options", "kwargs"),
    [
        ({**TILED, "compress": "deflate", "nodata": 7}, {}),
        ({**TILED, "compress": "zstd", "interleave": "pixel"}, {}),
        ({**TILED, "interleave": "band"}, {}),
        ({**TILED, "compress": "jpeg", "photometric": "ycbcr"}, {"dtype": "uint8", "count": 3}),
        ({**TILED, "compress": "lerc", "nodata": -1}, {"dtype": "float32"}),
    ],
    ids=str,
)
def test_the_profile_of_a_file_gives_the_file_that_rasterio_writes_with_it(
    tmp_path: Path, options: dict[str, Any], kwargs: dict[str, Any]
) -> None:
    profile, pixels = source(tmp_path, **kwargs, **options)
    with_blocksize = {"blocksize": 128}
    for key in ("compress", "interleave", "nodata"):
        if profile.get(key) is not None:
            with_blocksize[key] = profile[key]
    expected = gdal_cog(pixels, with_blocksize)
    assert ccog.write_ccog(pixels, COG_creation_options=profile).compute() == expected


@pytest.mark.parametrize(
    ("profile", "options"),
    [
        ({"compress": "deflate", "zlevel": 9}, {"compress": "deflate", "level": 9}),
        ({"compress": "ZSTD", "zstd_level": "3"}, {"compress": "zstd", "level": 3}),
        ({"compress": "lzma", "LZMA_PRESET": 2}, {"compress": "lzma", "level": 2}),
        ({"driver": "COG", "tiled": "YES", "blockysize": 256}, {"blocksize": 256}),
        ({"tiled": False, "blockysize": 3, "blocksize": 256}, {"blocksize": 256}),
        ({"width": 400, "HEIGHT": 300, "count": 1, "dtype": np.uint16}, {}),
        ({"blockxsize": 256, "blockysize": 256, "blocksize": 256}, {"blocksize": 256}),
        ({"photometric": "minisblack"}, {}),
    ],
    ids=str,
)
def test_options_of_gtiff_become_those_of_cog(
    profile: dict[str, Any], options: dict[str, Any]
) -> None:
    pixels = terrain((1, 300, 400), "uint16")
    data = ccog.write_ccog(pixels, COG_creation_options={**GEO, **profile}).compute()
    assert data == gdal_cog(pixels, options)


def test_photometric_rgb_names_the_colours() -> None:
    pixels = terrain((4, 300, 400), "uint8")
    data = ccog.write_ccog(pixels, photometric="RGB").compute()
    colours = ["red", "green", "blue", "undefined"]
    assert data == ccog.write_ccog(pixels, colorinterp=colours).compute()


def test_all_that_cannot_be_honoured_is_said_at_once_with_remedies() -> None:
    profile = {
        "driver": "PNG",
        "width": 401,
        "height": 299,
        "count": 2,
        "dtype": "int16",
        "tiled": False,
        "compress": "lzw",
        "zlevel": 3,
        "predictor": "maybe",
        "nodatta": 3,
    }
    with pytest.raises(OptionError) as caught:
        ccog.write_ccog(da.zeros((300, 400), dtype="uint16"), COG_creation_options=profile)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("9 options")
    for words in [
        "driver='PNG': ccog writes COGs",
        "width=401, and the array has 400 columns",
        "height=299, and the array has 300 rows",
        "count=2, and the array has 1 bands",
        "arr.astype('int16')",
        "add blocksize=512",
        "zlevel=3 is for DEFLATE and LERC_DEFLATE, and compress is LZW: leave it out",
        "PREDICTOR='maybe'",
        "did you mean NODATA?",
    ]:
        assert any(words in line for line in lines[1:]), words


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"compres": "zstd"}, "did you mean COMPRESS"),
        ({"blocksise": 512}, "did you mean BLOCKSIZE"),
        ({"no_such_option": 1}, "NODATA"),
        ({"blockxsize": 256, "blockysize": 128}, "are square"),
        ({"blockxsize": 256, "blocksize": 128}, "contradict each other"),
        ({"compress": "deflate", "zlevel": 3, "level": 6}, "contradict each other"),
        ({"photometric": "ycbcr"}, "here MINISBLACK"),
        ({"compress": "jpeg"}, "JPEG takes uint8, and the array is uint16"),
        ({"compress": "webp"}, "WEBP takes uint8"),
        ({"overview_compress": "jpeg"}, "JPEG takes uint8"),
        ({"predictor": 3, "compress": "lzw"}, "float32 and float64, and the array is uint16"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_in_words(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        ccog.write_ccog(da.zeros((300, 400), dtype="uint16"), **options)


@pytest.mark.parametrize(
    ("shape", "dtype", "compress", "says"),
    [
        ((1, 64, 64), "uint8", "webp", "3 bands"),
        ((5, 64, 64), "uint8", "jpeg", "up to 4 bands"),
        ((1, 64, 64), "int64", "lerc", "32 bits"),
        ((1, 64, 64), "complex64", "lerc_zstd", "32 bits"),
    ],
)
def test_the_limits_of_codecs_are_those_of_gdal(
    shape: tuple[int, int, int], dtype: str, compress: str, says: str
) -> None:
    with pytest.raises(OptionError, match=says):
        ccog.write_ccog(da.zeros(shape, dtype=dtype), compress=compress)
    with pytest.raises(GDAL_FAILURES):
        gdal_cog(np.ones(shape, dtype), {"compress": compress})


def test_reprojecting_options_keep_their_own_error_among_others() -> None:
    with pytest.raises(ReprojectionError, match="2 options"):
        ccog.write_ccog(da.zeros((300, 400)), res=10, compres="lzw")


def test_both_calls_take_options_one_by_one_and_as_a_mapping(tmp_path: Path) -> None:
    pixels = terrain((1, 300, 400), "uint16")
    expected = gdal_cog(pixels, {"compress": "deflate", "blocksize": 128})
    mapping = {**GEO, "compress": "deflate"}
    assert (
        ccog.write_ccog(pixels, blocksize=128, COG_creation_options=mapping).compute() == expected
    )
    arr = xr.DataArray(pixels, dims=("band", "y", "x"))
    assert arr.ccog.write(COG_creation_options=mapping, blocksize=128) == expected
    levels = ccog.plan(pixels, blocksize=128, COG_creation_options=mapping).levels
    assert arr.ccog.plan(COG_creation_options=mapping, blocksize=128).levels == levels
    assert levels[0].tile == 128


def test_an_option_that_is_given_twice_is_named() -> None:
    with pytest.raises(OptionError, match=r"compress='zstd' is given twice: .* has 'lzw'"):
        ccog.write_ccog(np.zeros((9, 9)), compress="zstd", COG_creation_options={"COMPRESS": "lzw"})


def test_the_profile_of_a_file_in_strips_needs_a_block_size_only(tmp_path: Path) -> None:
    profile, pixels = source(tmp_path, compress="deflate")
    assert profile["tiled"] is False
    with pytest.raises(OptionError, match="add blocksize=512"):
        ccog.write_ccog(pixels, COG_creation_options=profile)
    data = ccog.write_ccog(pixels, blocksize=128, COG_creation_options=profile).compute()
    options = {"blocksize": 128, "compress": "deflate", "interleave": profile["interleave"]}
    assert data == gdal_cog(pixels, options)
