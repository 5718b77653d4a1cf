"""What writes of 10 GB to 48.8 TiB cost, computed from measured constants: python benchmarks/model.py.

Levels, tasks, header, parts and memory (for the second number of workers) are those of ``ccog.plan``; the rest
follows from the constants, each with the benchmark that measured it. It prints the tables of docs/scaling.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import dask
import dask.array as da

import ccog


@dataclass(frozen=True)
class Constants:
    """Measured on two cores of one machine, but for Amazon's prices and the network."""

    #: CPU seconds to reduce and encode a GB of uint16 pixels, DEFLATE with a predictor (speed.py: 2.12 s for 0.134 GB)
    encode_cpu: float = 15.8
    #: CPU seconds to upload a GB, with checksums (upload.py: 0.55 s for 0.52 GB)
    upload_cpu: float = 1.06
    #: bytes of the scheduler and client for a task, the graph of the source included (cluster.py: 82 MB, 3,613 tasks)
    task_bytes: float = 22_700.0
    #: seconds of the scheduler for a task (cluster.py: 9.7 s beyond the tasks' own, 3,613 tasks)
    task_seconds: float = 0.0027
    #: bytes moved between workers for a byte written, on many workers (scaling.py)
    moved: float = 1.0
    #: file bytes for a byte of pixels, overviews included, as in scaling.py
    ratio: float = 0.5
    #: not measured: MB/s that a worker of two threads sends to a store in its region
    network: float = 200.0
    #: not measured: US dollars for 1,000 PUT, POST or LIST requests, S3 Standard (us-east-1)
    dollars: float = 0.005
    #: threads of a worker
    threads: int = 2


@dataclass(frozen=True)
class Case:
    """A square raster of uint16, and how it is chunked."""

    name: str
    side: int
    chunk: int
    blocksize: int
    workers: tuple[int, ...]


CASES = (
    Case("10 GB", 70_656, 2048, 512, (2, 8, 32)),
    Case("200 GB", 315_392, 4096, 512, (8, 32, 128)),
    Case("5 TiB", 1_658_880, 8192, 1024, (32, 128, 512)),
    Case("36.1 TiB", 4_456_448, 16384, 2048, (128, 512, 1024)),
)

MEASURED = Constants()


def planned(case: Case) -> ccog.CogPlan:
    """The plan for a store in the cloud; nothing is computed and nobody is asked."""
    pixels = da.zeros((case.side, case.side), chunks=case.chunk, dtype="uint16")
    options = {"compress": "deflate", "predictor": "yes", "blocksize": case.blocksize, "bigtiff": "yes",
               "overview_resampling": "average"}  # fmt: skip
    with dask.config.set(num_workers=case.workers[1] * MEASURED.threads):
        return ccog.plan(pixels, "s3://bucket/a.tif", COG_creation_options=options)


def requests(plan: ccog.CogPlan) -> int:
    """Parts, and what begins, completes and checks the upload."""
    return (plan.upload.expected_parts if plan.upload else 0) + 4


def hours(
    plan: ccog.CogPlan, case: Case, workers: int, known: Constants = MEASURED
) -> tuple[float, str]:
    """Wall hours, and what they are spent on: the slowest of the three."""
    pixels = 2 * case.side**2 / 1e9
    written = pixels * known.ratio
    spent = {
        "encoding": (pixels * known.encode_cpu + written * known.upload_cpu)
        / (workers * known.threads),
        "network": written * 1000 * (1 + known.moved) / (workers * known.network),
        "scheduler": plan.tasks * known.task_seconds,
    }
    slowest = max(spent, key=lambda name: spent[name])
    return spent[slowest] / 3600, slowest


def main() -> None:
    print("| raster | chunks | block size | levels | tasks | scheduler memory | scheduler time | header | parts | "
          "requests | S3 requests cost | memory a thread | moved between workers |")  # fmt: skip
    print("|" + "---|" * 13)
    plans = {case: planned(case) for case in CASES}
    for case, plan in plans.items():
        written = 2 * case.side**2 * MEASURED.ratio
        print(f"| {case.name}: {case.side}² uint16 | {plan.chunks:,} of {case.chunk}² | {case.blocksize} | "
              f"{len(plan.levels)} | {plan.tasks:,} | {plan.tasks * MEASURED.task_bytes / 1e6:,.0f} MB | "
              f"{plan.tasks * MEASURED.task_seconds / 60:.1f} min | {plan.sizes.header / 1e6:,.1f} MB | "
              f"{plan.upload.expected_parts if plan.upload else 0:,} | {requests(plan):,} | ${requests(plan) / 1000 * MEASURED.dollars:.2f} | "
              f"{plan.memory / 1e6:,.0f} MB | {written * MEASURED.moved / 1e9:,.0f} GB |")  # fmt: skip
    print(
        "\n| raster | workers of 2 threads: wall time (the slowest of encoding, network, scheduler) |\n|---|---|"
    )
    for case, plan in plans.items():
        found = [(workers, *hours(plan, case, workers)) for workers in case.workers]
        print(
            f"| {case.name} | "
            + ", ".join(f"{n}: {_time(t)} ({what})" for n, t, what in found)
            + " |"
        )


def _time(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{math.ceil(hours * 60)} min"


if __name__ == "__main__":
    main()
