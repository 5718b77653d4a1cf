"""Jobs that took people days, or that they gave up, in miniature: python benchmarks/unfinished.py [SHARE=1], for docs/tables/.

Each has the shape and type that was told, with sides divided by its scale times SHARE. A GeoTIFF of such pixels is made
first; then ccog and GDAL's COG driver (CreateCopy, as ``gdal_translate -of COG``) make a COG of it, each in a process
of its own with two threads. The files are compared byte for byte.
"""

from __future__ import annotations

import filecmp
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from common import in_fresh_process, peak_memory
from rasterio.windows import Window

import ccog

THREADS = 2
STRIP = 1024
ISSUE = "https://github.com/OSGeo/gdal/issues"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A raster, how it is to be written, and what became of it elsewhere."""

    name: str
    told: str
    shape: tuple[int, int]
    scale: int
    dtype: str
    count: int = 1
    masked: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def size(self, share: int) -> tuple[int, int]:
        height, width = (side // (self.scale * share) for side in self.shape)
        return height, width

    def times(self, share: int) -> int:
        """How many times as many pixels the original has."""
        return (self.scale * share) ** 2


JOBS = (
    Job(
        name="world at 30 m, 1,296,000 x 525,000 int32, deflate level 9",
        told=f"[72 hours](<{ISSUE}/7303>): 4 for a VRT, 28 for a GeoTIFF, 40 for the COG, 8 threads",
        shape=(525_000, 1_296_000),
        scale=64,
        dtype="int32",
        options={"compress": "deflate", "level": 9, "blocksize": 1024, "bigtiff": "yes"},
    ),
    Job(
        name="elevation, 52,000 x 52,000 float32, zstd",
        told="given up after 4 hours on 4 cores",
        shape=(52_000, 52_000),
        scale=4,
        dtype="float32",
        options={"compress": "zstd", "predictor": "yes", "overview_resampling": "average"},
    ),
    Job(
        name="aerial mosaic, 519,398 x 915,156 RGB with a mask, JPEG",
        told=f"[3 days](<{ISSUE}/1442>), 5 % of the overviews",
        shape=(915_156, 519_398),
        scale=32,
        dtype="uint8",
        count=3,
        masked=True,
        options={
            "compress": "jpeg",
            "quality": 85,
            "overview_resampling": "average",
            "bigtiff": "yes",
        },
    ),
)


def pixels_of(job: Job, top: int, height: int, width: int) -> np.ndarray:
    """Rows of smooth pixels with a little noise, (band, y, x)."""
    rng = np.random.default_rng(top)
    y = np.arange(top, top + height, dtype="float32")[:, None]
    x = np.arange(width, dtype="float32")[None, :]
    amplitude = 50 if job.dtype == "uint8" else 900
    smooth = (np.sin(x / 701) + np.cos(y / 503) + 2) * amplitude
    bands = [
        smooth + 5 * band + rng.integers(0, 8, (height, width), "uint8")
        for band in range(job.count)
    ]
    return np.stack(bands).astype(job.dtype)


def make(job: Job, share: int, path: Path) -> None:
    """The GeoTIFF that there is before; a mask leaves a circle valid."""
    height, width = job.size(share)
    profile = {"driver": "GTiff", "count": job.count, "height": height, "width": width, "dtype": job.dtype,
               "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd", "zstd_level": 1,
               "bigtiff": "yes", "num_threads": THREADS, "crs": "EPSG:32755",
               "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 6e6)}  # fmt: skip
    if job.count == 3:
        profile |= {"photometric": "RGB", "interleave": "pixel"}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as target:
        for top in range(0, height, STRIP):
            rows = min(STRIP, height - top)
            window = Window(0, top, width, rows)
            target.write(pixels_of(job, top, rows, width), window=window)
            if job.masked:
                y = np.arange(top, top + rows)[:, None] / height - 0.5
                x = np.arange(width)[None, :] / width - 0.5
                target.write_mask(((y**2 + x**2 < 0.2) * 255).astype("uint8"), window=window)


def with_ccog(source: str, target: str, options: dict[str, Any]) -> None:
    delayed = ccog.write_ccog(source, target, COG_creation_options=options)
    delayed.compute(scheduler="threads", num_workers=THREADS)


def with_gdal(source: str, target: str, options: dict[str, Any]) -> None:
    rasterio.shutil.copy(source, target, driver="COG", num_threads=THREADS, **options)


WRITERS = {"ccog": with_ccog, "gdal": with_gdal}


def write(who: str, source: str, target: str, options: dict[str, Any]) -> dict[str, float]:
    """Wall and CPU seconds, and the peak of memory in MB."""
    wall, before = time.perf_counter(), os.times()
    WRITERS[who](source, target, options)
    after = os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    return {"wall": time.perf_counter() - wall, "cpu": cpu, "memory": peak_memory()}


def compare(job: Job, share: int, folder: Path) -> str:
    """A row of the table."""
    source = folder / "source.tif"
    make(job, share, source)
    found = {
        who: in_fresh_process(
            __file__, who, str(source), str(folder / f"{who}.tif"), json.dumps(job.options)
        )
        for who in WRITERS
    }
    same = filecmp.cmp(folder / "ccog.tif", folder / "gdal.tif", shallow=False)
    height, width = job.size(share)
    ours, theirs = (
        f"{cost['wall']:.0f} s, {cost['cpu']:.0f} s of CPU, {cost['memory']:.0f} MB"
        for cost in (found["ccog"], found["gdal"])
    )
    hours = found["ccog"]["cpu"] * job.times(share) / 3600
    return (
        f"| {job.name} | {job.told} | {width:,} x {height:,} | {ours} | {theirs} | "
        f"{'yes' if same else 'NO'} | {hours:.1f} hours |"
    )


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in WRITERS:
        who, source, target, options = sys.argv[1:]
        print(json.dumps(write(who, source, target, json.loads(options))))
        return
    share = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    print(
        "| job | as told | here | ccog | GDAL's COG driver | same bytes | CPU that all of it would take |"
    )
    print("|---|---|---|---|---|---|---|")
    for job in JOBS:
        with tempfile.TemporaryDirectory() as folder:
            print(compare(job, share, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
