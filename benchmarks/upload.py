"""Throughput to S3 against a plain loop of the same parts: python benchmarks/upload.py [MB=1000] [RUNS=5].

Both write to SeaweedFS on this machine from two threads, in turn. The loop uploads ready bytes with s3fs as it
comes; CCOG encodes (uncompressed) and uploads. CPU seconds are those of this process, without the server's.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import dask.array as da
import numpy as np
import s3fs

import ccog
from ccog.stores.s3 import S3Store
from servers import seaweedfs

THREADS = 2
CHUNK = 2048
OPTIONS = {"compress": "none", "overviews": "none", "bigtiff": "yes"}


def with_ccog(pixels: da.Array, options: dict[str, Any]) -> None:
    delayed = ccog.write_ccog(
        pixels, "s3://test/a.tif", COG_creation_options=OPTIONS, storage_options=options
    )
    delayed.compute(scheduler="threads", num_workers=THREADS)


def plain_loop(bodies: list[bytes], options: dict[str, Any]) -> None:
    filesystem = s3fs.S3FileSystem(**options)
    where = {"Bucket": "test", "Key": "b.tif"}
    upload = filesystem.call_s3("create_multipart_upload", **where)["UploadId"]

    def put(number: int) -> dict[str, Any]:
        found = filesystem.call_s3(
            "upload_part", **where, UploadId=upload, PartNumber=number + 1, Body=bodies[number]
        )
        return {"PartNumber": number + 1, "ETag": found["ETag"]}

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(put, range(len(bodies))))
    filesystem.call_s3(
        "complete_multipart_upload", **where, UploadId=upload, MultipartUpload={"Parts": parts}
    )


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of this process."""
    wall, before = time.perf_counter(), os.times()
    work()
    after = os.times()
    return time.perf_counter() - wall, sum(after[:2]) - sum(before[:2])


def part_sizes(pixels: da.Array, options: dict[str, Any]) -> list[int]:
    """Sizes of the parts that CCOG uploads."""
    sizes: list[int] = []
    put = S3Store.put

    def noted(self: S3Store, session: str, number: int, buffers: list[Any]) -> Any:
        found = put(self, session, number, buffers)
        sizes.append(found[1])
        return found

    with patch.object(S3Store, "put", noted):
        with_ccog(pixels, options)
    return sizes


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    side = round((megabytes * 1e6 / 2) ** 0.5 / CHUNK) * CHUNK
    array = np.random.default_rng(0).integers(0, 60000, (side, side), "uint16")
    pixels = da.from_array(array, chunks=CHUNK, name=False)
    with tempfile.TemporaryDirectory() as folder, seaweedfs(Path(folder)) as options:
        sizes = part_sizes(pixels, options)
        # not zeros, whose pages the system keeps once: they would never leave the processor's cache
        bodies = [np.random.default_rng(n).bytes(size) for n, size in enumerate(sizes)]
        plain_loop(bodies, options)
        pairs = [(timed(lambda: plain_loop(bodies, options)), timed(lambda: with_ccog(pixels, options)))
                 for _ in range(runs)]  # fmt: skip
    print(
        f"{side} x {side} uint16, {len(sizes)} parts of {min(sizes) / 1e6:.1f} to {max(sizes) / 1e6:.1f} MB\n"
    )
    print("| | wall s | CPU s | MB/s |\n|---|---|---|---|")
    medians = []
    for n, name in enumerate(("plain loop", "CCOG")):
        wall, cpu = (statistics.median(pair[n][k] for pair in pairs) for k in range(2))
        medians.append((wall, cpu))
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {sum(sizes) / wall / 1e6:.0f} |")
    (loop_wall, loop_cpu), (wall, cpu) = medians
    print(
        f"\nthroughput {loop_wall / wall:.2f} of the loop's, CPU {cpu / loop_cpu:.2f} times the loop's"
    )


if __name__ == "__main__":
    main()
