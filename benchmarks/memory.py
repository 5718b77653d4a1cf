"""Peak memory above the imports, for a generated raster: python benchmarks/memory.py [SIZE=24576] [MODE].

Each case runs in a fresh process on two threads; the second is twice as high, the third has the default kernel.
With "s3" as MODE the first case goes to a local file and to an S3 server on this machine; with "plan" each case is
set beside the figures of ``ccog.plan`` with and without a sample, which are for each of the two threads, for pixels
with more and less noise (NOISE in the environment: 1 for none, 65536 for nothing else).
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import sys
import tempfile
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from common import in_fresh_process

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import ccog
from servers import KEY, SECRET, seaweedfs

CHUNK = 4096
NOISES = {"flat": 1, "usual": 6, "noise": 65536}


def block(block_info: dict[None, dict[str, list[tuple[int, int]]]]) -> np.ndarray:
    """Elevation of one chunk, made without large temporaries."""
    (top, bottom), (left, right) = block_info[None]["array-location"]
    y, x = np.arange(top, bottom)[:, None], np.arange(left, right)[None, :]
    out = (2000 + 900 * np.sin(x / 700)).astype("uint16") + (900 + 900 * np.cos(y / 500)).astype("uint16")
    noise = int(os.environ.get("NOISE", NOISES["usual"]))
    kind = "uint8" if noise <= 256 else "uint16"
    out += np.random.default_rng(top * 100_003 + left).integers(0, noise, out.shape, dtype=kind)
    return out


def source(height: int, width: int) -> da.Array:
    chunks = tuple((CHUNK,) * (n // CHUNK) for n in (height, width))
    return da.map_blocks(block, chunks=chunks, dtype="uint16", meta=np.empty((0, 0), "uint16"))


def peak(height: int, width: int, method: str, endpoint: str = "") -> float:
    """Peak RSS above the imports in MB, to a file or to the S3 server at ``endpoint``."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    options = {"compress": "deflate", "predictor": "yes", "overview_resampling": method, "bigtiff": "yes"}
    with tempfile.TemporaryDirectory() as folder, dask.config.set(scheduler="threads", num_workers=2):
        target = "s3://test/a.tif" if endpoint else str(Path(folder) / "a.tif")
        storage = {"key": KEY, "secret": SECRET, "endpoint_url": endpoint} if endpoint else None
        ccog.write_ccog(source(height, width), target, COG_creation_options=options, storage_options=storage).compute()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def planned(side: int, method: str, sample: int) -> float:
    """What ``ccog.plan`` says the two threads need, in MB."""
    options = {"compress": "deflate", "predictor": "yes", "overview_resampling": method, "bigtiff": "yes"}
    return 2 * ccog.plan(source(side, side), COG_creation_options=options, sample=sample).memory / 1e6


def beside_the_plan(size: int) -> None:
    print("| pixels | resampling | measured MB | planned MB | planned / measured | with a sample MB | / measured |")
    print("|---|---|---|---|---|---|---|")
    for (name, noise), method in itertools.product(NOISES.items(), ("average", "cubic", "nearest")):
        os.environ["NOISE"] = str(noise)
        found = in_fresh_process(__file__, str(size), str(size), method)
        guess, sampled = (planned(size, method, sample) for sample in (0, 2))
        print(f"| {name} | {method} | {found:.0f} | {guess:.0f} | {guess / found:.2f} | {sampled:.0f} | "
              f"{sampled / found:.2f} |", flush=True)  # fmt: skip


def file_and_s3(size: int) -> None:
    print("| target | peak MB above imports |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder, seaweedfs(Path(folder)) as options:
        for name, endpoint in (("file", ""), ("S3", options["endpoint_url"])):
            found = in_fresh_process(__file__, str(size), str(size), "average", endpoint)
            print(f"| {name} | {found:.0f} |", flush=True)


def main() -> None:
    if len(sys.argv) >= 4:
        print(json.dumps(peak(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])))
        return
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 24576
    if "s3" in sys.argv[2:]:
        return file_and_s3(size)
    if "plan" in sys.argv[2:]:
        return beside_the_plan(size)
    print("| height | width | resampling | peak MB above imports |\n|---|---|---|---|")
    for height, method in ((size, "average"), (2 * size, "average"), (size, "cubic"), (2 * size, "cubic")):
        found = in_fresh_process(__file__, str(height), str(size), method)
        print(f"| {height} | {size} | {method} | {found:.0f} |", flush=True)


if __name__ == "__main__":
    main()
