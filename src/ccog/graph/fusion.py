"""The optimiser of a write: dask optimises the array's graph, each load is fused into its leaf."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from traceback import walk_stack
from typing import Any, NamedTuple

import dask
import dask.array as da
from dask._task_spec import (
    convert_legacy_graph,  # dask.task_spec, the public module, has no such function
)
from dask.array.optimization import optimize as optimize_array
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import Alias, GraphNode, Task, TaskRef

from ccog.graph.annotations import by_key, for_layer
from ccog.graph.computing import is_computed_here
from ccog.graph.tasks import CcogTasks, name_of
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
    def chunks(self) -> list[Any]:
        """Keys of the source chunks that its leaves load."""
        keys = itertools.chain(*(self.needed[leaf].dependencies for leaf in self.leaves))
        return [key for key in keys if name_of(key) in self.tasks.sources]

    @property
    def has_given_overviews(self) -> bool:
        """Whether overviews are loaded, too."""
        return len(self.tasks.context.sources) > 1


class _Loads(NamedTuple):
    """The user's tasks after their optimisation, and their annotations."""

    tasks: dict[Any, GraphNode]
    notes: Notes

    def among(self, keys: Iterable[Any]) -> list[Any]:
        """Those of the keys that are of tasks; data is none."""
        return [key for key in keys if isinstance(self.tasks.get(key), Task)]

    def needed(self, keys: Iterable[Any], known: Collection[Any] = ()) -> set[Any]:
        """The tasks that give these keys, and all that they need, but those that are known."""
        needed: set[Any] = set()
        wanted = self.among(keys)
        while wanted:
            key = wanted.pop()
            if key not in needed and key not in known:
                needed.add(key)
                wanted.extend(self.among(self.tasks[key].dependencies))
        return needed


class Optimizer:
    """Optimises writes, and the arrays that are computed with them.

    dask optimises collections together whose optimisers are equal. So this one equals that of
    arrays: what a write and ``arr.mean()`` both need is a task of its own, and runs once.
    """

    def __call__(self, dsk: HighLevelGraph, keys: Any, **kwargs: Any) -> HighLevelGraph:
        """The graph of the tasks that will run for these keys."""
        return optimize(dsk, keys)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Optimizer):
            return True
        return other == _optimizer_of_arrays() and _is_first_among_arrays()

    def __hash__(self) -> int:
        return hash(_optimizer_of_arrays())


def _optimizer_of_arrays() -> Any:
    return getattr(da.Array, "__dask_optimize__", None)


def _is_first_among_arrays() -> bool:
    """Whether dask is grouping a write with arrays only, and behind it.

    It takes the first one's optimiser for all. If there are yet other collections among them, it
    gives the results in another order (``_HLGExprSequence``, dask 2025.5 to 2026.8).
    """
    for frame, _ in walk_stack(sys._getframe(1)):
        if frame.f_code.co_name == "_tune_down":
            operands = getattr(frame.f_locals.get("self"), "operands", [])
            optimizers = [getattr(operand, "low_level_optimizer", None) for operand in operands]
            arrays = _optimizer_of_arrays()
            known = [isinstance(found, Optimizer) or found is arrays for found in optimizers]
            return bool(known) and all(known) and isinstance(optimizers[0], Optimizer)
    return False


def optimize(dsk: HighLevelGraph, keys: Any = None) -> HighLevelGraph:
    """Optimise the user's array graph for what is needed, then fuse each load into its leaf.

    That is the chunks we load, and ``keys`` of other arrays.
    """
    writes = _writes(dsk)
    upstream = dsk.layers.keys() - writes.keys() - _downstream(dsk, writes)
    others = [key for key in flatten([] if keys is None else [keys]) if name_of(key) in upstream]
    loads = _optimized_loads(dsk, upstream, writes, others)
    layers: dict[str, Any] = {}
    dependencies: dict[str, set[str]] = {_SOURCES: set()}
    fused = _fuse_leaves(writes, loads, others)
    _hold_back(writes, loads, others)
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
    writes = {}
    for name, layer in dsk.layers.items():
        if isinstance(tasks := getattr(layer, "mapping", None), CcogTasks):
            writes[name] = _Write.of(tasks)
    return writes


def _downstream(dsk: HighLevelGraph, names: Iterable[str]) -> set[str]:
    """The layers that depend on those of these names."""
    downstream: set[str] = set()
    left = list(names)
    while left:
        found = set(dsk.dependents[left.pop()]) - downstream
        downstream |= found
        left.extend(found)
    return downstream


def _optimized_loads(
    dsk: HighLevelGraph, upstream: set[str], writes: Mapping[str, _Write], others: list[Any]
) -> _Loads:
    """The user's tasks, as dask optimises arrays, for what is needed."""
    chunks = list(itertools.chain(*(write.chunks for write in writes.values())))
    if not (chunks or others):
        return _Loads({}, {})
    layers = {name: dsk.layers[name] for name in upstream}
    dependencies = {name: set(dsk.dependencies[name]) for name in upstream}
    loads = _optimized(HighLevelGraph(layers, dependencies), [*chunks, *others])
    _resolve_aliases(loads, chunks)
    return loads


