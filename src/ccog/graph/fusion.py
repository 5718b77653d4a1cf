"""The optimiser of a write: dask optimises the array's graph, each load is fused into its leaf."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import dask
from dask._task_spec import (
    convert_legacy_graph,  # dask.task_spec, the public module, has no such function
)
from dask.array.optimization import optimize as optimize_array
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import Alias, GraphNode, Task, TaskRef

from ccog.graph.annotations import by_key, for_layer
from ccog.graph.computing import is_computed_here
from ccog.graph.tasks import CcogTasks
from ccog.runtime.runs import watched

_SOURCES = "ccog-sources"

#: Annotations of tasks by their keys.
Notes = dict[Any, dict[str, Any]]


class _Write(NamedTuple):
    """A write in a graph: which tasks there are, those that are to run, and those that load."""

    tasks: CcogTasks
    needed: dict[Any, GraphNode]
    leaves: list[Any]

    @classmethod
    def of(cls, tasks: CcogTasks) -> _Write:
        """The write as it is now, if it is about to be computed."""
        if is_computed_here():
            tasks = tasks.of_a_run()
        needed = tasks.needed()
        return cls(tasks, needed, [leaf for leaf in tasks.leaves if leaf in needed])

    @property
    def chunks(self) -> Iterable[Any]:
        """Keys of the source chunks that its leaves load."""
        for leaf in self.leaves:
            yield from (key for key in self.needed[leaf].dependencies if self._is_source(key))

    @property
    def has_given_overviews(self) -> bool:
        """Whether overviews are loaded, too."""
        return len(self.tasks.context.sources) > 1

    def _is_source(self, key: Any) -> bool:
        return isinstance(key, tuple) and key[0] in self.tasks.sources


class _Loads(NamedTuple):
    """The user's tasks after their optimisation, and their annotations."""

    tasks: dict[Any, GraphNode]
    notes: Notes


def optimize(dsk: HighLevelGraph) -> HighLevelGraph:
    """Optimise the user's array graph for the chunks we load, then fuse each load into its leaf."""
    writes = _writes(dsk)
    sources = [write.tasks.sources for write in writes.values()]
    upstream = _upstream(dsk, itertools.chain(*sources))
    loads = _optimized_loads(dsk, upstream, writes)
    layers: dict[str, Any] = {}
    dependencies: dict[str, set[str]] = {_SOURCES: set()}
    fused = _fuse_leaves(writes, loads)
    _hold_back(writes, loads)
    _watch(writes, loads)
    for name, write in writes.items():
        annotations = for_layer(fused[name], dsk.layers[name].annotations)
        layers[name] = MaterializedLayer(write.needed, annotations=annotations)
        dependencies[name] = {_SOURCES}
    layers[_SOURCES] = MaterializedLayer(loads.tasks, for_layer(loads.notes))
    for name in dsk.layers.keys() - upstream - writes.keys():
        layers[name] = dsk.layers[name]
        needed = set(dsk.dependencies[name])
        dependencies[name] = needed - upstream
        if needed & upstream:
            dependencies[name].add(_SOURCES)
    return HighLevelGraph(layers, dependencies)


def _writes(dsk: HighLevelGraph) -> dict[str, _Write]:
    """The writes of a graph by the names of their layers."""
    mappings = {name: getattr(layer, "mapping", None) for name, layer in dsk.layers.items()}
    return {
        name: _Write.of(mapping)
        for name, mapping in mappings.items()
        if isinstance(mapping, CcogTasks)
    }


def _upstream(dsk: HighLevelGraph, names: Iterable[str]) -> set[str]:
    """The layers of those names, and all that they depend on."""
    upstream: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in upstream:
            upstream.add(name)
            left.extend(dsk.dependencies[name])
    return upstream


def _optimized_loads(
    dsk: HighLevelGraph, upstream: set[str], writes: Mapping[str, _Write]
) -> _Loads:
    """The user's tasks, as dask optimises arrays, for the chunks that are loaded."""
    chunks = list(itertools.chain(*(write.chunks for write in writes.values())))
    if not chunks:
        return _Loads({}, {})
    layers = {name: dsk.layers[name] for name in upstream}
    dependencies = {name: set(dsk.dependencies[name]) for name in upstream}
    loads = _optimized(HighLevelGraph(layers, dependencies), chunks)
    _resolve_aliases(loads, chunks)
    return loads


def _optimized(arrays: HighLevelGraph, chunks: list[Any]) -> _Loads:
    if not any(layer.annotations for layer in arrays.layers.values()):
        return _Loads(dict(optimize_array(arrays, chunks)), {})
    # dask's last step joins tasks whatever their annotations
    with dask.config.set({"optimization.fuse.active": False}):
        optimized = optimize_array(arrays, chunks)
    return _Loads(convert_legacy_graph(dict(optimized)), by_key(optimized.layers.values()))


