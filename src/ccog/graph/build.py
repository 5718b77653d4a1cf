"""The Delayed that writes a file: its tasks, the arrays they load, and how dask computes it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import dask
import dask.array as da
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from ccog.geometry.source_grid import LevelSource, SourceGrid
from ccog.graph.annotations import with_ours
from ccog.graph.computing import watch_start
from ccog.graph.fusion import optimize
from ccog.graph.scheduling import choose_throttle, curve_priority, row_priority
from ccog.graph.tasks import CcogTasks
from ccog.runtime.begin import wait_for_removal, watch
from ccog.tasks.job import WriteJob


def new_token() -> str:
    """A write is never pure: each graph gets keys of its own."""
    return uuid.uuid4().hex


class CcogDelayed(Delayed):  # type: ignore[misc]
    """A Delayed that fuses source loads into the tasks that encode them.

    Whatever goes wrong, what it has put is removed, or kept where the write can be resumed.
    """

    __slots__ = ()

    def compute(self, **kwargs: Any) -> Any:
        """Write the file; whatever goes wrong, the target stays as it was and no part remains."""
        try:
            return super().compute(**kwargs)
        except BaseException:
            wait_for_removal(self.key)
            raise

    def __dask_keys__(self) -> Any:
        """The key of the result; whoever asks for it may be about to compute."""
        watch()
        if isinstance(self.dask, HighLevelGraph) and self.key in self.dask.layers:
            watch_start(self.key, self.dask)
        return super().__dask_keys__()

    @staticmethod
    def __dask_optimize__(dsk: HighLevelGraph, keys: Any, **kwargs: Any) -> HighLevelGraph:
        return optimize(dsk)


class LevelArrays(NamedTuple):
    """Pixels (band, y, x) and mask (y, x) of a level; blocks begin where their chunks do."""

    pixels: da.Array
    mask: da.Array | None

    @property
    def grids(self) -> LevelSource:
        """Their names and chunks."""
        mask = None if self.mask is None else _grid(self.mask)
        return LevelSource(_grid(self.pixels), mask)


def _grid(array: da.Array) -> SourceGrid:
    return SourceGrid(array.name, array.chunks)


def build_graph(job: WriteJob, levels: Sequence[LevelArrays]) -> CcogDelayed:
    """The Delayed that writes the file of full resolution, and of overviews if they are given."""
    arrays = itertools.chain(*levels)
    sources = [array for array in arrays if array is not None]
    grids = tuple(level.grids for level in levels)
    tasks = CcogTasks(job, grids, choose_throttle(job))
    priority = curve_priority if job.geometry.by_chunk else row_priority
    layer = MaterializedLayer(tasks, annotations=with_ours(dask.get_annotations(), priority))
    graph = HighLevelGraph.from_collections(tasks.final, layer, dependencies=sources)
    return CcogDelayed(tasks.final, graph)
