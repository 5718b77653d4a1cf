"""Overviews of files: which of them GDAL's CreateCopy uses, ``ccog create`` uses too."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from click.testing import CliRunner
from rasterio.enums import MaskFlags, Resampling
from rasterio.io import MemoryFile

import ccog
from cases import MODERN
from ccog.cli import main
from ccog.input.files import open_raster
from conftest import DATA, GEO

SHAPE = (420, 560)
LEVELS = [2, 4, 8]
# said to both, since it is not overviews that are compared here where a source says it
BY_PIXEL = {"INTERLEAVE": "PIXEL"} if MODERN else {}
BASE = {"COMPRESS": "DEFLATE", "BLOCKSIZE": "128"} | BY_PIXEL

Maker = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Makes a GTiff with overviews by average, of noise."""

    def made(
        bands: int = 1,
        shape: tuple[int, int] = SHAPE,
        levels: list[int] = LEVELS,
        dtype: str = "uint8",
        mask: bool = False,
        **profile: Any,
    ) -> Path:
        rng = np.random.default_rng(3)
        path = tmp_path / "source.tif"
        size = {"count": bands, "height": shape[0], "width": shape[1], "dtype": dtype}
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            with rasterio.open(path, "w", driver="GTiff", **size, **GEO, **profile) as dataset:
                dataset.write(rng.integers(0, 200, (bands, *shape)).astype(dtype))
                if mask:
                    dataset.write_mask(rng.integers(0, 2, shape).astype("uint8") * 255)
            if levels:
                with rasterio.open(path, "r+") as dataset:
                    dataset.build_overviews(levels, Resampling.average)
        return path

    return made


def assert_copied(source: Path, options: dict[str, str], *arguments: str) -> None:
    """``ccog create`` makes of the file what CreateCopy makes of it."""
    gdal, ours = source.parent / "gdal.tif", source.parent / "ours.tif"
    rasterio.shutil.copy(source, gdal, driver="COG", **options)
    created(source, ours, options, *arguments)
    same = gdal.read_bytes() == ours.read_bytes()
    assert same, f"{rasterio.open(gdal).overviews(1)} {rasterio.open(ours).overviews(1)}"


def created(source: Path, target: Path, options: dict[str, str], *arguments: str) -> str:
    """What ``ccog create`` prints."""
    pairs = itertools.chain(*(("--co", f"{key}={value}") for key, value in options.items()))
    command = ["create", str(source), str(target), "--quiet", "--overwrite", *arguments, *pairs]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"OVERVIEWS": "AUTO", "OVERVIEW_RESAMPLING": "MODE"},
        {"OVERVIEWS": "NONE"},
        {"OVERVIEWS": "IGNORE_EXISTING"},
        {"OVERVIEWS": "IGNORE_EXISTING", "OVERVIEW_COUNT": "1"},
        {"OVERVIEWS": "FORCE_USE_EXISTING", "BLOCKSIZE": "512"},
        {"OVERVIEWS": "FORCE_USE_EXISTING", "OVERVIEW_COUNT": "2"},
        {"OVERVIEW_COUNT": "2"},
        {"OVERVIEW_COUNT": "0"},
        {"OVERVIEW_COUNT": "9"},
        # the raster fits a tile, so GDAL makes no new ones
        {"BLOCKSIZE": "1024"},
        {"OVERVIEWS": "IGNORE_EXISTING", "BLOCKSIZE": "1024"},
        {"OVERVIEWS": "IGNORE_EXISTING", "BLOCKSIZE": "1024", "OVERVIEW_COUNT": "1"},
        # GDAL copies a VRT of the file, which has not all of its overviews in old versions
        {"STATISTICS": "YES"},
        {"COMPRESS": "JPEG"},
    ],
    ids=str,
)
def test_options_choose_among_overviews_as_in_gdal(make: Maker, options: dict[str, str]) -> None:
    assert_copied(make(), BASE | options)


@pytest.mark.parametrize(
    ("shape", "levels"),
    [(SHAPE, [1, 2]), (SHAPE, [1]), (SHAPE, [2, 1, 4]), ((1, 600), [2]), ((3, 600), [1, 2, 4])],
    ids=str,
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"STATISTICS": "YES"},
        {"STATISTICS": "YES", "OVERVIEW_COUNT": "1"},
        {"STATISTICS": "YES", "OVERVIEWS": "FORCE_USE_EXISTING"},
        {"STATISTICS": "YES", "BLOCKSIZE": "1024"},
    ],
    ids=str,
)
def test_an_overview_as_large_as_the_raster_is_used_where_gdal_uses_it(
    make: Maker, shape: tuple[int, int], levels: list[int], options: dict[str, str]
) -> None:
    assert_copied(make(shape=shape, levels=levels), BASE | options)


@pytest.mark.tried("OVERVIEW_RESAMPLING=NONE", "blank overviews as GDAL's, and a warning")
@pytest.mark.parametrize(
    "kind", [{}, {"bands": 3, "dtype": "int16"}, {"nodata": 7}, {"mask": True}], ids=str
)
@pytest.mark.parametrize(
    "options",
    [
        {"BLOCKSIZE": "128"},
        {"BLOCKSIZE": "128", "SPARSE_OK": "YES"},
        {"OVERVIEW_COUNT": "1"},
        {"OVERVIEWS": "NONE", "BLOCKSIZE": "128"},
        {"BLOCKSIZE": "1024"},
    ],
    ids=str,
)
def test_overviews_can_be_left_blank(
    make: Maker, kind: dict[str, Any], options: dict[str, str]
) -> None:
    source = make(levels=[], **kind)
    for option in ("OVERVIEW_RESAMPLING", "RESAMPLING"):
        assert_copied(source, {option: "NONE", **options})
    with rasterio.open(source.parent / "ours.tif") as dataset:
        is_blank = bool(dataset.overviews(1))
    said = created(source, source.parent / "ours.tif", {"OVERVIEW_RESAMPLING": "none", **options})
    assert ("OVERVIEWS=NONE leaves them out" in said) == is_blank


