"""Time and peak memory of ccog.inspect on a header of 5 million tiles: python benchmarks/inspect_header.py [SIDE=1940].

The full resolution has SIDE x SIDE tiles of 512 pixels and is stored in the named order; the pixels themselves are a
hole in the file. Each case runs in a fresh process; imports are counted in neither figure.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import in_fresh_process

import ccog
from ccog.gdal.template import HeaderSpec, write_template
from ccog.geometry.options import CreationOptions
from ccog.geometry.pyramid import level_sizes
from ccog.input.raster import Metadata
from ccog.tiff.header import LevelCounts, build_header, data_size

TILE = 512


def giant(path: Path, side: int) -> int:
    """A file whose header is whole and whose pixels are a hole; returns its tiles."""
    sizes = level_sizes(side * TILE, side * TILE, TILE)
    rng = np.random.default_rng(0)
    levels = []
    for height, width in sizes:
        tiles = -(-height // TILE) * -(-width // TILE)
        levels.append(
            LevelCounts(
                height=height,
                width=width,
                image=rng.integers(1000, 200_000, tiles, np.uint32),
                mask=None,
                planar=False,
            )
        )
    options = CreationOptions.parse({"compress": "deflate", "bigtiff": "yes"})
    spec = HeaderSpec(
        options=options,
        metadata=Metadata(),
        count=1,
        dtype="uint16",
        has_mask=False,
        overviews=True,
    )
    template = write_template(spec)
    header = build_header(template, tuple(levels), big=True)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + data_size(template, tuple(levels)))
    return sum(level.image.size for level in levels)


def peak_mb() -> float:
    """Peak memory of this program alone (getrusage also tells that of the process it was started from)."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def look(path: str, how: str) -> dict[str, float]:
    before = peak_mb()
    start = time.perf_counter()
    found = ccog.inspect(path)
    if how == "repr":
        repr(found)
    elif how == "html":
        found._repr_html_()
    seconds = time.perf_counter() - start
    peak = peak_mb()
    return {"seconds": seconds, "peak": peak, "above": peak - before, "requests": found.requests}


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(look(sys.argv[1], sys.argv[2])))
        return
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 1940
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "giant.tif"
        print(
            f"{giant(path, side):,} tiles, header {ccog.inspect(path).header_size / 1e6:.0f} MB\n"
        )
        print("| result | seconds | peak MB | of that above imports |\n|---|---|---|---|")
        for how in ("object", "repr", "html"):
            found = in_fresh_process(__file__, str(path), how)
            print(
                f"| {how} | {found['seconds']:.2f} | {found['peak']:.0f} | {found['above']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
