"""CPU time by the memory order of chunks: python benchmarks/memory_order.py [RUNS=3] [CASE...].

Every chunk holds the same pixels. "C" is what NumPy makes; other libraries and transposed arrays
give others. Each case runs in a fresh process, in turns with "C".
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import warnings
from collections.abc import Callable
from os import times

import dask
import dask.array as da
import numpy as np
from common import in_fresh_process, terrain

import ccog

SIZE, CHUNK, THREADS = 8192, 2048, 2


def strided(pixels: np.ndarray) -> np.ndarray:
    wide = np.empty((pixels.shape[0], 2 * pixels.shape[1]), pixels.dtype)
    wide[:, ::2] = pixels
    return wide[:, ::2]


def read_only(pixels: np.ndarray) -> np.ndarray:
    pixels = pixels.copy()
    pixels.flags.writeable = False
    return pixels


ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "reversed": lambda pixels: np.ascontiguousarray(pixels[::-1, ::-1])[::-1, ::-1],
    "strided": strided,
    "big-endian": lambda pixels: pixels.astype(">u2"),
    "read-only": read_only,
}


def as_they_are(chunks: dict[tuple[int, ...], np.ndarray], sides: tuple[int, ...]) -> da.Array:
    """A lazy array whose chunks are these very arrays: ``from_array`` would copy them in C order."""
    shape = tuple(sides)
    sizes = tuple((min(CHUNK, side),) * max(1, side // CHUNK) for side in shape)

    def pick(block_id: tuple[int, ...]) -> np.ndarray:
        return chunks[block_id]

    some = next(iter(chunks.values()))
    meta = np.empty((0,) * len(shape), some.dtype)
    return da.map_blocks(pick, chunks=sizes, dtype=some.dtype, meta=meta)


def gray(order: str) -> da.Array:
    pixels = terrain(SIZE)
    count = SIZE // CHUNK
    chunks = {
        (i, j): ORDERS[order](pixels[i * CHUNK : (i + 1) * CHUNK, j * CHUNK : (j + 1) * CHUNK])
        for i, j in itertools.product(range(count), range(count))
    }
    return as_they_are(chunks, pixels.shape)


def row_wise(order: str) -> da.Array:
    """Every row the same, in memory once or as often."""
    row = terrain(SIZE)[:1, :CHUNK]
    chunk = np.broadcast_to(row, (CHUNK, CHUNK))
    chunk = chunk if order == "broadcast" else np.ascontiguousarray(chunk)
    count = SIZE // CHUNK
    chunks = dict.fromkeys(itertools.product(range(count), range(count)), chunk)
    return as_they_are(chunks, (SIZE, SIZE))


def images(order: str) -> da.Array:
    """Three bands, in memory one after the other or pixel by pixel."""
    waves = (terrain(CHUNK) >> 8).astype("uint8")
    bands = np.stack([waves, waves[::-1], waves[:, ::-1]])
    if order == "bands last":
        bands = np.ascontiguousarray(bands.transpose(1, 2, 0)).transpose(2, 0, 1)
    count = SIZE // CHUNK
    places = itertools.product(range(1), range(count), range(count))
    return as_they_are(dict.fromkeys(places, bands), (3, SIZE, SIZE))


CASES: dict[str, tuple[Callable[[str], da.Array], str, str]] = {
    **{order: (gray, order, "C") for order in ORDERS if order != "C"},
    "broadcast": (row_wise, "broadcast", "C"),
    "bands last": (images, "bands last", "C"),
}


def run_one(name: str, order: str) -> None:
    warnings.simplefilter("ignore")
    dask.config.set(num_workers=THREADS)
    make = CASES[name][0]
    array = make(order)
    options = {"compress": "deflate", "predictor": "yes", "overview_resampling": "average"}
    if name == "bands last":
        options = {"compress": "jpeg"}
    before = times()
    ccog.write_ccog(array, COG_creation_options=options).compute()
    after = times()
    print(json.dumps(sum(after[:2]) - sum(before[:2])))


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        run_one(*sys.argv[2:])
        return
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print("| chunks are | CPU s | in C order | ratio |\n|---|---|---|---|")
    for name in sys.argv[2:] or CASES:
        _, *orders = CASES[name]
        seconds = {order: [] for order in orders}
        for _ in range(runs):
            for order in orders:
                seconds[order].append(in_fresh_process(__file__, "one", name, order))
        theirs, plain = (statistics.median(seconds[order]) for order in orders)
        print(f"| {name} | {theirs:.2f} | {plain:.2f} | {theirs / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
