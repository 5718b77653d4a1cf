"""What xarray users store with their arrays reaches the file as GDAL would write it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
from rasterio.control import GroundControlPoint
from rasterio.io import MemoryFile

import ccog
from ccog import errors
from conftest import GEO, gdal_cog, terrain

PIXELS = terrain((2, 300, 260), "int16")


def georeferenced(pixels: np.ndarray = PIXELS, **attrs: Any) -> xr.DataArray:
    dims = ("band", "y", "x")[-pixels.ndim :]
    array = xr.DataArray(pixels, dims=dims, attrs=attrs)
    return array.rio.write_crs(GEO["crs"]).rio.write_transform(GEO["transform"])


def written(array: Any, **options: Any) -> bytes:
    return bytes(ccog.write_ccog(array, COG_creation_options=options).compute())


@pytest.mark.parametrize(
    ("attrs", "describe"),
    [
        ({"long_name": "height"}, {"descriptions": ["height", "height"]}),
        ({"long_name": ("red", "green")}, {"descriptions": ["red", "green"]}),
        ({"units": "m"}, {"units": ["m", "m"]}),
        (
            {"scale_factor": 0.1, "add_offset": np.float64(5)},
            {"scales": [0.1, 0.1], "offsets": [5.0, 5.0]},
        ),
        (
            {"scales": (0.5, 2.0), "offsets": [1.0, 2.0]},
            {"scales": [0.5, 2.0], "offsets": [1.0, 2.0]},
        ),
        ({"AREA_OR_POINT": "Area"}, {}),
        ({"AREA_OR_POINT": "Point"}, {"update_tags": {0: {"AREA_OR_POINT": "Point"}}}),
        (
            {"source": "a & b", "level": 3, "history": [1, 2]},
            {"update_tags": {0: {"source": "a & b", "level": "3"}}},
        ),
    ],
    ids=str,
)
def test_attributes_of_xarray_become_metadata(
    attrs: dict[str, Any], describe: dict[str, Any]
) -> None:
    assert written(georeferenced(**attrs)) == gdal_cog(PIXELS, describe=describe)


def test_fill_value_is_nodata() -> None:
    assert written(georeferenced(_FillValue=np.int16(-1))) == gdal_cog(PIXELS, nodata=-1)
    assert written(georeferenced().rio.write_nodata(-1)) == gdal_cog(PIXELS, nodata=-1)


def test_text_of_the_band_coordinate_becomes_descriptions() -> None:
    array = georeferenced(long_name="reflectance").assign_coords(band=["B02", "B03"])
    assert written(array) == gdal_cog(PIXELS, describe={"descriptions": ["B02", "B03"]})
    numbered = georeferenced().assign_coords(band=[1, 2])
    assert written(numbered) == gdal_cog(PIXELS)


def test_dataset_variables_are_bands() -> None:
    dataset = xr.Dataset(
        {"dem": georeferenced(PIXELS[0], units="m"), "slope": georeferenced(PIXELS[1], method="x")}
    )
    dataset.attrs["title"] = "both"
    describe = {
        "descriptions": ["dem", "slope"],
        "units": ["m", ""],
        "update_tags": {0: {"title": "both"}, 2: {"method": "x"}},
    }
    assert written(dataset.chunk({"x": 100})) == gdal_cog(PIXELS, describe=describe)


def test_a_dataset_of_two_nodata_values_is_refused() -> None:
    dataset = xr.Dataset({k: georeferenced(PIXELS[0]).rio.write_nodata(k == "a") for k in "ab"})
    with pytest.raises(errors.RasterError, match="nodata values"):
        ccog.write_ccog(dataset)


def test_an_attribute_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(errors.RasterError, match="3 entries for 2 bands"):
        ccog.write_ccog(georeferenced(long_name=["a", "b", "c"]))


def test_ground_control_points_of_rioxarray_are_written() -> None:
    points = [
        GroundControlPoint(r, c, 10 + c / 900, 50 - r / 900)
        for r, c in ((0, 0), (0, 260), (300, 0))
    ]
    array = xr.DataArray(PIXELS, dims=("band", "y", "x")).rio.write_gcps(points, "EPSG:4326")
    with MemoryFile(written(array)) as memory, memory.open() as dataset:
        found, crs = dataset.gcps
        assert crs.to_epsg() == 4326
        assert [(p.row, p.col, p.x, p.y) for p in found] == [
            (p.row, p.col, p.x, p.y) for p in points
        ]


def test_a_raster_on_the_grid_of_a_tiling_scheme() -> None:
    pixel, half = 156543.03392804097 / 1024, 20037508.342789244
    transform = rasterio.Affine(
        pixel, 0, 17 * 256 * pixel - half, 0, -pixel, half - 16 * 256 * pixel
    )
    pixels, options = terrain((1, 512, 768), "uint8"), {"tiling_scheme": "GoogleMapsCompatible"}
    place = {"crs": "EPSG:3857", "transform": transform}
    assert written(pixels, **options, **place) == gdal_cog(pixels, options, **place)
    shifted = place | {"transform": transform * rasterio.Affine.translation(1, 0)}
    with pytest.raises(errors.ReprojectionError, match="512 x 1024 pixels"):
        ccog.write_ccog(pixels, COG_creation_options=options | shifted)


def test_complex_integers_are_stored_as_such() -> None:
    pixels = (terrain((1, 300, 300), "complex64") * 500).round().astype("complex64")
    data = written(
        pixels, dtype="complex_int16", overview_resampling="average", blocksize=128, **GEO
    )
    with MemoryFile(data) as memory, memory.open() as dataset:
        assert dataset.dtypes == ("complex_int16",)
        assert np.array_equal(dataset.read(), pixels)
    with pytest.raises(errors.DtypeError, match="complex64"):
        ccog.write_ccog(PIXELS, COG_creation_options={"dtype": "complex_int16"})
