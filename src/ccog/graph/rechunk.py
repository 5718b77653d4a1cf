"""Rechunking whose tasks are made when they are asked for, as those of a write are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import dask.array as da
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import Alias

# sizes of chunks along each axis
Chunks = tuple[tuple[int, ...], ...]


class RechunkTasks(Mapping[Any, Any]):
    """The tasks of ``array.rechunk(chunks)``, of which there may be millions.

    Its chunks are called ``name``.
    """

    def __init__(self, name: str, array: da.Array, chunks: Chunks) -> None:
        self.name = name
        self.array = array
        self.chunks = chunks

    @cached_property
    def _tasks(self) -> dict[Any, Any]:
        # "tasks" also where a cluster would shuffle peer to peer, which loses annotations
        found = self.array.rechunk(self.chunks, method="tasks")
        tasks: dict[Any, Any] = {}
        for name, layer in found.dask.layers.items():
            if name not in self.array.dask.layers:
                tasks.update(layer)
        for key in [key for key in tasks if isinstance(key, tuple) and key[0] == found.name]:
            ours = (self.name, *key[1:])
            tasks[ours] = Alias(ours, key)
        return tasks

    def __getitem__(self, key: Any) -> Any:
        return self._tasks[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "array": self.array, "chunks": self.chunks}


def rechunked(array: da.Array, chunks: Chunks) -> da.Array:
    """The array in other chunks."""
    if chunks == array.chunks:
        return array
    if da.Array is not da.core.Array:
        # dask plans arrays as queries, which have no layers
        return array.rechunk(chunks, method="tasks")
    name = f"ccog-rechunk-{tokenize(array.name, chunks)}"
    layer = MaterializedLayer(RechunkTasks(name, array, chunks))
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[array])
    return da.Array(graph, name, chunks, dtype=array.dtype, meta=array._meta)
