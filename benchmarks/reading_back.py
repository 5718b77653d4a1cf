"""Dask reads all chunks of a file on S3, 30 ms away: python benchmarks/reading_back.py [SIZE=8192], for docs/tables/reading.md.

The server is SeaweedFS on this machine, behind a proxy that counts requests and lets each wait. Every read has a fresh
process of four threads, counted from opening the file; what it has read is compared with what was written. Seconds are
those of the quickest of three, since other programs may run meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import dask
import dask.array as da
import numpy as np
import xxhash
from common import in_fresh_process, terrain

import ccog
from faults import Proxy, proxied
from servers import seaweedfs

THREADS = 4
TIMES = 3
LATENCY = 0.03
TILE = 512
OPTIONS = {"compress": "zstd", "predictor": "yes", "overview_resampling": "average"}
EMPTY_DIR = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
LARGE_CACHE = EMPTY_DIR | {"GDAL_MAX_RAW_BLOCK_CACHE_SIZE": "100000000"}


def gdal_environment(storage: dict[str, str]) -> dict[str, str]:
    """How GDAL finds the server."""
    return {
        "AWS_ACCESS_KEY_ID": storage["key"],
        "AWS_SECRET_ACCESS_KEY": storage["secret"],
        "AWS_S3_ENDPOINT": storage["endpoint_url"].removeprefix("http://"),
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }


def with_rioxarray(name: str, chunk: int, storage: dict[str, str], lock: bool | None) -> da.Array:
    import rioxarray

    arr = rioxarray.open_rasterio(f"/vsis3/test/{name}", chunks={"x": chunk, "y": chunk}, lock=lock)
    return arr.data[0]


def with_async_tiff(name: str, chunk: int, storage: dict[str, str]) -> da.Array:
    """Tiles of a chunk fetched at once, and put together."""
    import async_tiff
    from obstore.store import S3Store

    store = S3Store(
        "test",
        endpoint=storage["endpoint_url"],
        access_key_id=storage["key"],
        secret_access_key=storage["secret"],
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )

    async def opened() -> async_tiff.TIFF:
        return await async_tiff.TIFF.open(name, store=store)

    file = asyncio.run(opened())
    ifd = file.ifds[0]

    async def read(top: int, left: int) -> np.ndarray:
        out = np.empty((chunk, chunk), "uint16")
        side = range(chunk // TILE)
        places = [(left // TILE + x, top // TILE + y) for y in side for x in side]
        tiles = await file.fetch_tiles(places, 0)
        for n, tile in enumerate(tiles):
            y, x = (TILE * place for place in divmod(n, len(side)))
            out[y : y + TILE, x : x + TILE] = np.asarray(await tile.decode())[..., 0]
        return out

    def block(block_info: Any) -> np.ndarray:
        (top, _), (left, _) = block_info[None]["array-location"]
        return asyncio.run(read(top, left))

    shape = ifd.image_height, ifd.image_width
    chunks = da.core.normalize_chunks(chunk, shape)
    return da.map_blocks(block, chunks=chunks, dtype="uint16", meta=np.empty((0, 0), "uint16"))


READERS: dict[str, Callable[..., da.Array]] = {
    "locked": lambda *args: with_rioxarray(*args, lock=None),
    "unlocked": lambda *args: with_rioxarray(*args, lock=False),
    "async-tiff": with_async_tiff,
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One row of the table: who reads, and in which chunks; files are written in chunks of ``written``."""

    name: str
    reader: str
    chunk: int = 2048
    written: int = 2048
    env: dict[str, str] = field(default_factory=dict)


GDAL = "GDAL, `open_rasterio(chunks=..."
RUNS = (
    Run(name=f"{GDAL})`", reader="locked"),
    Run(name=f"{GDAL}, lock=False)`", reader="unlocked"),
    Run(name="the same, `EMPTY_DIR`", reader="unlocked", env=EMPTY_DIR),
    Run(name="the same", reader="unlocked", env=EMPTY_DIR, chunk=1024),
    Run(name="the same", reader="unlocked", env=EMPTY_DIR, chunk=2000),
    Run(name="the same", reader="unlocked", env=EMPTY_DIR, chunk=4096, written=4096),
    Run(
        name="the same, `GDAL_MAX_RAW_BLOCK_CACHE_SIZE=100000000`",
        reader="unlocked",
        env=LARGE_CACHE,
        chunk=4096,
        written=4096,
    ),
    Run(name="async-tiff", reader="async-tiff"),
    Run(name="async-tiff", reader="async-tiff", chunk=4096, written=4096),
)


def read(run: Run, name: str, storage: dict[str, str]) -> dict[str, Any]:
    """Seconds, and a digest of the pixels."""
    import rioxarray  # noqa: F401

    with dask.config.set(scheduler="threads", num_workers=THREADS):
        started = time.perf_counter()
        arr = READERS[run.reader](name, run.chunk, storage)
        pixels = arr.compute()
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "digest": xxhash.xxh3_64_hexdigest(np.ascontiguousarray(pixels))}


def write(pixels: np.ndarray, storage: dict[str, str]) -> None:
    """The files that are read, one for each layout and size of chunks."""
    for chunk in sorted({run.written for run in RUNS}):
        for layout in ("gdal", "chunk"):
            ccog.write_ccog(
                da.from_array(pixels, chunks=chunk, name=False),
                f"s3://test/{layout}-{chunk}.tif",
                COG_creation_options=OPTIONS,
                storage_options=storage,
                layout=layout,
            ).compute(scheduler="threads")


def main() -> None:
    if len(sys.argv) > 2:
        print(json.dumps(read(RUNS[int(sys.argv[1])], sys.argv[2], json.loads(sys.argv[3]))))
        return
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 8192
    pixels = terrain(size)
    digest = xxhash.xxh3_64_hexdigest(pixels)
    print(
        '| reader | chunks read | `layout="gdal"`: requests | seconds | `layout="chunk"`: requests | seconds |'
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, seaweedfs(Path(folder)) as server:
        write(pixels, server)
        with proxied(server) as (proxy, storage):
            proxy.latency = LATENCY
            for n, run in enumerate(RUNS):
                cells = []
                for layout in ("gdal", "chunk"):
                    name = f"{layout}-{run.written}.tif"
                    results = [read_afresh(n, name, storage, proxy, digest) for _ in range(TIMES)]
                    cells += [
                        f"{column:{kind}}"
                        for column, kind in zip(map(min, *results), ("", ".1f"), strict=True)
                    ]
                count = math.ceil(size / run.chunk) ** 2
                print(f"| {run.name} | {count} of {run.chunk}² | {' | '.join(cells)} |", flush=True)


def read_afresh(
    n: int, name: str, storage: dict[str, str], proxy: Proxy, digest: str
) -> tuple[int, float]:
    """Requests and seconds of a run in a process of its own."""
    proxy.arm(None)
    env = gdal_environment(storage) | RUNS[n].env
    found = in_fresh_process(__file__, str(n), name, json.dumps(storage), env=env)
    assert found["digest"] == digest, (RUNS[n], name)
    return proxy.calls.total(), found["seconds"]


if __name__ == "__main__":
    main()
