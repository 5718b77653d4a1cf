"""Which task comes when, so that little waits in memory: how far loads may run ahead, and priorities."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
from dask.system import CPU_COUNT

from ccog.names import kind_of, level_of
from ccog.order import morton
from ccog.pyramid import ceil_div
from ccog.tasks import WriteJob

# units of full resolution behind one gate on a cluster, chunk by chunk: priorities steer there too, and tasks cost more
_GATED_UNITS = 2


@dataclass(frozen=True)
class Window:
    """How many units of full resolution may be begun at a time, and how many are behind one gate."""

    ahead: int
    gated: int

    @property
    def first_gate(self) -> int:
        """Index of the first gate; what precedes it may begin at once."""
        return ceil_div(self.ahead, self.gated)


def work_window(job: WriteJob) -> Window:
    """Units of full resolution that keep all threads busy."""
    ahead = 1 + ceil_div(parallelism() + 1, job.plan.unit_length(0))
    return Window(ahead, _GATED_UNITS if job.plan.by_chunk and _cluster_threads() else 1)


def parallelism() -> int:
    """Tasks that may run at once: the current client's threads, else those of the local scheduler."""
    return _cluster_threads() or int(dask.config.get("num_workers", None) or CPU_COUNT)


def _cluster_threads() -> int:
    """Threads of the current client's cluster; 0 where there is none."""
    with contextlib.suppress(ImportError, ValueError):
        from distributed import get_client

        return max(1, sum(int(n) for n in get_client().nthreads().values()))
    return 0


def row_priority(key: Any) -> int:
    """Earlier rows first, and of these the overviews that consume them."""
    if not isinstance(key, tuple) or len(key) < 2 or not isinstance(key[1], int):
        return 0
    level = level_of(str(key[0]))
    return level - (key[1] << level)


def curve_priority(key: Any) -> int:
    """Earlier blocks along the Morton curve first, of these the overviews that consume them, and uploads at once."""
    name, *index = key if isinstance(key, tuple) else (key,)
    if len(index) < 2 or kind_of(str(name)).startswith("upload"):
        return 1
    level = level_of(str(name))
    place = int(morton(*np.array(index[:2])[:, np.newaxis])[0])
    return level - (place << (2 * level))
