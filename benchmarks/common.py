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
    """Waves with noise, uint16 (size, size): hard to compress, quick to encode, so that overheads show."""
    y, x = np.arange(size)[:, None], np.arange(size)[None, :]
    noise = np.random.default_rng(0).normal(0, 1350, (size, size))
    return ((np.sin(x / 17) + np.cos(y / 23) + 3) * 9000 + noise).astype("uint16")


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


def in_fresh_process(script: str, *args: str, limit: float | None = None) -> Any:
    """Run a benchmark script by itself, at most ``limit`` seconds, and read the JSON it prints last."""
    done = subprocess.run([sys.executable, script, *args], check=True, capture_output=True, text=True, timeout=limit)
    return json.loads(done.stdout.splitlines()[-1])
