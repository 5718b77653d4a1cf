"""Whether a graph is made to be computed: the one moment in which a store may be asked.

A write that can be resumed looks at its store when it is computed, not before. dask has no hook
for that moment. ``__dask_keys__``, ``__dask_optimize__`` and ``__dask_postcompute__`` are called
by ``dask.optimize`` and ``dask.visualize`` too, and the methods ``compute`` and ``persist`` are
passed by in ``dask.compute(write)`` and ``Client.compute(write)``. Callbacks are global, and
dask takes them all away while any computation runs. Two things happen in computing only (read in
dask and distributed 2025.5 and 2026.8):

- A scheduler in this process has the graph made, or is given it, in the call of ``dask.compute``,
  ``dask.persist`` or of the scheduler itself: they are on the stack.
- A client pickles the graph and sends it to its scheduler (``Client._graph_to_futures``), which
  has ``CcogTasks`` pickled as they are then.

So a resumable write asks its store, too, when somebody pickles it, and when a client pickles
twice, as it does with graphs that hold functions of ``__main__``. Where a graph is made in another
way, the first task looks, and all work is done again. The result is the same file.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from traceback import walk_stack
from typing import Any

from dask.highlevelgraph import Layer, MaterializedLayer

from ccog.graph.tasks import CcogTasks
from ccog.runtime.events import expect
from ccog.runtime.runs import hear_end

# modules and functions of dask
_COMPUTING = {("dask.base", "compute"), ("dask.base", "persist"), ("dask.local", "get_async")}
_LOOKING = {
    ("dask.base", "optimize"),
    ("dask.base", "visualize"),
    ("dask.local", "execute_task"),
}


def is_computed_here() -> bool:
    """Whether a scheduler in this process computes what is being made in this thread."""
    for frame, _ in walk_stack(sys._getframe(1)):
        place = frame.f_globals.get("__name__"), frame.f_code.co_name
        if place in _COMPUTING or place in _LOOKING:
            return place in _COMPUTING
    return False


class WriteLayer(MaterializedLayer):  # type: ignore[misc]
    """The tasks of one file in a graph; where that is another collection's, too.

    Then it is dask that optimises it, or nobody does.
    """

    mapping: CcogTasks

    def cull(
        self, keys: set[Any], all_hlg_keys: Collection[Any]
    ) -> tuple[Layer, Mapping[Any, set[Any]]]:
        """The tasks of a run, if it starts, and what they need."""
        tasks = self.mapping.of_a_run() if is_computed_here() else self.mapping
        culled = MaterializedLayer(tasks.needed(), annotations=self.annotations)
        return culled, {key: set(task.dependencies) for key, task in culled.mapping.items()}

    def __iter__(self) -> Any:
        if is_computed_here():
            expect(self.mapping.final, lambda: self.mapping.counts)
            hear_end()
        return super().__iter__()
