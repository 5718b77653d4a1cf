"""What is done twice when a worker or the client is killed: python benchmarks/economy.py [ROWS=96] [workers|client].

Writes terrain to SeaweedFS from three worker processes, through a proxy that counts the parts the server takes. First
without a fault (and with records, as in the last), then with a worker killed when 30, 60 and 90 % of the parts are
there, then with ``resume=True`` and the client killed when 60 % of the CPU time is spent that the whole write takes,
and the same call again. CPU time is that of the tasks as the scheduler counts it, or of the whole of the one process
that runs threads.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import psutil
import s3fs
from common import lazy_terrain
from distributed import Client, LocalCluster

import ccog
from faults import Proxy, proxied
from kills import settle
from servers import seaweedfs

COLUMNS, CHUNK, WORKERS = 20, (512, 1024), 3
CREATION = {"compress": "deflate", "predictor": "yes", "overview_resampling": "average"}

# which workers die is the same at each run
CHANCE = random.Random(0)

# workers report to the scheduler that often, where there are few
_HEARTBEAT_SECONDS = 1.0


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    shape: tuple[int, int]
    cluster: Any
    client: Any
    proxy: Proxy
    options: dict[str, Any]
    filesystem: Any

    def write(self, name: str, **kwargs: Any) -> Any:
        """The Delayed."""
        return ccog.write_ccog(
            lazy_terrain(self.shape, CHUNK), f"s3://test/{name}.tif", COG_creation_options=CREATION,
            storage_options=self.options, **kwargs,
        )  # fmt: skip

    def is_right(self, name: str, as_name: str = "whole") -> str:
        """Whether two objects are equal; one is removed, since disks are small."""
        left, right = (self.filesystem.cat(f"test/{n}.tif") for n in (name, as_name))
        if name != as_name:
            self.filesystem.rm(f"test/{name}.tif")
        return "right" if left == right else "WRONG"

    def cpu(self) -> float:
        """CPU seconds of the threads of all tasks so far, as the scheduler hears of them."""
        time.sleep(_HEARTBEAT_SECONDS)
        found = self.cluster.scheduler.cumulative_worker_metrics
        return sum(
            seconds for key, seconds in found.items() if key[0] == "execute" and "thread-cpu" in key
        )


def main() -> None:
    if sys.argv[1:2] == ["client"]:
        return client_process(*json.loads(sys.argv[2]))
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 96
    logging.disable(logging.WARNING)
    with (
        tempfile.TemporaryDirectory() as folder,
        seaweedfs(Path(folder)) as server,
        proxied(server) as (proxy, through),
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        shape = rows * CHUNK[0], COLUMNS * CHUNK[1]
        filesystem = s3fs.S3FileSystem(**server, skip_instance_cache=True)
        measure(
            Bench(shape, cluster, client, proxy, through, filesystem),
            sys.argv[2:] or ["workers", "client"],
        )


def measure(bench: Bench, what: list[str]) -> None:
    before, started = bench.cpu(), time.monotonic()
    bench.client.compute(bench.write("whole", resume=True)).result()
    parts, cpu = len(bench.proxy.parts), bench.cpu() - before
    print(f"{bench.shape[0]} x {bench.shape[1]} uint16: {parts} parts, {cpu:.1f} s of CPU, "
          f"{time.monotonic() - started:.1f} s", flush=True)  # fmt: skip
    print("\n| killed | when | object | parts uploaded twice |\n|---|---|---|---|")
    for share in (0.3, 0.6, 0.9) if "workers" in what else ():
        kill_a_worker(bench, share, parts)
    print(
        "\n| killed | when | object | CPU s of the second run | of the whole | parts uploaded twice |\n"
        + "|---" * 6
        + "|"
    )
    if "client" in what:
        kill_the_client(bench, cpu)
        kill_the_process(bench)


def kill_a_worker(bench: Bench, share: float, parts: int) -> None:
    bench.proxy.arm(None)
    future = bench.client.compute(bench.write("killed"))
    wait_for(lambda: len(bench.proxy.parts) >= share * parts)
    os.kill(CHANCE.choice(list(bench.cluster.workers.values())).pid, signal.SIGKILL)
    future.result(timeout=600)
    del future
    print(
        f"| one of {WORKERS} workers | {share:.0%} | {bench.is_right('killed')} | {twice(bench.proxy)} |",
        flush=True,
    )
    settle(bench.client, WORKERS)


def kill_the_client(bench: Bench, whole: float) -> None:
    bench.proxy.arm(None)
    before = bench.cpu()
    process = client_of(bench, bench.client.scheduler.address)
    wait_for(lambda: bench.cpu() - before >= 0.6 * whole)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(bench.client.processing().values()))
    before = bench.cpu()
    assert client_of(bench, bench.client.scheduler.address).wait() == 0
    again = bench.cpu() - before
    print(f"| client of a cluster | 60% | {bench.is_right('resumed')} | {again:.1f} | {again / whole:.0%} | "
          f"{twice(bench.proxy)} |", flush=True)  # fmt: skip


def kill_the_process(bench: Bench) -> None:
    """The same with threads in one process, whose whole run is measured first."""
    whole = json.loads(client_of(bench, None).communicate()[0].splitlines()[-1])["cpu"]
    bench.filesystem.rm("test/resumed.tif")
    bench.proxy.arm(None)
    process = client_of(bench, None)
    assert process.stdout is not None
    start = json.loads(process.stdout.readline())["start"]
    running = psutil.Process(process.pid)
    wait_for(lambda: sum(running.cpu_times()[:2]) - start >= 0.6 * whole)
    process.kill()
    process.communicate()
    again = json.loads(client_of(bench, None).communicate()[0].splitlines()[-1])["cpu"]
    print(f"| process with threads | 60% | {bench.is_right('resumed')} | {again:.1f} | {again / whole:.0%} | "
          f"{twice(bench.proxy)} |", flush=True)  # fmt: skip


def client_of(bench: Bench, address: str | None) -> subprocess.Popen[str]:
    """A process that writes with ``resume=True``, on the cluster or by threads of its own."""
    given = json.dumps([bench.shape, bench.options, address])
    return subprocess.Popen(
        [sys.executable, __file__, "client", given], stdout=subprocess.PIPE, text=True
    )


def client_process(shape: list[int], options: dict[str, Any], address: str | None) -> None:
    delayed = ccog.write_ccog(
        lazy_terrain((shape[0], shape[1]), CHUNK), "s3://test/resumed.tif", COG_creation_options=CREATION,
        storage_options=options, resume=True,
    )  # fmt: skip
    start = sum(os.times()[:2])
    print(json.dumps({"start": start}), flush=True)
    if address is None:
        delayed.compute(scheduler="threads", num_workers=2)
    else:
        with Client(address) as client:
            delayed.compute(scheduler=client)
    print(json.dumps({"cpu": sum(os.times()[:2]) - start}), flush=True)


def twice(proxy: Proxy) -> str:
    extra, parts = sum(proxy.parts.values()) - len(proxy.parts), len(proxy.parts)
    return f"{extra} of {parts} ({extra / parts:.1%})"


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


if __name__ == "__main__":
    main()
