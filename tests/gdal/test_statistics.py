"""Statistics in the same pass: GDAL's figures, however the blocks are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp as C
from rasterio.io import MemoryFile

import ccog
from cases import MODERN
from ccog.gdal.statistics import BandStatistics, block_statistics, merged
from conftest import GEO, gdal_cog, terrain


def band_tags(data: bytes, band: int = 1) -> dict[str, str]:
    with MemoryFile(data) as memory, memory.open() as dataset:
        return {k: v for k, v in dataset.tags(band).items() if k.startswith("STATISTICS_")}


def assert_close(found: dict[str, str], expected: dict[str, str]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert float(found[key]) == pytest.approx(float(value), rel=1e-12, abs=1e-12), key


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "uint32", "int64", "float32", "float64", "complex64"]
)
@pytest.mark.parametrize("nodata", [None, 7])
def test_statistics_are_gdals(dtype: str, nodata: int | None) -> None:
    pixels = terrain((2, 500, 333), dtype)
    if nodata is not None and dtype in ("int64", "complex64"):
        pytest.skip(
            "GDAL takes nodata pixels of 64-bit integers into account in some blocks; complex has none"
        )
    if nodata is not None:
        pixels[:, :100, :200] = nodata
    options = {"statistics": "yes", "overview_resampling": "nearest"}
    extra = {} if nodata is None else {"nodata": nodata}
    expected = gdal_cog(pixels, options, **extra)
    array = da.from_array(pixels, chunks=(1, 128, 200))
    found = ccog.write_ccog(array, COG_creation_options=GEO | options | extra).compute()
    for band in (1, 2):
        assert_close(band_tags(found, band), band_tags(expected, band))


@pytest.mark.skipif(not MODERN, reason="GDAL before 3.11 divides by the wrong count")
@pytest.mark.parametrize("values", ["masked", "nan", "nan and nodata"])
def test_nan_and_nodata_do_not_count(values: str) -> None:
    pixels = terrain((1, 400, 500), "float32")
    mask = np.random.default_rng(0).random((400, 500)) > 0.3 if values == "masked" else None
    if values != "masked":
        pixels[0, 50:90] = np.nan
    extra = {"nodata": -1} if values == "nan and nodata" else {}
    expected = gdal_cog(pixels, {"statistics": "yes"}, mask, **extra)
    options = GEO | {"statistics": "yes"} | extra
    found = ccog.write_ccog(
        da.from_array(pixels, chunks=150), mask=mask, COG_creation_options=options
    ).compute()
    assert_close(band_tags(found), band_tags(expected))


def test_a_large_offset_costs_no_digits() -> None:
    values = (np.random.default_rng(0).normal(0, 1, (1, 700, 900)) + 1e6).astype("float32")
    blocks = [
        block_statistics(values[:, y : y + 100], None, None, alpha=False)
        for y in range(0, 700, 100)
    ]
    found = merged(blocks)[0]
    wide = values.astype("float64")
    assert found.mean == pytest.approx(wide.mean(), rel=1e-14)
    assert np.sqrt(found.spread / found.count) == pytest.approx(wide.std(), rel=1e-12)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-128, 127), max_size=20), min_size=1, max_size=8))
def test_order_and_cuts_do_not_matter(parts: list[list[int]]) -> None:
    def of(values: list[int]) -> tuple[BandStatistics, ...]:
        return block_statistics(
            np.array([[values]], "int8").reshape(1, 1, -1), None, 0, alpha=False
        )

    filled = [part or [0] for part in parts]
    whole = of([v for part in filled for v in part])[0]
    for order in (filled, filled[::-1]):
        cut = merged([of(part) for part in order])[0]
        assert cut.tags() == whole.tags()
        assert (cut.count, cut.nodata, cut.low, cut.high, cut.sums) == (
            whole.count, whole.nodata, whole.low, whole.high, whole.sums,
        )  # fmt: skip


def test_tags_say_what_is_missing() -> None:
    found: Any = block_statistics(np.full((1, 20, 20), 9, "uint8"), None, 9, alpha=False)[0].tags()
    assert found == {"STATISTICS_VALID_PERCENT": "0"}


@pytest.mark.parametrize("statistics", ["yes", "auto", "no"])
@pytest.mark.parametrize("has_old", [False, True])
@pytest.mark.parametrize("bands", [2, 4])
def test_statistics_of_alpha_that_jpeg_turns_into_a_mask_are_gdals(
    statistics: str, has_old: bool, bands: int, tmp_path: Path
) -> None:
    source, ours, theirs = (tmp_path / name for name in ("a.tif", "ours.tif", "gdal.tif"))
    pixels = terrain((bands, 300, 270), "uint8")
    pixels[-1] = 255
    old = dict.fromkeys([f"STATISTICS_{k}" for k in ("MINIMUM", "MAXIMUM", "MEAN", "STDDEV")], "1")
    colours = {2: [C.gray, C.alpha], 4: [C.red, C.green, C.blue, C.alpha]}[bands]
    described = {"colorinterp": colours, "update_tags": {1: old} if has_old else {}}
    source.write_bytes(gdal_cog(pixels, {"overviews": "none"}, describe=described))
    options = {"compress": "jpeg", "statistics": statistics, "blocksize": "128"}
    ccog.write_ccog(str(source), str(ours), **options, compute=True)
    rasterio.shutil.copy(source, theirs, driver="COG", **options)
    found, expected = band_tags(ours.read_bytes()), band_tags(theirs.read_bytes())
    assert_close(found, expected)
