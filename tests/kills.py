"""A write from three worker processes, one of which is killed on the way; and waiting for what happens."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np

import ccog
from ccog.stores import WriteResult

CREATION = {"blocksize": 256, "compress": "deflate", "level": 1, "overview_resampling": "average"}
SHAPE, CHUNK = (6144, 4096), 1024


@dataclass(frozen=True)
class Kill:
    """What happened: when the worker died, when the write ended, and where."""

    after: float
    seconds: float
    result: WriteResult


def until(done: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether it happens in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def pixels(block_info: dict[None, dict[str, list[tuple[int, int]]]]) -> np.ndarray:
    """Noise that is the same for the same block, made slowly enough for a kill to meet every stage."""
    (top, bottom), (left, right) = block_info[None]["array-location"]
    time.sleep(0.05)
    return np.random.default_rng(top * 10_007 + left).integers(
        0, 60000, (bottom - top, right - left), "uint16"
    )


def source(shape: tuple[int, int] = SHAPE) -> da.Array:
    """The raster, whose name in dask is the same in each process."""
    chunks = tuple((CHUNK,) * (side // CHUNK) for side in shape)
    return da.map_blocks(pixels, chunks=chunks, dtype="uint16", meta=np.empty((0, 0), "uint16"))


def write_and_kill(
    cluster: Any,
    client: Any,
    url: str,
    options: dict[str, Any] | None,
    longest: float,
    chance: random.Random,
    shape: tuple[int, int] = SHAPE,
) -> Kill:
    """Write from the cluster's workers and kill one of them within ``longest`` seconds."""
    array = source(shape)
    delayed = ccog.write_ccog(array, url, COG_creation_options=CREATION, storage_options=options)
    started = time.monotonic()
    future = client.compute(delayed)
    after = chance.uniform(0, longest)
    time.sleep(after)
    os.kill(chance.choice(list(cluster.workers.values())).pid, signal.SIGKILL)
    result = future.result(timeout=120)
    return Kill(after, time.monotonic() - started, result)


def settle(client: Any, workers: int) -> None:
    """Wait until the nannies have restarted what was killed; one that was hit while it did so needs a push."""
    try:
        client.wait_for_workers(workers, timeout=30)
    except TimeoutError:
        client.restart()
