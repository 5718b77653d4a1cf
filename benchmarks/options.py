"""What compression and block size cost: python benchmarks/options.py [SIZE=8192] [RUNS=3], for docs/tables/.

A terrain with some noise is written from memory on two threads and read back by GDAL on two threads; the tables are
written to docs/tables/compression.md and docs/tables/blocksize.md.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import rasterio

import ccog
from ccog import demo

THREADS = 2
TABLES = Path(__file__).resolve().parents[1] / "docs" / "tables"
COMPRESSIONS: dict[str, dict[str, Any]] = {
    "none": {"compress": "none"},
    "lzw (default)": {},
    "lzw, predictor": {"compress": "lzw", "predictor": "yes"},
    "deflate 6, predictor": {"compress": "deflate", "predictor": "yes"},
    "deflate 9, predictor": {"compress": "deflate", "level": 9, "predictor": "yes"},
    "zstd 9": {"compress": "zstd"},
    "zstd 1, predictor": {"compress": "zstd", "level": 1, "predictor": "yes"},
    "zstd 9, predictor": {"compress": "zstd", "predictor": "yes"},
    "zstd 19, predictor": {"compress": "zstd", "level": 19, "predictor": "yes"},
    "lerc_zstd, lossless": {"compress": "lerc_zstd"},
}
BLOCKSIZES = (128, 256, 512, 1024, 2048)


def median(work: Callable[[], Any], runs: int) -> float:
    seconds = []
    for _ in range(runs):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds)


def read(data: bytes) -> None:
    with rasterio.MemoryFile(data) as file, file.open(num_threads=THREADS) as dataset:
        dataset.read()


def written(pixels: da.Array, runs: int, **options: Any) -> tuple[bytes, float]:
    """The file, and the seconds of CPU it takes to make."""
    writer = [b""]

    def write() -> None:
        writer[0] = ccog.write_ccog(pixels, COG_creation_options=options).compute()

    seconds = median(write, runs)
    return writer[0], seconds


def compressions(pixels: da.Array, runs: int) -> str:
    rows = [
        "| compression | size, MB | of the pixels | write, CPU s | read, CPU s |",
        "|---|---|---|---|---|",
    ]
    for name, options in COMPRESSIONS.items():
        data, seconds = written(pixels, runs, overview_resampling="average", **options)
        reading = median(lambda data=data: read(data), runs)  # type: ignore[misc]
        rows.append(
            f"| {name} | {len(data) / 1e6:.1f} | {len(data) / pixels.nbytes:.0%} | {seconds:.2f} | {reading:.2f} |"
        )
    return "\n".join(rows)


def blocksizes(pixels: da.Array, runs: int) -> str:
    rows = [
        "| block size | size, MB | header, kB | write, CPU s | one tile, kB | tiles for 1000 x 1000 pixels |",
        "|---" * 6 + "|",
    ]
    for side in BLOCKSIZES:
        options = {
            "compress": "zstd",
            "predictor": "yes",
            "overview_resampling": "average",
            "blocksize": side,
        }
        data, seconds = written(pixels, runs, **options)
        found = ccog.inspect(data)
        tile = found.levels[0].size / found.levels[0].stored
        most = (-(-999 // side) + 1) ** 2
        rows.append(
            f"| {side} | {len(data) / 1e6:.1f} | {found.header_size / 1e3:.1f} | {seconds:.2f} | {tile / 1e3:.0f} | "
            f"{(-(-1000 // side)) ** 2} to {most} |"
        )
    return "\n".join(rows)


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 8192
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    warnings.simplefilter("ignore")
    dask.config.set(scheduler="threads", num_workers=THREADS)
    elevation = demo.terrain(size).compute()
    noise = np.random.default_rng(0).normal(0, 4, elevation.shape)
    pixels = da.from_array(np.clip(elevation + noise, 0, 65535).astype("uint16"), chunks=2048)
    what = f"{size} x {size} uint16 terrain, {pixels.nbytes / 1e6:.0f} MB"
    about = f"\n\n{what}, two threads, GDAL {rasterio.__gdal_version__}.\n"
    TABLES.mkdir(exist_ok=True)
    (TABLES / "compression.md").write_text(compressions(pixels, runs) + about)
    (TABLES / "blocksize.md").write_text(blocksizes(pixels, runs) + about)


if __name__ == "__main__":
    main()
