"""How much of the writes that are watched is done."""

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


class Tally:
    """Counts of tasks by their names, from schedulers in this process and from a cluster's."""

    def __init__(self) -> None:
        self._totals: dict[str, dict[str, int]] = {}
        self._here: Counter[str] = Counter()
        self._there: dict[str, int] = {}
        self._complete: set[str] = set()
        self._parts: dict[tuple[str, int], int] = {}
        self._sizes: dict[str, int] = {}

    @property
    def writes(self) -> dict[str, dict[str, int]]:
        """All tasks of each write by name, the writes by the key of their last task."""
        return dict(self._totals)

    def expect(self, final: str, counts: Mapping[str, int]) -> None:
        """A write is about to be computed."""
        self._totals.setdefault(final, dict(counts))

    def stored(self, session: str, number: int, size: int) -> None:
        """A part is stored by this process."""
        self._parts[session, number] = size

    def ran(self, name: str) -> None:
        """A task of that name is done in this process."""
        self._here[name] += 1

    def counted(self, done: Mapping[str, int], sizes: Mapping[str, int]) -> None:
        """A cluster's scheduler counts tasks that are done by name, and bytes stored by write."""
        self._there.update(done)
        self._sizes.update(sizes)

    def complete(self, finals: Iterable[str]) -> None:
        """These writes are complete."""
        self._complete.update(finals)

    def snapshot(self) -> Snapshot:
        """What is done now."""
        done: Counter[str] = Counter()
        totals: Counter[str] = Counter()
        for final, counts in self.writes.items():
            for name, total in counts.items():
                stage = stage_of(name)
                if stage is not None:
                    totals[stage] += total
                    done[stage] += total if final in self._complete else self._done(name, total)
        stages = (Stage(name, done[name], totals[name]) for name in STAGES if totals[name])
        return Snapshot(tuple(stages), sum(list(self._parts.values())) + sum(self._sizes.values()))

    def _done(self, name: str, total: int) -> int:
        return min(total, max(self._here[name], self._there.get(name, 0)))
