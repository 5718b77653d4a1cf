"""What plan and write_ccog cost before a pixel is touched, for the longest rasters: python benchmarks/longest.py."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import dask.array as da

import ccog

#: (height, width), side of the chunks
RASTERS = [
    (100_000_000, 16, 4096),
    (16, 100_000_000, 4096),
    (100_000_000, 16, 1000),
    (2**31 - 1, 16, 512),
    (2**31 - 1, 30_000, 4096),
    (1_600_000, 1_600_000, 512),
    (8_000_000, 8_000_000, 4096),
    (2**31 - 1, 2**31 - 1, 4096),
]


def run(height: int, width: int, chunk: int, call: str, layout: Any) -> None:
    """Print a line of the table: seconds and megabytes of one call in this process."""
    warnings.simplefilter("ignore")
    pixels = da.zeros(
        (height, width), chunks=(min(height, chunk), min(width, chunk)), dtype="uint8"
    )
    ccog.plan(da.zeros((8, 8)))
    before, started = _peak(), time.perf_counter()
    try:
        getattr(ccog, call)(pixels, "longest.tif", layout=layout)
        outcome = "done"
    except ccog.CCOGError as error:
        outcome = f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - started
    print(
        f"| {height} x {width} | {chunk} | {call}, {layout} | {seconds:.2f} | {_peak() - before:.0f} | {outcome} |"
    )


def _peak() -> float:
    """Most memory this process has had, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


def main() -> None:
    print("| pixels | chunks | call | s | MB | outcome |\n|---|---|---|---|---|---|", flush=True)
    for height, width, chunk in RASTERS:
        for call in ("plan", "write_ccog"):
            for layout in ("gdal", "chunk"):
                arguments = [str(height), str(width), str(chunk), call, layout]
                subprocess.run([sys.executable, __file__, *arguments], check=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(*map(int, sys.argv[1:4]), *sys.argv[4:])
    else:
        main()
