"""A nearly empty raster of 1,600,000 x 1,600,000 bytes to S3 on this machine: python benchmarks/giant.py [SIDE].

One chunk in 199 has pixels; the rest is sparse. The file is then read back at its corners, at all levels.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import dask
import dask.array as da
import numpy as np
import rasterio
from common import peak_memory
from rasterio.session import AWSSession
from rasterio.windows import Window

import ccog
from servers import seaweedfs

CHUNK = 16384
OPTIONS = {
    "sparse_ok": "yes",
    "compress": "deflate",
    "level": 1,
    "overview_resampling": "nearest",
    "bigtiff": "yes",
}


def has_pixels(row: int, column: int, last: int) -> bool:
    """Whether a chunk has pixels: the corners and a sprinkle."""
    return (row * (last + 1) + column) % 199 == 0 or {row, column} <= {0, last}


def pixels(block_info: Any) -> np.ndarray:
    """Ones more than the position's residue where there is anything, zeros elsewhere."""
    (top, bottom), (left, right) = block_info[None]["array-location"]
    row, column = block_info[None]["chunk-location"]
    if not has_pixels(row, column, block_info[None]["num-chunks"][0] - 1):
        return np.broadcast_to(
            np.uint8(0), (bottom - top, right - left)
        )  # as the chunks of da.zeros are
    return expected(np.arange(top, bottom), np.arange(left, right))


def expected(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Pixels of chunks that have any, by row and column of the raster."""
    return (y // 64 % 100 + 1).astype("uint8")[:, None] + (x // 64 % 100).astype("uint8")[None, :]


def source(side: int) -> da.Array:
    chunks = da.core.normalize_chunks(CHUNK, (side, side))
    return da.map_blocks(pixels, chunks=chunks, dtype="uint8", meta=np.empty((0, 0), "uint8"))


def check_corners(side: int, options: dict[str, Any]) -> int:
    """Compare the first and the last pixels of all levels with what was written; how many levels there are."""
    session = AWSSession(aws_access_key_id=options["key"], aws_secret_access_key=options["secret"],
                         region_name="us-east-1")  # fmt: skip
    env = {"AWS_S3_ENDPOINT": options["endpoint_url"].removeprefix("http://"), "AWS_HTTPS": "NO",
           "AWS_VIRTUAL_HOSTING": "FALSE", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}  # fmt: skip
    with rasterio.Env(session, **env):
        with rasterio.open("/vsis3/test/giant.tif") as dataset:
            factors = [1, *dataset.overviews(1)]
        for level, factor in enumerate(factors):
            how = {"overview_level": level - 1} if level else {}
            with rasterio.open("/vsis3/test/giant.tif", **how) as dataset:
                for at in (0, dataset.height - 8):
                    found = dataset.read(1, window=Window(at, at, 8, 8))
                    places = np.minimum(
                        np.arange(at, at + 8) * side / dataset.height + factor / 2, side - 1
                    ).astype(int)
                    if factor > 64:  # values change within a pixel: any of them will do
                        assert found.any()
                    else:
                        np.testing.assert_array_equal(found, expected(places, places))
    return len(factors)


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 1_600_000
    before = peak_memory()
    with tempfile.TemporaryDirectory() as folder, seaweedfs(Path(folder)) as options:
        started = time.perf_counter()
        delayed = ccog.write_ccog(
            source(side),
            "s3://test/giant.tif",
            COG_creation_options=OPTIONS,
            storage_options=options,
        )
        with dask.config.set(scheduler="threads"):
            result = delayed.compute()
        seconds = time.perf_counter() - started
        peak = peak_memory() - before
        levels = check_corners(side, options)
        valid, _, _ = cog_verdict(options)
    print(f"{side} x {side} uint8, {side**2 / 1e12:.2f} TB, {(side // CHUNK + 1) ** 2} chunks: "
          f"{seconds / 60:.1f} minutes, peak {peak:.0f} MB above imports, {result.size / 1e6:.0f} MB long")  # fmt: skip
    print(f"corners of {levels} levels right; valid COG: {valid}")


def cog_verdict(options: dict[str, Any]) -> Any:
    """rio-cogeo's verdict of the object."""
    from rio_cogeo.cogeo import cog_validate

    session = AWSSession(aws_access_key_id=options["key"], aws_secret_access_key=options["secret"])
    env = {"AWS_S3_ENDPOINT": options["endpoint_url"].removeprefix("http://"), "AWS_HTTPS": "NO",
           "AWS_VIRTUAL_HOSTING": "FALSE", "AWS_REGION": "us-east-1"}  # fmt: skip
    with rasterio.Env(session, **env):
        return cog_validate("/vsis3/test/giant.tif", quiet=True)


if __name__ == "__main__":
    main()
