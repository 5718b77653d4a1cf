"""Chunks in any order of memory give the same file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest

import ccog
from conftest import GEO, gdal_cog, terrain

SIDE = 1024
PIXELS = terrain((3, 2 * SIDE, 2 * SIDE), "uint16")[:, :SIDE, :SIDE]


def lazy(chunk: np.ndarray) -> da.Array:
    """Two by two of this very chunk: ``from_array`` would copy it in C order."""
    sizes = (*((n,) for n in chunk.shape[:-2]), (SIDE, SIDE), (SIDE, SIDE))
    meta = np.empty((0,) * chunk.ndim, chunk.dtype)
    return da.map_blocks(lambda: chunk, chunks=sizes, dtype=chunk.dtype, meta=meta)


def whole(chunk: np.ndarray) -> np.ndarray:
    return np.tile(chunk, (*(1 for _ in chunk.shape[:-2]), 2, 2))


def every_other(pixels: np.ndarray) -> np.ndarray:
    wide = np.zeros((*pixels.shape[:-1], 2 * pixels.shape[-1]), pixels.dtype)
    wide[..., ::2] = pixels
    return wide[..., ::2]


def read_only(pixels: np.ndarray) -> np.ndarray:
    pixels = pixels.copy()
    pixels.flags.writeable = False
    return pixels


ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Fortran order": np.asfortranarray,
    "bands last": lambda pixels: np.moveaxis(np.moveaxis(pixels, 0, -1).copy(), -1, 0),
    "rows backwards": lambda pixels: pixels[:, ::-1].copy()[:, ::-1],
    "columns backwards": lambda pixels: pixels[..., ::-1].copy()[..., ::-1],
    "every other pixel": every_other,
    "big-endian": lambda pixels: pixels.astype(">u2"),
    "read-only": read_only,
    "one row that repeats": lambda pixels: np.broadcast_to(pixels[:, :1], pixels.shape),
    "one column that repeats": lambda pixels: np.broadcast_to(pixels[:, :, :1], pixels.shape),
    "one band that repeats": lambda pixels: np.broadcast_to(pixels[:1], pixels.shape),
    "one pixel that repeats": lambda pixels: np.broadcast_to(pixels[:1, :1, :1], pixels.shape),
}


@pytest.mark.parametrize("kernel", ["average", pytest.param("cubic", marks=pytest.mark.slow)])
@pytest.mark.parametrize("order", list(ORDERS))
def test_chunks_in_any_order_of_memory_give_gdals_file(order: str, kernel: str) -> None:
    chunk = ORDERS[order](PIXELS)
    options: dict[str, Any] = {"compress": "zstd", "overview_resampling": kernel}
    data = ccog.write_ccog(lazy(chunk), COG_creation_options=GEO | options).compute()
    native = np.ascontiguousarray(chunk).astype("uint16")
    assert data == gdal_cog(whole(native), options)


@pytest.mark.parametrize("order", ["Fortran order", "one row that repeats"])
def test_masks_in_any_order_of_memory_give_gdals_file(order: str) -> None:
    mask = ORDERS[order](PIXELS[:1] % 3 > 0)[0]
    options: dict[str, Any] = {"compress": "zstd", "overview_resampling": "average"}
    pixels = np.ascontiguousarray(PIXELS[:1])
    array = lazy(pixels)
    data = ccog.write_ccog(array, mask=lazy(mask), COG_creation_options=GEO | options).compute()
    assert data == gdal_cog(whole(pixels), options, mask=whole(mask))
