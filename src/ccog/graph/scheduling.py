"""Which task comes when, so that little waits in memory: how far loads may run ahead, and priorities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
from dask.system import CPU_COUNT

from ccog.geometry.pyramid import ceil_div
from ccog.geometry.tile_order import morton
from ccog.runtime.task_names import kind_of, level_of
from ccog.runtime.whereabouts import current_client, thread_count
from ccog.tasks.uploads import WriteJob

# blocks of full resolution that a cluster is to keep on one worker, and for how many of them each thread has work
_PLACED_BLOCKS = 64
_PLACES_A_THREAD = 4


@dataclass(frozen=True)
class Window:
    """How many units of full resolution may be begun at a time.

    On a cluster that writes chunk by chunk, units wait for no other but begin at ``placed`` at a time: a worker that
    is idle is given the task of a place, and then the blocks, since they need what that task returned. So neighbours
    come together with their overviews, though no task is bound to a worker, and only what is begun is in memory.
    """

    ahead: int
    placed: int = 0


def work_window(job: WriteJob) -> Window:
    """Units of full resolution that keep all threads busy."""
    length, threads = job.plan.unit_length(0), _cluster_threads()
    if job.plan.by_chunk and threads:
        units = job.plan.unit_count(0)
        few = max(1, units // (_PLACES_A_THREAD * threads))
        return Window(units, max(1, min(_PLACED_BLOCKS // length, 1 << (few.bit_length() - 1))))
    return Window(1 + ceil_div(parallelism() + 1, length))


def parallelism() -> int:
    """Tasks that may run at once: the current client's threads, else those of the local scheduler."""
    return _cluster_threads() or int(dask.config.get("num_workers", None) or CPU_COUNT)


def _cluster_threads() -> int:
    """Threads of the current client's cluster; 0 where there is none."""
    client = current_client()
    return 0 if client is None else max(1, thread_count(client))


def row_priority(key: Any) -> int:
    """Earlier rows first, and of these the overviews that consume them."""
    if not isinstance(key, tuple) or len(key) < 2 or not isinstance(key[1], int):
        return 0
    level = level_of(str(key[0]))
    return level - (key[1] << level)


def curve_priority(key: Any) -> int:
    """Earlier places and blocks along the Morton curve first, of these the overviews, and uploads at once."""
    name, *index = key if isinstance(key, tuple) else (key,)
    if index and kind_of(str(name)) == "place":
        return -int(index[0])
    if len(index) < 2 or kind_of(str(name)).startswith("upload"):
        return 1
    level = level_of(str(name))
    place = int(morton(*np.array(index[:2])[:, np.newaxis])[0])
    return level - (place << (2 * level))
