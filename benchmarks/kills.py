"""Writes to S3 from three worker processes, one of them killed on the way: python benchmarks/kills.py [RUNS=50].

The moment of the kill is random in the time that a write takes, and so is its victim.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import s3fs
from distributed import Client, LocalCluster

import ccog
from kills import CREATION, Kill, source, write_and_kill
from servers import seaweedfs


def attempt(url: str, options: dict[str, Any], longest: float) -> Kill:
    """One write on workers of its own, since a nanny that is struck while it restarts a worker may never do so."""
    with (
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        return write_and_kill(cluster, client, url, options, longest)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    logging.disable(logging.WARNING)
    expected = ccog.write_ccog(source(), COG_creation_options=CREATION).compute(scheduler="threads")
    right = left = 0
    print("| run | killed after | of | right objects | uploads left |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, seaweedfs(Path(folder)) as options:
        filesystem = s3fs.S3FileSystem(**options, skip_instance_cache=True)
        longest = attempt("s3://test/warm.tif", options, 0.1).seconds
        for n in range(runs):
            kill = attempt(f"s3://test/{n}.tif", options, longest)
            right += bytes(filesystem.cat_file(f"test/{n}.tif")) == expected
            left += len(ccog.list_incomplete("s3://test", options))
            print(f"| {n + 1} | {kill.after:.2f} s | {kill.seconds:.2f} s | {right} | {left} |", flush=True)
            filesystem.rm_file(f"test/{n}.tif")


if __name__ == "__main__":
    main()
