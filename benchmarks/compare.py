"""What ccog and its peers write of the same array: python benchmarks/compare.py [SIZE=8192], for docs/tables/.

Everything in the table comes from running the packages: small files are written and examined, then a large one is
written in a fresh process, and once more on a cluster of two processes. Needs ccog[test] and xarray-spatial.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import psutil
import rasterio
import xarray as xr
from common import in_fresh_process, terrain
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

import ccog

THREADS = 2
PATIENCE = 40  # seconds; what works takes less than 5
TRANSFORM = rasterio.Affine(10, 0, 5e5, 0, -10, 6e6)
OPTIONS: dict[str, Any] = {
    "compress": "deflate",
    "predictor": "yes",
    "overview_resampling": "average",
}


def with_ccog(arr: xr.DataArray, path: Path) -> None:
    ccog.write_ccog(arr, path, COG_creation_options=OPTIONS).compute()


def with_gdal(arr: xr.DataArray, path: Path) -> None:
    profile = {
        "count": 1,
        "height": arr.shape[0],
        "width": arr.shape[1],
        "dtype": arr.dtype.name,
        "nodata": arr.nodata,
    }
    geo = {"crs": "EPSG:32755", "transform": TRANSFORM, "num_threads": "ALL_CPUS"}
    with rasterio.open(path, "w", driver="COG", **profile, **geo, **OPTIONS) as target:
        target.write(arr.to_numpy(), 1)


def with_rio_cogeo(arr: xr.DataArray, path: Path) -> None:
    from rio_cogeo import cog_profiles, cog_translate

    profile = cog_profiles.get("deflate") | {"predictor": 2}
    source = {
        "count": 1,
        "height": arr.shape[0],
        "width": arr.shape[1],
        "dtype": arr.dtype.name,
        "nodata": arr.nodata,
    }
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", crs="EPSG:32755", transform=TRANSFORM, **source) as target:
            target.write(arr.to_numpy(), 1)
        with memory.open() as dataset:
            config = {"GDAL_NUM_THREADS": "ALL_CPUS", "GDAL_TIFF_OVR_BLOCKSIZE": "512"}
            cog_translate(
                dataset, path, profile, overview_resampling="average", config=config, quiet=True
            )


def with_odc(arr: xr.DataArray, path: Path) -> None:
    from odc.geo.cog import save_cog_with_dask

    kwargs = {"compression": "deflate", "predictor": 2, "overview_resampling": "average"}
    save_cog_with_dask(arr, str(path), blocksize=512, **kwargs).compute()


def with_rioxarray(arr: xr.DataArray, path: Path) -> None:
    import rioxarray  # noqa: F401

    arr.rio.to_raster(path, driver="COG", num_threads="ALL_CPUS", **OPTIONS)


def with_xarray_spatial(arr: xr.DataArray, path: Path) -> None:
    from xrspatial.geotiff import to_geotiff

    kwargs = {"compression": "deflate", "predictor": True, "overview_resampling": "mean"}
    to_geotiff(arr, str(path), cog=True, tile_size=512, **kwargs)


PEERS: dict[str, Callable[[xr.DataArray, Path], None]] = {
    "ccog": with_ccog,
    "GDAL": with_gdal,
    "rio-cogeo": with_rio_cogeo,
    "odc-geo": with_odc,
    "rioxarray": with_rioxarray,
    "xarray-spatial": with_xarray_spatial,
}


def raster(pixels: np.ndarray | da.Array, chunks: tuple[int, int]) -> xr.DataArray:
    array = (
        pixels.rechunk(chunks)
        if isinstance(pixels, da.Array)
        else da.from_array(pixels, chunks, name=False)
    )
    # without a name, which some would write as the band's description
    return wrap_xr(array, GeoBox(array.shape, TRANSFORM, "EPSG:32755"), nodata=0).rename(None)


def small() -> np.ndarray:
    """An odd size, with holes."""
    pixels = terrain(1101)[:1003]
    pixels[np.random.default_rng(0).random(pixels.shape) < 0.2] = 0
    return pixels


def examined(write: Callable[[xr.DataArray, Path], None], folder: Path) -> dict[str, str]:
    """What the small file is like."""
    pixels = small()
    paths = [folder / f"{k}.tif" for k in range(3)]
    write(raster(pixels, (512, 512)), paths[0])
    write(raster(pixels, (300, 401)), paths[1])
    with_gdal(raster(pixels, (512, 512)), paths[2])
    found, judged = ccog.inspect(paths[0]), ccog.validate(paths[0], thorough=True)
    with rasterio.open(paths[0]) as dataset:
        size = f"{dataset.width} x {dataset.height}"
        same = dataset.shape == pixels.shape and np.array_equal(dataset.read(1), pixels)
    areas = [
        (one.equal, (one.rows[1] - one.rows[0]) * (one.cols[1] - one.cols[0]))
        for one in judged.overviews
    ]
    equal = sum(share * area for share, area in areas) / max(1, sum(area for _, area in areas))
    return {
        "1101 x 1003 pixels become": f"{size}{', equal' if same else ', changed'}",
        "valid for rio-cogeo": "yes" if judged.checks[0].outcome != "error" else "no",
        "leader and trailer around each tile": "yes"
        if "BLOCK_LEADER" in found.ghost_area
        else "no",
        "overview pixels as GDAL's average, beside nodata": f"{equal:.2%}",
        "byte for byte GDAL's file": "yes"
        if paths[0].read_bytes() == paths[2].read_bytes()
        else "no",
        "other chunks, same bytes": "yes"
        if paths[0].read_bytes() == paths[1].read_bytes()
        else "no",
    }


def block(block_info: dict[None, dict[str, list[tuple[int, int]]]]) -> np.ndarray:
    (top, bottom), (left, right) = block_info[None]["array-location"]
    y, x = np.arange(top, bottom)[:, None], np.arange(left, right)[None, :]
    noise = np.random.default_rng(top * 100_003 + left).integers(
        0, 999, (bottom - top, right - left), "uint16"
    )
    return ((np.sin(x / 700) + np.cos(y / 500) + 3) * 9000).astype("uint16") + noise


def large(size: int) -> xr.DataArray:
    """Made block by block, so that the source needs no memory."""
    chunks = (2048,) * (size // 2048)
    return raster(
        da.map_blocks(
            block, chunks=(chunks, chunks), dtype="uint16", meta=np.empty((0, 0), "uint16")
        ),
        (2048, 2048),
    )


def peak_mb() -> float:
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def timed(name: str, size: int, path: Path) -> dict[str, float]:
    """Seconds of CPU and peak memory above the imports of a write on two threads, after a small one."""
    dask.config.set(scheduler="threads", num_workers=THREADS)
    PEERS[name](raster(small(), (512, 512)), path)
    before, started = peak_mb(), time.process_time()
    PEERS[name](large(size), path)
    return {"seconds": time.process_time() - started, "mb": peak_mb() - before}


def on_cluster(name: str, size: int, path: Path) -> dict[str, float]:
    """Share of the CPU time that the two workers spend, of theirs and the client's."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        processes = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
        PEERS[name](raster(small(), (512, 512)), path)
        mine = psutil.Process()
        before = cpu(processes), cpu([mine])
        PEERS[name](large(size), path)
        workers, own = cpu(processes) - before[0], cpu([mine]) - before[1]
    return {"share": workers / (workers + own)}


