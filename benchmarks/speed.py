"""Speed of one local file against peers, on the same cores: python benchmarks/speed.py [SIZE=8192] [RUNS=5].

Every contestant gets the same NumPy array and the same options, graph building is counted, imports are not.
The floor compresses the same tiles with the same GDAL calls, full resolution and overviews, and nothing else.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import rasterio
from common import measure, terrain

import ccog
from ccog.gdal.encode import Codec, encode_block

THREADS = 2
CHUNK = 2048
GEO: dict[str, Any] = {"crs": "EPSG:32755", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 6e6)}


def with_ccog(pixels: np.ndarray, path: Path, options: dict[str, Any]) -> None:
    array = da.from_array(pixels, chunks=CHUNK, name=False)
    ccog.write_ccog(array, path, COG_creation_options=GEO | options).compute()


def with_gdal(pixels: np.ndarray, path: Path, options: dict[str, Any]) -> None:
    height, width = pixels.shape
    profile = {
        "driver": "COG",
        "count": 1,
        "height": height,
        "width": width,
        "dtype": pixels.dtype.name,
    }
    with rasterio.open(path, "w", num_threads="ALL_CPUS", **profile, **GEO, **options) as target:
        target.write(pixels, 1)


def with_odc(pixels: np.ndarray, path: Path, options: dict[str, Any]) -> None:
    import xarray as xr
    from odc.geo.cog import save_cog_with_dask
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import wrap_xr

    box = GeoBox(pixels.shape, GEO["transform"], GEO["crs"])
    array: xr.DataArray = wrap_xr(da.from_array(pixels, chunks=CHUNK, name=False), box)
    kwargs: dict[str, Any] = {
        "compression": options["compress"],
        "overview_resampling": options["overview_resampling"],
    }
    if "predictor" in options:
        kwargs["predictor"] = 2
    save_cog_with_dask(array, str(path), blocksize=512, **kwargs).compute()


def floor(pixels: np.ndarray, options: dict[str, Any]) -> None:
    given = {"compress": options["compress"].upper()} | (
        {"predictor": "2"} if "predictor" in options else {}
    )
    codec = Codec(512, "uint16", tuple(sorted(given.items())), (), None, sparse=False, planar=False)
    blocks = []
    level = pixels
    while True:
        blocks += [
            np.ascontiguousarray(level[np.newaxis, y : y + CHUNK, x : x + CHUNK])
            for y in range(0, level.shape[0], CHUNK)
            for x in range(0, level.shape[1], CHUNK)
        ]
        if max(level.shape) <= 512:
            break
        level = level[::2, ::2]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda block: encode_block(block, None, codec), blocks))


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 8192
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    warnings.simplefilter("ignore")
    dask.config.set(scheduler="threads", num_workers=THREADS)
    pixels = terrain(size)
    print(
        f"{size} x {size} uint16, {THREADS} threads, GDAL {rasterio.__gdal_version__}, medians of {runs}\n"
    )
    print("| options | who | wall s | CPU s | times ccog's wall |\n|---|---|---|---|---|")
    predicted = {"predictor": "yes"}
    cases: list[dict[str, Any]] = [
        {"compress": "deflate", "overview_resampling": "average", **predicted},
        {"compress": "deflate", "overview_resampling": "cubic", **predicted},
        {"compress": "zstd", "overview_resampling": "average", **predicted},
        {"compress": "lzw", "overview_resampling": "average", **predicted},
        {"compress": "none", "overview_resampling": "average"},
    ]
    with tempfile.TemporaryDirectory() as folder:
        for options in cases:
            contest(pixels, Path(folder), options, runs)


def contest(pixels: np.ndarray, folder: Path, options: dict[str, Any], runs: int) -> None:
    contestants: dict[str, Callable[[], Any]] = {
        "ccog": lambda: with_ccog(pixels, folder / "ccog.tif", options),
        "floor": lambda: floor(pixels, options),
        "GDAL COG driver": lambda: with_gdal(pixels, folder / "gdal.tif", options),
    }
    if options["compress"] == "deflate" and options["overview_resampling"] == "average":
        contestants["odc-geo"] = lambda: with_odc(pixels, folder / "odc.tif", options)
    name = f"{options['compress']} {options['overview_resampling']}"
    ours = 0.0
    for who, work in contestants.items():
        wall, cpu = measure(work, runs)
        ours = ours or wall
        print(f"| {name} | {who} | {wall:.2f} | {cpu:.2f} | {wall / ours:.2f} |", flush=True)
    same = (folder / "ccog.tif").read_bytes() == (folder / "gdal.tif").read_bytes()
    print(f"| {name} | identical files | {same} | | |", flush=True)


if __name__ == "__main__":
    main()
