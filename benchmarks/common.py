"""What the benchmarks share: a terrain, timed runs in fresh processes, and a table."""

from __future__ import annotations

import functools
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np


def terrain(size: int) -> np.ndarray:
    """Waves with noise, uint16 (size, size): hard to compress, quick to encode, so that overheads show."""
    y, x = np.arange(size)[:, None], np.arange(size)[None, :]
    noise = np.random.default_rng(0).normal(0, 1350, (size, size))
    return ((np.sin(x / 17) + np.cos(y / 23) + 3) * 9000 + noise).astype("uint16")


def lazy_terrain(shape: tuple[int, int], chunk: tuple[int, int]) -> da.Array:
    """The like of it, made chunk by chunk, with a name in dask that is the same in each process."""
    chunks = tuple((side,) * (n // side) for n, side in zip(shape, chunk, strict=True))
    return da.map_blocks(
        _terrain_block, chunks=chunks, dtype="uint16", meta=np.empty((0, 0), "uint16")
    )


def _terrain_block(block_info: dict[None, dict[str, list[tuple[int, int]]]]) -> np.ndarray:
    (top, bottom), (left, right) = block_info[None]["array-location"]
    y, x = np.arange(top, bottom)[:, None], np.arange(left, right)[None, :]
    noise = np.random.default_rng([top, left]).normal(0, 1350, (bottom - top, right - left))
    return ((np.sin(x / 17) + np.cos(y / 23) + 3) * 9000 + noise).astype("uint16")


def waves(noise: int, block_info: dict[None, dict[str, list[tuple[int, int]]]]) -> np.ndarray:
    """One chunk of smooth uint16 elevation with noise below ``noise``, made without large temporaries."""
    (top, bottom), (left, right) = block_info[None]["array-location"]
    y, x = np.arange(top, bottom)[:, None], np.arange(left, right)[None, :]
    out = (2000 + 900 * np.sin(x / 700)).astype("uint16") + (900 + 900 * np.cos(y / 500)).astype(
        "uint16"
    )
    kind = "uint8" if noise <= 256 else "uint16"
    out += np.random.default_rng(top * 100_003 + left).integers(0, noise, out.shape, dtype=kind)
    return out


def lazy_waves(shape: tuple[int, int], chunk: int, noise: int) -> da.Array:
    """Such a raster, whose sides are whole chunks."""
    chunks = tuple((chunk,) * (n // chunk) for n in shape)
    make = functools.partial(waves, noise)
    return da.map_blocks(make, chunks=chunks, dtype="uint16", meta=np.empty((0, 0), "uint16"))


def measure(work: Callable[[], Any], runs: int) -> tuple[float, float]:
    """Median wall and CPU seconds (threads and children included) of ``work``, one warm-up first."""
    work()
    walls, cpus = [], []
    for _ in range(runs):
        wall, before = time.perf_counter(), os.times()
        work()
        after = os.times()
        walls.append(time.perf_counter() - wall)
        cpus.append(sum(after[:4]) - sum(before[:4]))
    return statistics.median(walls), statistics.median(cpus)


def peak_memory() -> float:
    """Peak RSS of this process in MB; what ``resource`` says is never less than the parent had when it was started."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6


def in_fresh_process(
    script: str, *args: str, limit: float | None = None, env: dict[str, str] | None = None
) -> Any:
    """Run a benchmark script by itself, at most ``limit`` seconds, and read the JSON it prints last."""
    done = subprocess.run([sys.executable, script, *args], check=True, capture_output=True, text=True, timeout=limit,
                          env={**os.environ, **(env or {})})  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])
