"""How long the interpreter lock is held: python benchmarks/gil.py [RUNS=3].

A raster in memory is written to a local file, in chunks of several sizes, by one thread and by two,
each time in a fresh process. ``gilknocker`` (pip install gilknocker) asks for the lock every
millisecond; its metric is the share of time in which it had to wait. It also waits where no thread
has the lock and no core is free, so dask tasks that do nothing but compress by zlib, which lets go
of the lock, are measured too.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import dask
import dask.array as da
import dask.threaded
import numpy as np
from common import in_fresh_process, terrain

import ccog

SIZE = 8192
THREADS = (1, 2)
CHUNKS = (512, 1024, 2048, 4096)
METHODS = ("average", "cubic")
KNOCK_MICROSECONDS = 1000
WITHOUT_LOCK_TASKS, WITHOUT_LOCK_BYTES = 16, 8 << 20


def measured(work: Callable[[], object]) -> dict[str, float]:
    """The share of time in which the lock was held, and the seconds that the work took."""
    from gilknocker import KnockKnock

    knocker = KnockKnock(KNOCK_MICROSECONDS)
    knocker.start()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    held = knocker.contention_metric
    knocker.stop()
    return {"held": held, "seconds": seconds}


def without_lock(threads: int) -> dict[str, float]:
    """Each task is one call that lets go of the lock, about as long as the work on a chunk."""
    noise = np.random.default_rng(0).integers(0, 256, WITHOUT_LOCK_BYTES, np.uint8).tobytes()
    tasks = {f"compress-{n}": (zlib.compress, noise) for n in range(WITHOUT_LOCK_TASKS)}
    return measured(lambda: dask.threaded.get(tasks, [*tasks], num_workers=threads))


def with_ccog(chunk: int, method: str, threads: int) -> dict[str, float]:
    """A write, with the making of its graph."""
    array = da.from_array(terrain(SIZE), chunks=chunk, name=False)
    options = {"compress": "deflate", "predictor": "yes", "overview_resampling": method}

    def write(pixels: da.Array) -> None:
        ccog.write_ccog(pixels, target, COG_creation_options=options).compute()

    with tempfile.TemporaryDirectory() as folder, dask.config.set(num_workers=threads):
        target = Path(folder, "a.tif")
        # imports hold the lock, and happen once
        write(array[:512, :512])
        return measured(lambda: write(array))


def row(runs: int, chunk: int, method: str) -> str:
    """One line of the table; no chunks are the tasks of zlib."""
    cells = []
    for threads in THREADS:
        args = str(chunk), method, str(threads)
        found = [in_fresh_process(__file__, "measure", *args) for _ in range(runs)]
        held = [100 * run["held"] for run in found]
        seconds = statistics.median(run["seconds"] for run in found)
        cells += [f"{min(held):.0f} to {max(held):.0f} %", f"{seconds:.1f} s"]
    name = f"chunks of {chunk}, {method}" if chunk else "zlib alone"
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    if sys.argv[1:2] == ["measure"]:
        chunk, method, threads = int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
        found = with_ccog(chunk, method, threads) if chunk else without_lock(threads)
        print(json.dumps(found), flush=True)
        # the knocker's thread may abort an interpreter that ends in the usual way
        os._exit(0)
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{SIZE} x {SIZE} uint16, deflate with predictor; the lock held, {runs} runs each:\n")
    print("| what | 1 thread | | 2 threads | |\n|---|---|---|---|---|")
    print(row(runs, 0, "none"), flush=True)
    for method in METHODS:
        for chunk in CHUNKS:
            print(row(runs, chunk, method), flush=True)


if __name__ == "__main__":
    main()
