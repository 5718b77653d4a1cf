"""Masked arrays: masked pixels become nodata, or without a nodata value the internal mask; rasterio is the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
from rasterio.io import MemoryFile

import ccog
from conftest import GEO, gdal_cog, terrain

SMALL: dict[str, Any] = {"blocksize": 128, "compress": "deflate", "overview_resampling": "average"}
SHAPE = 2, 300, 400
KINDS: list[tuple[str, Any]] = [
    ("uint8", 0),
    ("uint16", 7),
    ("int16", -32768),
    ("float32", float("nan")),
    ("float64", -9999.0),
    ("bool", 255),
]


def masked(dtype: str = "uint16", shape: tuple[int, int, int] = SHAPE) -> np.ma.MaskedArray:
    """Pixels masked in a corner and here and there, in all bands alike, as odd below the mask as beside it."""
    pixels = terrain(shape, "uint8" if dtype == "bool" else dtype)
    mask = np.random.default_rng(1).random(shape[1:]) < 0.1
    mask[:130, :150] = True
    return np.ma.MaskedArray(
        pixels > 100 if dtype == "bool" else pixels, np.broadcast_to(mask, shape).copy()
    )


def oracle(arr: np.ma.MaskedArray, options: dict[str, Any], nodata: Any = None) -> bytes:
    """What rasterio writes of a masked array: fills with nodata, else ``masked=True``.

    That writes the mask of a single band; of several rasterio hands GDAL their masks where it takes one, and if they
    have NaN for nodata it takes the array's own fill value, since NaN differs from NaN.
    """
    arr = arr.astype("uint8") if arr.dtype == bool else arr
    if nodata is None and len(arr) > 1:
        return gdal_cog(arr.data, options, ~arr.mask[0])
    if nodata is not None and nodata != nodata:
        return gdal_cog(arr.filled(nodata), options, nodata=nodata)
    profile = {
        "count": len(arr),
        "height": arr.shape[1],
        "width": arr.shape[2],
        "dtype": arr.dtype.name,
    }
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        with memory.open(driver="COG", nodata=nodata, **profile, **GEO, **options) as dataset:
            if nodata is None:
                dataset.write(arr[0], 1, masked=True)
            else:
                dataset.write(arr)
        return bytes(memory.read())


def written(arr: Any, *, mask: Any = None, layout: Any = "gdal", **options: Any) -> bytes:
    delayed = ccog.write_ccog(
        arr, mask=mask, COG_creation_options=GEO | SMALL | options, layout=layout
    )
    return bytes(delayed.compute(scheduler="threads", num_workers=2))


def read(data: bytes) -> np.ma.MaskedArray:
    with MemoryFile(data) as memory, memory.open() as dataset:
        return dataset.read(masked=True)


#: Chunks in which a masked array may come, None for one that is not of dask.
CHUNKS = [None, (2, 256, 128), (1, 128, 256), (1, 101, 333)]


@pytest.mark.tried(
    "masked arrays of every type with a nodata value", "right: masked pixels are nodata"
)
@pytest.mark.parametrize(("dtype", "nodata"), KINDS)
def test_masked_pixels_become_nodata(dtype: str, nodata: Any) -> None:
    arr = masked(dtype)
    found = written(da.from_array(arr, chunks=(1, 128, 256)), nodata=nodata)
    assert found == oracle(arr, SMALL, nodata)
    valid = ~arr.mask
    assert np.array_equal(read(found).data[valid], arr.data[valid])


@pytest.mark.tried(
    "masked arrays of every type without a nodata value", "right: their mask is the internal mask"
)
@pytest.mark.parametrize("dtype", [dtype for dtype, _ in KINDS])
def test_without_nodata_the_mask_becomes_the_internal_mask(dtype: str) -> None:
    arr = masked(dtype)
    found = written(da.from_array(arr, chunks=(1, 128, 256)))
    assert found == oracle(arr, SMALL)
    assert np.array_equal(read(found).mask, arr.mask)


@pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize("nodata", [None, 7])
def test_chunks_do_not_change_the_bytes(chunks: Any, nodata: Any) -> None:
    arr = masked()
    given = {} if nodata is None else {"nodata": nodata}
    lazy = arr if chunks is None else da.from_array(arr, chunks=chunks)
    assert written(lazy, **given) == oracle(arr, SMALL, nodata)


@pytest.mark.parametrize("nodata", [None, 7])
@pytest.mark.parametrize("method", ["nearest", "cubic"])
def test_one_band_is_what_rasterio_writes(method: str, nodata: Any) -> None:
    arr = masked(shape=(1, 300, 400))
    options = SMALL | {"overview_resampling": method}
    given = {} if nodata is None else {"nodata": nodata}
    assert written(da.from_array(arr[0], chunks=128), **options, **given) == oracle(
        arr, options, nodata
    )


@pytest.mark.parametrize("nodata", [None, 7])
def test_compression_does_not_change_the_pixels(nodata: Any) -> None:
    arr = masked()
    given = {} if nodata is None else {"nodata": nodata}
    for compress in ("none", "lzw", "zstd"):
        found = written(da.from_array(arr, chunks=(2, 256, 256)), compress=compress, **given)
        assert found == oracle(arr, SMALL | {"compress": compress}, nodata)


@pytest.mark.parametrize("nodata", [None, 7])
def test_tiles_that_lie_chunk_by_chunk(nodata: Any) -> None:
    arr = masked()
    lazy = da.from_array(arr, chunks=(2, 256, 256))
    if nodata is None:
        plain = da.from_array(arr.data, chunks=lazy.chunks)
        assert written(lazy, layout="chunk") == written(plain, mask=~arr.mask[0], layout="chunk")
    else:
        plain = da.from_array(arr.filled(nodata), chunks=lazy.chunks)
        assert written(lazy, layout="chunk", nodata=nodata) == written(
            plain, layout="chunk", nodata=nodata
        )


def test_valid_pixels_that_are_the_nodata_value_stay() -> None:
    arr = masked()
    arr.data[:, 200:260, 200:300] = 7
    assert written(arr, nodata=7) == oracle(arr, SMALL, 7)


def test_every_way_of_masking_with_dask() -> None:
    pixels = terrain(SHAPE)
    hole = pixels[0] < 9000
    holes = da.from_array(np.stack([hole, hole]), chunks=(1, 128, 128))
    lazy = da.from_array(pixels, chunks=(1, 128, 128))
    expected = oracle(np.ma.MaskedArray(pixels, np.stack([hole, hole])), SMALL)
    assert written(da.ma.masked_where(holes, lazy)) == expected
    assert written(da.ma.masked_array(lazy, mask=holes)) == expected
    assert written(da.ma.masked_array(lazy, mask=holes).rechunk((2, 77, 211))) == expected
    assert written(da.map_blocks(np.ma.masked_where, holes, lazy)) == expected
    assert written(da.stack([da.ma.masked_where(holes[0], band) for band in lazy])) == expected


def test_a_masked_array_that_masks_nothing_has_a_mask() -> None:
    pixels = terrain((1, 200, 300))
    assert written(np.ma.asarray(pixels)) == oracle(
        np.ma.MaskedArray(pixels, np.zeros(pixels.shape, bool)), SMALL
    )


def test_plain_chunks_among_masked_ones_are_valid() -> None:
    arr = masked(shape=(1, 256, 256))
    plain = terrain((1, 256, 256), seed=3)
    mixed = da.concatenate(
        [da.from_array(plain, chunks=128), da.from_array(arr, chunks=128)], axis=1
    )
    both = np.ma.concatenate([np.ma.asarray(plain), arr], axis=1)
    assert written(mixed) == oracle(both, SMALL)
    assert written(mixed, nodata=7) == oracle(both, SMALL, 7)


@pytest.mark.tried(
    "bands that are masked differently, without a nodata value", "refused: the file has one mask"
)
def test_bands_that_are_masked_differently_need_nodata() -> None:
    arr = masked()
    arr[0, 280:290, 300:320] = np.ma.masked
    lazy = da.from_array(arr, chunks=(1, 256, 256))
    with pytest.raises(ccog.RasterError, match=r"rows 256:300, columns 256:400.*nodata="):
        written(lazy)
    assert written(lazy, nodata=7) == oracle(arr, SMALL, 7)


@pytest.mark.tried(
    "an array that is masked and has mask= too", "right: valid is what both call valid"
)
def test_a_mask_besides_a_masked_array() -> None:
    arr, mask = masked(), np.ones(SHAPE[1:], "uint8")
    mask[250:, 300:] = 0
    lazy = da.from_array(arr, chunks=(2, 256, 256))
    assert written(lazy, mask=da.from_array(mask, chunks=100)) == gdal_cog(
        arr.data, SMALL, (mask != 0) & ~arr.mask[0]
    )
    assert written(lazy, mask=mask, nodata=7) == gdal_cog(arr.filled(7), SMALL, mask != 0, nodata=7)


@pytest.mark.parametrize("chunks", [128, 100])
def test_masked_and_nan_entries_of_a_mask_are_invalid(chunks: int) -> None:
    pixels, hidden = terrain((1, 300, 400)), masked(shape=(1, 300, 400)).mask[0]
    mask = np.ma.MaskedArray(np.ones((300, 400), "uint8"), hidden)
    expected = gdal_cog(pixels, SMALL, ~hidden)
    assert written(pixels, mask=mask) == expected
    assert written(pixels, mask=da.from_array(mask, chunks=chunks)) == expected
    assert written(pixels, mask=da.from_array(mask[np.newaxis], chunks=chunks)) == expected
    assert (
        written(pixels, mask=xr.DataArray(mask, dims=("y", "x"))) == expected
    )  # which makes them NaN


@pytest.mark.tried(
    "chunks that are masked though the array does not say so", "refused, or with nodata right"
)
def test_masks_that_the_array_does_not_declare() -> None:
    arr = masked()
    plain = da.from_array(arr.data, chunks=(1, 128, 128))
    surprise = plain.map_blocks(
        lambda block: np.ma.masked_less(block, 9000),
        dtype="uint16",
        meta=np.empty((0, 0, 0), "uint16"),
    )
    with pytest.raises(
        ccog.ChunkError, match=r"chunk \(\d, \d, \d\) of the array.*MaskedArray came; give nodata="
    ):
        written(surprise)
    assert written(surprise, nodata=7) == oracle(np.ma.masked_less(arr.data, 9000), SMALL, 7)
    # what the message says
    same = np.ma.MaskedArray(arr.data, np.stack([arr.data[0] < 9000] * 2))
    lost = da.from_array(same, chunks=(2, 128, 128)).map_blocks(
        lambda b: b, meta=np.empty((0, 0, 0), "uint16")
    )
    assert written(lost.map_blocks(np.ma.asarray)) == oracle(same, SMALL)


@pytest.mark.parametrize("lazy", [False, True])
def test_xarray_makes_nan_of_masked_pixels(lazy: bool) -> None:
    """That is what it does before we see them; the transposed and squeezed ones are checked like others."""
    arr = masked("float32")
    found = xr.DataArray(
        da.from_array(arr, chunks=(1, 128, 256)) if lazy else arr, dims=("band", "y", "x")
    )
    nan = float("nan")
    expected = gdal_cog(arr.filled(nan), SMALL, nodata=nan)
    assert written(found, nodata=nan) == expected
    assert written(found.transpose("x", "y", "band"), nodata=nan) == expected
    ds = xr.Dataset({"a": found[0], "b": found[1:2].rename(band="one")})
    names = {"descriptions": ("a", "b")}
    assert written(ds, nodata=nan) == gdal_cog(arr.filled(nan), SMALL, None, names, nodata=nan)


def test_alpha_of_a_masked_array_cannot_become_the_mask_of_jpeg() -> None:
    arr = masked("uint8")
    with pytest.raises(ccog.RasterError, match="alpha band, and JPEG keeps one mask"):
        written(arr, compress="jpeg", colorinterp=["gray", "alpha"])


def test_nothing_is_computed_before_the_write() -> None:
    def never(block: Any) -> Any:
        assert not block.size, "a chunk was computed"
        return block

    lazy = da.from_array(masked(), chunks=(1, 128, 128)).map_blocks(never, dtype="uint16")
    plan = ccog.plan(lazy, COG_creation_options=SMALL)
    assert plan.has_mask
    assert not ccog.plan(lazy, COG_creation_options=SMALL | {"nodata": 7}).has_mask
    assert ccog.write_ccog(lazy, COG_creation_options=SMALL).key


def test_a_plan_compresses_a_sample() -> None:
    lazy = da.from_array(masked(), chunks=(1, 128, 128))
    assert ccog.plan(lazy, COG_creation_options=SMALL, sample=3).sample == 3


def test_workers_write_masked_arrays(client: Any) -> None:
    arr = masked()
    delayed = ccog.write_ccog(
        da.from_array(arr, chunks=(1, 128, 256)), COG_creation_options=GEO | SMALL
    )
    assert client.compute(delayed).result() == oracle(arr, SMALL)


@pytest.mark.tried(
    "resuming a write of a masked array with other masked pixels", "refused: it is another write"
)
def test_other_masked_pixels_are_another_write(tmp_path: Path) -> None:
    def failing(block: Any, block_id: Any) -> Any:
        if block_id == (15, 0):
            raise RuntimeError("not now")
        return block

    arr, target, mask = (
        masked(shape=(2, 2048, 128)),
        tmp_path / "a.tif",
        da.ones((2048, 128), chunks=128),
    )
    lost = mask.map_blocks(failing, meta=np.empty((0, 0)), name="mask")
    found = mask.map_blocks(lambda block: block, meta=np.empty((0, 0)), name="mask")
    given: dict[str, Any] = {"COG_creation_options": GEO | SMALL, "resume": True}
    with pytest.raises(RuntimeError, match="not now"):
        ccog.write_ccog(arr, target, mask=lost, **given).compute(scheduler="sync")
    other = arr.copy()
    other[:, 2047, 127] = np.ma.masked
    with pytest.raises(ccog.ResumeError, match="the array differs"):
        ccog.write_ccog(other, target, mask=found, **given)
    ccog.write_ccog(arr.copy(), target, mask=found, **given).compute(scheduler="sync")
    assert target.read_bytes() == oracle(arr, SMALL)


@pytest.mark.skipif(
    not rasterio.dtypes.check_dtype("float16"), reason="rasterio has no such type before GDAL 3.11"
)
def test_half_floats_need_a_nodata_value_that_is_one() -> None:
    arr = masked("float16", (1, 300, 400))
    with pytest.raises(
        ccog.OptionError, match=r"nodata=-9999 is not a float16, so masked pixels would be -10000.0"
    ):
        written(arr, nodata=-9999)
    assert written(arr, nodata=-10000) == oracle(arr, SMALL, -10000)
    assert written(arr) == oracle(arr, SMALL)


@pytest.mark.tried(
    "a DataArray as mask=, with the dimensions (x, y)", "right: it is turned as its names say"
)
def test_a_mask_of_named_dimensions_is_turned_to_rows_and_columns() -> None:
    pixels = terrain((1, 128, 128))
    valid = np.tri(128, dtype=bool)
    turned = xr.DataArray(valid.T, dims=("x", "y"))
    file = ccog.write_ccog(pixels, mask=turned, COG_creation_options=GEO).compute()
    assert file == gdal_cog(pixels, mask=valid)