def test_overviews_of_an_array_can_be_left_blank() -> None:
    profile = GEO | {"overview_resampling": "none", "blocksize": 128}
    pixels = np.ones((2, 300, 400), "uint16")
    with pytest.warns(ccog.CCOGWarning, match="leaves the overviews blank"):
        found = ccog.write_ccog(pixels, **profile).compute()
    size = {"count": 2, "height": 300, "width": 400, "dtype": "uint16"}
    with MemoryFile() as memory:
        with memory.open(driver="COG", **profile, **size) as dataset:
            dataset.write(pixels)
        assert found == memory.read()


@pytest.mark.parametrize(
    "kind",
    [
        {"bands": 2, "dtype": "int16", "nodata": 7},
        {"bands": 2, "dtype": "float32", "interleave": "band"},
        {"mask": True},
        {"mask": True, "nodata": 7},
        {"levels": [4, 2]},
        {"levels": [3, 7]},
        {"shape": (30, 50), "levels": [2, 3]},
        {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "lzw"},
    ],
    ids=str,
)
def test_overviews_of_any_file_are_copied(make: Maker, kind: dict[str, Any]) -> None:
    assert_copied(make(**kind), BASE | {"COMPRESS": "ZSTD"}, "--chunks", "100")


@pytest.mark.parametrize("blocksize", ["128", "1024"])
def test_alpha_of_overviews_becomes_their_mask_in_jpeg(make: Maker, blocksize: str) -> None:
    """GDAL before 3.12 does not see them then: it makes new ones, or none of a single tile."""
    source = make(4, photometric="rgb", alpha="yes")
    assert_copied(source, BASE | {"COMPRESS": "JPEG", "BLOCKSIZE": blocksize})


def test_statistics_and_small_overviews_only_are_as_in_gdal(make: Maker) -> None:
    """GDAL before 3.12 sees none of these in its VRT, and makes new ones."""
    assert_copied(make(levels=[5, 6]), BASE | {"STATISTICS": "YES"})


def test_external_overviews_are_copied(make: Maker) -> None:
    with rasterio.Env(TIFF_USE_OVR=True):
        source = make(2)
    assert Path(f"{source}.ovr").exists()
    assert_copied(source, BASE)


def test_overviews_of_a_cog_and_of_a_vrt_are_copied(make: Maker) -> None:
    source = make(2, mask=True)
    cog, vrt = source.with_name("cog.tif"), source.with_name("copy.vrt")
    rasterio.shutil.copy(source, cog, driver="COG", **BASE)
    assert_copied(cog, BASE | {"BLOCKSIZE": "256"})
    rasterio.shutil.copy(source, vrt, driver="VRT")
    assert_copied(vrt, BASE | {"BLOCKSIZE": "256"})


def test_overviews_are_read_by_tasks_in_other_processes(make: Maker, client: Any) -> None:
    source = open_raster(str(make(mask=True)), 100)
    arrays = [*source.overviews.arrays, *source.overviews.masks]
    with rasterio.open(make(mask=True), overview_level=1) as dataset:
        expected = dataset.read(), dataset.read_masks(1)
    pixels, mask = client.gather(client.compute([arrays[1], arrays[4]]))
    assert np.array_equal(pixels, expected[0])
    assert np.array_equal(mask, expected[1])


def test_overviews_without_masks_of_a_masked_file_are_not_used(make: Maker) -> None:
    with rasterio.Env(TIFF_USE_OVR=True):
        source = make(mask=True)
    ours = source.with_name("ours.tif")
    assert "the file has a mask that its overviews lack" in created(source, ours, BASE)
    new = source.with_name("new.tif")
    created(source, new, BASE | {"OVERVIEWS": "IGNORE_EXISTING"})
    assert ours.read_bytes() == new.read_bytes()
    command = [
        "create",
        str(source),
        str(new),
        "--overwrite",
        "--co",
        "OVERVIEWS=FORCE_USE_EXISTING",
    ]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "the raster has a mask and overview 1 has none" in result.output


@pytest.mark.skipif(not DATA.exists(), reason="no rasters beside the repository")
@pytest.mark.parametrize("name", ["goes.tif", "cog_band_tags.tif"])
def test_overviews_of_real_files_are_gdals(tmp_path: Path, name: str) -> None:
    gdal, ours = tmp_path / "gdal.tif", tmp_path / "ours.tif"
    options = {"COMPRESS": "DEFLATE", "BLOCKSIZE": "128"}
    rasterio.shutil.copy(DATA / name, gdal, driver="COG", **options)
    created(DATA / name, ours, options)
    with rasterio.open(gdal) as dataset:
        count = len(dataset.overviews(1))
    assert count
    for level in range(count):
        theirs, our = pixels_of(gdal, level), pixels_of(ours, level)
        assert all(map(np.array_equal, theirs, our))


def pixels_of(path: Path, level: int) -> list[np.ndarray]:
    with rasterio.open(path, overview_level=level) as dataset:
        masked = MaskFlags.per_dataset in dataset.mask_flag_enums[0]
        return [dataset.read(), dataset.read_masks(1) if masked else np.zeros(0)]
