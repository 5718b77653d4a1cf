"""The order of tasks, so that little waits in memory: throttling of loads, and priorities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
from dask.system import CPU_COUNT

from ccog.geometry.intervals import ceil_div
from ccog.geometry.tile_order import morton
from ccog.runtime.task_names import level_of, parse_name
from ccog.runtime.whereabouts import current_client, thread_count
from ccog.tasks.job import WriteJob

# blocks of full resolution that a cluster is to keep on one worker, and how many such anchors
# each thread has at least
_ANCHORED_BLOCKS = 64
_ANCHORS_A_THREAD = 4


@dataclass(frozen=True, kw_only=True)
class Throttle:
    """How far loading may run ahead of uploading, in upload groups of full resolution.

    At most ``ahead`` groups are in progress at a time: a group begins when the one that many
    before it is uploaded, with all overviews that it completes.

    A cluster that writes chunk by chunk uses anchors instead. An anchor is a small task that
    ``anchored`` groups wait for. An idle worker is given the anchor, and then the blocks, since
    they need its result. So neighbouring blocks come together with their overviews, though no
    task is bound to a worker, and only blocks whose anchor ran are in memory.
    """

    ahead: int
    anchored: int = 0


def choose_throttle(job: WriteJob) -> Throttle:
    """A throttle that keeps all threads busy."""
    geometry, threads = job.geometry, _cluster_threads()
    length = geometry.groups.length(0)
    if not (geometry.by_chunk and threads):
        return Throttle(ahead=1 + ceil_div(parallelism() + 1, length))
    groups = geometry.groups.count(0)
    most = max(1, groups // (_ANCHORS_A_THREAD * threads))
    power_of_two = 1 << (most.bit_length() - 1)
    return Throttle(ahead=groups, anchored=max(1, min(_ANCHORED_BLOCKS // length, power_of_two)))


def parallelism() -> int:
    """Tasks that may run at once: the current client's threads, else the local scheduler's."""
    return _cluster_threads() or int(dask.config.get("num_workers", None) or CPU_COUNT)


def _cluster_threads() -> int:
    """Threads of the current client's cluster; 0 where there is none."""
    client = current_client()
    return 0 if client is None else max(1, thread_count(client))


def row_priority(key: Any) -> int:
    """Earlier rows first, and of these the overviews that are made from them."""
    if not isinstance(key, tuple) or len(key) < 2 or not isinstance(key[1], int):
        return 0
    level = level_of(str(key[0]))
    return level - (key[1] << level)


def curve_priority(key: Any) -> int:
    """Earlier anchors and blocks along the Morton curve first, overviews before them.

    Uploads come at once.
    """
    if not isinstance(key, tuple) or len(key) < 2:
        return 1
    (word, level), index = parse_name(str(key[0])), key[1:]
    if word == "anchor":
        return -int(index[0])
    if len(index) < 2 or word == "upload":
        return 1
    position = int(morton(*np.array(index[:2])[:, np.newaxis])[0])
    return (level or 0) - (position << (2 * (level or 0)))
