"""Chunks that are not what their array declares: an error that names the chunk, and never other pixels."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import ccog
from conftest import GEO, gdal_cog, terrain

SMALL: dict[str, Any] = GEO | {"blocksize": 128, "compress": "deflate"}

#: What a chunk that was declared as uint16 may turn out to be, and what is said of it.
WRONG: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "larger": (lambda b: np.concatenate([b, b]), "came; return that shape"),
    "smaller": (lambda b: b[..., :-1], "came; return that shape"),
    "float64": (
        lambda b: b.astype("f8") + 0.5,
        "float64 of shape .* came; declare what comes with dtype='float64'",
    ),
    "NaN": (lambda b: np.full(b.shape, np.nan), "float64 of shape .* came"),
    "of the other byte order": (lambda b: b.astype(b.dtype.newbyteorder()), ">u2 of shape .* came"),
    "bool": (lambda b: b > 0, "bool of shape .* came"),
    "a Python number": (lambda b: 3, "builtins.int came; return a numpy.ndarray"),
    "a NumPy number": (lambda b: b.max(), "numpy.uint16 came; return a numpy.ndarray"),
    "0-D": (lambda b: np.array(3, b.dtype), r"of shape \(\) came"),
    "None": (lambda b: None, "builtins.NoneType came; return a numpy.ndarray"),
    "a list": (lambda b: b.tolist(), "builtins.list came; return a numpy.ndarray"),
    "1-D": (lambda b: b.ravel(), r"of shape \(\d+,\) came"),
    "4-D": (lambda b: b.reshape(1, 1, *b.shape[-2:]), r"of shape \(1, 1, \d+, \d+\) came"),
    "masked": (lambda b: np.ma.masked_less(b, 9000), "MaskedArray came; give nodata="),
    "of objects": (lambda b: b.astype(object), "object of shape .* came"),
    "of another package": (lambda b: xr.DataArray(b), "xarray.core.dataarray.DataArray came"),
}


def declared(
    shape: tuple[int, ...], chunks: int, wrong: Callable[[np.ndarray], Any], dtype: str = "uint16"
) -> da.Array:
    """An array whose chunk of row 1, column 1 is not what it declares."""

    def work(block: np.ndarray, block_id: tuple[int, ...]) -> Any:
        return wrong(block) if block_id[-2:] == (1, 1) else block

    pixels = terrain((1, *shape[-2:]), dtype).reshape(shape)
    lazy = da.from_array(pixels, chunks=(1,) * (len(shape) - 2) + (chunks, chunks))
    return lazy.map_blocks(work, dtype=dtype, meta=np.empty((0,) * len(shape), dtype))


def write(arr: Any, **kwargs: Any) -> Any:
    return ccog.write_ccog(arr, COG_creation_options=SMALL, **kwargs).compute(
        scheduler="threads", num_workers=2
    )


@pytest.mark.tried(
    "chunks that are larger, smaller, of another type or byte order, numbers, None, lists, of other dimensions",
    "refused: the error names the chunk, what was declared and what came",
)
@pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "chunks", [128, 100], ids=["chunks of whole tiles", "chunks that are rechunked"]
)
def test_a_wrong_chunk_of_pixels_is_named(wrong: str, chunks: int) -> None:
    work, says = WRONG[wrong]
    place = rf"chunk \(1, 1\) of the array, pixels \[{chunks}:{2 * chunks}, {chunks}:{2 * chunks}\] \(row, column\)"
    what = (
        "an array without masked pixels"
        if wrong == "masked"
        else rf"uint16 of shape \({chunks}, {chunks}\)"
    )
    with pytest.raises(ccog.ChunkError, match=f"{place}.*{what} was declared, .*{says}") as caught:
        write(declared((300, 400), chunks, work))
    assert isinstance(caught.value, ValueError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.tried(
    "chunks of the mask that are not what it declares",
    "refused: the error names the chunk of the mask",
)
@pytest.mark.parametrize("wrong", [name for name in WRONG if name != "masked"])
@pytest.mark.parametrize(
    "chunks", [128, 100], ids=["chunks of whole tiles", "chunks that are rechunked"]
)
def test_a_wrong_chunk_of_a_mask_is_named(wrong: str, chunks: int) -> None:
    work, says = WRONG[wrong]
    mask = declared((300, 400), chunks, work)
    with pytest.raises(
        ccog.ChunkError, match=rf"chunk \(1, 1\) of the mask, .*uint16 of .* was declared, .*{says}"
    ):
        write(da.ones((300, 400), chunks=128, dtype="uint8"), mask=mask)


@pytest.mark.parametrize("wrong", ["larger", "float64", "1-D", "None"])
def test_axes_are_named_in_the_order_of_the_array(wrong: str) -> None:
    work, says = WRONG[wrong]
    with pytest.raises(
        ccog.ChunkError,
        match=rf"chunk \(0, 1, 1\) .*\[0:1, 128:256, 128:256\] \(band, row, col.*{says}",
    ):
        write(declared((1, 300, 400), 128, work))
    turned = xr.DataArray(declared((400, 300), 128, work), dims=("x", "y"))
    with pytest.raises(
        ccog.ChunkError, match=rf"chunk \(1, 1\) .*\[128:256, 128:256\] \(column, row\).*{says}"
    ):
        write(turned)
    turned = xr.DataArray(declared((1, 400, 300), 128, work), dims=("band", "x", "y"))
    with pytest.raises(
        ccog.ChunkError, match=rf"chunk \(0, 1, 1\) .*\(band, column, row\).*{says}"
    ):
        write(turned)


@pytest.mark.parametrize("wrong", ["larger", "float64", "1-D", "None"])
def test_chunks_of_variables_are_checked_before_they_are_squeezed(wrong: str) -> None:
    work, says = WRONG[wrong]
    good = xr.DataArray(declared((300, 400), 128, lambda block: block), dims=("y", "x"))
    bad = xr.DataArray(declared((1, 300, 400), 128, work), dims=("band", "y", "x"))
    with pytest.raises(ccog.ChunkError, match=rf"chunk \(0, 1, 1\) of the variable b, .*{says}"):
        write(xr.Dataset({"a": good, "b": bad}))


@pytest.mark.parametrize(
    ("dtype", "came"), [("bool", "uint8"), (">u2", "<u2"), ("float32", "float64")]
)
def test_types_that_we_convert_are_checked_first(dtype: str, came: str) -> None:
    arr = da.zeros((300, 400), chunks=128, dtype=dtype)
    wrong = arr.map_blocks(
        lambda block: block.astype(came), dtype=dtype, meta=np.empty((0, 0), dtype)
    )
    with pytest.raises(
        ccog.ChunkError, match=f"{np.dtype(dtype)} of shape .* was declared, {np.dtype(came)} of"
    ):
        write(wrong)


@pytest.mark.parametrize("dtype", ["bool", ">u2", "<u2", ">f4"])
def test_what_is_declared_is_written_whatever_its_byte_order(dtype: str) -> None:
    pixels = terrain((1, 300, 400), "float32" if dtype == ">f4" else "uint16")
    pixels = pixels > 9000 if dtype == "bool" else pixels
    expected = gdal_cog(
        pixels.astype("uint8") if dtype == "bool" else pixels,
        {"blocksize": 128, "compress": "deflate"},
    )
    assert write(da.from_array(pixels.astype(dtype), chunks=(1, 128, 128))) == expected
    assert write(da.from_array(pixels.astype(dtype)[0], chunks=100)) == expected


def test_what_the_error_says_helps() -> None:
    wrong = declared((300, 400), 128, lambda block: block.astype("float64"))
    right = terrain((1, 300, 400))[0]
    assert write(wrong.map_blocks(lambda chunk: chunk.astype("uint16"), dtype="uint16")) == write(
        right
    )


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_subclasses_of_arrays_are_arrays() -> None:
    pixels = terrain((1, 300, 400))[0]
    assert write(np.asmatrix(pixels)) == write(pixels)
    lazy = da.from_array(pixels, chunks=128)
    assert write(
        lazy.map_blocks(np.asmatrix, dtype="uint16", meta=np.empty((0, 0), "uint16"))
    ) == write(pixels)


def test_wrong_chunks_leave_the_target_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a.tif"
    target.write_bytes(b"precious")
    with pytest.raises(ccog.ChunkError):
        write(declared((300, 400), 128, WRONG["larger"][0]), store=target)
    assert target.read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_the_error_comes_back_from_workers(client: Any) -> None:
    delayed = ccog.write_ccog(
        declared((300, 400), 128, WRONG["float64"][0]), COG_creation_options=SMALL
    )
    with pytest.raises(ccog.ChunkError, match=r"chunk \(1, 1\) of the array, .*float64"):
        client.compute(delayed).result()


def test_a_sample_is_checked_too() -> None:
    with pytest.raises(ccog.ChunkError, match="float64"):
        ccog.plan(
            declared((300, 400), 128, WRONG["float64"][0]), COG_creation_options=SMALL, sample=9
        )
