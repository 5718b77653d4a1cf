"""ccog.validate on files of GDAL, rio-cogeo and ccog, and on files that were damaged on purpose."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.windows import Window
from rio_cogeo import cog_profiles, cog_translate

import ccog
from ccog.cli import main
from ccog.tiff import tags
from ccog.views.inspect.directory import ImageDirectory
from ccog.views.inspect.header import read_header
from ccog.views.inspect.ranges import open_ranges
from ccog.views.validate.checks import Check
from conftest import GEO, gdal_cog, terrain
from range_server import range_server

PLAIN = {"compress": "none", "blocksize": 128, "overview_resampling": "average"}
METHODS = (
    *("nearest", "average", "mode", "rms", "gauss"),
    *("bilinear", "cubic", "cubicspline", "lanczos"),
)


def checks(data: Any, **options: Any) -> dict[str, Check]:
    return {check.name: check for check in ccog.validate(data, **options).checks}


def outcome(data: Any, name: str, **options: Any) -> tuple[str, str]:
    """How one check came out; the file is valid unless it is an error."""
    found = ccog.validate(data, **options)
    check = next(check for check in found.checks if check.name == name)
    assert found.is_valid == all(check.outcome != "error" for check in found.checks)
    return check.outcome, check.detail


def directories(data: bytes) -> tuple[ImageDirectory, ...]:
    with open_ranges(data) as reader:
        return read_header(reader).directories


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_recognised(method: str) -> None:
    data = gdal_cog(terrain((2, 701, 1003)), PLAIN | {"overview_resampling": method})
    found = ccog.validate(data)
    assert found.is_valid
    assert {check.outcome for check in found.checks} == {"ok"}
    assert {one.method for one in found.overviews} == {method}
    assert all(one.equal >= 0.999 for one in found.overviews)
    assert {(one.overview, one.source) for one in found.overviews} == {(1, 0), (2, 1), (3, 2)}


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
@pytest.mark.parametrize("masked", ["mask", "nodata"])
def test_overviews_beside_masks_and_nodata_are_recognised(dtype: str, masked: str) -> None:
    pixels = terrain((1, 700, 901), dtype)
    holes = np.random.default_rng(0).random((700, 901)) < 0.3
    if masked == "nodata":
        pixels[:, holes] = 0
        data = gdal_cog(pixels, PLAIN | {"overview_resampling": "cubic"}, nodata=0)
    else:
        mask = np.where(holes, np.uint8(0), np.uint8(255))
        data = gdal_cog(pixels, PLAIN | {"overview_resampling": "cubic"}, mask)
    found = ccog.validate(data)
    assert {check.outcome for check in found.checks} == {"ok"}, found
    assert {one.overview for one in found.overviews} == (
        {1, 2, 3} if masked == "nodata" else {1, 2}
    )


def test_thorough_compares_every_pixel() -> None:
    data = gdal_cog(terrain((1, 1500, 1100)), PLAIN)
    found = ccog.validate(data, thorough=True)
    pixels = {k: 0 for k in (1, 2, 3, 4)}
    for one in found.overviews:
        pixels[one.overview] += (one.rows[1] - one.rows[0]) * (one.cols[1] - one.cols[0])
    assert pixels == {1: 750 * 550, 2: 375 * 275, 3: 187 * 137, 4: 93 * 68}


def test_files_of_ccog_are_valid() -> None:
    pixels = da.from_array(terrain((3, 700, 900), "uint8"), chunks=(3, 256, 256))
    data = ccog.write_ccog(
        pixels, COG_creation_options=GEO | {"blocksize": 128, "compress": "zstd"}
    ).compute()
    assert {check.outcome for check in ccog.validate(data).checks} == {"ok"}


def test_the_method_that_the_file_names_is_believed() -> None:
    data = gdal_cog(terrain((1, 512, 512)), PLAIN, describe={"update_tags": {0: {"A": "x" * 120}}})
    item = b'<Item name="OVERVIEW_RESAMPLING" domain="IMAGE_STRUCTURE">%s</Item>'
    for method, expected in ((b"AVERAGE", "ok"), (b"LANCZOS", "warning")):
        start = data.index(b"<GDALMetadata>")
        stop = data.index(b"</GDALMetadata>") + len(b"</GDALMetadata>")
        text = b"<GDALMetadata>" + item % method + b"</GDALMetadata>"
        named = data[:start] + text.ljust(stop - start) + data[stop:]
        found = outcome(named, "overview pixels")
        assert found[0] == expected
        assert method.decode().lower() in found[1]


def test_lossy_files_are_compared_roughly() -> None:
    data = gdal_cog(terrain((3, 700, 900), "uint8"), {"compress": "jpeg", "blocksize": 256})
    found = outcome(data, "overview pixels")
    assert found[0] == "ok"
    assert "lossy compression" in found[1]


def test_a_report_says_what_is_not_compared() -> None:
    data = gdal_cog(terrain((1, 600, 600), "complex64"), PLAIN)
    assert outcome(data, "overview pixels") == ("skipped", "complex pixels are not compared")
    data = gdal_cog(terrain((1, 100, 100)), PLAIN)
    assert outcome(data, "overview pixels") == ("skipped", "the file has no overviews")


def test_files_of_rio_cogeo_are_valid(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(gdal_cog(terrain((1, 701, 1003)), PLAIN))
    profile = cog_profiles.get("deflate") | {"blockxsize": 128, "blockysize": 128}
    cog_translate(
        tmp_path / "a.tif", tmp_path / "b.tif", profile, overview_resampling="average", quiet=True
    )
    found = ccog.validate(tmp_path / "b.tif")
    assert found.is_valid, found
    assert {one.method for one in found.overviews} == {"average"}


def test_overviews_of_something_else_are_an_error() -> None:
    data = bytearray(gdal_cog(terrain((1, 512, 512)), PLAIN))
    first = directories(bytes(data))[1]
    noise = (
        np.random.default_rng(0)
        .integers(0, 60000, int(first.stored.counts[0]) // 2, "uint16")
        .tobytes()
    )
    for offset in first.stored.offsets:
        data[offset : offset + len(noise)] = noise
        data[offset + len(noise) : offset + len(noise) + 4] = noise[-4:]
    found = ccog.validate(bytes(data))
    assert not found.is_valid
    assert [check.name for check in found.checks if check.outcome == "error"] == ["overview pixels"]
    assert "standard deviations" in repr(found)


def test_overviews_shifted_by_a_pixel_are_found() -> None:
    pixels = terrain((1, 512, 512))
    with MemoryFile(gdal_cog(pixels, PLAIN)) as file:
        with file.open() as dataset:
            half = dataset.read(out_shape=(1, 256, 256), resampling=Resampling.nearest)
        shifted = np.roll(half, 1, axis=2)
        with rasterio.open(
            file.name, "r+", OVERVIEW_LEVEL=0, IGNORE_COG_LAYOUT_BREAK="YES"
        ) as overview:
            overview.write(shifted)
        data = bytes(file.read())
    assert outcome(data, "overview pixels")[0] in ("warning", "error")


@pytest.mark.parametrize("part", ["leader", "trailer"])
def test_damaged_leaders_and_trailers_are_found(part: str) -> None:
    data = bytearray(gdal_cog(terrain((1, 2048, 2048)), PLAIN))
    full = directories(bytes(data))[0]
    tile = 101  # none of the sampled
    at = (
        int(full.stored.offsets[tile]) - 4
        if part == "leader"
        else int(full.stored.offsets[tile] + full.stored.counts[tile])
    )
    data[at] ^= 1
    assert outcome(bytes(data), "leaders and trailers")[0] == "ok"
    found = outcome(bytes(data), "leaders and trailers", thorough=True)
    assert found == (
        "error",
        f"1 of 341 tiles, the first at byte {full.stored.offsets[tile]}, have a wrong one",
    )


def test_false_claims_of_order_and_overlaps_are_errors() -> None:
    data = bytearray(gdal_cog(terrain((1, 512, 512)), PLAIN))
    where = directories(bytes(data))[0].tags[tags.TILE_OFFSETS].extent
    assert where is not None
    a, b = struct.unpack_from("<2I", data, where[0])
    swapped = bytearray(data)
    struct.pack_into("<2I", swapped, where[0], b, a)
    assert outcome(bytes(swapped), "order of tiles")[0] == "error"
    truthful = bytes(swapped).replace(b"BLOCK_ORDER=ROW_MAJOR", b"BLOCK_ORDER=SOMETHING")
    assert outcome(truthful, "order of tiles") == ("ok", "no known order, row-major")
    struct.pack_into("<2I", data, where[0], a, a)
    assert outcome(bytes(data), "places of tiles")[0] == "error"


def test_a_cut_off_file_is_an_error() -> None:
    data = gdal_cog(terrain((1, 512, 512)), PLAIN)
    found = checks(data[:-1000])
    assert found["places of tiles"].outcome == "error"
    assert "end after the file" in found["places of tiles"].detail
    assert found["overview pixels"].outcome == "error"


def test_updated_and_untiled_files(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(gdal_cog(np.zeros((1, 512, 512), "uint16"), PLAIN | {"compress": "deflate"}))
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.write(terrain((1, 128, 128)), window=Window(128, 128, 128, 128))
    found = checks(path)
    assert found["rio-cogeo"].outcome == "error"
    assert found["places of tiles"].outcome == "warning"
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=600, width=600, dtype="uint8"
    ) as dataset:
        dataset.write(terrain((1, 600, 600), "uint8"))
    found = checks(path)
    assert "not tiled" in found["rio-cogeo"].detail
    assert found["leaders and trailers"].outcome == "skipped"


def test_the_order_of_levels_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "count": 1, "height": 1000, "width": 1000, "dtype": "uint16"}
    with rasterio.open(path, "w", tiled=True, blockxsize=256, blockysize=256, **profile) as dataset:
        dataset.write(terrain((1, 1000, 1000)))
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    found = checks(path)
    assert found["order of levels"].outcome == "error"
    assert found["overview pixels"].outcome == "ok"


def test_files_are_validated_over_http_and_s3(tmp_path: Path, s3_options: dict[str, Any]) -> None:
    data = gdal_cog(terrain((1, 700, 900)), PLAIN)
    (tmp_path / "a.tif").write_bytes(data)
    local = ccog.validate(data)
    with range_server(tmp_path) as server:
        assert ccog.validate(f"{server.url}/a.tif").checks == local.checks
    pixels = da.from_array(terrain((1, 700, 900)), chunks=(1, 256, 256))
    ccog.write_ccog(
        pixels, "s3://test/valid.tif", COG_creation_options=GEO | PLAIN, storage_options=s3_options
    ).compute()
    assert ccog.validate("s3://test/valid.tif", s3_options).overviews == local.overviews


def test_command_line_and_representations(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(gdal_cog(terrain((1, 512, 512)), PLAIN))
    found = ccog.validate(path)
    result = CliRunner().invoke(main, ["validate", str(path), "--all"])
    assert result.exit_code == 0, result.output
    assert f"{path}: valid" in result.stdout
    assert f"{path}: valid" in found._repr_html_()
    path.write_bytes(path.read_bytes()[:-100])
    result = CliRunner().invoke(main, ["validate", str(path)])
    assert result.exit_code == 1
    assert "NOT valid" in result.stdout
    result = CliRunner().invoke(main, ["validate", str(tmp_path / "none.tif")])
    assert (result.exit_code, result.stderr[:7]) == (1, "Error: ")


def test_without_rio_cogeo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rio_cogeo", None)
    with pytest.raises(ccog.MissingDependencyError, match="pip install rio-cogeo"):
        ccog.validate(gdal_cog(terrain((1, 100, 100)), PLAIN))
