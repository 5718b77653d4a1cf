"""One progress display over all the writes that are computed inside a block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from dask.callbacks import Callback

from ccog.runtime.distributed_edges import ask_scheduler, is_over, offer_plugin
from ccog.runtime.events import listening
from ccog.runtime.task_names import PREFIX
from ccog.runtime.whereabouts import current_client, is_own_loop
from ccog.views.progress.state import ProgressState

if TYPE_CHECKING:
    from ccog.views.progress.display import Display

_TICK_SECONDS, _ANSWER_SECONDS = 0.25, 10

# a pipe or terminal that is closed does not fail the write; rich would leave the program
_NOBODY_SEES = OSError, SystemExit


@contextlib.contextmanager
def progress(client: Any = None) -> Iterator[None]:
    """Show the progress of all writes that are computed inside the block.

    In a terminal or a notebook there is one bar for each stage: blocks of full
    resolution that are encoded, those of overviews, and rows of blocks that are
    uploaded, with the bytes that the store has taken. Elsewhere a line is written for
    each tenth of the work, but at most one in ten seconds. Progress is written to
    standard error; every scheduler of dask is shown, and several files together.

    Parameters
    ----------
    client
        The distributed client that computes, if it is not the default one.

    Examples
    --------
    >>> with ccog.progress():
    ...     ccog.write_ccog(arr, "a.tif").compute()
    """
    from ccog.views.progress.display import open_display  # rich takes a while to import

    state = ProgressState()
    listener = _Listener(state, client)
    display = open_display()
    last = None
    try:
        counting = Callback(posttask=partial(_count_task, state))
        with listening(listener), counting, _ticking(state, listener, display):
            yield
        listener.conclude()
        last = state.snapshot()
    finally:
        with contextlib.suppress(*_NOBODY_SEES):
            display.close(last)


class _Listener:
    """Brings a state up to date: listens here, and asks a cluster through its client.

    If the scheduler does not answer, the state stays as it is.
    """

    def __init__(self, state: ProgressState, client: Any) -> None:
        self._state = state
        self._client = client
        self._offered = False
        self._known: set[str] = set()

    @property
    def is_here(self) -> bool:
        """Whether this thread runs the client's event loop: it must not wait for answers."""
        return is_own_loop(self._client)

    def expect(self, final: str, counts: Mapping[str, int]) -> None:
        """A write is about to be computed, by the current client where none was named."""
        if self._client is None:
            self._client = current_client()
        self._state.writes.setdefault(final, counts)

    def stored(self, session: str, number: int, size: int) -> None:
        self._state.parts_here[session, number] = size

    def ask(self) -> None:
        """Ask the scheduler; called from a thread that is not the client's own."""
        # a copy, since writes in other threads may begin meanwhile
        writes = {final: list(counts) for final, counts in list(self._state.writes.items())}
        if self._client is None or not writes:
            return
        with contextlib.suppress(Exception):
            if not self._offered:
                from ccog.runtime.scheduler_plugin import CcogPlugin

                offer_plugin(self._client, CcogPlugin(), _ANSWER_SECONDS)
                self._offered = True
            handler = "ccog_progress"
            answer = ask_scheduler(self._client, handler, _ANSWER_SECONDS, writes=writes)
            self._known.update(answer["known"])
            self._state.done_on_cluster.update(answer["done"])
            self._state.sizes_on_cluster.update(answer["sizes"])
            self._state.complete.update(answer["complete"])

    def conclude(self) -> None:
        """Ask after a success: writes too quick to be seen are complete."""
        if self._client is None:
            return
        writes = list(self._state.writes)
        if self.is_here:
            # nobody can be asked from here, but the client knows its own futures
            self._state.complete.update(final for final in writes if is_over(self._client, final))
            return
        self.ask()
        self._state.complete.update(set(writes) - self._known)


def _count_task(state: ProgressState, key: Any, *_: Any) -> None:
    """Count a task that a scheduler of dask in this process has run."""
    name = key[0] if isinstance(key, tuple) else key
    if isinstance(name, str) and name.startswith(PREFIX):
        state.done_here[name] += 1


@contextlib.contextmanager
def _ticking(state: ProgressState, listener: _Listener, display: Display) -> Iterator[None]:
    """Show the state again and again, from a thread of its own."""
    over, showing = threading.Event(), threading.Lock()

    def tick() -> None:
        while not over.wait(_TICK_SECONDS):
            listener.ask()
            with showing:
                if not over.is_set():
                    with contextlib.suppress(*_NOBODY_SEES):
                        display.show(state.snapshot())

    thread = threading.Thread(target=tick, name="ccog-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with showing:
            over.set()
        # no answer comes through an event loop that waits here
        if not listener.is_here:
            thread.join()
