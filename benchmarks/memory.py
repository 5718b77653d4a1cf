"""Peak memory above the imports, for a generated raster: python benchmarks/memory.py [SIZE=24576] [MODE].

Each case runs in a fresh process on two threads; the second is twice as high, the third has the default kernel.
With "s3" as MODE the first case goes to a local file and to an S3 server on this machine; with "plan" rasters of
several shapes, chunks, kinds of pixels, compressions and kernels are set beside what ``ccog.plan`` says of them with
and without a sample, which is for each of the two threads.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path

import dask
import dask.array as da
from common import in_fresh_process, lazy_waves, peak_memory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import ccog
from servers import KEY, SECRET, seaweedfs

# amplitude of what is added to waves; the last leaves nothing of them
NOISES = {"flat": 1, "usual": 6, "noise": 65536}
CASES = (
    *((24576, 24576, 4096, "deflate", method, noise)
      for noise, method in itertools.product(NOISES, ("average", "cubic", "nearest"))),
    (12288, 12288, 4096, "deflate", "average", "usual"),
    (16384, 24576, 4096, "deflate", "average", "usual"),
    (12288, 12288, 2048, "deflate", "cubic", "usual"),
    (12288, 24576, 2048, "none", "average", "usual"),
    (12288, 24576, 2048, "lzw", "average", "usual"),
    (8192, 24576, 1024, "zstd", "average", "usual"),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A raster, and how it is written; sides are whole chunks."""

    height: int
    width: int
    chunk: int
    compress: str
    method: str
    noise: str

    def source(self) -> da.Array:
        return lazy_waves((self.height, self.width), self.chunk, NOISES[self.noise])

    @property
    def options(self) -> dict[str, str]:
        predictor = {} if self.compress == "none" else {"predictor": "yes"}
        return {
            "compress": self.compress,
            "overview_resampling": self.method,
            "bigtiff": "yes",
            **predictor,
        }

    def peak(self, endpoint: str = "") -> float:
        """Peak RSS above the imports in MB, to a file or to the S3 server at ``endpoint``."""
        before = peak_memory()
        with tempfile.TemporaryDirectory() as folder:
            target = "s3://test/a.tif" if endpoint else str(Path(folder) / "a.tif")
            storage = {"key": KEY, "secret": SECRET, "endpoint_url": endpoint} if endpoint else None
            ccog.write_ccog(
                self.source(),
                target,
                COG_creation_options=self.options,
                storage_options=storage,
                compute=True,
            )
        return peak_memory() - before

    def planned(self, sample: int) -> float:
        """What ``ccog.plan`` says the two threads need, in MB."""
        return (
            2
            * ccog.plan(self.source(), COG_creation_options=self.options, sample=sample).memory
            / 1e6
        )


def measured(case: Case, endpoint: str = "") -> float:
    """Peak in a process of its own, in MB."""
    return in_fresh_process(__file__, "case", json.dumps(astuple(case)), endpoint)


def beside_the_plan() -> None:
    print(
        "| pixels | chunks | data | compression | kernel | measured MB | planned | with a sample of 4 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for case in itertools.starmap(Case, CASES):
        peak, guess, sampled = measured(case), case.planned(0), case.planned(4)
        print(f"| {case.height} x {case.width} | {case.chunk} x {case.chunk} | {case.noise} | {case.compress} | "
              f"{case.method} | {peak:.0f} | {guess:.0f} ({guess / peak:.2f}) | {sampled:.0f} ({sampled / peak:.2f}) |",
              flush=True)  # fmt: skip


def file_and_s3(size: int) -> None:
    print("| target | peak MB above imports |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder, seaweedfs(Path(folder)) as options:
        for name, endpoint in (("file", ""), ("S3", options["endpoint_url"])):
            found = measured(Case(size, size, 4096, "deflate", "average", "usual"), endpoint)
            print(f"| {name} | {found:.0f} |", flush=True)


def main() -> None:
    dask.config.set(scheduler="threads", num_workers=2)
    if sys.argv[1:2] == ["case"]:
        print(json.dumps(Case(*json.loads(sys.argv[2])).peak(sys.argv[3])))
        return
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 24576
    if "s3" in sys.argv[2:]:
        return file_and_s3(size)
    if "plan" in sys.argv[2:]:
        return beside_the_plan()
    print("| height | width | resampling | peak MB above imports |\n|---|---|---|---|")
    for height, method in (
        (size, "average"),
        (2 * size, "average"),
        (size, "cubic"),
        (2 * size, "cubic"),
    ):
        found = measured(Case(height, size, 4096, "deflate", method, "usual"))
        print(f"| {height} | {size} | {method} | {found:.0f} |", flush=True)


if __name__ == "__main__":
    main()
