"""Writes from three worker processes, one of them killed on the way: python benchmarks/kills.py [RUNS=75] [SEED=0].

Each of four cases has RUNS runs: to S3 and to a local file, with rows of blocks that take less than 10 MiB, which are
uploaded when they are joined, and more, which are uploaded by themselves. The moment of the kill is random in the time
that a write takes, and so is its victim; SEED makes them the same again. Writes docs/tables/kills.md.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import s3fs
from distributed import Client, LocalCluster

import ccog
from kills import CREATION, settle, source, write_and_kill
from servers import seaweedfs

ROOT = Path(__file__).resolve().parents[1]

HEAD = """Written by `python benchmarks/kills.py`: each run is a write from three worker processes, one of which is
killed with SIGKILL at a random moment. Rows of blocks under 10 MiB are uploaded joined to others, larger ones alone.

"""

# a nanny that is struck while it restarts a worker may never do so: a cluster serves some runs only
_RUNS_A_CLUSTER = 5


@dataclass(frozen=True)
class Case:
    """A kind of target, and the shape (rows, columns) of what is written to it."""

    target: str
    shape: tuple[int, int]

    @property
    def label(self) -> str:
        """The case in words: a row of blocks is 1024 pixels high, and noise hardly shrinks."""
        return f"{self.target}, rows of {self.shape[1] * 1024 * 2 / 2**20:.0f} MiB"


@dataclass
class Tally:
    """What came of the runs of a case."""

    runs: int = 0
    wrong: int = 0
    left: int = 0
    failed: int = 0


CASES = tuple(
    Case(target, shape) for target in ("S3", "local") for shape in ((6144, 4096), (3072, 8192))
)


@contextmanager
def cluster_of_three() -> Iterator[tuple[Any, Any]]:
    cluster = LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0")
    client = Client(cluster, set_as_default=False)
    try:
        yield cluster, client
    finally:
        # a cluster whose workers were killed may fail to close (KeyError of a worker, dask 2026.8)
        for one in (client, cluster):
            with suppress(Exception):
                one.close()


class Runs:
    """The runs of one case."""

    def __init__(self, case: Case, folder: Path, options: dict[str, Any]) -> None:
        self.case = case
        self.tally = Tally()
        self._folder = folder
        self._options = options if case.target == "S3" else None
        array = source(case.shape)
        written: bytes = ccog.write_ccog(array, COG_creation_options=CREATION).compute(
            scheduler="threads"
        )
        self._expected = hashlib.sha256(written).digest()
        self._longest = 0.5

    def _url(self, n: int) -> str:
        return f"s3://test/kills/{n}.tif" if self._options else str(self._folder / f"{n}.tif")

    def run(self, cluster: Any, client: Any, n: int, chance: random.Random) -> None:
        """One write and one kill; the first one, killed early, says how long a write takes."""
        url, tally = self._url(n), self.tally
        tally.runs += 1
        try:
            kill = write_and_kill(
                cluster, client, url, self._options, self._longest, chance, self.case.shape
            )
            self._longest = kill.seconds if tally.runs == 1 else self._longest
            tally.wrong += self._read_and_remove(url) != self._expected
        except Exception as error:
            tally.failed += 1
            print(f"{self.case.label}, run {n}: {error!r}", file=sys.stderr, flush=True)
        tally.left += len(ccog.list_incomplete(url, self._options))

    def _read_and_remove(self, url: str) -> bytes:
        if self._options is None:
            data = Path(url).read_bytes()
            Path(url).unlink()
        else:
            filesystem = s3fs.S3FileSystem(**self._options, skip_instance_cache=True)
            data = bytes(filesystem.cat_file(url))
            filesystem.rm_file(url)
        return hashlib.sha256(data).digest()


def run_case(case: Case, count: int, seed: int) -> Tally:
    """All runs of a case, on clusters and a server of its own."""
    logging.disable(logging.ERROR)
    chance = random.Random(f"{seed} {case.label}")
    with tempfile.TemporaryDirectory() as folder, seaweedfs(Path(folder)) as options:
        runs = Runs(case, Path(folder), options)
        for start in range(0, count, _RUNS_A_CLUSTER):
            with cluster_of_three() as (cluster, client):
                for n in range(start, min(count, start + _RUNS_A_CLUSTER)):
                    settle(client, 3)
                    runs.run(cluster, client, n, chance)
            print(f"... {case.label}: {runs.tally}", file=sys.stderr, flush=True)
    return runs.tally


def in_own_process(case: int, count: int, seed: int) -> Tally:
    """The same in a process of its own."""
    command = [sys.executable, __file__, str(count), str(seed), str(case)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Tally(**json.loads(done.stdout))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 75
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if len(sys.argv) > 3:
        print(json.dumps(asdict(run_case(CASES[int(sys.argv[3])], count, seed))))
        return
    rows = ["| case | runs | failed | wrong files | uploads left |", "|---|---|---|---|---|"]
    # two cases at a time: a run waits more than it works
    with ThreadPoolExecutor(2) as pool:
        tallies = list(pool.map(partial(in_own_process, count=count, seed=seed), range(len(CASES))))
    for case, tally in zip(CASES, tallies, strict=True):
        rows.append(
            f"| {case.label} | {tally.runs} | {tally.failed} | {tally.wrong} | {tally.left} |"
        )
    (ROOT / "docs" / "tables" / "kills.md").write_text(HEAD + "\n".join(rows) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
