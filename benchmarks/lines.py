"""How much code five tasks take with ccog and its peers: python benchmarks/lines.py, for docs/tables/lines.md.

Names of packages may follow, such as ccog or rio_cogeo: then only theirs are run.

Each task is a script in examples/tasks, which finds ``arr``, ``ds`` or ``series`` and the file ``in.tif``. It runs by itself,
in a fresh process, and what it wrote is compared with what was asked for. Needs ccog[test].
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import dask.array as da
import fsspec
import numpy as np
import pandas as pd
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
from common import terrain

from ccog.local_s3 import local_s3

SCRIPTS = Path(__file__).parents[1] / "examples" / "tasks"
TASKS = {
    "array": "a dask array as a local file",
    "s3": "the same on S3",
    "file": "a file, with its tags",
    "bands": "a Dataset, whose variables are named bands",
    "steps": "a file of each of four times",
}
PEERS = {
    "ccog": "ccog",
    "gdal": "GDAL, by rasterio",
    "rio_cogeo": "rio-cogeo",
    "odc_geo": "odc-geo",
    "rioxarray": "rioxarray",
}
TRANSFORM = rasterio.Affine(10, 0, 5e5, 0, -10, 6e6)
PIXELS = terrain(1101)[:1003] | 1


def raster(pixels: np.ndarray | da.Array, dims: tuple[str, ...] = ("y", "x")) -> xr.DataArray:
    y, x = 6e6 - 5 - 10 * np.arange(1003), 5e5 + 5 + 10 * np.arange(1101)
    arr = xr.DataArray(pixels, dims=dims, coords={"y": y, "x": x}, attrs={"nodata": 0})
    return arr.rio.write_crs(32755).rio.write_transform(TRANSFORM)


def given() -> dict[str, xr.DataArray | xr.Dataset]:
    """What the scripts find."""
    lazy = da.from_array(PIXELS, 512)
    ds = xr.Dataset({name: raster(lazy // n) for n, name in enumerate(("red", "green", "nir"), 1)})
    series = raster(da.stack([lazy // n for n in range(1, 5)]), ("time", "y", "x"))
    series["time"] = pd.date_range("2024-01-01", periods=4)
    return {"arr": raster(lazy), "ds": ds, "series": series}


def run(script: str) -> None:
    """Run one script, in a process of its own."""
    warnings.simplefilter("ignore")
    exec(compile(Path(script).read_text(), script, "exec"), given())


def make_input() -> None:
    place = {"crs": "EPSG:32755", "transform": TRANSFORM, "nodata": 0}
    size = {"count": 1, "height": 1003, "width": 1101, "dtype": "uint16"}
    with rasterio.open("in.tif", "w", **size, **place) as target:
        target.write(PIXELS, 1)
        target.update_tags(AUTHOR="somebody")
        target.set_band_description(1, "height")


def remark(task: str, options: dict[str, str]) -> str:
    """What is not as asked for."""
    if task == "s3":
        Path("out.tif").write_bytes(fsspec.filesystem("s3", **options).cat_file("test/out.tif"))
    paths = [f"{n}.tif" for n in range(4)] if task == "steps" else ["out.tif"]
    remarks = [_difference(task, n, path) for n, path in enumerate(paths, 1)]
    return next(filter(None, remarks), "")


def _difference(task: str, n: int, path: str) -> str:
    count = 3 if task == "bands" else 1
    expected = np.stack([PIXELS // (band + n) for band in range(count)])
    rows, cols = PIXELS.shape
    with rasterio.open(path) as dataset:
        pixels = dataset.read()
        wrong = {
            "edges padded": dataset.shape != PIXELS.shape,
            "pixels changed": not np.array_equal(pixels[:, :rows, :cols], expected),
            "nodata lost": dataset.nodata != 0,
            "names lost": task == "bands" and dataset.descriptions != ("red", "green", "nir"),
            "tags lost": task == "file" and dataset.tags().get("AUTHOR") != "somebody",
        }
    return ", ".join(text for text, is_so in wrong.items() if is_so)


def measured(task: str, peer: str, options: dict[str, str]) -> str:
    script = SCRIPTS / task / f"{peer}.py"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_input()
        subprocess.run([sys.executable, __file__, script], check=True, cwd=folder)
        said = remark(task, options)
        os.chdir("/")
    return ", ".join(filter(None, [size(script), said]))


def size(script: Path) -> str:
    """Lines and characters, without empty lines and indentation."""
    lines = [line.strip() for line in script.read_text().splitlines() if line.strip()]
    return f"{len(lines)}&nbsp;/&nbsp;{sum(map(len, lines))}"


def main() -> None:
    if len(sys.argv) == 2 and sys.argv[1].endswith(".py"):
        run(sys.argv[1])
        return
    peers = sys.argv[1:] or list(PEERS)
    names = [PEERS[peer] for peer in peers]
    print("| | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|")
    with local_s3() as options:
        endpoint = options["endpoint_url"]
        os.environ |= {
            "AWS_ACCESS_KEY_ID": options["key"],
            "AWS_SECRET_ACCESS_KEY": options["secret"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
            # GDAL's names
            "AWS_S3_ENDPOINT": endpoint.removeprefix("http://"),
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
        for task, text in TASKS.items():
            cells = [measured(task, peer, options) for peer in peers]
            print(f"| {text} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
