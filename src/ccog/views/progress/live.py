"""One progress display over all the writes that are computed inside a block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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

    listener = _Listener(client=client)
    display = open_display()
    last = None
    try:
        counting = Callback(posttask=listener.count_task)
        with listening(listener), counting, _ticking(listener, display):
            yield
        listener.conclude()
        last = listener.snapshot()
    finally:
        with contextlib.suppress(*_NOBODY_SEES):
            display.close(last)


@dataclass(kw_only=True, eq=False)
class _Listener(ProgressState):
    """A state that listens here, and asks a cluster through its client.

    If the scheduler does not answer, the state stays as it is.
    """

    client: Any
    #: Whether the plugin that answers was offered to the scheduler.
    offered: bool = False
    #: Writes that the scheduler knows.
    known: set[str] = field(default_factory=set)

    def expect(self, final: str, counts: Mapping[str, int]) -> None:
        """A write is about to be computed, by the current client where none was named."""
        if self.client is None:
            self.client = current_client()
        self.writes.setdefault(final, counts)

    def stored(self, session: str, number: int, size: int) -> None:
        self.parts_here[session, number] = size

    def count_task(self, key: Any, *_: Any) -> None:
        """Count a task that a scheduler of dask in this process has run."""
        name = key[0] if isinstance(key, tuple) else key
        if isinstance(name, str) and name.startswith(PREFIX):
            self.done_here[name] += 1

    def ask(self) -> None:
        """Ask the scheduler; called from a thread that is not the client's own."""
        # a copy, since writes in other threads may begin meanwhile
        writes = {final: list(counts) for final, counts in list(self.writes.items())}
        if self.client is None or not writes:
            return
        with contextlib.suppress(Exception):
            if not self.offered:
                from ccog.runtime.scheduler_plugin import CcogPlugin

                offer_plugin(self.client, CcogPlugin(), _ANSWER_SECONDS)
                self.offered = True
            handler = "ccog_progress"
            answer = ask_scheduler(self.client, handler, _ANSWER_SECONDS, writes=writes)
            self.known.update(answer["known"])
            self.done_on_cluster.update(answer["done"])
            self.sizes_on_cluster.update(answer["sizes"])
            self.complete.update(answer["complete"])

    def conclude(self) -> None:
        """Ask after a success: writes too quick to be seen are complete."""
        if self.client is None:
            return
        writes = list(self.writes)
        if is_own_loop(self.client):
            # nobody can be asked from here, but the client knows its own futures
            self.complete.update(final for final in writes if is_over(self.client, final))
            return
        self.ask()
        self.complete.update(set(writes) - self.known)


@contextlib.contextmanager
def _ticking(listener: _Listener, display: Display) -> Iterator[None]:
    """Show the state again and again, from a thread of its own."""
    over, showing = threading.Event(), threading.Lock()

    def tick() -> None:
        while not over.wait(_TICK_SECONDS):
            listener.ask()
            with showing:
                if not over.is_set():
                    with contextlib.suppress(*_NOBODY_SEES):
                        display.show(listener.snapshot())

    thread = threading.Thread(target=tick, name="ccog-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with showing:
            over.set()
        # no answer comes through an event loop that waits here
        if not is_own_loop(listener.client):
            thread.join()
