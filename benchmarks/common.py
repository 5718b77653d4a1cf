"""What the benchmarks share: a terrain, timed runs in fresh processes, and a table."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def terrain(size: int) -> np.ndarray:
    """Smooth elevation with a little noise, uint16 (size, size)."""
    rng = np.random.default_rng(0)
    y, x = np.arange(size)[:, None], np.arange(size)[None, :]
    out = (2000 + 900 * np.sin(x / 700)).astype("uint16") + (900 + 900 * np.cos(y / 500)).astype("uint16")
    out += (60 * np.sin(x / 41) * np.cos(y / 37)).astype("int16").astype("uint16")
    coarse = rng.integers(0, 3, (size // 4, size // 4), dtype="uint8")
    return out + np.kron(coarse, np.ones((4, 4), "uint8"))


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


def in_fresh_process(script: str, *args: str) -> Any:
    """Run a benchmark script by itself and read the JSON it prints last."""
    done = subprocess.run([sys.executable, script, *args], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])
