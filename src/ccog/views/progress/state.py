"""The state of the writes whose progress is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ccog.runtime.task_names import STAGES, stage_of


@dataclass(frozen=True)
class Stage:
    """Tasks of one stage, of all writes together."""

    name: str
    done: int
    total: int


@dataclass(frozen=True)
class Snapshot:
    """All stages that have tasks, and the bytes that are stored."""

    stages: tuple[Stage, ...]
    size: int

    @property
    def done(self) -> int:
        """Tasks of all stages that are done."""
        return sum(stage.done for stage in self.stages)

    @property
    def total(self) -> int:
        """Tasks of all stages."""
        return sum(stage.total for stage in self.stages)


class ProgressState:
    """Counts of tasks by name, from schedulers in this process and on a cluster."""

    def __init__(self) -> None:
        self._totals: dict[str, dict[str, int]] = {}
        self._done_here: Counter[str] = Counter()
        self._done_on_cluster: dict[str, int] = {}
        self._complete: set[str] = set()
        self._parts_here: dict[tuple[str, int], int] = {}
        self._sizes_on_cluster: dict[str, int] = {}

    @property
    def writes(self) -> dict[str, dict[str, int]]:
        """Numbers of tasks by name, of writes by the key of their last task."""
        return dict(self._totals)

    def expect(self, final: str, counts: Mapping[str, int]) -> None:
        """A write is about to be computed."""
        self._totals.setdefault(final, dict(counts))

    def stored(self, upload_id: str, number: int, size: int) -> None:
        """Count the bytes of a part stored in this process; it may be told of twice."""
        self._parts_here[upload_id, number] = size

    def ran(self, name: str) -> None:
        """Count a task of that name that this process has run."""
        self._done_here[name] += 1

    def counted(self, done: Mapping[str, int], sizes: Mapping[str, int]) -> None:
        """Take the counts of a scheduler: tasks by name, bytes stored by write."""
        self._done_on_cluster.update(done)
        self._sizes_on_cluster.update(sizes)

    def complete(self, finals: Iterable[str]) -> None:
        """These writes are complete."""
        self._complete.update(finals)

    def snapshot(self) -> Snapshot:
        """The state now."""
        done: Counter[str] = Counter()
        totals: Counter[str] = Counter()
        for final, counts in self.writes.items():
            for name, total in counts.items():
                stage = stage_of(name)
                if stage is not None:
                    totals[stage] += total
                    is_complete = final in self._complete
                    done[stage] += total if is_complete else self._done(name, total)
        seen = [name for name in STAGES if totals[name]]
        stages = tuple(Stage(name, done[name], totals[name]) for name in seen)
        # a copy, since tasks in other threads store parts meanwhile
        size_here = sum(list(self._parts_here.values()))
        return Snapshot(stages, size_here + sum(self._sizes_on_cluster.values()))

    def _done(self, name: str, total: int) -> int:
        done = max(self._done_here[name], self._done_on_cluster.get(name, 0))
        return min(total, done)