def _uses(nodes: Iterable[GraphNode]) -> Counter[Any]:
    uses: Counter[Any] = Counter()
    for node in nodes:
        uses.update(node.dependencies)
    return uses


def _resolve_aliases(loads: _Loads, chunks: list[Any]) -> None:
    """Give chunks their keys back: array fusion leaves aliases of tasks that it renamed."""
    tasks, notes = loads
    uses = _uses(tasks.values())
    for key in chunks:
        node = tasks.get(key)
        if isinstance(node, Alias) and uses.get(node.target) == 1 and node.target in tasks:
            tasks[key] = tasks.pop(node.target).substitute({}, key=key)
            if node.target in notes:
                notes[key] = notes.pop(node.target)


def _fuse_leaves(writes: Mapping[str, _Write], loads: _Loads) -> dict[str, Notes]:
    """Fuse loads into leaves; returns the annotations of the leaves by write."""
    uses = _uses(loads.tasks.values())
    for write in writes.values():
        uses += _uses(write.needed.values())
    annotations: dict[str, Notes] = {}
    for name, write in writes.items():
        annotations[name] = {}
        for key in write.leaves:
            leaf = write.needed[key]
            own = [d for d in leaf.dependencies if uses[d] == 1 and _is_load(loads, d)]
            if write.has_given_overviews:
                # what an overview is made of need not wait, but what is made of it can
                own = [load for load in own if not _user_tasks(loads, loads.tasks[load])]
            if not own:
                continue
            for load in own:
                if load in loads.notes:
                    annotations[name].setdefault(key, {}).update(loads.notes.pop(load))
            fused = (loads.tasks.pop(load) for load in own)
            write.needed[key] = Task.fuse(*fused, leaf, key=key)
    return annotations


def _hold_back(writes: Mapping[str, _Write], loads: _Loads) -> None:
    """Let the user's tasks wait as the first block does that needs them.

    Given overviews are often made of full resolution, whose chunks then are not part of the blocks
    that load them, and would all be loaded ahead of these. Tasks that several writes need are left.
    """
    if not any(write.has_given_overviews for write in writes.values()):
        return
    starts = {name: _starts(write, loads) for name, write in writes.items()}
    uses = Counter(itertools.chain(*starts.values()))
    for name, write in writes.items():
        if not write.has_given_overviews:
            continue
        for key, start in starts[name].items():
            task = loads.tasks[key]
            if uses[key] == 1 and start.number and not _user_tasks(loads, task):
                loads.tasks[key] = Task(key, _after, task, TaskRef(start.key))


def _watch(writes: Mapping[str, _Write], loads: _Loads) -> None:
    """End the runs of writes whose tasks fail, or tasks of the user's that they need."""
    runs = [write.tasks.context.run for write in writes.values()]
    names = tuple(run for run in runs if run is not None)
    for write in writes.values():
        run = write.tasks.context.run
        for key, task in write.needed.items():
            write.needed[key] = watched(task, (run,) if run else ())
    for key, task in loads.tasks.items():
        loads.tasks[key] = watched(task, names)


class _BlockStart(NamedTuple):
    """The task that a block waits for: its number, 0 for the one that begins the write."""

    number: int
    key: Any


def _starts(write: _Write, loads: _Loads) -> dict[Any, _BlockStart]:
    """Of each of the user's tasks that a write needs: what the first block waits for."""
    of_leaves = [(_start(write, leaf), leaf) for leaf in write.leaves]
    starts: dict[Any, _BlockStart] = {}
    for start, leaf in sorted(of_leaves):
        wanted = _user_tasks(loads, write.needed[leaf])
        while wanted:
            key = wanted.pop()
            if key not in starts:
                starts[key] = start
                wanted.extend(_user_tasks(loads, loads.tasks[key]))
    return starts


def _start(write: _Write, leaf: Any) -> _BlockStart:
    (key,) = [d for d in write.needed[leaf].dependencies if d in write.needed]
    return _BlockStart(key[1] if len(key) > 1 else 0, key)


def _user_tasks(loads: _Loads, node: GraphNode) -> list[Any]:
    """The user's tasks that a task needs, data aside."""
    return [key for key in node.dependencies if isinstance(loads.tasks.get(key), Task)]


def _after(value: Any, start: object) -> Any:
    return value


def _is_load(loads: _Loads, key: Any) -> bool:
    return isinstance(loads.tasks.get(key), Task)
