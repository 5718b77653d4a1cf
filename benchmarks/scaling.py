"""A generated raster to S3 on this machine by one and by two workers: python benchmarks/scaling.py [SIDE=65536].

Each run has a process of its own; workers have one thread, two have 1.5 GB each and one has 3 GB. Moved are the bytes
that workers fetched from each other; a worker that was restarted or has spilled is an error.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import dask.array as da
import numpy as np
from common import in_fresh_process

import ccog
from servers import seaweedfs

CHUNK = 2048
OPTIONS = {"compress": "zstd", "level": 1, "predictor": "yes", "overview_resampling": "average", "bigtiff": "yes"}


def block(block_info: dict[None, dict[str, list[tuple[int, int]]]]) -> np.ndarray:
    """Waves with noise, uint16, made without large temporaries."""
    (top, bottom), (left, right) = block_info[None]["array-location"]
    y, x = np.arange(top, bottom)[:, None], np.arange(left, right)[None, :]
    out = (2000 + 900 * np.sin(x / 700)).astype("uint16") + (900 + 900 * np.cos(y / 500)).astype("uint16")
    out += np.random.default_rng(top * 100_003 + left).integers(0, 60, out.shape, dtype="uint8")
    return out


def source(side: int) -> da.Array:
    chunks = da.core.normalize_chunks(CHUNK, (side, side))
    return da.map_blocks(block, chunks=chunks, dtype="uint16", meta=np.empty((0, 0), "uint16"))


def traffic(dask_worker: Any) -> tuple[int, int]:
    """Bytes that a worker fetched from others, and bytes it spilled."""
    spilled = getattr(dask_worker.data, "cumulative_metrics", {})
    moved = sum(entry["total"] for entry in dask_worker.transfer_incoming_log)
    return moved, int(sum(v for k, v in spilled.items() if k[0] == "disk-write"))


def on_cluster(side: int, workers: int, options: dict[str, Any], **how: Any) -> dict[str, float]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, memory_limit=f"{3 / workers}GB", dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        write(2 * CHUNK, options, **how)
        pids = {worker.pid for worker in cluster.workers.values()}
        seconds, size = write(side, options, **how)
        moved, spilled = (sum(found) for found in zip(*client.run(traffic).values(), strict=True))
        assert pids == {worker.pid for worker in cluster.workers.values()}, "a worker was restarted"
        assert not spilled, f"{spilled} bytes were spilled"
    return {"seconds": seconds, "size": size, "moved": moved / size}


def write(side: int, options: dict[str, Any], **how: Any) -> tuple[float, int]:
    """Seconds, and bytes of the file."""
    started = time.perf_counter()
    url = "s3://test/scaling.tif"
    result = ccog.write_ccog(
        source(side), url, COG_creation_options=OPTIONS, storage_options=options, **how, compute=True
    )
    return time.perf_counter() - started, result.size


def on_threads(side: int, options: dict[str, Any]) -> dict[str, float]:
    import dask

    with dask.config.set(scheduler="threads", num_workers=2):
        write(2 * CHUNK, options)
        seconds, size = write(side, options)
    return {"seconds": seconds, "size": size, "moved": 0.0}


def one(side: int, workers: int, layout: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, seaweedfs(Path(folder)) as options:
        return on_cluster(side, workers, options, layout=layout) if workers else on_threads(side, options)


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 65536
    if len(sys.argv) > 2:
        print(json.dumps(one(side, int(sys.argv[2]), sys.argv[3])))
        return
    print(f"{side} x {side} uint16, {2 * side**2 / 1e9:.1f} GB\n")
    print("| run | s | MB/s of pixels | MB written | bytes moved per byte written |\n|---|---|---|---|---|")
    runs = {"1 process, 2 threads": (0, "gdal"), "1 worker": (1, "gdal"), "2 workers": (2, "gdal"),
            "2 workers, layout=chunk": (2, "chunk")}  # fmt: skip
    seconds = {}
    for name, (workers, layout) in runs.items():
        found = in_fresh_process(__file__, str(side), str(workers), layout)
        seconds[name] = found["seconds"]
        print(f"| {name} | {found['seconds']:.1f} | {2 * side**2 / 1e6 / found['seconds']:.0f} | "
              f"{found['size'] / 1e6:.0f} | {found['moved']:.2f} |", flush=True)  # fmt: skip
    threads, single, *double = seconds.values()
    print(f"\n2 workers do {single / double[0]:.2f} times what 1 does; of the throughput of 2 threads, 2 workers have "
          f"{threads / double[0]:.2f}, and {threads / double[1]:.2f} with layout=chunk")  # fmt: skip


if __name__ == "__main__":
    main()
