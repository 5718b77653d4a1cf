"""overviews=[array, ...]: the levels of the file, whatever a kernel would make, as GDAL copies those of a file."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import xarray as xr

import ccog
from cases import MODERN
from conftest import GEO

pytestmark = pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")

ODD = [(701, 433), (351, 217), (117, 72), (9, 1)]
BASE: dict[str, Any] = {"compress": "deflate", "blocksize": 128}
_NAMES = {
    "uint8": "Byte",
    "int16": "Int16",
    "uint16": "UInt16",
    "float32": "Float32",
    "complex64": "CFloat32",
}


def noise(sizes: list[tuple[int, int]], bands: int = 2, dtype: str = "uint16") -> list[np.ndarray]:
    """Pixels of each level that no kernel makes of another."""
    rng = np.random.default_rng(len(sizes))
    return [rng.integers(0, 200, (bands, *size)).astype(dtype) for size in sizes]


def masks_of(sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    rng = np.random.default_rng(9)
    return [rng.integers(0, 2, size).astype("uint8") * 255 for size in sizes]


def gdal_copy(
    folder: Path,
    levels: list[np.ndarray],
    options: dict[str, Any],
    masks: list[np.ndarray] | None = None,
    nodata: float | None = None,
) -> bytes:
    """The file that CreateCopy makes of a raster whose overviews are other rasters."""
    names = [str(folder / f"level{k}.tif") for k in range(len(levels))]
    for k, pixels in enumerate(levels):
        count, height, width = pixels.shape
        profile = {"count": count, "height": height, "width": width, "dtype": pixels.dtype.name}
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(names[k], "w", driver="GTiff", nodata=nodata, **profile) as dataset,
        ):
            dataset.write(pixels)
            if masks is not None:
                dataset.write_mask(masks[k])
    bands = [
        _vrt_band(names, str(band), levels[0].dtype.name, nodata)
        for band in range(1, len(levels[0]) + 1)
    ]
    if masks is not None:
        bands.append(f"<MaskBand>{_vrt_band(names, 'mask,1', 'uint8', None)}</MaskBand>")
    height, width = levels[0].shape[1:]
    (folder / "source.vrt").write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>EPSG:32755</SRS>'
        f"<GeoTransform>500000, 10, 0, 6000000, 0, -10</GeoTransform>{''.join(bands)}</VRTDataset>"
    )
    rasterio.shutil.copy(folder / "source.vrt", folder / "gdal.tif", driver="COG", **options)
    return (folder / "gdal.tif").read_bytes()


def _vrt_band(names: list[str], band: str, dtype: str, nodata: float | None) -> str:
    places = [
        f"<SourceFilename>{name}</SourceFilename><SourceBand>{band}</SourceBand>" for name in names
    ]
    overviews = "".join(f"<Overview>{place}</Overview>" for place in places[1:])
    number = "" if band.startswith("mask") else f' band="{band}"'
    value = "" if nodata is None else f"<NoDataValue>{nodata}</NoDataValue>"
    return (
        f'<VRTRasterBand dataType="{_NAMES[dtype]}"{number}>{value}'
        f"<SimpleSource>{places[0]}</SimpleSource>{overviews}</VRTRasterBand>"
    )


def written(
    pixels: Any, options: dict[str, Any], compute: dict[str, Any] | None = None, **kwargs: Any
) -> Any:
    delayed = ccog.write_ccog(pixels, COG_creation_options=options | GEO, **kwargs)
    return delayed.compute(**(compute or {"scheduler": "threads"}))


def lazily(arrays: list[np.ndarray], *sides: int) -> list[da.Array]:
    """The arrays in chunks of these sides in turn, which match neither tiles nor each other."""
    return [
        da.from_array(arr, chunks=(1, sides[k % len(sides)], sides[-1]))
        for k, arr in enumerate(arrays)
    ]


INTERLEAVES = ["PIXEL", "BAND", "TILE"] if MODERN else [None]


@pytest.mark.parametrize("interleave", INTERLEAVES)
@pytest.mark.parametrize("masked", [False, True])
def test_given_overviews_are_gdals_bytes(
    tmp_path: Path, interleave: str | None, masked: bool
) -> None:
    levels, masks = noise(ODD), masks_of(ODD) if masked else None
    options = BASE | ({"interleave": interleave} if interleave else {})
    expected = gdal_copy(tmp_path, levels, options, masks)
    first, *overviews = lazily(levels, 100, 256, 77)
    more = {"overviews": overviews} | ({"overview_masks": masks[1:]} if masks else {})
    assert written(first, options | more, mask=masks and masks[0]) == expected


@pytest.mark.parametrize(
    ("bands", "dtype", "options"),
    [
        (1, "uint8", {"compress": "jpeg"}),
        (3, "uint8", {"compress": "jpeg", "quality": 90, "overview_quality": 20}),
        (2, "float32", {"compress": "lerc", "max_z_error": 1, "max_z_error_overview": 9}),
        (1, "int16", {"compress": "deflate", "predictor": 2, "bigtiff": "yes"}),
        (1, "int16", {"compress": "lzw", "sparse_ok": "yes"}),
        (1, "complex64", {"compress": "deflate"}),
    ],
)
def test_any_codec_and_type_is_gdals(
    tmp_path: Path, bands: int, dtype: str, options: dict[str, Any]
) -> None:
    levels = noise(ODD, bands, dtype)
    levels[1][:, :128] = 0
    options = options | {"blocksize": 128}
    expected = gdal_copy(tmp_path, levels, options)
    assert written(levels[0], options | {"overviews": levels[1:]}) == expected


def test_sizes_need_not_halve_and_one_tile_may_have_overviews(tmp_path: Path) -> None:
    sizes = [(300, 290), (299, 290), (70, 280), (70, 3)]
    levels = noise(sizes)
    options = BASE | {"blocksize": 512}
    assert written(levels[0], options | {"overviews": levels[1:]}) == gdal_copy(
        tmp_path, levels, options
    )


def test_masked_overviews_of_a_masked_raster_become_the_mask(tmp_path: Path) -> None:
    levels, masks = noise(ODD), masks_of(ODD)
    pairs = zip(levels, masks, strict=True)
    masked = [
        np.ma.MaskedArray(pixels, np.broadcast_to(mask == 0, pixels.shape))
        for pixels, mask in pairs
    ]
    assert written(masked[0], BASE | {"overviews": masked[1:]}) == gdal_copy(
        tmp_path, levels, BASE, masks
    )


def test_masked_overviews_become_nodata_where_there_is_a_value(tmp_path: Path) -> None:
    levels = noise(ODD)
    masked = [np.ma.masked_equal(pixels, 7).filled(99) for pixels in levels]
    masked = [
        np.ma.MaskedArray(data, pixels == 7) for data, pixels in zip(masked, levels, strict=True)
    ]
    options = BASE | {"overviews": masked[1:], "nodata": 7}
    assert written(masked[0], options) == gdal_copy(tmp_path, levels, BASE, nodata=7)


def test_overview_count_takes_the_first_and_resampling_is_ignored(tmp_path: Path) -> None:
    levels = noise(ODD)
    options = BASE | {"overview_count": 2, "overview_resampling": "average"}
    assert written(levels[0], options | {"overviews": levels[1:]}) == gdal_copy(
        tmp_path, levels, options
    )


def test_xarray_overviews_are_read_as_the_raster_is(tmp_path: Path) -> None:
    levels = noise(ODD)
    first, *overviews = [
        xr.DataArray(np.moveaxis(pixels, 0, -1), dims=("y", "x", "band")) for pixels in levels
    ]
    assert written(first, BASE | {"overviews": overviews}) == gdal_copy(tmp_path, levels, BASE)


def test_a_cluster_of_processes_writes_the_same(tmp_path: Path, client: Any) -> None:
    levels = noise(ODD)
    full = da.from_array(levels[0], chunks=(2, 128, 128))
    made = [da.coarsen(np.max, full, {1: side, 2: side}, trim_excess=True) for side in (2, 4)]
    options = BASE | {"overviews": made}
    delayed = ccog.write_ccog(full, tmp_path / "cluster.tif", COG_creation_options=options | GEO)
    client.compute(delayed).result()
    expected = gdal_copy(tmp_path, [levels[0], *(arr.compute() for arr in made)], BASE)
    assert (tmp_path / "cluster.tif").read_bytes() == expected


def test_chunk_layout_holds_the_given_pixels(tmp_path: Path) -> None:
    levels, masks = noise(ODD), masks_of(ODD)
    options = BASE | GEO | {"overviews": levels[1:], "overview_masks": masks[1:]}
    path = tmp_path / "chunk.tif"
    full = da.from_array(levels[0], chunks=(2, 128, 128))
    ccog.write_ccog(
        full, path, mask=masks[0], COG_creation_options=options, layout="chunk", compute=True
    )
    for k, (pixels, mask) in enumerate(zip(levels, masks, strict=True)):
        with rasterio.open(path, **({"overview_level": k - 1} if k else {})) as dataset:
            assert np.array_equal(dataset.read(), pixels)
            assert np.array_equal(dataset.read_masks(1), mask)


@pytest.mark.parametrize("layout", ["gdal", "chunk"])
def test_overviews_made_of_the_array_do_not_hold_it_in_memory(layout: Any) -> None:
    """Each chunk is needed by all levels, and goes once its share of each is made."""
    alive, most, lock = 0, 0, threading.Lock()

    def gone() -> None:
        nonlocal alive
        with lock:
            alive -= 1

    def made(block_id: tuple[int, int]) -> np.ndarray:
        nonlocal alive, most
        chunk = np.full((128, 128), sum(block_id), "uint8")
        with lock:
            alive += 1
            most = max(most, alive)
        weakref.finalize(chunk, gone)
        return chunk

    chunks = ((128,) * 12,) * 2
    full = da.map_blocks(made, chunks=chunks, dtype="uint8", meta=np.empty((0, 0), "uint8"))
    overviews = [da.coarsen(np.max, full, {0: side, 1: side}) for side in (2, 4, 8)]
    written(
        full,
        BASE | {"overviews": overviews},
        {"scheduler": "threads", "num_workers": 2},
        layout=layout,
    )
    assert 0 < most <= 3 * 12


def test_a_resumed_write_reads_only_what_is_missing(tmp_path: Path) -> None:
    levels = noise([(1280, 128), (640, 64), (320, 32)], 1)
    broken, reads = tmp_path / "broken", []
    broken.touch()

    def read(block_id: tuple[int, ...], level: int) -> np.ndarray:
        row = block_id[1]
        if level == 0 and row == 8 and broken.exists():
            raise RuntimeError("no pixels here")
        reads.append((level, row))
        return levels[level][:, 128 * row : 128 * row + 128]

    def array(level: int) -> da.Array:
        height, width = levels[level].shape[1:]
        rows = tuple(min(128, height - start) for start in range(0, height, 128))
        meta = np.empty((0, 0, 0), "uint16")
        return da.map_blocks(
            read,
            level=level,
            chunks=((1,), rows, (width,)),
            dtype="uint16",
            meta=meta,
            name=f"l{level}",
        )

    def write(*overviews: int) -> Any:
        options = BASE | GEO | {"overviews": [array(k) for k in overviews]}
        return ccog.write_ccog(
            array(0), tmp_path / "a.tif", COG_creation_options=options, resume=True
        )

    with pytest.raises(RuntimeError, match="no pixels here"):
        write(1, 2).compute(scheduler="sync")
    broken.unlink()
    reads.clear()
    with pytest.raises(ccog.ResumeError, match="the overviews differ"):
        write(2)
    write(1, 2).compute(scheduler="sync")
    assert len(reads) < 10
    assert (tmp_path / "a.tif").read_bytes() == gdal_copy(tmp_path, levels, BASE)


def test_a_plan_names_given_overviews() -> None:
    levels = noise(ODD)
    plan = ccog.plan(levels[0], COG_creation_options=BASE | {"overviews": levels[1:]})
    assert [(level.height, level.width) for level in plan.levels] == ODD
    assert [level.name for level in plan.levels][1] == "overview 1, given"


ERRORS: list[tuple[str, Any, dict[str, Any]]] = [
    ("overview 1 has 433 x 701 pixels .*the raster 701 x 433; each is smaller", [(433, 701)], {}),
    ("overview 1 has 701 x 433 pixels", [(701, 433)], {}),
    (
        "overview 2 has 351 x 217 pixels .*overview 1 117 x 72.* give the largest first",
        [(117, 72), (351, 217)],
        {},
    ),
    ("overview 1 has 1 bands, the raster 2", [(351, 217)], {"bands": 1}),
    (
        r"overview 1 is float32, the raster uint16; cast it, e.g. with astype\('uint16'\)",
        [(351, 217)],
        {"dtype": "float32"},
    ),
]


@pytest.mark.parametrize(("message", "sizes", "kind"), ERRORS)
def test_overviews_of_another_raster_are_refused_at_once(
    message: str, sizes: Any, kind: dict[str, Any]
) -> None:
    with pytest.raises(ccog.CCOGError, match=message):
        written(noise(ODD)[0], BASE | {"overviews": noise(sizes, **kind)})


def test_one_array_must_be_in_a_list() -> None:
    first, second, *_ = noise(ODD)
    with pytest.raises(
        ccog.ArgumentTypeError, match=r"overviews is numpy\.ndarray; give a list of arrays"
    ):
        written(first, BASE | {"overviews": second})


def test_masks_must_be_those_of_all_levels_or_none() -> None:
    (first, *overviews), masks = noise(ODD), masks_of(ODD)
    with pytest.raises(ccog.RasterError, match="the raster has a mask and overview 1 has none"):
        written(first, BASE | {"overviews": overviews}, mask=masks[0])
    with pytest.raises(ccog.RasterError, match="overview 1 has a mask and the raster has none"):
        written(first, BASE | {"overviews": overviews, "overview_masks": masks[1:]})
    with pytest.raises(ccog.OptionError, match="for each of the 3 arrays"):
        written(first, BASE | {"overviews": overviews, "overview_masks": masks}, mask=masks[0])
    with pytest.raises(ccog.OptionError, match="belong to overviews="):
        written(first, BASE | {"overview_masks": masks[1:]}, mask=masks[0])
    with pytest.raises(ccog.RasterError, match="overview 1: the mask has shape"):
        written(first, BASE | {"overviews": overviews, "overview_masks": masks[:3]}, mask=masks[0])
