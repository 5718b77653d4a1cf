"""The Delayed that writes a file: its tasks, the arrays they load, and how dask computes it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import dask
import dask.array as da
import dask.threaded
from dask.base import named_schedulers
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from ccog.geometry.source_grid import LevelSource, SourceGrid
from ccog.graph.annotations import with_ours
from ccog.graph.computing import WriteLayer
from ccog.graph.fusion import Optimizer
from ccog.graph.scheduling import choose_throttle, curve_priority, row_priority
from ccog.graph.tasks import CcogTasks
from ccog.runtime.begin import remove_elsewhere, wait_for_removal
from ccog.runtime.runs import computation
from ccog.runtime.runs import new_token as new_token
from ccog.runtime.whereabouts import current_client, has_distributed
from ccog.stores.single_writer import BytesStore, SingleWriterStore
from ccog.tasks.job import WriteJob
from ccog.wording import byte_text, plural, size_text


def _may_begin_elsewhere(scheduler: Any) -> bool:
    """Whether a scheduler may run tasks in processes that no client of distributed knows."""
    if isinstance(scheduler, str) or scheduler in (dask.get, dask.threaded.get):
        return False
    return not hasattr(getattr(scheduler, "__self__", scheduler), "scheduler_info")


class CcogDelayed(Delayed):  # type: ignore[misc]
    """A Delayed that fuses source loads into the tasks that encode them.

    Whatever goes wrong, what it has put is removed, or kept where the write can be resumed.
    """

    __slots__ = ()
    __dask_optimize__ = Optimizer()

    def compute(self, **kwargs: Any) -> Any:
        """Write the file; whatever goes wrong, the target stays as it was and no part remains."""
        asked = kwargs.get("scheduler") or dask.config.get("scheduler", None) or "threads"
        if isinstance(asked, str):
            asked = named_schedulers.get(asked.lower(), asked)
            if not has_distributed():
                # dask would import distributed to learn that there is no client
                kwargs["scheduler"] = asked
        try:
            with computation(self.key) as run:
                started = self if kwargs.get("optimize_graph", True) else self._started()
                return super(CcogDelayed, started).compute(**kwargs)
        except BaseException:
            wait_for_removal(self.key)
            if not run.begun and _may_begin_elsewhere(asked):
                self._remove_elsewhere(run.name)
            raise

    def _started(self) -> CcogDelayed:
        """The same of a run: what is not optimised has no other moment to be told of it."""
        tasks = self._tasks
        if tasks is None or current_client() is not None:
            return self
        layer = WriteLayer(tasks.of_a_run(), annotations=self.dask.layers[self.key].annotations)
        layers = {**self.dask.layers, self.key: layer}
        return CcogDelayed(self.key, HighLevelGraph(layers, self.dask.dependencies))

    def _remove_elsewhere(self, run: str) -> None:
        """Remove what a run has begun where its id never came here."""
        job = None if self._tasks is None else self._tasks.job
        if job and job.manifest is None and not isinstance(job.store, SingleWriterStore):
            remove_elsewhere(job.store, run)

    @property
    def _tasks(self) -> CcogTasks | None:
        """The tasks; None where the graph is not as it was made."""
        layers = getattr(self.dask, "layers", {})
        tasks = getattr(layers.get(self.key), "mapping", None)
        return tasks if isinstance(tasks, CcogTasks) else None

    def __repr__(self) -> str:
        """What computing it would write, and where."""
        facts = self._facts()
        return "\n".join(facts) if facts else super().__repr__()

    def _repr_html_(self) -> str | None:
        facts = [escape(fact) for fact in self._facts()]
        return f"<div><b>{facts[0]}</b><br>{'<br>'.join(facts[1:])}</div>" if facts else None

    def _facts(self) -> list[str]:
        """Lines that say it; none where the graph is not as it was made."""
        return [] if self._tasks is None else _facts_of(self._tasks.job)


def _facts_of(job: WriteJob) -> list[str]:
    geometry = job.geometry
    raster, full = geometry.raster, geometry.level(0)
    target = "gives it as bytes" if isinstance(job.store, BytesStore) else f"writes {job.store.url}"
    pixels = math.prod(full.size) * raster.pixel_bytes
    given = {"COMPRESS": geometry.options.effective_compress, **geometry.options.cog_options()}
    options = [f"{key}={value}" for key, value in given.items()]
    return [
        f"Cloud Optimised GeoTIFF, of which nothing is written yet: .compute() {target}",
        f"{size_text(full.width, full.height)} pixels, {plural(raster.count, 'band')} of "
        f"{raster.dtype}, {byte_text(pixels)} before compression, "
        f"{plural(geometry.last_level, 'overview')}",
        f"Options: {', '.join(options)}; layout {geometry.layout}",
    ]


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


def _as_planned(array: Any) -> Any:
    """The array, if any; where dask plans arrays as queries, the one whose keys its graph has."""
    return array.optimize() if hasattr(array, "expr") else array


def build_graph(job: WriteJob, levels: Sequence[LevelArrays]) -> CcogDelayed:
    """The Delayed that writes the file of full resolution, and of overviews if they are given."""
    levels = [LevelArrays(*map(_as_planned, level)) for level in levels]
    sources = [array for array in itertools.chain(*levels) if array is not None]
    tasks = CcogTasks(job, tuple(level.grids for level in levels), choose_throttle(job))
    priority = curve_priority if job.geometry.by_chunk else row_priority
    layer = WriteLayer(tasks, annotations=with_ours(dask.get_annotations(), priority))
    graph = HighLevelGraph.from_collections(tasks.final, layer, dependencies=sources)
    return CcogDelayed(tasks.final, graph)
