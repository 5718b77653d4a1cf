"""What writes tell those who watch them: that one is about to be computed, and that a part of it is stored.

Tasks on a dask worker tell the scheduler, over the connection the worker has anyway; other tasks tell this process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from ccog.parts import Part

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
    """What the current task calls, from any thread, with each part that is stored."""
    worker, key = _current_task()
    if worker is None:
        return lambda part: _tell_here(session, part)
    token = str(key[0] if isinstance(key, tuple) else key).rsplit("-", 1)[-1]
    return lambda part: worker.log_event(TOPIC, {"token": token, "number": part[0], "size": part[1]})


def _tell_here(session: str, part: Part) -> None:
    for listener in list(_LISTENERS):
        listener.stored(session, part[0], part[1])


def _current_task() -> tuple[Any, Any]:
    """The distributed worker that runs this thread's task, and the task's key; None twice elsewhere."""
    try:
        from distributed import get_worker

        worker = get_worker()
        return worker, worker.get_current_task()
    except (ImportError, ValueError, AttributeError):
        return None, None
