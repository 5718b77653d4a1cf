"""Writes on schedulers in this process are aborted if their computation fails."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dask.callbacks import Callback

from ccog.errors import CCOGWarning
from ccog.runtime.task_names import task_name
from ccog.stores import Store

#: Name that keys of tasks which begin a write start with.
BEGIN = task_name("begin", "")

# seconds that the end of a computation waits for a write that is just beginning
_WAIT_SECONDS = 60.0


def abort(store: Store, upload_id: str) -> None:
    """Abort a write; a failure is a warning, so that the error that led here is seen."""
    try:
        store.abort(upload_id)
    except Exception as error:
        warnings.warn(
            f"parts of {store.url} may remain: {error}; list and remove them with `ccog uploads`",
            CCOGWarning,
            stacklevel=2,
        )


def _begins(key: Any) -> bool:
    return isinstance(key, tuple) and str(key[0]).startswith(BEGIN)


class LocalGuard(Callback):  # type: ignore[misc]
    """Aborts the writes of a computation in this process that did not succeed.

    Dask calls it when a computation ends. The task that begins a write may still run in
    its own thread then: that write is given up, and removed by its thread as soon as it
    has begun. It may also be over while dask has not heard of it yet: so the task says
    here what it has begun.
    """

    def __init__(self) -> None:
        super().__init__(finish=self._end)
        self._given_up: set[str] = set()
        self._beginning: set[str] = set()
        self._begun: dict[str, str] = {}
        self._failed: set[str] = set()
        self._changed = threading.Condition()

    def _end(self, dsk: Mapping[Any, Any], state: dict[str, Any], errored: bool) -> None:
        for key in filter(_begins, dsk):
            # the arguments of begin_write
            store, final, *resumption = dsk[key].args
            is_unwanted = errored and not any(resumption)
            if is_unwanted and key in state.get("running", ()):
                self._give_up(final)
            # what began in another process is known to dask alone
            upload_id = self._forget(final) or state.get("cache", {}).get(key)
            if is_unwanted and upload_id is not None:
                abort(store, upload_id)

    def _give_up(self, final: str) -> None:
        """Wait until the write has begun, or its thread has found that it need not."""
        with self._changed:
            if final in self._begun or final in self._failed:
                return
            self._given_up.add(final)
            self._changed.wait_for(lambda: final not in self._beginning, _WAIT_SECONDS)

    def _forget(self, final: str) -> str | None:
        """What a write that is over has begun."""
        with self._changed:
            self._failed.discard(final)
            return self._begun.pop(final, None)

    def begin(self, final: str, start: Callable[[], str], store: Store) -> str | None:
        """Begin a write; None if its computation ended meanwhile, and nothing is left."""
        with self._beginning_of(final):
            if self._is_given_up(final):
                return None
            upload_id = start()
            with self._changed:
                if not self._is_given_up(final):
                    self._begun[final] = upload_id
                    return upload_id
            abort(store, upload_id)
            return None

    @contextlib.contextmanager
    def _beginning_of(self, final: str) -> Iterator[None]:
        """The time in which a write begins, or is removed since it was given up."""
        with self._changed:
            self._beginning.add(final)
        try:
            yield
        except BaseException:
            with self._changed:
                self._failed.add(final)
            raise
        finally:
            with self._changed:
                self._beginning.discard(final)
                self._changed.notify_all()

    def _is_given_up(self, final: str) -> bool:
        """Whether the computation ended while its write was beginning; forgets it."""
        with self._changed:
            given_up = final in self._given_up
            self._given_up.discard(final)
            return given_up


GUARD = LocalGuard()
