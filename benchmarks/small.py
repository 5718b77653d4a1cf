"""What does not depend on the size of a raster: python benchmarks/small.py [RUNS=100].

A write of 512 x 512 pixels against rasterio's, in turns, and CPU seconds of imports and of `ccog --help`, each in a
fresh process. CPU seconds are the process's own, threads included; the ratio is of medians.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from common import terrain

import ccog

FRESH_RUNS = 5
GEO: dict[str, Any] = {"crs": "EPSG:32755", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 6e6)}
COMMANDS = {
    "import rasterio, dask.array": "import rasterio, dask.array",
    "import ccog": "import ccog",
    "import ccog; ccog.write_ccog": "import ccog; ccog.write_ccog",
    "ccog --help": "import sys; sys.argv = ['ccog', '--help']; from ccog.cli import main; main()",
}


def costs(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU milliseconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def writes(pixels: np.ndarray, folder: Path, compress: str, runs: int) -> None:
    """A row for each way to compress."""
    profile = {"driver": "COG", "count": 1, "height": pixels.shape[0], "width": pixels.shape[1],
               "dtype": pixels.dtype.name}  # fmt: skip
    options = GEO | {"compress": compress}
    ours, theirs = folder / "ccog.tif", folder / "rasterio.tif"

    def with_rasterio() -> None:
        with rasterio.open(theirs, "w", **profile, **options) as target:
            target.write(pixels, 1)

    def with_ccog() -> None:
        ccog.write_ccog(pixels, ours, COG_creation_options=options).compute()

    for work in (with_rasterio, with_ccog):
        work()
    pairs = [(costs(with_rasterio), costs(with_ccog)) for _ in range(runs)]
    assert ours.read_bytes() == theirs.read_bytes()
    wall, cpu = (
        [statistics.median(pair[who][k] for pair in pairs) for who in range(2)] for k in range(2)
    )
    print(f"| {compress} | {wall[0]:.1f} | {wall[1]:.1f} | {wall[1] / wall[0]:.2f} | "
          f"{cpu[0]:.1f} | {cpu[1]:.1f} | {cpu[1] / cpu[0]:.2f} |", flush=True)  # fmt: skip


def cpu_of(code: str) -> float:
    """CPU seconds of Python running the code, the least of some runs."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(FRESH_RUNS))


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print(
        "| 512 x 512 uint16 | rasterio, ms | ccog, ms | ratio | rasterio, CPU ms | ccog, CPU ms | ratio |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for compress in ("lzw", "deflate", "zstd", "none"):
            writes(terrain(512), Path(folder), compress, runs)
    print("\n| in a fresh process | CPU s |\n|---|---|")
    for name, code in COMMANDS.items():
        print(f"| `{name}` | {cpu_of(code):.2f} |", flush=True)


if __name__ == "__main__":
    main()
