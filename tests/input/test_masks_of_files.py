"""Files with masks, and with nodata values that differ by band: overviews as GDAL's CreateCopy makes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio import Affine

import ccog
from cases import MODERN
from ccog.geometry.axis_reduction import KERNEL_RADIUS
from ccog.input.opening import open_source
from conftest import terrain

HEIGHT, WIDTH = 437, 611
SMALL: dict[str, str] = {"BLOCKSIZE": "128", "COMPRESS": "DEFLATE"} | (
    {"INTERLEAVE": "PIXEL"} if MODERN else {}
)
PLACE: dict[str, Any] = {"crs": "EPSG:32755", "transform": Affine(10, 0, 5e5, 0, -10, 6e6)}
TYPES = {
    "uint8": "Byte",
    "uint16": "UInt16",
    "int16": "Int16",
    "float32": "Float32",
    "complex64": "CFloat32",
}


def holes(seed: int) -> np.ndarray:
    """A mask of booleans with rectangles and single pixels that are not valid."""
    rng = np.random.default_rng(seed)
    valid = rng.random((HEIGHT, WIDTH)) > 0.03
    valid[100:260, 200:450] = False
    valid[:, 600:] = False
    return valid


def weights(seed: int) -> np.ndarray:
    """A mask of bytes, many of them neither 0 nor 255."""
    rng = np.random.default_rng(seed)
    shares = np.clip(rng.random((HEIGHT, WIDTH)) * 1.4, 0, 1)
    values: np.ndarray = (holes(seed) * shares * 255).astype(np.uint8)
    return values


def pixels_of(dtype: str, count: int) -> np.ndarray:
    pixels = terrain((count, HEIGHT, WIDTH), dtype=dtype)
    pixels[:, 300:360, 50:300] = 7
    return pixels


def write_tiff(
    path: Path, pixels: np.ndarray, mask: np.ndarray | None = None, **profile: Any
) -> Path:
    count, height, width = pixels.shape
    size = {"count": count, "height": height, "width": width, "dtype": pixels.dtype.name}
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 64}
    with rasterio.open(path, "w", driver="GTiff", **size, **tiles, **PLACE, **profile) as dataset:
        dataset.write(pixels)
        if mask is not None:
            dataset.write_mask(mask)
    return path


def write_vrt(
    path: Path,
    pixels: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    band_masks: Sequence[np.ndarray | None] = (),
    nodata: Sequence[float | None] = (),
) -> Path:
    """A VRT of the pixels, with a mask of all bands, masks of single bands, nodata values of bands."""
    folder, dtype = path.parent, TYPES[pixels.dtype.name]
    write_tiff(folder / "pixels.tif", pixels)
    bands = []
    for n in range(len(pixels)):
        value = nodata[n] if nodata else None
        own = band_masks[n] if band_masks else None
        parts = [] if value is None else [f"<NoDataValue>{value}</NoDataValue>"]
        parts.append(_source(folder / "pixels.tif", n + 1))
        parts += [] if own is None else [_mask_band(folder / f"mask{n}.tif", own)]
        bands.append(
            f'<VRTRasterBand dataType="{dtype}" band="{n + 1}">{"".join(parts)}</VRTRasterBand>'
        )
    if mask is not None:
        bands.append(_mask_band(folder / "mask.tif", mask))
    place = "<SRS>EPSG:32755</SRS><GeoTransform>5e5,10,0,6e6,0,-10</GeoTransform>"
    size = f'rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}"'
    path.write_text(f"<VRTDataset {size}>{place}{''.join(bands)}</VRTDataset>")
    return path


def _source(path: Path, band: int) -> str:
    name = f"<SourceFilename>{path}</SourceFilename><SourceBand>{band}</SourceBand>"
    return f"<SimpleSource>{name}</SimpleSource>"


def _mask_band(path: Path, mask: np.ndarray) -> str:
    write_tiff(path, mask[np.newaxis])
    band = f'<VRTRasterBand dataType="Byte">{_source(path, 1)}</VRTRasterBand>'
    return f"<MaskBand>{band}</MaskBand>"


def assert_as_createcopy(path: Path, chunk: int | None = None, **options: str) -> None:
    options = SMALL | {"OVERVIEWS": "IGNORE_EXISTING"} | options
    target = path.parent / "gdal.tif"
    rasterio.shutil.copy(path, target, driver="COG", **options)
    source = open_source(str(path), chunk, tags=True)
    given = {key.upper(): value for key, value in source.options.items()} | options
    written = ccog.write_ccog(source, COG_creation_options=given).compute(scheduler="threads")
    equal = written == target.read_bytes()
    assert equal, "the file differs from CreateCopy's"


@pytest.mark.parametrize("method", KERNEL_RADIUS)
def test_overviews_beside_a_mask_of_bits_are_createcopys(method: str, tmp_path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write_tiff(tmp_path / "in.tif", pixels_of("uint8", 1), holes(1))
    assert_as_createcopy(path, 256, OVERVIEW_RESAMPLING=method.upper())


@pytest.mark.parametrize("method", ["cubic", "lanczos", "average"])
def test_overviews_beside_a_mask_file_are_createcopys(method: str, tmp_path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        path = write_tiff(tmp_path / "in.tif", pixels_of("uint16", 2), holes(2))
    assert (tmp_path / "in.tif.msk").exists()
    assert_as_createcopy(path, 128, OVERVIEW_RESAMPLING=method.upper())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("nodata", [None, 7])
def test_a_mask_of_bits_beside_nodata(dtype: str, nodata: int | None, tmp_path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write_tiff(tmp_path / "in.tif", pixels_of(dtype, 2), holes(3), nodata=nodata)
    assert_as_createcopy(path, 300, OVERVIEW_RESAMPLING="AVERAGE")


@pytest.mark.parametrize("alpha", [False, True])
def test_statistics_make_a_mask_of_bits_one_of_bytes(alpha: bool, tmp_path: Path) -> None:
    """GDAL then copies a VRT of the file."""
    pixels = pixels_of("uint8", 2)
    pixels[1] = np.where(holes(4), 255, pixels[1])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        own = {"alpha": "yes"} if alpha else {}
        # beside nodata bytes are counted by it alone, with every version of GDAL
        path = write_tiff(tmp_path / "in.tif", pixels, holes(5), nodata=7, **own)
    assert_as_createcopy(path, OVERVIEW_RESAMPLING="BILINEAR", STATISTICS="YES")


@pytest.mark.parametrize("method", KERNEL_RADIUS)
def test_a_mask_of_a_vrt_weighs_by_its_values(method: str, tmp_path: Path) -> None:
    path = write_vrt(tmp_path / "in.vrt", pixels_of("uint8", 2), mask=weights(6))
    assert_as_createcopy(path, 256, OVERVIEW_RESAMPLING=method.upper())


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("method", ["cubic", "average", "mode", "nearest"])
def test_masks_of_single_bands_shape_the_overviews(method: str, dtype: str, tmp_path: Path) -> None:
    """The file has no mask; the first overview heeds those of the source."""
    masks = [weights(7), None, holes(8).astype(np.uint8)]
    path = write_vrt(
        tmp_path / "in.vrt", pixels_of(dtype, 3), band_masks=masks, nodata=(7, None, 9)
    )
    assert_as_createcopy(path, 256, OVERVIEW_RESAMPLING=method.upper())


@pytest.mark.parametrize("nodata", [(7, 100, None), (None, 7, 0), (0, 7, 0), (7, None, None)])
@pytest.mark.parametrize("method", ["cubic", "average", "rms", "gauss"])
def test_nodata_that_differs_by_band(
    method: str, nodata: tuple[float | None, ...], tmp_path: Path
) -> None:
    pixels = pixels_of("uint8", 3)
    pixels[:, :40] = 0
    path = write_vrt(tmp_path / "in.vrt", pixels, nodata=nodata)
    assert_as_createcopy(path, 256, OVERVIEW_RESAMPLING=method.upper())


def test_nodata_that_differs_by_band_beside_a_mask(tmp_path: Path) -> None:
    path = write_vrt(
        tmp_path / "in.vrt", pixels_of("int16", 3), mask=weights(9), nodata=(7, None, 9)
    )
    assert_as_createcopy(path, 128, OVERVIEW_RESAMPLING="CUBIC")


def test_statistics_heed_each_bands_nodata(tmp_path: Path) -> None:
    pixels = pixels_of("uint8", 2)
    path = write_vrt(tmp_path / "in.vrt", pixels, nodata=(7, int(pixels[1, 0, 0])))
    assert_as_createcopy(path, 256, STATISTICS="YES")


@pytest.mark.parametrize("count", [2, 4])
def test_a_mask_beside_alpha(count: int, tmp_path: Path) -> None:
    pixels = pixels_of("uint8", count)
    pixels[-1] = weights(10)
    photometric = "RGB" if count == 4 else "MINISBLACK"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write_tiff(
            tmp_path / "in.tif", pixels, holes(11), alpha="yes", photometric=photometric
        )
    assert_as_createcopy(path, 256, OVERVIEW_RESAMPLING="AVERAGE")


def test_a_mask_beside_a_palette(tmp_path: Path) -> None:
    pixels = pixels_of("uint8", 1) % 8
    path = tmp_path / "in.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_tiff(path, pixels, photometric="palette")
        with rasterio.open(path, "r+") as dataset:
            dataset.write_colormap(1, {n: (n, 255 - n, 0, 255) for n in range(8)})
            dataset.write_mask(holes(12))
    assert_as_createcopy(path, 256)


@pytest.mark.parametrize("method", ["average", "cubic", "nearest"])
@pytest.mark.parametrize("nodata", [None, 5])
def test_nodata_that_bands_have_together(nodata: int | None, method: str, tmp_path: Path) -> None:
    """The tag NODATA_VALUES: a pixel is nodata where each band has its value of them."""
    pixels = pixels_of("uint16", 3)
    pixels[:, ~holes(13)] = np.array([5, 6, 7], "uint16")[:, np.newaxis]
    pixels[1, :50] = 6
    path = write_tiff(tmp_path / "in.tif", pixels, nodata=nodata, photometric="minisblack")
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(NODATA_VALUES="5 6 7")
    assert_as_createcopy(path, 256, OVERVIEW_RESAMPLING=method.upper())
