"""What a file says of itself comes out as CreateCopy of GDAL's COG driver writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from click.testing import CliRunner, Result

import ccog
from ccog.cli import main
from conftest import DATA
from source_files import MAKERS, XMP, SourceFiles

SMALL = {"BLOCKSIZE": "128"}
SETS = [
    SMALL | {"COMPRESS": "DEFLATE", "PREDICTOR": "YES", "OVERVIEW_RESAMPLING": "NEAREST"},
    {},
    SMALL | {"COMPRESS": "ZSTD", "OVERVIEW_RESAMPLING": "AVERAGE"},
    SMALL | {"COMPRESS": "LZW", "STATISTICS": "YES", "OVERVIEW_RESAMPLING": "NEAREST"},
    SMALL | {"COMPRESS": "JPEG", "QUALITY": "80"},
    SMALL | {"COMPRESS": "WEBP", "QUALITY": "100"},
    SMALL | {"SPARSE_OK": "YES", "OVERVIEW_RESAMPLING": "MODE", "COMPRESS": "NONE"},
    SMALL | {"INTERLEAVE": "BAND", "COMPRESS": "DEFLATE", "OVERVIEW_RESAMPLING": "LANCZOS"},
]
QUICK = [
    number if number < 2 else pytest.param(number, marks=pytest.mark.slow)
    for number in range(len(SETS))
]
# where GDAL itself gives other bytes at each run, or counts wrongly
BY_CHANCE = {
    ("gray and alpha", 3): "GDAL's statistics of a VRT are those of its source",
    ("alpha first of four", 3): "GDAL's statistics of a VRT are those of its source",
    ("CMYK", 3): "GDAL's statistics of a VRT are those of its source",
    **{(name, 3): "the last digit of statistics" for name in ("complex", "CInt16", "CInt32")},
    ("1 bit", 7): "GDAL 3.12 writes wrong pixels of odd bits with INTERLEAVE=BAND",
    ("7 bits", 7): "GDAL 3.12 writes wrong pixels of odd bits with INTERLEAVE=BAND",
    ("12 bits", 7): "GDAL 3.12 writes wrong pixels of odd bits with INTERLEAVE=BAND",
    ("cint16.tif", 3): "the last digit of statistics",
    ("gadas.tif", 3): "GDAL before 3.11 divides by the wrong count",
    ("goes.tif", 3): "GDAL before 3.11 divides by the wrong count",
    ("alpha.tif", 3): "GDAL before 3.11 divides by the wrong count",
    ("rgba", 3): "GDAL before 3.11 divides by the wrong count",
    ("premultiplied alpha", 3): "GDAL before 3.11 divides by the wrong count",
}


def create(source: Path, target: Path, options: dict[str, str], *more: str) -> Result:
    pairs = [word for key, value in options.items() for word in ("--co", f"{key}={value}")]
    command = ["create", str(source), str(target), "--quiet", "--chunks", "128", *pairs, *more]
    return CliRunner().invoke(main, command)


def createcopy(source: Path, target: Path, options: dict[str, str]) -> bytes | None:
    """The file that GDAL writes; None where it refuses."""
    try:
        rasterio.shutil.copy(source, target, driver="COG", **options)
    except Exception:
        return None
    return target.read_bytes()


def assert_as_createcopy(source: Path, folder: Path, options: dict[str, str]) -> None:
    expected = createcopy(source, folder / "gdal.tif", options)
    result = create(source, folder / "ccog.tif", options)
    assert not isinstance(result.exception, Exception), result.exception
    if expected is None:
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        return
    assert result.exit_code == 0, result.output
    same = (folder / "ccog.tif").read_bytes() == expected
    assert same, f"the files of {options} differ"


@pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")
@pytest.mark.parametrize("number", QUICK)
@pytest.mark.parametrize("name", MAKERS)
def test_a_file_comes_out_as_gdal_copies_it(name: str, number: int, tmp_path: Path) -> None:
    if (name, number) in BY_CHANCE:
        pytest.skip(BY_CHANCE[name, number])
    assert_as_createcopy(SourceFiles(tmp_path).make(name), tmp_path, SETS[number])


@pytest.mark.parametrize("options", [{"COPY_SRC_MDD": "YES"}, {"COPY_SRC_MDD": "NO"},
                                     {"SRC_MDD": "MINE"}, {"SRC_MDD": "IMAGERY"}])  # fmt: skip
def test_domains_are_copied_as_asked(options: dict[str, str], tmp_path: Path) -> None:
    source = SourceFiles(tmp_path).make("tags of all domains")
    assert_as_createcopy(source, tmp_path, SMALL | options)


def test_xmp_is_kept_to_the_letter(tmp_path: Path) -> None:
    source = SourceFiles(tmp_path).make("tags of all domains")
    assert create(source, tmp_path / "x.tif", {}).exit_code == 0
    with rasterio.open(tmp_path / "x.tif") as dataset:
        assert dataset.tags(ns="xml:XMP")["xml:XMP"] == XMP


def test_tags_can_be_dropped(tmp_path: Path) -> None:
    source = SourceFiles(tmp_path).make("tags of all domains")
    assert create(source, tmp_path / "x.tif", {}, "--no-tags").exit_code == 0
    with rasterio.open(tmp_path / "x.tif") as dataset:
        assert set(dataset.tags()) == {"AREA_OR_POINT"}
        assert dataset.tags()["AREA_OR_POINT"] == "Point"
        assert not dataset.tags(1)
        assert not dataset.tags(ns="xml:XMP")
        assert dataset.descriptions == ("r", "g", "b")


def test_a_path_is_written_as_create_writes_it(tmp_path: Path) -> None:
    source = SourceFiles(tmp_path).make("tags of all domains")
    expected = createcopy(source, tmp_path / "gdal.tif", SMALL)
    assert ccog.write_ccog(source, COG_creation_options=SMALL).compute() == expected
    assert ccog.write_ccog(str(source), COG_creation_options=SMALL).compute() == expected


def test_options_win_over_what_the_file_says(tmp_path: Path) -> None:
    source = SourceFiles(tmp_path).make("tags of all domains")
    options = {"nodata": 7, "crs": "EPSG:32632", "descriptions": ("x", "y", "z")}
    options |= {"update_tags": {0: {"AUTHOR": "you"}}}
    ccog.write_ccog(source, tmp_path / "x.tif", COG_creation_options=options).compute()
    with rasterio.open(tmp_path / "x.tif") as dataset:
        assert dataset.nodata == 7
        assert dataset.crs.to_epsg() == 32632
        assert dataset.descriptions == ("x", "y", "z")
        assert dataset.tags()["AUTHOR"] == "you"
        assert dataset.scales == (1, 0.1, 3)


def test_what_gdal_keeps_beside_the_file_is_named(tmp_path: Path) -> None:
    source = SourceFiles(tmp_path).make("category names")
    with pytest.warns(
        ccog.CCOGWarning, match=r"category names of the source are left out.*aux\.xml"
    ):
        ccog.write_ccog(source)


def test_bands_of_several_types_are_stored_as_the_first(tmp_path: Path) -> None:
    files = SourceFiles(tmp_path)
    source = files.vrt("mixed", files.rgb(), ("Byte", 1, ""), ("Int16", 2, ""), ("Byte", 3, ""))
    assert_as_createcopy(source, tmp_path, {})
    with pytest.warns(ccog.CCOGWarning, match="uint8, int16, uint8"):
        ccog.write_ccog(source)


@pytest.mark.parametrize(("dtype", "name"), [("int64", "Int64"), ("uint64", "UInt64")])
def test_the_largest_nodata_of_64_bits_stays_out_of_overviews(
    dtype: str, name: str, tmp_path: Path
) -> None:
    files, nodata = SourceFiles(tmp_path), np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, 1000, (1, 300, 260)).astype(dtype)
    pixels[:, 51:200, 31:150] = nodata
    inside = f"<NoDataValue>{nodata}</NoDataValue>"
    source = files.vrt("largest", files.tif("pixels", pixels), (name, 1, inside))
    options = {"blocksize": 128, "overview_resampling": "average"}
    ccog.write_ccog(source, tmp_path / "x.tif", COG_creation_options=options).compute()
    for level in (0, 1):
        with rasterio.open(tmp_path / "x.tif", overview_level=level) as dataset:
            found = dataset.read()
        assert found[found != nodata].max() < 1000
        assert (found == nodata).any()


REAL = sorted(path for path in DATA.glob("*.*") if path.suffix != ".md")
# each file with every second set, each set with every second file
TURNS = [(path, n) for k, path in enumerate(REAL) for n in range(k % 2, len(SETS), 2)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")
@pytest.mark.skipif(not REAL, reason="the folder of real rasters is not here")
@pytest.mark.parametrize(("path", "number"), TURNS, ids=lambda value: getattr(value, "name", value))
def test_real_files_come_out_as_gdal_copies_them(path: Path, number: int, tmp_path: Path) -> None:
    if (path.name, number) in BY_CHANCE:
        pytest.skip(BY_CHANCE[path.name, number])
    assert_as_createcopy(path, tmp_path, SETS[number])
