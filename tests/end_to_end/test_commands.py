"""What people type who know `rio cogeo` and `gdal_translate`; GDAL's own answer to it is the oracle."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from click.testing import CliRunner
from rasterio.enums import Resampling
from rasterio.rio.main import main_group
from rasterio.transform import from_origin
from test_cli import ccog, failure, left

from ccog.cli import main


@pytest.fixture(params=["plain", "mask", "nodata and overviews"])
def rgb(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Three bands with much to be kept, by a name that needs quotes."""
    path = tmp_path / "a b&c.tif"
    y, x = np.mgrid[0:300, 0:520]
    profile = dict(driver="GTiff", count=3, height=300, width=520, dtype="uint16")
    profile |= dict(crs="EPSG:32632", photometric="RGB", transform=from_origin(5e5, 5e6, 10, 10))
    profile |= dict(nodata=7) if "nodata" in request.param else {}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile) as target,
    ):
        target.write(np.stack([y * 100 + x, y + x * 50, x % 255]).astype("uint16"))
        target.update_tags(AUTHOR="somebody")
        target.update_tags(2, WAVELENGTH="865")
        target.descriptions = ("red", "green", "blue")
        target.scales, target.units = (0.5, 2.0, 1.0), ("m", "m", "km")
        if request.param == "mask":
            target.write_mask((x + y) % 300 > 50)
    if "overviews" in request.param:
        with rasterio.open(path, "r+") as target:
            target.build_overviews([2], Resampling.average)
    return path


@pytest.mark.parametrize(
    ("typed", "translation", "options"),
    [
        ("-b 2", "bands=2", {}),
        ("--bidx 3,1 -b 2", "bands=3,1,2", {}),
        ("--dtype uint8 -p jpeg", "ot=Byte", {"COMPRESS": "JPEG"}),
        ("-ot Float32 -p lerc", "ot=Float32", {"COMPRESS": "LERC"}),
        ("-a_nodata 3 -r average", "a_nodata=3", {"OVERVIEW_RESAMPLING": "AVERAGE"}),
        ("--nodata none -p raw", "a_nodata=none", {"COMPRESS": "NONE"}),
        ("--crs EPSG:4326 --profile deflate", "a_srs=EPSG:4326", {"COMPRESS": "DEFLATE"}),
        ("-a_srs EPSG:25832 -b 2,1 -co compress=zstd", "a_srs=EPSG:25832&bands=2,1", {"COMPRESS": "ZSTD"}),
    ],
)  # fmt: skip
def test_input_is_changed_as_by_gdal_translate(
    rgb: Path, typed: str, translation: str, options: dict[str, str]
) -> None:
    ours, gdals = rgb.with_name("ccog.tif"), rgb.with_name("gdal.tif")
    result = ccog("create", *shlex.split(typed), "--blocksize", 128, "-q", rgb, ours)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    source = f"vrt://{rgb}?{translation}"
    rasterio.shutil.copy(source, gdals, driver="COG", BLOCKSIZE=128, **options)
    assert ours.read_bytes() == gdals.read_bytes()


