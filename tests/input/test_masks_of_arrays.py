"""A mask with coordinates is laid on the array by them."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from rasterio.io import MemoryFile

import ccog
from conftest import terrain

GRID = Affine(10, 0, 5e5, 0, -10, 6e6)
VALID = np.random.default_rng(22).random((60, 70)) > 0.4


def array() -> xr.DataArray:
    return wrap_xr(terrain((1, 60, 70))[0], GeoBox((60, 70), GRID, "EPSG:32755"))


def mask_of_file(arr: Any, mask: Any) -> Any:
    with MemoryFile(ccog.write_ccog(arr, mask=mask, compute=True)) as memory, memory.open() as file:
        return file.dataset_mask() > 0


@pytest.fixture(params=["NumPy", "dask"])
def mask(request: Any) -> xr.DataArray:
    values = VALID if request.param == "NumPy" else da.from_array(VALID, chunks=32)
    return xr.DataArray(values, dims=("y", "x"), coords={k: array()[k] for k in "yx"})


@pytest.mark.tried("a mask whose coordinates are in another order", "laid on the array by them")
def test_a_mask_in_another_order_is_laid_on_by_its_coordinates(mask: xr.DataArray) -> None:
    shuffled = np.random.default_rng(1).permutation(60)
    others = [
        mask,
        mask[::-1],
        mask[:, ::-1].T,
        mask[shuffled],
        mask.expand_dims(band=1),
        mask.rename(y="lat", x="lon")[::-1],
        mask[::-1].assign_coords(y=mask.y[::-1].astype("float32")),
    ]
    for other in others:
        assert (mask_of_file(array(), other) == VALID).all()
    bands = array().expand_dims(band=2)
    assert (mask_of_file(bands, mask[::-1]) == VALID).all()
    assert (mask_of_file(xr.Dataset({"a": array(), "b": array()}), mask[::-1]) == VALID).all()
    assert (mask_of_file(array()[::-1], mask) == VALID[::-1]).all()


@pytest.mark.tried("a mask with other coordinates", "refused")
def test_a_mask_of_another_place_is_refused(mask: xr.DataArray) -> None:
    others = [
        mask.assign_coords(x=mask.x + 10),
        mask.assign_coords(x=mask.x + 2),
        mask[1:],
        mask.isel(y=[0, *range(59)]),
        mask.assign_coords(y=[f"row {n}" for n in range(60)]),
    ]
    for other in others:
        with pytest.raises(ccog.RasterError, match=r"mask has other coordinates along [yx]"):
            ccog.write_ccog(array(), mask=other)
    with pytest.raises(ccog.RasterError, match="give one of its variables"):
        ccog.write_ccog(array(), mask=mask.to_dataset(name="valid"))


def test_a_mask_without_coordinates_is_laid_on_by_position(mask: xr.DataArray) -> None:
    for other in (mask.drop_vars(["y", "x"]), mask.values, mask.data):
        assert (mask_of_file(array(), other) == VALID).all()
    assert (mask_of_file(terrain((1, 60, 70)), mask[::-1]) == VALID[::-1]).all()


@pytest.mark.parametrize("angle", [30, 90])
def test_a_mask_of_a_turned_array_is_laid_on_by_its_coordinates(angle: float) -> None:
    turned = wrap_xr(VALID, GeoBox((60, 70), GRID * Affine.rotation(angle), "EPSG:32755"))
    arr = turned.astype("uint8")
    assert (mask_of_file(arr, turned[::-1]) == VALID).all()
    with pytest.raises(ccog.RasterError, match="other coordinates along y"):
        ccog.write_ccog(arr[10:40], mask=turned[:30])
    # as rioxarray opens it
    columns, rows = np.meshgrid(np.arange(70) + 0.5, np.arange(60) + 0.5)
    transform = GRID * Affine.rotation(angle)
    x = transform.a * columns + transform.b * rows + transform.c
    y = transform.d * columns + transform.e * rows + transform.f
    mesh = xr.DataArray(
        VALID, dims=("y", "x"), coords={"xc": (("y", "x"), x), "yc": (("y", "x"), y)}
    )
    for part in (mesh, mesh[::-1], mesh[:, ::-1], mesh[::-1, ::-1].T):
        assert (mask_of_file(mesh.astype("uint8"), part) == VALID).all()
    with pytest.raises(ccog.RasterError, match="mask has other coordinates"):
        ccog.write_ccog(mesh.astype("uint8")[10:40], mask=mesh[:30])
