"""Progress events: a write is about to be computed, and a part of it is stored.

Tasks on a dask worker tell the scheduler, over the connection that the worker has anyway.
Other tasks tell the listeners in this process.
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
        """A write is about to be computed.

        ``final`` is the key of its last task, ``counts`` are its tasks by name.
        """

    def stored(self, session: str, number: int, size: int) -> None:
        """A part of a write in this process is stored; a part may be told of twice."""


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


def teller(upload_id: str, token: str) -> Tell:
    """A function that tells of each part of a write that is stored.

    Ask for it in the thread that runs the task; any thread may call it.
    """
    task = current_task(token)

    def tell(part: Part) -> None:
        if task is not None:
            message = {"token": token, "number": part.number, "size": part.size}
            task.worker.log_event(TOPIC, message)
            return
        for listener in list(_LISTENERS):
            listener.stored(upload_id, part.number, part.size)

    return tell
