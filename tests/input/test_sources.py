"""Arrays as rioxarray, odc-geo, odc-stac, stackstac and plain xarray hand them over: pixels, place and nodata."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, ClassVar

import dask.array as da
import numpy as np
import odc.stac
import pystac
import pytest
import rasterio
import rioxarray
import stackstac
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr, xr_reproject, xr_zeros
from rasterio import Affine
from rasterio.warp import transform_bounds

import ccog
from conftest import GEO, gdal_cog, terrain

HEIGHT, WIDTH = 500, 700
TRANSFORM = Affine(10, 0, 5e5, 0, -10, 6e6)
SMALL: dict[str, Any] = {"blocksize": 128, "compress": "deflate"}


class Written:
    """What rasterio reads of a file."""

    def __init__(self, data: bytes) -> None:
        with rasterio.MemoryFile(data).open() as dataset:
            self.pixels, self.crs, self.transform = dataset.read(), dataset.crs, dataset.transform
            self.nodata, self.descriptions = dataset.nodata, dataset.descriptions


def near(a: Affine, b: Affine) -> bool:
    return a.almost_equals(b, precision=1e-6 * abs(b.a))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files red0, red1, nir0, nir1 of uint16 with nodata 0."""
    folder = tmp_path_factory.mktemp("stac")
    for seed, name in enumerate(("red0", "nir0", "red1", "nir1")):
        pixels = terrain((1, HEIGHT, WIDTH), seed=seed)
        pixels[:, :40, :60] = 0
        (folder / f"{name}.tif").write_bytes(gdal_cog(pixels, {"blocksize": 128}, nodata=0))
    return folder


@pytest.fixture(scope="module")
def items(folder: Path) -> list[pystac.Item]:
    return [stac_item(folder, k) for k in (0, 1)]


