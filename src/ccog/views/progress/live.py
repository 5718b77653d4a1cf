"""One progress display over all the work of the writes that are computed inside a block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dask.callbacks import Callback

from ccog.runtime.events import listening
from ccog.runtime.task_names import PREFIX
from ccog.views.progress.client import ProgressClient
from ccog.views.progress.state import ProgressState

if TYPE_CHECKING:
    from ccog.views.progress.display import Display

_TICK_SECONDS = 0.25


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
    asked = ProgressClient(state, client)
    display = open_display()
    last = None
    try:
        with listening(asked), _Tasks(state), _ticking(state, asked, display):
            yield
        asked.conclude()
        last = state.snapshot()
    finally:
        display.close(last)


class _Tasks(Callback):  # type: ignore[misc]
    """Counts the tasks that dask's schedulers in this process have run."""

    def __init__(self, state: ProgressState) -> None:
        super().__init__(posttask=self._ran)
        self._state = state

    def _ran(self, key: Any, *_: Any) -> None:
        name = key[0] if isinstance(key, tuple) else key
        if isinstance(name, str) and name.startswith(PREFIX):
            self._state.ran(name)


@contextlib.contextmanager
def _ticking(state: ProgressState, asked: ProgressClient, display: Display) -> Iterator[None]:
    """Show the state again and again, from a thread of its own."""
    over, showing = threading.Event(), threading.Lock()

    def tick() -> None:
        while not over.wait(_TICK_SECONDS):
            asked.ask()
            with showing:
                if not over.is_set():
                    display.show(state.snapshot())

    thread = threading.Thread(target=tick, name="ccog-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with showing:
            over.set()
        # a thread that waits for an answer through the event loop that runs here would never get it
        if not asked.is_here:
            thread.join()