def on_fresh_cluster(name: str, size: int, path: str) -> str:
    try:
        shared = in_fresh_process(__file__, "cluster", name, str(size), path, limit=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"hung for {PATIENCE} s"
    return f"{shared['share']:.0%}"


def cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def main() -> None:
    warnings.simplefilter("ignore")
    if len(sys.argv) == 5:
        _, kind, name, size, path = sys.argv
        print(json.dumps((timed if kind == "timed" else on_cluster)(name, int(size), Path(path))))
        return
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 8192
    columns = []
    for name, write in PEERS.items():
        with tempfile.TemporaryDirectory() as folder:
            column = examined(write, Path(folder))
            path = f"{folder}/large.tif"
            run = in_fresh_process(__file__, "timed", name, str(size), path)
            share = on_fresh_cluster(name, size // 2, path)
        column[f"{size} x {size} uint16 from dask on two threads, CPU time"] = (
            f"{run['seconds']:.1f} s"
        )
        column["peak memory of that, above imports"] = f"{run['mb']:.0f} MB"
        column["CPU time on the workers of a cluster"] = share
        columns.append(column)
    print("| | " + " | ".join(PEERS) + " |\n|---" * 1 + "|---" * len(PEERS) + "|")
    for row in columns[0]:
        print(f"| {row} | " + " | ".join(column[row] for column in columns) + " |")
    packages = ["rasterio", "rio-cogeo", "odc-geo", "rioxarray", "xarray-spatial", "dask"]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    print(
        f"\nDeflate with predictor, overviews by average. GDAL {rasterio.__gdal_version__}, {versions}; two cores."
    )


if __name__ == "__main__":
    main()
