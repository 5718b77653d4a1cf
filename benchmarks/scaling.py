"""A generated raster, written on this machine by one and by two workers: python benchmarks/scaling.py [SIDE=65536].

Each run has a process of its own; workers have one thread, two have 1.5 GB each and one has 3 GB. Moved are the bytes
that workers fetched from each other; a worker that was restarted or has spilled is an error. The S3 server and dask's
scheduler take CPU of the same machine, so what the work itself costs is counted too: the CPU seconds of the workers, or
of the process whose threads write. Some runs write to a local file, which needs no server.

Workers that dask's nanny starts give memory back to the system at once (MALLOC_TRIM_THRESHOLD_), which costs page
faults, so one run of threads has the same setting, and two runs of workers a better one. Last, one and two workers of
half the speed, which leaves a core to server and scheduler: each is let run half of the time, in turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from common import in_fresh_process, lazy_waves

import ccog
from servers import seaweedfs

CHUNK = 2048
# seconds that a worker of half the speed runs, and then does not
TURN = 0.01
# the allocator's settings: as dask's nanny starts workers, and such that memory is kept for the next task
AS_WORKERS = {"MALLOC_TRIM_THRESHOLD_": "65536"}
KEEPING = {"DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON":
           "{'MALLOC_TRIM_THRESHOLD_': 67108864, 'MALLOC_MMAP_THRESHOLD_': 33554432}"}  # fmt: skip
# workers do not look at the stacks of their threads
WITHOUT_PROFILE = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
Store = tuple[str, dict[str, Any]]
OPTIONS = {
    "compress": "zstd",
    "level": 1,
    "predictor": "yes",
    "overview_resampling": "average",
    "bigtiff": "yes",
}


def traffic(dask_worker: Any) -> tuple[int, int]:
    """Bytes that a worker fetched from others, and bytes it spilled."""
    spilled = getattr(dask_worker.data, "cumulative_metrics", {})
    moved = sum(entry["total"] for entry in dask_worker.transfer_incoming_log)
    return moved, int(sum(v for k, v in spilled.items() if k[0] == "disk-write"))


def cpu_seconds() -> float:
    """CPU that this process has used."""
    return sum(os.times()[:2])


@contextlib.contextmanager
def half_speed(pids: list[int]) -> Iterator[None]:
    """Let one or two processes run half of the time each, in turns."""
    done = threading.Event()

    def take_turns() -> None:
        turn = 0
        while not done.wait(TURN):
            turn = 1 - turn
            for n, pid in enumerate(pids):
                os.kill(pid, signal.SIGCONT if n == turn else signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=take_turns)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def on_cluster(side: int, workers: int, store: Store, slow: bool, layout: str) -> dict[str, float]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=f"{3 / workers}GB",
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
    ):
        write(2 * CHUNK, store, layout)
        pids = {worker.pid for worker in cluster.workers.values()}
        before = sum(client.run(cpu_seconds).values())
        with half_speed(sorted(pids)) if slow else contextlib.nullcontext():
            seconds, size = write(side, store, layout)
        cpu = sum(client.run(cpu_seconds).values()) - before
        moved, spilled = (sum(found) for found in zip(*client.run(traffic).values(), strict=True))
        assert pids == {worker.pid for worker in cluster.workers.values()}, "a worker was restarted"
        assert not spilled, f"{spilled} bytes were spilled"
    return {"seconds": seconds, "cpu": cpu, "size": size, "moved": moved / size}


def write(side: int, store: Store, layout: str) -> tuple[float, int]:
    """Seconds, and bytes of the file."""
    started = time.perf_counter()
    url, options = store
    result = ccog.write_ccog(
        lazy_waves((side, side), CHUNK, 60),
        url,
        COG_creation_options=OPTIONS,
        storage_options=options,
        layout=layout,
        compute=True,
    )
    return time.perf_counter() - started, result.size


def on_threads(side: int, store: Store, layout: str) -> dict[str, float]:
    import dask

    with dask.config.set(scheduler="threads", num_workers=2):
        write(2 * CHUNK, store, layout)
        before = cpu_seconds()
        seconds, size = write(side, store, layout)
        cpu = cpu_seconds() - before
    return {"seconds": seconds, "cpu": cpu, "size": size, "moved": 0.0}


@contextlib.contextmanager
def store_at(kind: str) -> Iterator[Store]:
    """A URL of the kind ``s3`` or ``file``, with its storage options."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "file":
            yield str(Path(folder, "scaling.tif")), {}
            return
        with seaweedfs(Path(folder)) as options:
            yield "s3://test/scaling.tif", options


@dataclass(frozen=True)
class Run:
    """One row of the table; no workers are two threads of one process."""

    name: str
    workers: int
    layout: str = "gdal"
    kind: str = "s3"
    slow: bool = False
    env: dict[str, str] = field(default_factory=dict)

    def measure(self, side: int) -> dict[str, float]:
        with store_at(self.kind) as store:
            if self.workers:
                return on_cluster(side, self.workers, store, self.slow, self.layout)
            return on_threads(side, store, self.layout)


RUNS = (
    Run("2 threads", 0),
    Run("2 threads, allocator as workers have it", 0, env=AS_WORKERS),
    Run("1 worker", 1),
    Run("2 workers", 2),
    Run("2 workers, layout=chunk", 2, "chunk"),
    Run("2 workers, allocator that keeps memory", 2, env=KEEPING),
    Run("2 workers, the same, no look at stacks", 2, env=KEEPING | WITHOUT_PROFILE),
    Run("2 threads, local file", 0, kind="file"),
    Run("1 worker, local file", 1, kind="file"),
    Run("2 workers, local file", 2, kind="file"),
    Run("1 worker at half speed", 1, slow=True),
    Run("2 workers at half speed", 2, slow=True),
    Run("2 workers at half speed, layout=chunk", 2, "chunk", slow=True),
)


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 65536
    if len(sys.argv) > 2:
        print(json.dumps(RUNS[int(sys.argv[2])].measure(side)))
        return
    print(
        f"{side} x {side} uint16, {2 * side**2 / 1e9:.1f} GB; at half speed {side // 2} x {side // 2}\n"
    )
    print(
        "| run | s | MB/s of pixels | CPU s | MB/s of pixels for each CPU | bytes moved per byte written |"
    )
    print("|---|---|---|---|---|---|")
    found: dict[str, dict[str, float]] = {}
    for n, run in enumerate(RUNS):
        length = side // 2 if run.slow else side
        pixels = 2 * length**2 / 1e6
        found[run.name] = cost = in_fresh_process(__file__, str(length), str(n), env=run.env)
        print(f"| {run.name} | {cost['seconds']:.1f} | {pixels / cost['seconds']:.0f} | {cost['cpu']:.1f} | "
              f"{pixels / cost['cpu']:.0f} | {cost['moved']:.2f} |", flush=True)  # fmt: skip
    print()
    for kind in ("", ", local file", " at half speed"):
        one_name, two = f"1 worker{kind}", f"2 workers{kind}"
        print(
            f"{two} do {found[one_name]['seconds'] / found[two]['seconds']:.2f} times what {one_name} does"
        )
    for other in ("2 threads", "2 threads, allocator as workers have it"):
        for two in (
            "2 workers",
            "2 workers, layout=chunk",
            "2 workers, allocator that keeps memory",
            "2 workers, the same, no look at stacks",
        ):
            print(
                f"{two}: {found[other]['cpu'] / found[two]['cpu']:.2f} of the throughput for each CPU of {other}"
            )


if __name__ == "__main__":
    main()
