"""NumPy arrays, and arrays in one chunk: they are cut, so that all threads work."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import ccog
from ccog.tasks import blocks
from conftest import GEO, gdal_cog, terrain

OPTIONS: dict[str, Any] = {"compress": "deflate"}
PIXELS = terrain((1, 2600, 3100), "uint16")


def in_one_chunk(pixels: np.ndarray) -> dict[str, Any]:
    return {
        "numpy": pixels,
        "dask": da.from_array(pixels, chunks=-1),
        "bands apart": da.from_array(pixels, chunks=(1, -1, -1)),
        "xarray": xr.DataArray(pixels, dims=("band", "y", "x")),
        "bands last": xr.DataArray(np.moveaxis(pixels, 0, -1), dims=("y", "x", "band")),
    }


@pytest.mark.parametrize("kind", list(in_one_chunk(PIXELS)))
def test_several_blocks_are_encoded_and_the_bytes_are_gdals(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    areas: list[Any] = []
    encode = blocks.encode_block

    def counted(pixels: np.ndarray, *args: Any) -> Any:
        areas.append(pixels.shape)
        return encode(pixels, *args)

    monkeypatch.setattr(blocks, "encode_block", counted)
    data = ccog.write_ccog(
        in_one_chunk(PIXELS)[kind], COG_creation_options={**GEO, **OPTIONS}
    ).compute()
    assert data == gdal_cog(PIXELS, OPTIONS)
    assert len(areas) > 12


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("blocksize", [256, 768, 2048])
def test_no_chunk_of_a_numpy_array_is_complained_of(blocksize: int) -> None:
    options = {**OPTIONS, "blocksize": blocksize}
    assert ccog.plan(PIXELS, COG_creation_options={**GEO, **options}).warnings == ()
    data = ccog.write_ccog(PIXELS, COG_creation_options={**GEO, **options}).compute()
    assert data == gdal_cog(PIXELS, options)


def test_what_is_changed_before_the_write_is_computed_stays_out_of_it() -> None:
    pixels = PIXELS.copy()
    delayed = ccog.write_ccog(pixels, COG_creation_options={**GEO, **OPTIONS})
    pixels[:] = 0
    assert delayed.compute() == gdal_cog(PIXELS, OPTIONS)


def test_tiles_lie_as_before_where_they_lie_by_chunk() -> None:
    numpy = ccog.write_ccog(PIXELS, layout="chunk").compute()
    assert numpy == ccog.write_ccog(da.from_array(PIXELS, chunks=-1), layout="chunk").compute()


def test_small_arrays_stay_whole() -> None:
    assert ccog.plan(PIXELS[:, :1000, :1000]).levels[0].blocks == (1, 1)
