"""The fault matrix on a real server, as the table of docs/reliability.md: python benchmarks/reliability.py.

A proxy in front of SeaweedFS makes one call fail, once or for ever; each row is a real write through it.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import s3fs  # noqa: E402

import ccog  # noqa: E402
from ccog.stores import s3_client  # noqa: E402
from faults import KINDS, PLACES, Proxy, placed, proxied  # noqa: E402
from servers import seaweedfs  # noqa: E402

PARTS = 6
URL = "s3://test/reliability.tif"
OPTIONS = {"blocksize": 256, "compress": "none", "overviews": "none"}
PIXELS = np.random.default_rng(0).integers(0, 60000, (1, 3072, 5248)).astype("uint16")

HEAD = """# What happens when a store fails

Written by `python benchmarks/reliability.py`: each cell is one write of {size:.0f} MB ({parts} parts) to SeaweedFS,
through a proxy that makes a call fail, with the waits between attempts that users get. The client gives up waiting for
an answer after 1 s here (60 s by default, 300 s for completing), so that stalls are short.

## A call fails once

"right" is an object equal to the bytes that are written without a store, no incomplete upload, and the seconds it took
(without faults: {seconds:.1f}).

"""

LASTING = """
## A call fails for ever

No incomplete upload is left in any of these cases, but for empty ones where the answer to their creation was lost:
a warning names them. Errors that retries cannot mend, such as refused access, are not retried at all.

"""

REST = """
## A worker is killed

--8<-- "tables/kills.md"

## Tests of other packages

Tests of writing of other packages, with ccog in the place of their writers.

--8<-- "tables/peers.md"

## What else was tried

--8<-- "tables/tried.md"
"""


def write(options: dict[str, Any]) -> float:
    started = time.perf_counter()
    array = da.from_array(PIXELS, chunks=(1, 1024, 5248))
    delayed = ccog.write_ccog(array, URL, COG_creation_options=OPTIONS, storage_options=options)
    delayed.compute(scheduler="threads", num_workers=2)
    return time.perf_counter() - started


def outcome(options: dict[str, Any], server: dict[str, Any], expected: bytes) -> str:
    """One write through the proxy, looked at behind it."""
    filesystem = s3fs.S3FileSystem(**server, skip_instance_cache=True)
    if filesystem.exists("test/reliability.tif"):
        filesystem.rm("test/reliability.tif")
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found = f"right, {write(options):.1f} s"
            if bytes(filesystem.cat("test/reliability.tif")) != expected:
                found = "WRONG OBJECT"
        except ccog.CCOGError as error:
            found = f"{time.perf_counter() - started:.0f} s: `{type(error).__name__}: {error}`"
    return found + left_behind(server, [str(warning.message) for warning in warned])


def left_behind(server: dict[str, Any], warned: list[str]) -> str:
    """What is unfinished, and whether that was said; removes it."""
    left = ccog.abort_incomplete(URL, server)
    if not left:
        return ""
    named = any("empty upload" in text and URL in text for text in warned)
    return f", {len(left)} empty left and named" if named else f", {len(left)} UPLOADS LEFT"


def passing(
    proxy: Proxy, options: dict[str, Any], server: dict[str, Any], expected: bytes
) -> list[str]:
    rows = [f"| what fails | {' | '.join(PLACES)} |", "|---" * (1 + len(PLACES)) + "|"]
    for kind, says in KINDS.items():
        cells = []
        for place in PLACES:
            proxy.arm(placed(kind, place, PARTS))
            cells.append(outcome(options, server, expected))
            assert proxy.hits == 1
        rows.append(f"| {says} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    return rows


def lasting(
    proxy: Proxy, options: dict[str, Any], server: dict[str, Any], expected: bytes
) -> list[str]:
    rows = ["| what fails | call | outcome |", "|---|---|---|"]
    for kind in ("503", "drop", "lost"):
        for place in ("create", "middle part", "complete"):
            proxy.arm(placed(kind, place, PARTS, times=1 << 30))
            rows.append(f"| {KINDS[kind]} | {place} | {outcome(options, server, expected)} |")
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    logging.disable(logging.WARNING)
    s3_client._SLOW_READ_SECONDS = 1
    expected = ccog.write_ccog(PIXELS, COG_creation_options=OPTIONS).compute()
    with (
        tempfile.TemporaryDirectory() as folder,
        seaweedfs(Path(folder)) as server,
        proxied(server) as (proxy, through),
    ):
        options = through | {"config_kwargs": {"read_timeout": 1}}
        write(options)
        text = HEAD.format(size=len(expected) / 1e6, parts=PARTS, seconds=write(options))
        text += "\n".join(passing(proxy, options, server, expected)) + "\n"
        text += LASTING + "\n".join(lasting(proxy, options, server, expected)) + "\n" + REST
    (ROOT / "docs" / "reliability.md").write_text(text)


if __name__ == "__main__":
    main()
