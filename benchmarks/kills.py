"""Writes to S3 from three worker processes, one of them killed on the way: python benchmarks/kills.py [RUNS=50].

The moment of the kill is random in the time that a write takes, and so is its victim.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import s3fs
from distributed import Client, LocalCluster

import ccog
from kills import CREATION, settle, source, write_and_kill
from servers import seaweedfs


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    logging.disable(logging.WARNING)
    expected = ccog.write_ccog(source(), COG_creation_options=CREATION).compute(scheduler="threads")
    right = left = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        seaweedfs(Path(folder)) as options,
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        filesystem = s3fs.S3FileSystem(**options, skip_instance_cache=True)
        longest = write_and_kill(cluster, client, "s3://test/warm.tif", options, 0.1).seconds
        for n in range(runs):
            settle(client, 3)
            kill = write_and_kill(cluster, client, f"s3://test/{n}.tif", options, longest)
            right += bytes(filesystem.cat(f"test/{n}.tif")) == expected
            left += len(ccog.list_incomplete("s3://test", options))
            print(f"{n + 1} runs, {right} right objects, {left} uploads left; "
                  f"killed after {kill.after:.2f} s of {kill.seconds:.2f} s", flush=True)  # fmt: skip
            filesystem.rm(f"test/{n}.tif")


if __name__ == "__main__":
    main()