def test_bands_of_several_inputs_are_chosen(tmp_path: Path) -> None:
    paths = [tmp_path / "0.tif", tmp_path / "1.tif"]
    for n, path in enumerate(paths):
        profile = dict(driver="GTiff", count=2, height=40, width=50, dtype="uint8")
        place = from_origin(500 * n, 0, 10, 10)
        with rasterio.open(path, "w", crs="EPSG:32632", transform=place, **profile) as target:
            target.write(np.full((40, 50), 2 * n, "uint8"), 1)
            target.write(np.full((40, 50), 2 * n + 1, "uint8"), 2)
    result = ccog("create", *paths, tmp_path / "out.tif", "--bidx", "2", "--dtype", "int16", "-q")
    assert result.exit_code == 0, result.output
    with rasterio.open(tmp_path / "out.tif") as written:
        assert (written.count, written.dtypes, written.width) == (1, ("int16",), 100)
        assert np.unique(written.read(1)[:, :50]) == 1
        assert np.unique(written.read(1)[:, 50:]) == 3


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("-b 4", "a b&c.tif: Invalid band number: 4; it has 3 bands"),
        ("--crs nowhere", "a b&c.tif: Failed to process SRS definition: nowhere"),
        ("--nodata nothing", "nodata='nothing' is not a number"),
        ("--config AWS_ACCESS_KEY_ID=me", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_what_cannot_be_done_leaves_no_file(rgb: Path, typed: str, says: str) -> None:
    before = left(rgb.parent)
    assert says in failure("create", rgb, rgb.with_name("out.tif"), "-q", *shlex.split(typed))
    assert left(rgb.parent) == before


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("in.tif -", "OUTPUT is -, but a COG is written in parts"),
        ("in.tif out.tif -b red", "'red' is not a whole number from 1"),
        ("in.tif out.tif --dtype int12", "'int12' is not one of"),
        ("in.tif out.tif --profile zip", "'zip' is not one of"),
        ("in.tif out.tif --config CACHE", "'CACHE' is not KEY=VALUE"),
        ("in.tif out.tif --config GDAL_CACHEMAX=5%", "GDAL_CACHEMAX is a number of MB"),
        ("in.tif out.tif --threads many", "'many' is not a whole number from 1"),
        ("in.tif", "give INPUT and OUTPUT"),
        ("in.tif out.tif --compress=zstd", "ccog has no option --compress; give -p zstd, or --co"),
        ("in.tif out.tif -w", "ccog does not reproject"),
        ("in.tif out.tif -t_srs EPSG:4326", "gdalwarp"),
        ("-projwin 0 10 10 0 in.tif out.tif", "first gdal_translate -of VRT -projwin ... INPUT"),
        ("-stats in.tif out.tif", "--co STATISTICS=YES"),
        ("in.tif out.tif --overview-level 3", "--co OVERVIEW_COUNT=N"),
        ("in.tif out.tif --forward-band-tags", "all tags are kept unless --no-tags"),
        ("in.tif out.tif --in-memory", "leave it out"),
    ],
)
def test_wrong_words_are_explained(typed: str, says: str) -> None:
    result = ccog("create", *shlex.split(typed))
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


@pytest.mark.parametrize("threads", ["2", "all_cpus"])
def test_threads_and_configuration_of_gdal_are_taken(rgb: Path, threads: str) -> None:
    out = rgb.with_name("out.tif")
    config = ["--config", "GDAL_CACHEMAX=64", "--config", "GDAL_NUM_THREADS=2"]
    result = ccog("create", rgb, out, "--threads", threads, *config)
    assert result.exit_code == 0, result.output
    assert str(out) in result.stdout


def test_a_variable_has_nodata_and_crs_of_the_user(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    path, out = tmp_path / "data.nc", tmp_path / "out.tif"
    depth = xarray.DataArray(np.ones((30, 40), "int16"), dims=("y", "x"))
    xarray.Dataset({"depth": depth, "line": depth[0]}).to_netcdf(path, engine="h5netcdf")
    options = ["--nodata", "-9", "--crs", "EPSG:32632", "-q"]
    assert ccog("create", f"{path}:depth", out, *options).exit_code == 0
    with rasterio.open(out) as written:
        assert (written.nodata, written.crs.to_epsg()) == (-9, 32632)
    assert "has 1 dimension (x)" in failure("create", f"{path}:line", out)
    assert "select them with xarray" in failure("create", f"{path}:depth", out, "-b", "1")


def test_help_has_groups_and_examples() -> None:
    text = ccog("create", "--help").stdout
    titles = ["Options of INPUT:", "Options of OUTPUT:", "Options of the run:", "Other options:"]
    places = [text.index(title) for title in [*titles, "Examples:"]]
    assert places == sorted(places)
    assert text.count("  ccog create ") == 2


def test_rio_can_be_quiet(rgb: Path) -> None:
    out = rgb.with_name("out.tif")
    main_group.add_command(main)
    done = CliRunner().invoke(main_group, ["-q", "ccog", "create", str(rgb), str(out)])
    assert (done.exit_code, done.output) == (0, "")
    assert out.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="bash")
def test_shells_complete_names_of_files() -> None:
    env = {"_CCOG_COMPLETE": "bash_complete", "COMP_WORDS": "ccog create in", "COMP_CWORD": "2"}
    assert CliRunner().invoke(main, [], prog_name="ccog", env=env).stdout == "file,in\n"


