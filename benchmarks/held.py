"""Peak of encoded bytes that tasks hold: python benchmarks/held.py [threads|workers] [LAYOUT] [SIDE] [KERNEL].

Without arguments all of: both layouts, 8 threads and 4 workers of 2 threads, 64 x 64 and 128 x 128 chunks. A chunk is
one uncompressed tile of 128 x 128 bytes, so that each takes 16 KiB; a part has four chunks, and the least that a store
takes 1.25, as S3 has it for chunks of 4 MiB. What counts is each buffer of tiles in a result that some task still
needs, once for each worker that has it.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import dask
import dask.array as da
import numpy as np
from common import in_fresh_process
from dask.callbacks import Callback

import ccog
from ccog.geometry.parts import Limits
from ccog.geometry.settings import use_settings
from ccog.stores.local import LocalStore

CHUNK = 128
BYTES = CHUNK * CHUNK
PART = 4 * BYTES
LIMITS = Limits(min_part=BYTES * 5 // 4, max_part=1 << 40, max_parts=1 << 40, preferred_part=PART)
# what the machines of a bar are: threads of one process, or processes
MACHINES = {"threads": 8, "workers": 4}


@dataclass(frozen=True)
class SmallParts(LocalStore):
    """A local file in parts of a size that suits the chunks."""

    @property
    def limits(self) -> Limits:
        return LIMITS


def buffers(value: Any) -> Iterator[Any]:
    """Encoded bytes anywhere in a result: rows of tiles, heads and tails of stretches; pixels have more dimensions."""
    if isinstance(value, bytes) or (
        isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype == np.uint8
    ):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from buffers(item)


class Account:
    """Bytes held, by the identity of buffers: a result that passes one on holds it no second time."""

    def __init__(self) -> None:
        self._by_key: dict[Any, list[Any]] = {}
        self._uses: Counter[int] = Counter()
        self.held = 0

    def add(self, key: Any, value: Any) -> None:
        if key in self._by_key:
            return
        self._by_key[key] = list(buffers(value))
        for one in self._by_key[key]:
            self.held += 0 if self._uses[id(one)] else len(one)
            self._uses[id(one)] += 1

    def drop(self, key: Any) -> None:
        for one in self._by_key.pop(key, ()):
            self._uses[id(one)] -= 1
            self.held -= 0 if self._uses[id(one)] else len(one)

    def keys(self) -> set[Any]:
        return set(self._by_key)


class OnThreads(Callback):
    """Follows the results that the local scheduler keeps."""

    def __init__(self) -> None:
        self._account, self.peak = Account(), 0
        super().__init__(posttask=self._after)

    def _after(self, key: Any, value: Any, _dsk: Any, state: dict[str, Any], _worker: Any) -> None:
        self._account.add(key, value)
        self.peak = max(self.peak, self._account.held)
        for gone in self._account.keys() - state["cache"].keys():
            self._account.drop(gone)


def on_workers_plugin(log: list[tuple[float, int]]) -> Any:
    """Follows the results that a worker has, its own and those it fetched."""
    from distributed import WorkerPlugin

    class OnWorker(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            self._worker, self._account = worker, Account()

        def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
            before = self._account.held
            if finish == "memory":
                self._account.add(key, self._worker.data.get(key))
            elif start == "memory":
                self._account.drop(key)
            if self._account.held != before:
                log.append((time.perf_counter(), self._account.held - before))

    return OnWorker


def peak_on_threads(delayed: Any) -> int:
    counter = OnThreads()
    with counter:
        delayed.compute(scheduler="threads", num_workers=8)
    return counter.peak


def peak_on_workers(side: int, layout: str, kernel: str, path: Path) -> int:
    """Workers in this process: what they hold is the same, and their clocks agree."""
    from distributed import Client, LocalCluster

    log: list[tuple[float, int]] = []
    with (
        LocalCluster(4, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        plugin = on_workers_plugin(log)
        for worker in cluster.workers.values():
            worker.plugins[f"held-{worker.name}"] = one = plugin()
            one.setup(worker)
        write(side, layout, kernel, path).compute(scheduler=client)
    return max(itertools.accumulate(delta for _, delta in sorted(log)), default=0)


def write(side: int, layout: str, kernel: str, path: Path) -> Any:
    pixels = da.random.default_rng(0).integers(
        1, 200, (side * CHUNK,) * 2, chunks=CHUNK, dtype="uint8"
    )
    options = {
        "blocksize": CHUNK,
        "compress": "none",
        "overview_resampling": kernel,
        "bigtiff": "yes",
    }
    return ccog.write_ccog(pixels, str(path), COG_creation_options=options, layout=layout)


def peak(where: str, layout: str, side: int, kernel: str) -> tuple[float, float]:
    """Peak in chunks, and seconds."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("ccog.stores.resolve.LocalStore", SmallParts),
        use_settings(tiny_block_bytes=0),  # these chunks stand for large ones
    ):
        path, started = Path(folder) / "a.tif", time.perf_counter()
        if where == "threads":
            with dask.config.set(num_workers=8):
                found = peak_on_threads(write(side, layout, kernel, path))
        else:
            found = peak_on_workers(side, layout, kernel, path)
    return found / BYTES, time.perf_counter() - started


def bar(where: str, layout: str, side: int) -> float:
    return 4 * side if layout == "gdal" else 1.5 * PART / BYTES * MACHINES[where] + 64


def main() -> None:
    if len(sys.argv) > 3:
        where, layout, side, kernel = (*sys.argv[1:4], (sys.argv[4:] or ["average"])[0])
        print(json.dumps(peak(where, layout, int(side), kernel)))
        return
    print("| layout | where | chunks | peak, in chunks | at most | s |\n|---|---|---|---|---|---|")
    for layout, where, side in itertools.product(("chunk", "gdal"), MACHINES, (64, 128)):
        found, seconds = in_fresh_process(__file__, where, layout, str(side))
        allowed = bar(where, layout, side)
        print(
            f"| {layout} | {where} | {side} x {side} | {found:.0f} | {allowed:.0f} | {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
