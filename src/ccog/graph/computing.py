"""When a write is about to be computed: the one moment in which its store may be asked.

A write that can be resumed looks at its store when it is computed, not before. dask has no hook
for that moment. ``__dask_keys__``, ``__dask_optimize__`` and ``__dask_postcompute__`` are called
by ``dask.optimize`` and ``dask.visualize`` too, and the methods ``compute`` and ``persist`` are
passed by in ``dask.compute(write)`` and ``Client.compute(write)``. Two things happen in computing
only (read in dask and distributed 2025.5 and 2026.8):

- A scheduler in this process calls the ``start`` callbacks with the graph, a dictionary that it
  has yet to look at (``dask.local.get_async``): tasks that need not run are taken out of it there.
- A client pickles the graph and sends it to its scheduler (``Client._graph_to_futures``), which
  has ``CcogTasks`` pickled as they are then.

So a resumable write asks its store, too, when somebody pickles it, and when a client pickles
twice, as it does with graphs that hold functions of ``__main__``. Schedulers that call no
callbacks write all from the start. The result is the same file.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from dask.callbacks import Callback
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from ccog.graph.fusion import optimize
from ccog.runtime.events import expect


class _Start(Callback):  # type: ignore[misc]
    """Resumes writes as computations on a scheduler in this process start."""

    def __init__(self) -> None:
        super().__init__(start=self._resume)
        self._graphs: weakref.WeakValueDictionary[str, HighLevelGraph] = (
            weakref.WeakValueDictionary()
        )

    def watch(self, final: str, graph: HighLevelGraph) -> None:
        """Resume the write of that last task when it is computed while its graph lives."""
        self._graphs[final] = graph
        self.register()

    def _resume(self, dsk: dict[Any, Any]) -> None:
        started = [(final, graph) for final, graph in self._graphs.items() if final in dsk]
        graphs = [_resumed(final, graph) for final, graph in started]
        resumed = [graph for graph in graphs if graph is not None]
        if resumed:
            _replace(dsk, optimize(HighLevelGraph.merge(*resumed)).to_dict())


_START = _Start()


def watch_start(final: str, graph: HighLevelGraph) -> None:
    """Have a write resumed when a scheduler in this process computes it; asks no store."""
    _START.watch(final, graph)


def _resumed(final: str, graph: HighLevelGraph) -> HighLevelGraph | None:
    """The graph of the tasks that are left to do; None where these are all."""
    layer = graph.layers[final]
    tasks = layer.mapping.resumed()
    expect(final, lambda: tasks.counts)
    if not tasks.context.resuming:
        return None
    layers = {**graph.layers, final: MaterializedLayer(tasks, annotations=layer.annotations)}
    return HighLevelGraph(layers, graph.dependencies)


def _replace(dsk: dict[Any, Any], tasks: Mapping[Any, Any]) -> None:
    """Put tasks in place of their namesakes, and remove those that nothing needs then."""
    depended_on: set[Any] = set()
    for task in dsk.values():
        depended_on |= task.dependencies
    wanted = [key for key in dsk if key not in depended_on]
    dsk.update(tasks)
    needed: set[Any] = set()
    while wanted:
        key = wanted.pop()
        if key in dsk and key not in needed:
            needed.add(key)
            wanted.extend(dsk[key].dependencies)
    for key in dsk.keys() - needed:
        del dsk[key]
