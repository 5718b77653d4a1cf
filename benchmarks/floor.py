"""CPU and wall time beside the floor and beside GDAL: python benchmarks/floor.py [RUNS=3] [CASE...].

The floor is what nobody can leave out: GDAL's GTiff driver compresses the tiles of all levels, and
one read of the whole level by GDAL's kernels makes each overview. Every contestant runs in a fresh
process, in turns. Imports and the making of pixels are not counted; building the graph is. GDAL has
as many threads, by the option and by the setting that its overviews heed (which changes nothing).
ccog returns when the file is on disk. GDAL does not wait for the disk, so it is timed without and
with the waiting.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from os import times
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import rasterio
from common import in_fresh_process, terrain
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

import ccog

THREADS = 2
BLOCKSIZE = 512
STRIP_BYTES = 4 << 20
CONTESTANTS = ("ccog", "floor", "gdal")


@dataclass(frozen=True, kw_only=True)
class Case:
    """Pixels and options."""

    kind: str = "uint16"
    size: int = 8192
    chunk: int = 2048
    options: dict[str, Any] = field(default_factory=dict)


BASE = Case(options={"compress": "deflate", "predictor": "yes", "overview_resampling": "average"})


def _with(case: Case, **options: Any) -> Case:
    given = {key: value for key, value in (case.options | options).items() if value is not None}
    return replace(case, options=given)


CASES = {
    "average": BASE,
    "cubic": _with(BASE, overview_resampling="cubic"),
    "nearest": _with(BASE, overview_resampling="nearest"),
    "mode": _with(BASE, overview_resampling="mode"),
    "zstd": _with(BASE, compress="zstd"),
    "lzw": _with(BASE, compress="lzw"),
    "uint8": replace(BASE, kind="uint8"),
    "uint16 with nodata": replace(BASE, kind="nodata"),
    "float32 with NaN": replace(BASE, kind="nan"),
    "three bands": replace(BASE, kind="rgb", size=5120),
    "with a mask": replace(BASE, kind="mask"),
    "chunks of 512": replace(BASE, chunk=512),
    "chunks of 1024": replace(BASE, chunk=1024),
    "chunks of 4096": replace(BASE, chunk=4096),
}


@dataclass(frozen=True, kw_only=True)
class Raster:
    """Pixels (band, y, x), their mask (y, x) or None, and their nodata value."""

    pixels: np.ndarray
    mask: np.ndarray | None = None
    nodata: float | None = None


def make_raster(case: Case) -> Raster:
    waves = terrain(case.size)
    holes = np.zeros(waves.shape, bool)
    holes[case.size // 3 : case.size // 2, case.size // 5 : case.size // 3] = True
    holes[::97, ::89] = True
    if case.kind == "uint8":
        return Raster(pixels=(waves >> 8).astype("uint8")[np.newaxis])
    if case.kind == "rgb":
        return Raster(pixels=np.stack([waves, waves[::-1], waves[:, ::-1]]))
    if case.kind == "nodata":
        return Raster(pixels=np.where(holes, np.uint16(0), waves)[np.newaxis], nodata=0)
    if case.kind == "nan":
        numbers = waves.astype("float32") / 8
        return Raster(
            pixels=np.where(holes, np.float32(np.nan), numbers)[np.newaxis], nodata=np.nan
        )
    if case.kind == "mask":
        return Raster(pixels=waves[np.newaxis], mask=~holes)
    return Raster(pixels=waves[np.newaxis])


def with_ccog(raster: Raster, case: Case, path: Path) -> None:
    chunks = (raster.pixels.shape[0], case.chunk, case.chunk)
    array = da.from_array(raster.pixels, chunks=chunks, name=False)
    more = (
        {}
        if raster.mask is None
        else {"mask": da.from_array(raster.mask, chunks=chunks[1:], name=False)}
    )
    options = case.options | ({} if raster.nodata is None else {"nodata": raster.nodata})
    ccog.write_ccog(array, path, COG_creation_options=options, **more).compute()


def with_gdal(raster: Raster, case: Case, path: Path) -> None:
    count, height, width = raster.pixels.shape
    profile = {"driver": "COG", "count": count, "height": height, "width": width}
    profile |= {"dtype": raster.pixels.dtype.name, "nodata": raster.nodata} | case.options
    internal = rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_NUM_THREADS=THREADS)
    with internal, rasterio.open(path, "w", num_threads=str(THREADS), **profile) as target:
        target.write(raster.pixels)
        if raster.mask is not None:
            target.write_mask(raster.mask)


def with_floor(raster: Raster, case: Case, path: Path) -> None:
    """Encodes on all threads; each overview is one read, of pixels and of the mask."""
    options = {"compress": case.options["compress"]}
    if "predictor" in case.options:
        options["predictor"] = "3" if raster.pixels.dtype.kind == "f" else "2"
    of_mask = {"compress": "deflate", "nbits": "1"}
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = []
        for level in _levels(raster, case):
            waiting += [pool.submit(_encode, strip, options) for strip in _strips(level.pixels)]
            if level.mask is not None:
                masks = (level.mask != 0).astype("uint8")[np.newaxis]
                waiting += [pool.submit(_encode, strip, of_mask) for strip in _strips(masks)]
        for one in waiting:
            one.result()


def _levels(raster: Raster, case: Case) -> Iterator[Raster]:
    kernel = Resampling[case.options["overview_resampling"]]
    mask = None if raster.mask is None else np.where(raster.mask, np.uint8(255), np.uint8(0))
    level = replace(raster, mask=mask)
    yield level
    while max(level.pixels.shape[1:]) > BLOCKSIZE:
        shape = tuple(side // 2 for side in level.pixels.shape[1:])
        pixels = _read(level.pixels, level.mask, level.nodata, shape, kernel)
        mask = None
        if level.mask is not None:
            mask = _read(level.mask[np.newaxis], level.mask, None, shape, kernel)[0]
        level = Raster(pixels=pixels, mask=mask, nodata=raster.nodata)
        yield level


def _read(
    pixels: np.ndarray,
    mask: np.ndarray | None,
    nodata: float | None,
    shape: tuple[int, ...],
    kernel: Resampling,
) -> np.ndarray:
    from rasterio._io import MemoryDataset

    count = len(pixels)
    may_open = rasterio.Env(GDAL_MEM_ENABLE_OPEN=True)
    shown = MemoryDataset(np.ascontiguousarray(pixels))
    with may_open, shown, rasterio.open(shown.name, "r+") as dataset:
        if nodata is not None:
            dataset.nodata = nodata
        if mask is not None:
            dataset.write_mask(mask)
        return dataset.read(out_shape=(count, *shape), resampling=kernel)


def _strips(pixels: np.ndarray) -> Iterator[np.ndarray]:
    row_bytes = BLOCKSIZE * 2048 * len(pixels) * pixels.itemsize
    rows = BLOCKSIZE * max(1, STRIP_BYTES // row_bytes)
    height, width = pixels.shape[1:]
    for y, x in itertools.product(range(0, height, rows), range(0, width, 2048)):
        yield pixels[:, y : y + rows, x : x + 2048]


def _encode(strip: np.ndarray, options: dict[str, str]) -> int:
    count, height, width = strip.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width}
    tiling = {"tiled": True, "blockxsize": BLOCKSIZE, "blockysize": BLOCKSIZE}
    where = rasterio.Affine(1, 0, 1, 0, -1, 1)
    with MemoryFile() as file:
        with file.open(
            dtype=strip.dtype.name,
            interleave="pixel",
            transform=where,
            **profile,
            **tiling,
            **options,
        ) as dataset:
            dataset.write(strip)
        return len(file.getbuffer())


WORK: dict[str, Callable[[Raster, Case, Path], None]] = {
    "ccog": with_ccog,
    "floor": with_floor,
    "gdal": with_gdal,
}


def run_one(who: str, name: str) -> None:
    """One contestant in this process; prints seconds as JSON."""
    warnings.simplefilter("ignore")
    dask.config.set(num_workers=THREADS)
    case = CASES[name]
    raster = make_raster(case)
    assert ccog.write_ccog  # imported when it is looked at
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.tif"
        started, before = time.perf_counter(), times()
        WORK[who](raster, case, path)
        wall, after = time.perf_counter() - started, times()
        if path.exists():
            with path.open("rb") as file:
                os.fsync(file)
        on_disk = time.perf_counter() - started
    seconds = {"wall": wall, "on disk": on_disk, "cpu": sum(after[:2]) - sum(before[:2])}
    print(json.dumps(seconds))


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        run_one(*sys.argv[2:])
        return
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(
        "| case | ccog CPU s | floor | ratio | ccog wall s | GDAL | ratio | GDAL, on disk | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in sys.argv[2:] or CASES:
        seconds: dict[str, list[dict[str, float]]] = {who: [] for who in CONTESTANTS}
        for _ in range(runs):
            for who in CONTESTANTS:
                seconds[who].append(in_fresh_process(__file__, "one", who, name))
        cpu, wall, on_disk = (
            {who: _median(of, key) for who, of in seconds.items()}
            for key in ("cpu", "wall", "on disk")
        )
        ours = wall["ccog"]
        print(
            f"| {name} | {cpu['ccog']:.2f} | {cpu['floor']:.2f} | {cpu['ccog'] / cpu['floor']:.2f} "
            f"| {ours:.2f} | {wall['gdal']:.2f} | {wall['gdal'] / ours:.2f} "
            f"| {on_disk['gdal']:.2f} | {on_disk['gdal'] / ours:.2f} |",
            flush=True,
        )


def _median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


if __name__ == "__main__":
    main()
