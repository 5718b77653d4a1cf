"""A raster of many small chunks on a local cluster, really encoded: python benchmarks/cluster.py [SIDE=200] [WORKERS].

SIDE is in chunks. There is one worker for each core but one, which the scheduler needs: chunks this small keep it busy.
The growth of the scheduler's memory is that of this process, which also holds the client and the graph. A task's own
time is what the worker measured while it ran.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import psutil
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster

import ccog

CHUNK = 128
OPTIONS = {
    "blocksize": 128,
    "compress": "deflate",
    "overview_resampling": "average",
    "bigtiff": "yes",
}


def noise(block_id: tuple[int, int]) -> np.ndarray:
    """Pixels of one chunk."""
    return np.random.default_rng(block_id).integers(0, 50, (CHUNK, CHUNK), "uint8")


def source(side: int) -> da.Array:
    return da.map_blocks(
        noise, chunks=((CHUNK,) * side,) * 2, dtype="uint8", meta=np.empty((0, 0), "uint8")
    )


def durations(dask_scheduler: Any) -> tuple[int, float]:
    """Tasks run, and the seconds that workers computed."""
    prefixes = dask_scheduler.task_prefixes.values()
    return sum(p.state_counts["memory"] for p in prefixes), sum(
        p.all_durations.get("compute", 0.0) for p in prefixes
    )


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else max(1, CPU_COUNT - 1)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.compute(
            ccog.write_ccog(source(4), Path(folder) / "warm.tif", COG_creation_options=OPTIONS)
        ).result()
        _, warm = client.run_on_scheduler(durations)
        process = psutil.Process()
        before, peak, started = process.memory_info().rss, 0, time.perf_counter()
        future = client.compute(
            ccog.write_ccog(source(side), Path(folder) / "a.tif", COG_creation_options=OPTIONS)
        )
        while not future.done():
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.05)
        seconds = time.perf_counter() - started
        size = future.result().size
        tasks, computed = client.run_on_scheduler(durations)
    ideal = (computed - warm) / workers
    print(f"{side**2} chunks, {size / 1e6:.0f} MB: {seconds:.1f} s; tasks computed for {computed - warm:.1f} s, "
          f"which is {ideal:.1f} s on each of {workers} workers: {seconds / ideal:.2f} times that")  # fmt: skip
    print(
        f"memory of scheduler and client grew by {(peak - before) / 1e6:.0f} MB; about {tasks} tasks"
    )


if __name__ == "__main__":
    main()
