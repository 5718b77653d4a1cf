"""How long the interpreter lock is held: python benchmarks/gil.py [RUNS=3].

A raster in memory is written to a local file by two threads, in chunks of several sizes, each time
in a fresh process. ``gilknocker`` (pip install gilknocker) asks for the lock every millisecond; its
metric is the share of time in which it had to wait.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import dask.array as da
from common import in_fresh_process, terrain

import ccog

SIZE, THREADS = 8192, 2
CHUNKS = (512, 1024, 2048, 4096)
METHODS = ("average", "cubic")
KNOCK_MICROSECONDS = 1000


def measure(chunk: int, method: str) -> dict[str, float]:
    """The share of time in which the lock was held, and the seconds that the write took."""
    from gilknocker import KnockKnock

    array = da.from_array(terrain(SIZE), chunks=chunk, name=False)
    options = {"compress": "deflate", "predictor": "yes", "overview_resampling": method}
    knocker = KnockKnock(KNOCK_MICROSECONDS)
    with tempfile.TemporaryDirectory() as folder:
        # imports hold the lock, and happen once
        small, target = array[:512, :512], Path(folder, "a.tif")
        ccog.write_ccog(small, target, COG_creation_options=options).compute()
        delayed = ccog.write_ccog(array, target, COG_creation_options=options)
        knocker.start()
        started = time.perf_counter()
        delayed.compute(scheduler="threads", num_workers=THREADS)
        seconds = time.perf_counter() - started
        held = knocker.contention_metric
        knocker.stop()
    return {"held": held, "seconds": seconds}


def row(chunk: int, method: str, runs: int) -> str:
    found = [in_fresh_process(__file__, "measure", str(chunk), method) for _ in range(runs)]
    held, seconds = (statistics.median(run[key] for run in found) for key in ("held", "seconds"))
    return f"| {chunk} | {method} | {100 * held:.1f} % | {seconds:.2f} s |"


def main() -> None:
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(int(sys.argv[2]), sys.argv[3])))
        return
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{SIZE} x {SIZE} uint16, deflate with predictor, {THREADS} threads\n")
    print("| chunks | resampling | lock held | write |\n|---|---|---|---|")
    for method in METHODS:
        for chunk in CHUNKS:
            print(row(chunk, method, runs), flush=True)


if __name__ == "__main__":
    main()
