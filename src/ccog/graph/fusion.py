"""The optimiser of a write: the user's array graph as dask optimises it, each load fused into its leaf."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import dask
from dask._task_spec import (
    convert_legacy_graph,  # dask.task_spec, the public module, has no such function
)
from dask.array.optimization import optimize as optimize_array
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import Alias, GraphNode, Task

from ccog.graph.annotations import by_key, for_layer


def optimize(dsk: HighLevelGraph, is_write: Any) -> HighLevelGraph:
    """Optimise the user's array graph for the chunks we load, then fuse each load into its leaf.

    ``is_write`` says of a layer's mapping whether it is ours: such mappings have ``sources``, the names of the
    layers they load, ``leaves``, the keys of the tasks that load, and ``needed``, the tasks that are to run.
    """
    files = {
        n: layer.mapping
        for n, layer in dsk.layers.items()
        if is_write(getattr(layer, "mapping", None))
    }
    written = {name: tasks.needed() for name, tasks in files.items()}
    upstream = _upstream(dsk, [source for tasks in files.values() for source in tasks.sources])
    chunks = _chunks(files, written)
    sub = HighLevelGraph(
        {n: dsk.layers[n] for n in upstream}, {n: set(dsk.dependencies[n]) for n in upstream}
    )
    low, notes = _optimized(sub, chunks) if chunks else ({}, {})
    _resolve_aliases(low, notes, chunks)
    uses = _uses([*low.values(), *(task for tasks in written.values() for task in tasks.values())])
    layers: dict[str, Any] = {}
    dependencies: dict[str, set[str]] = {}
    for name, tasks in files.items():
        fused: dict[Any, dict[str, Any]] = {}
        for leaf in filter(written[name].__contains__, tasks.leaves):
            written[name][leaf] = _fuse(written[name][leaf], low, uses, notes, fused)
        layers[name] = MaterializedLayer(
            written[name], annotations=for_layer(fused, dsk.layers[name].annotations)
        )
        dependencies[name] = {"ccog-sources"}
    layers["ccog-sources"], dependencies["ccog-sources"] = (
        MaterializedLayer(low, for_layer(notes)),
        set(),
    )
    for name in dsk.layers.keys() - upstream - files.keys():
        layers[name] = dsk.layers[name]
        dependencies[name] = {
            "ccog-sources" if d in upstream else d for d in dsk.dependencies[name]
        }
    return HighLevelGraph(layers, dependencies)


def _optimized(
    sub: HighLevelGraph, chunks: list[Any]
) -> tuple[dict[Any, GraphNode], dict[Any, dict[str, Any]]]:
    """The user's tasks, as dask optimises arrays, and what each is annotated with."""
    if not any(layer.annotations for layer in sub.layers.values()):
        return dict(optimize_array(sub, chunks)), {}
    # dask's last step joins tasks whatever their annotations
    with dask.config.set({"optimization.fuse.active": False}):
        found = optimize_array(sub, chunks)
    return convert_legacy_graph(dict(found)), by_key(found.layers.values())


def _upstream(dsk: HighLevelGraph, names: list[str]) -> set[str]:
    found: set[str] = set()
    while names:
        name = names.pop()
        if name not in found:
            found.add(name)
            names.extend(dsk.dependencies[name])
    return found


def _chunks(files: dict[str, Any], written: dict[str, dict[Any, GraphNode]]) -> list[Any]:
    """Keys of the source chunks that leaves load."""
    return [
        key
        for name, tasks in files.items()
        for leaf in filter(written[name].__contains__, tasks.leaves)
        for key in written[name][leaf].dependencies
        if key[0] in tasks.sources
    ]


def _uses(nodes: Iterable[GraphNode]) -> Counter[Any]:
    return Counter(dependency for node in nodes for dependency in node.dependencies)


def _resolve_aliases(
    low: dict[Any, GraphNode], notes: dict[Any, dict[str, Any]], keys: list[Any]
) -> None:
    """Array fusion leaves a chunk as an alias of a renamed task: give the task the chunk's key back."""
    uses = _uses(low.values())
    for key in keys:
        node = low.get(key)
        if isinstance(node, Alias) and uses.get(node.target) == 1 and node.target in low:
            low[key] = low.pop(node.target).substitute({}, key=key)
            if node.target in notes:
                notes[key] = notes.pop(node.target)


def _fuse(
    leaf: GraphNode,
    low: dict[Any, GraphNode],
    uses: Counter[Any],
    notes: dict[Any, dict[str, Any]],
    fused: dict[Any, dict[str, Any]],
) -> GraphNode:
    """The leaf with the loads that nothing else needs inside it, and in ``fused`` what these are annotated with."""
    own = [d for d in leaf.dependencies if d in low and uses[d] == 1 and isinstance(low[d], Task)]
    if not own:
        return leaf
    for d in own:
        if d in notes:
            fused[leaf.key] = fused.get(leaf.key, {}) | notes.pop(d)
    return Task.fuse(*(low.pop(d) for d in own), leaf, key=leaf.key)
