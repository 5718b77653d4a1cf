"""What building the graph of a write costs, and its tasks: python benchmarks/graph.py [CHUNKS_A_SIDE=632] [LAYOUT]."""

from __future__ import annotations

import pickle
import sys
import time
import tracemalloc
from typing import Any

import dask.array as da

import ccog
from ccog.geometry.settings import settings, use_settings


def source(side: int, chunk: int = 1024) -> da.Array:
    """A lazily built array of ``side`` x ``side`` chunks."""
    zeros = da.zeros((side * chunk, side * chunk), chunks=chunk, dtype="uint8")
    return zeros.map_blocks(lambda block: block + 1, dtype="uint8", meta=zeros._meta)


def tasks(delayed: Any) -> int:
    """Tasks of ours, besides loads, which are fused into them."""
    return len(delayed.dask.layers[delayed.key])


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 632
    layout: Any = (sys.argv[2:] or ["gdal"])[0]
    usual = settings().many_blocks
    print(
        "| kernel | chunks | build s | build MB | pickled kB | tasks a chunk |\n|---|---|---|---|---|---|"
    )
    for kernel in ("average", "cubic"):
        for many in (usual, 1 << 40):
            with use_settings(many_blocks=many):
                array = source(side)
                tracemalloc.start()
                started = time.perf_counter()
                options = {"overview_resampling": kernel, "bigtiff": "yes"}
                delayed = ccog.write_ccog(array, COG_creation_options=options, layout=layout)
                seconds, (_, peak) = time.perf_counter() - started, tracemalloc.get_traced_memory()
                tracemalloc.stop()
                layer = delayed.dask.layers[delayed.key]
                size = len(pickle.dumps(layer.mapping))
                name = kernel if many == usual else f"{kernel}, no blocks of several chunks"
                count = tasks(delayed) / side**2
                print(
                    f"| {name} | {side**2} | {seconds:.2f} | {peak / 1e6:.0f} | {size / 1e3:.0f} | {count:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
