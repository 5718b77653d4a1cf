"""The tasks of one file: which there are, made one by one when they are asked for.

So the graph of a million blocks is its geometry and two names until it is computed.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from dask.task_spec import GraphNode, Task

from ccog.errors import CCOGError
from ccog.geometry.intervals import ceil_div
from ccog.geometry.source_grid import LevelSource
from ccog.graph.context import GraphContext
from ccog.graph.makers import MAKERS, final_key
from ccog.graph.resume import find_checkpoint
from ccog.graph.scheduling import Throttle
from ccog.runtime.events import expect
from ccog.runtime.runs import hear_end, run_name
from ccog.runtime.task_names import parse_name
from ccog.tasks.checkpoints import SealedRecord
from ccog.tasks.job import WriteJob


class CcogTasks(Mapping[Any, GraphNode]):
    """The tasks of one file.

    Keys are (name, index...), the last one a plain string.
    """

    def __init__(self, job: WriteJob, sources: tuple[LevelSource, ...], throttle: Throttle) -> None:
        self.context = GraphContext(job=job, sources=sources, throttle=throttle)

    def _with(self, **changes: Any) -> CcogTasks:
        """Tasks of another context."""
        context = self.context
        other = CcogTasks(context.job, context.sources, context.throttle)
        other.context = replace(context, **changes)
        return other

    @property
    def job(self) -> WriteJob:
        """What is written."""
        return self.context.job

    @property
    def final(self) -> str:
        """Key of the task that completes the file."""
        return final_key(self.context)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the layers whose chunks the leaves load."""
        sources = self.context.sources
        masks = [source.mask.name for source in sources if source.mask is not None]
        return (*(source.pixels.name for source in sources), *masks)

    @property
    def leaves(self) -> Iterator[Any]:
        """Keys of the tasks that load chunks."""
        for k in range(len(self.context.sources)):
            name = self.context.key(f"block-L{k}")[0]
            yield from ((name, *index) for index in self._indices[name])

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks will run of each name."""
        if self.context.resuming:
            return Counter(name_of(key) for key in self.needed())
        counts = {name: len(indices) for name, indices in self._indices.items()}
        return counts | {self.final: 1}

    def __getitem__(self, key: Any) -> GraphNode:
        if key not in self:
            raise KeyError(key)
        word, number = parse_name(name_of(key))
        numbers = () if number is None else (number,)
        index = () if key == self.final else key[1:]
        return MAKERS[word](self.context, key, *numbers, *index)

    def __contains__(self, key: object) -> bool:
        if key == self.final:
            return True
        if not isinstance(key, tuple) or not key or not isinstance(key[0], str):
            return False
        return key[1:] in self._indices.get(key[0], ())

    def __iter__(self) -> Iterator[Any]:
        for name, indices in self._indices.items():
            for index in indices:
                yield (name, *index)
        yield self.final

    def __len__(self) -> int:
        return 1 + sum(map(len, self._indices.values()))

    def needed(self) -> dict[Any, GraphNode]:
        """The tasks that the last one needs: all, unless an earlier run is resumed."""
        if not self.context.resuming:
            return dict(self)
        tasks: dict[Any, GraphNode] = {}
        wanted: list[Any] = [self.final]
        while wanted:
            key = wanted.pop()
            if key not in tasks and key in self:
                tasks[key] = self[key]
                wanted.extend(tasks[key].dependencies)
        return tasks

    def resumed(self) -> CcogTasks:
        """The tasks that are left to do, now; warns of records that cannot be read.

        Raises
        ------
        ResumeError
            What is unfinished at the target is another write.
        """
        found = find_checkpoint(
            self.job, lambda checkpoint: self._with(checkpoint=checkpoint).loads()
        )
        return self._with(checkpoint=found, looked=True)

    def of_a_run(self) -> CcogTasks:
        """The tasks of a run on a scheduler in this process, which is about to start."""
        tasks = self.resumed()._with(run=run_name(self.final))
        expect(self.final, lambda: tasks.counts)
        hear_end()
        return tasks

    def loads(self) -> dict[Any, str]:
        """Names of the records that tasks will load, by the keys of these."""
        loads = {}
        for key, task in self.needed().items():
            if isinstance(task, Task) and task.args and isinstance(task.args[0], SealedRecord):
                loads[key] = task.args[0].name
        return loads

    @cached_property
    def _indices(self) -> dict[str, _Indices]:
        """The indices of each kind of task by the first element of its keys."""
        geometry, throttle = self.job.geometry, self.context.throttle
        indices = {"begin": _Indices()}
        for k in range(geometry.last_level + 1):
            blocks = geometry.level(k).blocks
            indices[f"block-L{k}"] = _Indices(*blocks)
            if self.context.has_halo_tasks(k):
                indices[f"halos-L{k}"] = _Indices(*blocks, len(geometry.reductions.from_level(k)))
            planes = geometry.file_order.planes(k)
            indices[f"upload-L{k}"] = _Indices(geometry.groups.count(k), planes)
        groups = geometry.groups.count(0)
        indices["throttle"] = _Indices(range(throttle.ahead, groups))
        if throttle.anchored:
            indices["anchor"] = _Indices(ceil_div(groups, throttle.anchored))
        for depth, count in enumerate(self.context.merge_counts):
            indices[f"merge-{depth}"] = _Indices(count)
        return {str(self.context.key(kind)[0]): of for kind, of in indices.items()}

    def __getstate__(self) -> dict[str, Any]:
        """The tasks that are left to do as they are sent to a scheduler: see ``computing``.

        After an error the first of them looks again: raised here it would be called one of
        pickling.
        """
        try:
            tasks = self.resumed()
        except CCOGError:
            return {"context": replace(self.context, checkpoint=None, looked=False)}
        expect(self.final, lambda: tasks.counts)
        return {"context": tasks.context}


def name_of(key: Any) -> str:
    """The name of the task, or the layer, of a key."""
    return str(key[0] if isinstance(key, tuple) else key)


class _Indices:
    """The index tuples of one kind of task: a grid, without a list of its members.

    A single task has no sides, and one index, which is empty.
    """

    def __init__(self, *sides: int | range) -> None:
        self._ranges = [side if isinstance(side, range) else range(side) for side in sides]

    def __contains__(self, index: tuple[Any, ...]) -> bool:
        if len(index) != len(self._ranges):
            return False
        return all(n in side for n, side in zip(index, self._ranges, strict=True))

    def __len__(self) -> int:
        return math.prod(map(len, self._ranges))

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return itertools.product(*self._ranges)