def stac_item(folder: Path, k: int) -> pystac.Item:
    """A STAC item in memory that points at local files."""
    box = (5e5, 6e6 - 10 * HEIGHT, 5e5 + 10 * WIDTH, 6e6)
    x0, y0, x1, y1 = bounds = transform_bounds("EPSG:32755", "EPSG:4326", *box)
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    properties = {
        "proj:epsg": 32755,
        "proj:shape": [HEIGHT, WIDTH],
        "proj:transform": list(TRANSFORM),
    }
    when = datetime.datetime(2024, 1, 1 + k)
    geometry = {"type": "Polygon", "coordinates": [ring]}
    item = pystac.Item(
        f"item{k}", geometry=geometry, bbox=list(bounds), datetime=when, properties=properties
    )
    item.stac_extensions = [
        "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
        "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    ]
    for band in ("red", "nir"):
        fields = {"raster:bands": [{"data_type": "uint16", "nodata": 0}]}
        path = str(folder / f"{band}{k}.tif")
        item.add_asset(
            band,
            pystac.Asset(
                path, media_type=pystac.MediaType.COG, roles=["data"], extra_fields=fields
            ),
        )
    return item


@pytest.mark.parametrize("chunks", [None, 256, {"band": 1, "y": 100, "x": 333}])
def test_arrays_of_rioxarray_are_written(folder: Path, chunks: Any) -> None:
    arr = rioxarray.open_rasterio(folder / "red0.tif", chunks=chunks)
    found = Written(arr.ccog.write(**SMALL))
    assert np.array_equal(found.pixels, arr)
    assert (found.crs, found.transform, found.nodata) == (32755, TRANSFORM, 0)
    flat = Written(arr.squeeze("band", drop=True).ccog.write(**SMALL))
    assert np.array_equal(flat.pixels, found.pixels)


def test_rioxarray_masked_clipped_and_reprojected(folder: Path) -> None:
    masked = rioxarray.open_rasterio(folder / "red0.tif", masked=True, chunks=256)
    found = Written(masked.ccog.write(**SMALL))
    assert found.pixels.dtype == "uint16"
    assert found.nodata == 0
    assert np.array_equal(found.pixels, masked.fillna(0))
    part = masked.rio.isel_window(rasterio.windows.Window(100, 50, 300, 200))
    assert Written(part.ccog.write(**SMALL)).transform == TRANSFORM * Affine.translation(100, 50)
    moved = rioxarray.open_rasterio(folder / "red0.tif").rio.reproject(4326)
    found = Written(moved.ccog.write(**SMALL))
    assert np.array_equal(found.pixels, moved)
    assert found.crs == 4326
    assert near(found.transform, moved.rio.transform())
    assert found.nodata == 0


def test_rioxarray_with_bands_as_variables(folder: Path) -> None:
    ds = rioxarray.open_rasterio(folder / "red0.tif", chunks=256, band_as_variable=True)
    found = Written(ds.ccog.write(**SMALL))
    assert np.array_equal(found.pixels[0], ds.band_1)
    assert (found.crs, found.transform, found.nodata, found.descriptions) == (
        32755,
        TRANSFORM,
        0,
        ("band_1",),
    )


def test_plain_xarray_from_south_to_north() -> None:
    coords = {"latitude": -40 + 0.05 * np.arange(200), "longitude": 140 + 0.05 * np.arange(300)}
    arr = xr.DataArray(
        terrain((1, 200, 300), "float32")[0], dims=("latitude", "longitude"), coords=coords
    )
    found = Written(arr.ccog.write(crs=4326, **SMALL))
    assert np.array_equal(found.pixels[0], arr)
    assert found.crs == 4326
    assert near(found.transform, Affine(0.05, 0, 139.975, 0, 0.05, -40.025))


@pytest.mark.parametrize("order", [("x", "y"), ("y", "x", "band"), ("band", "x", "y")])
def test_plain_xarray_in_any_order_of_dimensions(order: tuple[str, ...]) -> None:
    coords = {"y": 6e6 - 5 - 10 * np.arange(200), "x": 5e5 + 5 + 10 * np.arange(300)}
    whole = xr.DataArray(
        da.from_array(terrain((2, 200, 300)), chunks=100), dims=("band", "y", "x"), coords=coords
    )
    arr = (whole if "band" in order else whole.isel(band=0)).transpose(*order)
    found = Written(arr.ccog.write(**SMALL))
    assert np.array_equal(found.pixels.squeeze(), whole if "band" in order else whole[0])
    assert found.transform == TRANSFORM


@pytest.mark.parametrize("kind", ["zarr", "nc"])
def test_plain_xarray_from_zarr_and_netcdf(tmp_path: Path, kind: str) -> None:
    coords = {"time": [0, 1], "lat": -10 - 0.1 * np.arange(200), "lon": 100 + 0.1 * np.arange(300)}
    data = terrain((2, 200, 300), "float32")
    data[:, :20, :20] = np.nan
    ds = xr.Dataset({"rain": (("time", "lat", "lon"), data)}, coords)
    encoding = {"rain": {"_FillValue": np.float32(-9999)}}
    path = tmp_path / f"a.{kind}"
    if kind == "zarr":
        ds.to_zarr(path, encoding=encoding)
        opened = xr.open_zarr(path, chunks={"lat": 64, "lon": 64})
    else:
        ds.to_netcdf(path, encoding=encoding, engine="h5netcdf")
        opened = xr.open_dataset(path, chunks={"lat": 64, "lon": 64}, engine="h5netcdf")
    found = Written(opened.rain.isel(time=1).ccog.write(crs=4326, **SMALL))
    assert np.array_equal(found.pixels[0], np.nan_to_num(data[1], nan=-9999))
    assert near(found.transform, Affine(0.1, 0, 99.95, 0, -0.1, -9.95))
    assert found.nodata == -9999


def test_arrays_of_odc_geo_are_written() -> None:
    box = GeoBox((HEIGHT, WIDTH), TRANSFORM, "EPSG:32755")
    arr = wrap_xr(da.from_array(terrain((1, HEIGHT, WIDTH))[0], chunks=128), box, nodata=0)
    found = Written(arr.ccog.write(**SMALL))
    assert np.array_equal(found.pixels[0], arr)
    assert (found.crs, found.transform, found.nodata) == (32755, TRANSFORM, 0)
    degrees = xr_reproject(arr, "EPSG:4326", resampling="nearest")
    found = Written(degrees.ccog.write(**SMALL))
    assert np.array_equal(found.pixels[0], degrees)
    assert found.crs == 4326
    assert near(found.transform, degrees.odc.geobox.transform)


def test_rotated_arrays_of_odc_geo_are_written() -> None:
    box = GeoBox((200, 300), TRANSFORM * Affine.rotation(30), "EPSG:32755")
    found = Written(xr_zeros(box, "uint8", chunks=(128, 128)).ccog.write(**SMALL))
    assert near(found.transform, box.transform)


@pytest.mark.parametrize("crs", ["EPSG:32755", "EPSG:4326"])
def test_arrays_of_odc_stac_are_written(items: list[pystac.Item], crs: str) -> None:
    resolution = 10 if crs == "EPSG:32755" else 0.0001
    ds = odc.stac.load(
        items, bands=["red", "nir"], crs=crs, resolution=resolution, chunks={"x": 256, "y": 256}
    )
    found = Written(ds.red.isel(time=1).ccog.write(**SMALL))
    assert np.array_equal(found.pixels[0], ds.red.isel(time=1))
    assert (found.crs.to_string(), found.nodata) == (crs, 0)
    assert near(found.transform, ds.odc.geobox.transform)
    both = Written(ds.isel(time=1).ccog.write(**SMALL))
    assert (both.descriptions, both.nodata) == (("red", "nir"), 0)
    assert np.array_equal(both.pixels[1], ds.nir.isel(time=1))
    median = ds.red.median("time")
    found = Written(median.ccog.write(**SMALL))
    assert np.array_equal(found.pixels[0], median, equal_nan=True)
    assert near(found.transform, ds.odc.geobox.transform)


@pytest.mark.parametrize("xy_coords", ["topleft", "center"])
def test_arrays_of_stackstac_are_written(items: list[pystac.Item], xy_coords: Any) -> None:
    """Its coordinates are by default those of the pixels' upper left corners."""
    stack = stackstac.stack(
        items,
        ["red", "nir"],
        epsg=32755,
        resolution=10,
        chunksize=256,
        xy_coords=xy_coords,
        rescale=False,
    )
    first = stack.isel(time=0)
    found = Written(first.ccog.write(**SMALL))
    assert np.array_equal(found.pixels, first, equal_nan=True)
    assert (found.crs, found.transform) == (32755, TRANSFORM)
    part = stack.isel(time=1, band=0, x=slice(100, 400), y=slice(50, 250))
    found = Written(part.ccog.write(**SMALL))
    assert found.transform == TRANSFORM * Affine.translation(100, 50)
    assert np.array_equal(found.pixels[0], part, equal_nan=True)


class OnDevice:
    """Stands in for a CuPy array: lives elsewhere, refuses to become a NumPy array unless it is fetched."""

    __cuda_array_interface__: ClassVar[dict[str, int]] = {"version": 3}

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self.shape, self.dtype, self.ndim, self.nbytes = (
            pixels.shape,
            pixels.dtype,
            pixels.ndim,
            pixels.nbytes,
        )

    def __getitem__(self, index: Any) -> OnDevice:
        return OnDevice(self._pixels[index])

    def __ne__(self, other: object) -> OnDevice:  # type: ignore[override]
        return OnDevice(self._pixels != other)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_function__(self, *args: Any) -> Any:
        raise TypeError("no function of NumPy's takes this array")

    def get(self) -> np.ndarray:
        return self._pixels.copy()


@pytest.mark.parametrize("chunks", [(1, 256, 256), (2, 64, 64)])
@pytest.mark.parametrize("method", ["average", "cubic"])
def test_chunks_on_a_device_are_brought_to_the_host(chunks: tuple[int, ...], method: str) -> None:
    pixels, valid = terrain((2, 600, 700)), np.random.default_rng(0).random((600, 700)) > 0.2
    on_device = [
        da.from_array(array, chunks=chunks[-array.ndim :]).map_blocks(
            OnDevice, dtype=array.dtype, meta=OnDevice(np.empty((0,) * array.ndim, array.dtype))
        )
        for array in (pixels, valid.view("uint8"))
    ]
    options = GEO | {"blocksize": 128, "overview_resampling": method}
    found = ccog.write_ccog(on_device[0], mask=on_device[1], COG_creation_options=options).compute()
    assert found == ccog.write_ccog(pixels, mask=valid, COG_creation_options=options).compute()