def test_inspect_and_validate_speak_json(rgb: Path) -> None:
    out = rgb.with_name("out.tif")
    assert ccog("create", rgb, out, "-q", "--blocksize", 128).exit_code == 0
    inspected = json.loads(ccog("inspect", out, "--json").stdout)
    assert (inspected["bands"], inspected["dtype"]) == (3, "uint16")
    assert inspected["levels"][0]["tile"] == [128, 128]
    validated = json.loads(ccog("validate", out, "--json").stdout)
    assert validated["is_valid"] is True
    assert {check["outcome"] for check in validated["checks"]} <= {"ok", "warning", "skipped"}


def test_validate_says_one_line_of_a_good_file_and_all_of_another(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.tif", tmp_path / "bad.tif"
    assert ccog("demo", good, "--size", 700, "-q").exit_code == 0
    assert ccog("validate", good).stdout == f"{good}: valid\n"
    assert ccog("validate", good, "-v").stdout.count("\n") > 5
    rasterio.shutil.copy(good, bad, driver="GTiff")
    refused = ccog("validate", bad)
    assert (refused.exit_code, refused.stdout.count("\n") > 5) == (1, True)


@pytest.mark.parametrize("where", ["here", "on s3"])
@pytest.mark.parametrize("band", [[], ["-b", "1"]], ids=["all", "band"])
def test_input_on_s3_is_read_with_storage_options(
    where: str, band: list[str], s3_options: dict[str, Any], tmp_path: Path
) -> None:
    source, local = "s3://test/inputs/a b.tif", tmp_path / "out.tif"
    given = [f"--storage-option={key}={value}" for key, value in s3_options.items()]
    assert ccog("demo", source, "--size", 600, "-q", "--overwrite", *given).exit_code == 0
    output = str(local) if where == "here" else "s3://test/inputs/out.tif"
    before = dict(os.environ)
    result = ccog("create", source, output, "-q", "--overwrite", *band, *given)
    assert (result.exit_code, result.output) == (0, "")
    assert dict(os.environ) == before
    seen = ccog("inspect", output, "--json", *(given if where == "on s3" else []))
    assert json.loads(seen.stdout)["levels"][0]["width"] == 600


def test_storage_options_that_input_cannot_have_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    web = ["create", "https://nowhere.invalid/a.tif", out, "--storage-option", "key=me"]
    assert "--config KEY=VALUE" in failure(*web)
    s3 = ["create", "s3://bucket/a.tif", out, "--storage-option"]
    assert "named acl" in failure(*s3, "acl=private")
    far = failure(*s3, "key=me", "--scheduler", "tcp://127.0.0.1:1")
    assert "set AWS_ACCESS_KEY_ID in their environment" in far


@pytest.mark.parametrize("nodata", [None, 7])
def test_nodata_becomes_a_mask_of_the_same_pixels(nodata: int | None, tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    profile = dict(driver="GTiff", count=1, height=300, width=400, dtype="uint8", nodata=nodata)
    pixels = np.random.default_rng(0).integers(0, 255, (1, 300, 400), "uint8")
    pixels[:, 40:90, 33:200] = 7
    place = from_origin(5e5, 5e6, 10, 10)
    with rasterio.open(source, "w", crs="EPSG:32632", transform=place, **profile) as target:
        target.write(pixels)
    out, given = tmp_path / "out.tif", [] if nodata else ["--nodata", "7"]
    assert ccog("create", source, out, "--add-mask", "--blocksize", 128, *given).exit_code == 0
    masked = tmp_path / "masked.tif"
    profile |= dict(crs="EPSG:32632", transform=place, nodata=None)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(masked, "w", **profile) as target,
    ):
        target.write(pixels)
        target.write_mask(pixels[0] != 7)
    rasterio.shutil.copy(masked, tmp_path / "gdal.tif", driver="COG", BLOCKSIZE=128)
    assert out.read_bytes() == (tmp_path / "gdal.tif").read_bytes()


def test_a_mask_needs_a_nodata_value(tmp_path: Path) -> None:
    plain = tmp_path / "in.tif"
    assert ccog("demo", plain, "--size", 100, "-q").exit_code == 0
    assert "no nodata value" in failure("create", plain, tmp_path / "out.tif", "--add-mask")
