"""NaN beside another nodata value is a value to readers: whoever writes it is told how many there are."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import xarray as xr

import ccog
from conftest import GEO, gdal_cog, terrain

SMALL: dict[str, Any] = {"blocksize": 128, "overview_resampling": "average"}
HALF = pytest.param(
    "float16",
    marks=pytest.mark.skipif(
        not rasterio.dtypes.check_dtype("float16"), reason="no such type before GDAL 3.11"
    ),
)
DTYPES = ["float32", "float64", "complex64", "complex128", HALF]


def holes(dtype: str = "float32", bands: int = 1) -> np.ndarray:
    """Pixels of which 300 in each band are NaN, in two blocks."""
    pixels = terrain((bands, 300, 280), dtype)
    pixels[:, 100:130, 123:133] = complex(0, np.nan) if dtype.startswith("complex") else np.nan
    return pixels


def told(write: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ccog.CCOGWarning)
        write()
    return [str(w.message) for w in seen if w.category is ccog.CCOGWarning]


def lazy(pixels: np.ndarray) -> da.Array:
    return da.from_array(pixels, chunks=(len(pixels), 128, 128))


def written(arr: Any, **options: Any) -> Any:
    return ccog.write_ccog(arr, COG_creation_options=GEO | SMALL | options)


@pytest.mark.tried(
    "NaN in floats and complex numbers whose nodata value is a number",
    "stays, as GDAL has it; a warning says how many pixels, and what to do",
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_that_are_nan_beside_nodata_are_counted(dtype: str) -> None:
    delayed = written(lazy(holes(dtype)), nodata=-10000.0)
    (text,) = told(delayed.compute)
    assert text.startswith("300 pixels are NaN, and the nodata value is -10000.0")
    assert "arr.fillna(-10000.0)" in text
    assert "nodata=nan" in text


def test_the_file_is_what_gdal_writes() -> None:
    with pytest.warns(ccog.CCOGWarning, match="600 pixels are NaN"):
        found = written(lazy(holes(bands=2)), nodata=-1).compute()
    assert found == gdal_cog(holes(bands=2), SMALL, nodata=-1)


@pytest.mark.parametrize(
    "options",
    [{"nodata": float("nan")}, {}, {"nodata": 5, "dtype": "complex_int16"}],
    ids=str,
)
def test_nothing_is_said_where_nan_is_nodata_or_nothing_is(options: dict[str, Any]) -> None:
    whole = "dtype" in options
    pixels = np.ones((1, 200, 200), "complex64") if whole else holes()
    assert not told(written(lazy(pixels), **options).compute)


def test_nothing_is_said_of_numbers() -> None:
    assert not told(written(lazy(terrain((2, 300, 280), "float32")), nodata=-1).compute)
    assert not told(written(lazy(terrain((2, 300, 280), "int16")), nodata=-1).compute)


def test_the_remedies_are_remedies() -> None:
    arr = xr.DataArray(lazy(holes()), dims=("band", "y", "x"))
    assert told(written(arr, nodata=-1).compute)
    assert not told(written(arr.fillna(-1), nodata=-1).compute)
    assert not told(written(arr, nodata=float("nan")).compute)


@pytest.mark.parametrize("lies", ["all", "beside", "partly"])
def test_pixels_that_are_masked_out_do_not_count(lies: str) -> None:
    mask = np.ones((300, 280), bool)
    mask[100:130, 123:133] = lies == "beside"
    mask[115:130, 123:133] |= lies == "partly"
    expected = {"all": 0, "beside": 300, "partly": 150}[lies]
    arr = lazy(holes())
    delayed = ccog.write_ccog(arr, mask=mask, COG_creation_options=GEO | SMALL | {"nodata": -1})
    counts = [text.split()[0] for text in told(delayed.compute)]
    assert counts == ([str(expected)] if expected else [])


def test_masked_pixels_that_are_nan_become_nodata() -> None:
    arr = da.ma.masked_invalid(lazy(holes()))
    assert not told(written(arr, nodata=-1).compute)
    assert not told(written(arr).compute)


@pytest.mark.parametrize(
    "how",
    [
        {"layout": "chunk"},
        {"COG_creation_options": {"compress": "none"}},
        {"COG_creation_options": {"interleave": "band"}},
        {"COG_creation_options": {"statistics": "yes"}},
    ],
    ids=str,
)
def test_each_pixel_is_counted_once(how: dict[str, Any], tmp_path: Path) -> None:
    if "interleave" in str(how) and rasterio.__gdal_version__ < "3.11":
        pytest.skip("GDAL before 3.11 has no INTERLEAVE")
    delayed = ccog.write_ccog(lazy(holes(bands=3)), tmp_path / "a.tif", nodata=-1, **GEO, **how)
    (text,) = told(delayed.compute)
    assert text.startswith("900 pixels")


def test_a_write_that_is_continued_counts_all(tmp_path: Path) -> None:
    def failing(block: Any, block_id: Any) -> Any:
        if block_id == (15, 0):
            raise RuntimeError("not now")
        return block

    pixels = terrain((1, 2048, 128), "float32")
    pixels[:, 50:60, :10] = pixels[:, 2000:2010, :20] = np.nan
    arr, mask = lazy(pixels), da.ones((2048, 128), chunks=128)
    lost = mask.map_blocks(failing, meta=np.empty((0, 0)), name="mask-nan")
    found = mask.map_blocks(lambda block: block, meta=np.empty((0, 0)), name="mask-nan")
    given: dict[str, Any] = {"COG_creation_options": GEO | SMALL | {"nodata": -1}, "resume": True}
    with pytest.raises(RuntimeError, match="not now"):
        ccog.write_ccog(arr, tmp_path / "a.tif", mask=lost, **given).compute(scheduler="sync")
    delayed = ccog.write_ccog(arr, tmp_path / "a.tif", mask=found, **given)
    (text,) = told(lambda: delayed.compute(scheduler="sync"))
    assert text.startswith("300 pixels")


def test_the_client_of_a_cluster_is_told(client: Any) -> None:
    delayed = written(lazy(holes()), nodata=-1)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ccog.CCOGWarning)
        client.compute(delayed).result()
        end = time.monotonic() + 30
        while not seen and time.monotonic() < end:
            time.sleep(0.05)
    assert [str(w.message)[:18] for w in seen] == ["300 pixels are NaN"]