def _optimized(arrays: HighLevelGraph, keys: list[Any]) -> _Loads:
    if not any(layer.annotations for layer in arrays.layers.values()):
        return _Loads(convert_legacy_graph(dict(optimize_array(arrays, keys))), {})
    # dask's last step joins tasks whatever their annotations
    with dask.config.set({"optimization.fuse.active": False}):
        optimized = optimize_array(arrays, keys)
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


def _fuse_leaves(
    writes: Mapping[str, _Write], loads: _Loads, others: list[Any]
) -> dict[str, Notes]:
    """Fuse loads into leaves; returns the annotations of the leaves by write."""
    uses = _uses(loads.tasks.values()) + Counter(others)
    for write in writes.values():
        uses += _uses(write.needed.values())
    annotations: dict[str, Notes] = {}
    for name, write in writes.items():
        annotations[name] = {}
        for key in write.leaves:
            leaf = write.needed[key]
            own = loads.among(d for d in leaf.dependencies if uses[d] == 1)
            if write.has_given_overviews:
                # what an overview is made of need not wait, but what is made of it can
                own = [load for load in own if not loads.among(loads.tasks[load].dependencies)]
            if not own:
                continue
            for load in own:
                if load in loads.notes:
                    annotations[name].setdefault(key, {}).update(loads.notes.pop(load))
            fused = (loads.tasks.pop(load) for load in own)
            write.needed[key] = Task.fuse(*fused, leaf, key=key)
    return annotations


def _hold_back(writes: Mapping[str, _Write], loads: _Loads, others: list[Any]) -> None:
    """Let the user's tasks wait as the first block does that needs them.

    Given overviews are often made of full resolution, whose chunks then are not part of the blocks
    that load them, and would all be loaded ahead of these. So would those that several writes or
    other arrays need. Writes that come to them in one order keep step; else the first sets the
    pace.
    """
    if len(writes) == 1 and not others:
        writes = {name: write for name, write in writes.items() if write.has_given_overviews}
    starts = {name: _starts(write, loads) for name, write in writes.items()}
    uses = Counter(itertools.chain(*starts.values(), loads.needed(others)))
    held: dict[Any, list[_BlockStart]] = {}
    for name, write in writes.items():
        roots = {
            key: start
            for key, start in starts[name].items()
            if (uses[key] > 1 or write.has_given_overviews)
            and not loads.among(loads.tasks[key].dependencies)
        }
        in_step = _is_in_step(roots, held)
        for key, start in roots.items():
            if in_step or key not in held:
                held.setdefault(key, []).append(start)
    for key, waits in held.items():
        after = [TaskRef(start.key) for start in waits if start.number]
        if after:
            loads.tasks[key] = Task(key, _after, loads.tasks[key], *after)


def _is_in_step(roots: Mapping[Any, _BlockStart], held: Mapping[Any, list[_BlockStart]]) -> bool:
    """Whether tasks can wait for this write, too, and none ends up waiting for itself.

    It needs the same ones as those that they wait for, and comes to none of them in another order.
    """
    if (
        not held
        or roots.keys() != held.keys()
        or len({len(starts) for starts in held.values()}) > 1
    ):
        return False
    for n in range(len(next(iter(held.values())))):
        numbers = sorted((starts[n].number, roots[key].number) for key, starts in held.items())
        if any(first[1] > second[1] for first, second in itertools.pairwise(numbers)):
            return False
    return True


def _watch(writes: Mapping[str, _Write], loads: _Loads) -> None:
    """End the runs of writes whose tasks fail, or tasks of the user's that they need."""
    runs: list[str] = []
    for write in writes.values():
        if write.tasks.context.run is None:
            continue
        runs.append(write.tasks.context.run)
        for key, task in write.needed.items():
            write.needed[key] = watched(task, (runs[-1],))
    for key, task in loads.tasks.items():
        loads.tasks[key] = watched(task, tuple(runs))


class _BlockStart(NamedTuple):
    """The task that a block waits for: its number, 0 for the one that begins the write."""

    number: int
    key: Any


def _starts(write: _Write, loads: _Loads) -> dict[Any, _BlockStart]:
    """Of each of the user's tasks that a write needs: what the first block waits for."""
    of_leaves = [(_start(write, leaf), leaf) for leaf in write.leaves]
    starts: dict[Any, _BlockStart] = {}
    for start, leaf in sorted(of_leaves):
        needed = loads.needed(write.needed[leaf].dependencies, starts)
        starts.update(dict.fromkeys(needed, start))
    return starts


def _start(write: _Write, leaf: Any) -> _BlockStart:
    (key,) = [d for d in write.needed[leaf].dependencies if d in write.needed]
    return _BlockStart(key[1] if len(key) > 1 else 0, key)


def _after(value: Any, *starts: object) -> Any:
    return value
