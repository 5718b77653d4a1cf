"""The tasks of one file: which there are, made one by one when they are asked for.

So the graph of a million blocks is its geometry and two names until it is computed.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from dask.task_spec import GraphNode, Task

from ccog.errors import CCOGError
from ccog.geometry.intervals import ceil_div
from ccog.geometry.source_grid import LevelSource
from ccog.graph.context import Checkpoint, GraphContext
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
            return Counter(_name(key) for key in self.needed())
        counts = {name: len(indices) for name, indices in self._indices.items()}
        return counts | {self.final: 1}

    def __getitem__(self, key: Any) -> GraphNode:
        if key not in self:
            raise KeyError(key)
        word, number = parse_name(_name(key))
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
        checkpoint = find_checkpoint(self.job, self._loads_from)
        return self._with(checkpoint=checkpoint, looked=True)

    def of_a_run(self) -> CcogTasks:
        """The tasks of a run on a scheduler in this process, which is about to start."""
        tasks = self.resumed()._with(run=run_name(self.final))
        expect(self.final, lambda: tasks.counts)
        hear_end()
        return tasks

    def _loads_from(self, checkpoint: Checkpoint) -> dict[Any, str]:
        return self._with(checkpoint=checkpoint).loads()

    def loads(self) -> dict[Any, str]:
        """Names of the records that tasks will load, by the keys of these."""
        tasks = [task for task in self.needed().values() if isinstance(task, Task)]
        loading = [task for task in tasks if isinstance(_first(task.args), SealedRecord)]
        return {task.key: task.args[0].name for task in loading}

    @cached_property
    def _indices(self) -> dict[str, _Indices]:
        """The indices of each kind of task by the first element of its keys."""
        geometry, throttle = self.job.geometry, self.context.throttle
        indices = {"begin": _Indices((1,), drop=True)}
        for k in range(geometry.last_level + 1):
            blocks = geometry.level(k).blocks
            indices[f"block-L{k}"] = _Indices(blocks)
            if self.context.has_halo_tasks(k):
                indices[f"halos-L{k}"] = _Indices((*blocks, len(geometry.reductions.from_level(k))))
            indices[f"upload-L{k}"] = _Indices(
                (geometry.groups.count(k), geometry.file_order.planes(k))
            )
        groups, ahead = geometry.groups.count(0), throttle.ahead
        indices["throttle"] = _Indices((max(0, groups - ahead),), start=ahead)
        if throttle.anchored:
            indices["anchor"] = _Indices((ceil_div(groups, throttle.anchored),))
        for depth, count in enumerate(self.context.merge_counts):
            indices[f"merge-{depth}"] = _Indices((count,))
        return {str(self.context.key(kind)[0]): of for kind, of in indices.items()}

    def __getstate__(self) -> dict[str, Any]:
        """The tasks as they are about to be sent to a scheduler: see ``computing``."""
        return {"context": self._sent().context}

    def _sent(self) -> CcogTasks:
        """The tasks that are left to do.

        After an error the first of them looks again: raised here it would be called one of
        pickling.
        """
        try:
            tasks = self.resumed()
        except CCOGError:
            return self._with(checkpoint=None, looked=False)
        expect(self.final, lambda: tasks.counts)
        return tasks


def _name(key: Any) -> str:
    return key if isinstance(key, str) else str(key[0])


def _first(args: tuple[Any, ...]) -> Any:
    return args[0] if args else None


class _Indices:
    """The index tuples of one kind of task: a grid, without a list of its members.

    ``drop`` is for a single task, whose index is empty.
    """

    def __init__(self, shape: tuple[int, ...], *, start: int = 0, drop: bool = False) -> None:
        self._ranges = (range(start, start + shape[0]), *map(range, shape[1:]))
        self._drop = drop

    def __contains__(self, index: tuple[Any, ...]) -> bool:
        if self._drop:
            return not index
        if len(index) != len(self._ranges):
            return False
        return all(n in side for n, side in zip(index, self._ranges, strict=True))

    def __len__(self) -> int:
        count = 1
        for side in self._ranges:
            count *= len(side)
        return count

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return iter([()]) if self._drop else itertools.product(*self._ranges)
