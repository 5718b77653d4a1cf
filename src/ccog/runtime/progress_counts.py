"""The progress of writes on a cluster, counted on its scheduler."""

from __future__ import annotations

from typing import Any, TypedDict

from ccog.runtime.distributed_edges import has_task, tasks_done
from ccog.runtime.task_names import task_name

_FINISH = task_name("finish", "")

# complete writes that are remembered
_REMEMBERED = 1000


class Progress(TypedDict):
    """Answer to a question for some writes, by the keys of their last tasks.

    ``known`` to the scheduler, ``complete``, tasks ``done`` by name, and ``sizes``:
    bytes stored by write.
    """

    known: list[str]
    complete: list[str]
    done: dict[str, int]
    sizes: dict[str, int]


class ProgressCounts:
    """Bytes stored by write; tasks are counted by the scheduler, in groups by name."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._complete: dict[str, int] = {}
        self._parts: dict[str, dict[int, int]] = {}

    def stored(self, token: str, number: int, size: int) -> None:
        """A worker has stored a part; of a write that is over, nothing is kept."""
        final = _FINISH + token
        if has_task(self._scheduler, final):
            self._parts.setdefault(final, {})[number] = size

    def ended(self, final: str, in_memory: bool) -> None:
        """The last task of a write has ended.

        Remember whether it is complete, and forget its parts.
        """
        if not final.startswith(_FINISH):
            return
        if in_memory:
            self._complete[final] = self._size(final)
            while len(self._complete) > _REMEMBERED:
                self._complete.pop(next(iter(self._complete)))
        self._parts.pop(final, None)

    def progress(self, writes: dict[str, list[str]]) -> Progress:
        """The progress of writes, given the names of their tasks by the key of the last one."""
        done: dict[str, int] = {}
        for names in writes.values():
            done |= tasks_done(self._scheduler, names)
        return Progress(
            known=[final for final in writes if has_task(self._scheduler, final)],
            complete=[final for final in writes if final in self._complete],
            done=done,
            sizes={final: self._size(final) for final in writes},
        )

    def _size(self, final: str) -> int:
        return self._complete.get(final, 0) or sum(self._parts.get(final, {}).values())
