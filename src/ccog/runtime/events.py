"""What writes tell those who watch them: that one is about to be computed, and that a part of it is stored.

Tasks on a dask worker tell the scheduler, over the connection the worker has anyway; other tasks tell this process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from ccog.geometry.parts import Part
from ccog.runtime.whereabouts import current_task

#: Topic of the messages that workers send.
TOPIC = "ccog-parts"

Tell = Callable[[Part], None]


class Listener(Protocol):
    """Somebody in this process who wants to be told."""

    def expect(self, final: str, counts: Mapping[str, int]) -> None:
        """A write, known by the key of its last task, is about to be computed; ``counts`` are its tasks by name."""

    def stored(self, session: str, number: int, size: int) -> None:
        """The part of that number of a write in this process is stored; a part may be told of twice."""


_LISTENERS: list[Listener] = []


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell the listener until the block ends."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)


def expect(final: str, counts: Callable[[], Mapping[str, int]]) -> None:
    """Say that a write is about to be computed."""
    for listener in list(_LISTENERS):
        listener.expect(final, counts())


def teller(session: str) -> Tell:
    """What the current task calls, from any thread, with each part that is stored; ask in the task's own thread."""
    task = current_task()
    if task is None:
        return lambda part: _tell_here(session, part)
    return lambda part: task.worker.log_event(
        TOPIC, {"token": task.token, "number": part[0], "size": part[1]}
    )


def _tell_here(session: str, part: Part) -> None:
    for listener in list(_LISTENERS):
        listener.stored(session, part[0], part[1])
