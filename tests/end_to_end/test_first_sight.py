"""What people see before they have read anything: representations, names, and the reference."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import rasterio

import ccog
from ccog.wording import about_bytes
from conftest import GEO

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"


def lazy() -> da.Array:
    return da.zeros((3, 300, 400), dtype="uint16", chunks=(3, 128, 128))


def test_the_delayed_says_that_nothing_is_written_yet(tmp_path: Path) -> None:
    target = tmp_path / "a<b>.tif"
    delayed = ccog.write_ccog(lazy(), target, compress="zstd", blocksize=128)
    for words in [
        "nothing is written yet",
        str(target),
        "400 x 300 pixels, 3 bands of uint16, 720.00 kB",
        "2 overviews",
        "COMPRESS=ZSTD, BLOCKSIZE=128",
    ]:
        assert words in repr(delayed)
    html = delayed._repr_html_()
    assert "nothing is written yet" in html
    assert "a&lt;b&gt;.tif" in html
    assert not any(tmp_path.iterdir())
    assert "gives it as bytes" in repr(ccog.write_ccog(lazy()))
    assert "COMPRESS=LZW" in repr(ccog.write_ccog(lazy()))


def test_what_dask_makes_of_it_is_shown_too() -> None:
    (optimized,) = dask.optimize(ccog.write_ccog(lazy()))
    assert repr(optimized)
    assert ccog.write_ccog(lazy()).shape.__repr__()


def test_a_result_says_what_was_written_and_how_to_go_on(tmp_path: Path) -> None:
    target = str(tmp_path / "a.tif")
    result = ccog.write_ccog(lazy(), target, blocksize=128).compute()
    assert result.levels == ((300, 400), (150, 200), (75, 100))
    assert "400 x 300 pixels, 2 overviews" in repr(result)
    assert f"ccog.inspect({target!r})" in repr(result)
    assert "ETag abc" in repr(dataclasses.replace(result, etag="abc"))


def test_only_public_names_are_offered() -> None:
    assert sorted(dir(ccog)) == sorted(ccog.__all__)


# prints what a command does, and then which of the slow modules it has imported
_IMPORTED = """
import sys
from ccog.cli import main
try:
    main(prog_name="ccog")
finally:
    print("IMPORTED", sorted({"dask", "fsspec", "numpy", "rasterio", "rich"} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("args", "words", "answer"),
    [
        (["--help"], None, "validate"),
        (["create", "--help"], None, "--overview-resampling"),
        (["demo", "-h"], None, "--keep"),
        (["uploads", "abort", "--help"], None, "--older-than"),
        ([], "ccog cre", "plain,create"),
        ([], "ccog create --ov", "plain,--overlap"),
        ([], "ccog plan --overlap m", "plain,min"),
    ],
)
def test_help_and_completion_wait_for_no_slow_import(
    args: list[str], words: str | None, answer: str
) -> None:
    completed = str(len(words.split()) - 1) if words else ""
    env = {"_CCOG_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": completed}
    found = subprocess.run(
        [sys.executable, "-c", _IMPORTED, *args],
        env=os.environ | (env if words else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer in found.stdout
    assert "IMPORTED []" in found.stdout


@pytest.mark.parametrize("name", ccog.__all__)
def test_every_public_name_is_in_the_reference_with_its_fields(name: str) -> None:
    value: Any = getattr(ccog, name)
    if isinstance(value, type) and issubclass(value, (Exception, Warning)):
        assert "::: ccog.errors" in REFERENCE.read_text()
        return
    assert f"::: ccog.{name}\n" in REFERENCE.read_text()
    if dataclasses.is_dataclass(value):
        fields = {field.name for field in dataclasses.fields(value)} - {"drawing"}
        missing = [field for field in fields if f"{field}" not in (value.__doc__ or "")]
        assert not missing


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (123, "120 bytes"),
        (123_456_789, "120 MB"),
        (9.96e8, "1 GB"),
        (2.5e13, "25 TB"),
    ],
)
def test_guesses_are_rounded_to_what_is_known(count: float, text: str) -> None:
    assert about_bytes(count) == text


def test_a_plan_rounds_its_guesses() -> None:
    text = repr(ccog.plan(da.from_array(np.zeros((4000, 4000), "uint16"), chunks=1024)))
    assert "File: about 28 MB (a guess)" in text


def test_a_plan_says_where_the_raster_lies_and_what_its_bands_are() -> None:
    options = {**GEO, "nodata": 7, "descriptions": ["red", "near infrared", "clouds"]}
    plan = ccog.plan(lazy(), blocksize=128, overview_resampling="average", **options)
    text = repr(plan)
    for words in [
        "CRS: EPSG:32755",
        "Transform: 10, 0, 500000, 0, -10, 6000000",
        "Bounds: 500000, 5997000, 504000, 6000000",
        "Nodata: 7",
        "Bands: red, near infrared, clouds",
        "Overviews: average",
    ]:
        assert words in text
    assert plan.georeference.bounds == (500000, 5997000, 504000, 6000000)
    nowhere = repr(ccog.plan(lazy()))
    assert "CRS: none" in nowhere
    assert "Nodata: none" in nowhere
    assert "Overviews:" not in nowhere


def test_the_plan_of_a_file_says_the_same_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    options = {**GEO, "nodata": 7, "descriptions": ["red", "near infrared", "clouds"]}
    ccog.write_ccog(lazy(), path, **options).compute()
    expected = ccog.plan(lazy(), **options).georeference
    assert ccog.plan(str(path)).georeference == expected


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
@pytest.mark.parametrize("bigtiff", ["yes", "no"])
def test_an_inspection_says_what_rasterio_says_of_the_file(
    endian: str, bigtiff: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "a.tif")
    size = {"width": 70, "height": 50, "count": 2, "dtype": "int16"}
    placed = {"crs": "EPSG:3035", "transform": rasterio.Affine(10, 1, 4e6, 2, -10, 3e6)}
    with rasterio.open(
        path, "w", nodata=-9999, endianness=endian, bigtiff=bigtiff, **size, **placed
    ) as dataset:
        dataset.descriptions = ("a < b", None)
    with rasterio.open(path) as dataset:
        found = ccog.inspect(path).georeference
        assert found.crs == dataset.crs.to_string() == "EPSG:3035"
        assert found.transform == tuple(dataset.transform[:6])
        assert found.nodata == dataset.nodata
        assert found.band_names == dataset.descriptions


def test_an_inspection_shows_what_a_plan_has_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    options = {**GEO, "nodata": 7, "descriptions": ["red", "near infrared", "clouds"]}
    ccog.write_ccog(lazy(), path, **options, blocksize=128).compute()
    plan, found = ccog.plan(lazy(), **options, blocksize=128), ccog.inspect(path)
    assert found.georeference == plan.georeference
    assert set(plan.georeference.facts()) <= set(repr(found).splitlines())


def test_an_inspection_of_a_file_without_georeference(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    ccog.write_ccog(lazy(), path).compute()
    found = ccog.inspect(path).georeference
    assert (found.crs, found.transform, found.bounds, found.nodata) == (None,) * 4
    assert "CRS: none" in repr(ccog.inspect(path))
