"""Cost of STATISTICS=YES, and how near GDAL it comes: python benchmarks/band_statistics.py [SIZE=10000] [RUNS=3]."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import rasterio
from common import measure

import ccog

NAMES = ("MINIMUM", "MAXIMUM", "MEAN", "STDDEV")


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    dask.config.set(scheduler="threads", num_workers=2)
    pixels = (np.random.default_rng(0).normal(0, 30, (size, size)) + 1e6).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"

        def write(statistics: str) -> None:
            options: dict[str, Any] = {
                "compress": "deflate",
                "predictor": "yes",
                "statistics": statistics,
            }
            options |= {"overview_resampling": "average"}
            ccog.write_ccog(
                da.from_array(pixels, chunks=2048, name=False), path, COG_creation_options=options
            ).compute()

        without, with_them = (
            measure(lambda wanted=wanted: write(wanted), runs) for wanted in ("no", "yes")
        )
        with rasterio.open(path) as dataset:
            ours = {name: float(dataset.tags(1)[f"STATISTICS_{name}"]) for name in NAMES}
        with rasterio.open(path) as dataset:
            found = dataset.statistics(1, approx=False, clear_cache=True)
    theirs = dict(zip(NAMES, (found.min, found.max, found.mean, found.std), strict=True))
    print(f"{size} x {size} float32: {without[0]:.2f} s ({without[1]:.2f} CPU) without, {with_them[0]:.2f} s "
          f"({with_them[1]:.2f} CPU) with statistics: {100 * (with_them[1] / without[1] - 1):.1f} % CPU")  # fmt: skip
    for name in NAMES:
        print(
            f"{name}: {ours[name]!r}, GDAL {theirs[name]!r}, relative {abs(ours[name] / theirs[name] - 1):.1e}"
        )


if __name__ == "__main__":
    main()
