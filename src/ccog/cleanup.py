"""Where a write begins, and who removes what it has put when it does not finish.

A write begins in a task that every load waits for, so that a refusal shows before any work, and so that all
schedulers are served by one rule. What the task begins is kept where the computation is kept:

- Distributed: by a plugin on the scheduler, which outlives every worker. The task asks it first, so that the
  task of a worker that was killed, run again, gets the same session. When the last task of the write fails or is
  forgotten (a cancelled or dropped future, a client that is gone), the plugin has the session aborted.
- Schedulers in this process: by a callback of dask's, which is told how each computation ends, whoever started it.

A write that can be resumed is left as it is, whatever ends it; when it begins it may continue what is there.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from dask.callbacks import Callback

from ccog.errors import CCOGWarning, ResumeError, StoreError, StoreNotFoundError
from ccog.manifest import Resumption
from ccog.names import task_name, token_of
from ccog.stores import Store
from ccog.stores.base import MANIFEST
from ccog.whereabouts import current_client, current_task, is_own_loop

#: Name that keys of tasks which begin a write start with.
BEGIN = task_name("begin", "")

# seconds a client that saw a write fail waits for the scheduler to clean up
_WAIT_SECONDS = 60.0


def begin_write(store: Store, final: str, resumption: Resumption | None = None) -> str:
    """Start the write whose last task is ``final``, or find that it is started; run as a task."""
    task = current_task()
    if task is None:
        return _begin_here(store, final, resumption)
    return _begin_on(task.worker, store, final, resumption)


def _started(store: Store, final: str, resumption: Resumption | None, unanswered: float = 0.0) -> str:
    """A new session, or the one to continue."""
    if resumption is None:
        return store.begin(token_of(final), unanswered)
    if resumption.session is None:
        store.tidy()
        session = store.begin(token_of(final), unanswered)
        try:
            store.save(session, MANIFEST, resumption.manifest.encode())
        except BaseException:
            remove(store, session)
            raise
        return session
    try:
        store.stored(resumption.session, 1, 1)
    except StoreNotFoundError as error:
        raise ResumeError(f"the unfinished write to {store.url} was ended meanwhile; start again ({error})") from error
    return resumption.session


def remove(store: Store, session: str) -> None:
    """Abort a write; a failure to do so is a warning, so that the error that led here is the one seen."""
    try:
        store.abort(session)
    except Exception as error:
        warnings.warn(
            f"parts of {store.url} may remain: {error}; list and remove them with `ccog uploads`",
            CCOGWarning,
            stacklevel=2,
        )


class _Guard(Callback):  # type: ignore[misc]
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
        for key in [key for key in dsk if isinstance(key, tuple) and str(key[0]).startswith(BEGIN)]:
            # the arguments of begin_write
            store, final, *resumption = dsk[key].args
            is_unwanted = errored and not any(resumption)
            if is_unwanted and key in state.get("running", ()):
                self._give_up(final)
            # what began in another process is known to dask alone
            upload_id = self._forget(final) or state.get("cache", {}).get(key)
            if is_unwanted and upload_id is not None:
                remove(store, upload_id)

    def _give_up(self, final: str) -> None:
        """Wait until the write has begun, unless its thread finds in time that it need not."""
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

    def begun(self, final: str, upload_id: str) -> bool:
        """Remember what a write has begun; False if it was given up meanwhile."""
        with self._changed:
            if final in self._given_up:
                self._given_up.discard(final)
                return False
            self._begun[final] = upload_id
            return True

    @contextlib.contextmanager
    def beginning(self, final: str) -> Iterator[None]:
        """The time in which a write begins, up to its removal if it is given up meanwhile."""
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

    def is_given_up(self, final: str) -> bool:
        """Whether the computation ended while its write was beginning; forgets it."""
        with self._changed:
            given_up = final in self._given_up
            self._given_up.discard(final)
            return given_up


_GUARD = _Guard()


def watch() -> None:
    """Have dask tell us how computations in this process end; once is enough, more does not harm."""
    _GUARD.register()


def _begin_here(store: Store, final: str, resumption: Resumption | None) -> str:
    given_up = StoreError(f"writing {store.url} was given up while it began")
    with _GUARD.beginning(final):
        if _GUARD.is_given_up(final):
            raise given_up
        session = _started(store, final, resumption)
        if not _GUARD.begun(final, session):
            remove(store, session)
            raise given_up
        return session


def _begin_on(worker: Any, store: Store, final: str, resumption: Resumption | None) -> str:
    from distributed.protocol.serialize import ToPickle

    from ccog.scheduler_plugin import Sealed, UploadKeeper

    plugin = pickle.dumps(UploadKeeper())
    _ask(worker, "register_scheduler_plugin", plugin=plugin, name=UploadKeeper.name, idempotent=True)
    found, unanswered = _ask(worker, "ccog_announce", final=final)
    if found is not None:
        return str(found)
    session, stays = _started(store, final, resumption, unanswered), resumption is not None
    sealed = ToPickle(Sealed.of(store))
    kept = _ask(worker, "ccog_keep", final=final, session=session, store=sealed, stays=stays)
    if kept != session and (resumption is None or session != resumption.session):
        remove(store, session)
    if kept is None:
        raise StoreError(f"writing {store.url} was given up while it began")
    return str(kept)


def _ask(worker: Any, operation: str, **message: Any) -> Any:
    """A call to the scheduler; dask logs the message at DEBUG, so that credentials in it must be sealed."""
    from distributed.utils import sync

    return sync(worker.loop, getattr(worker.scheduler, operation), **message)


def wait_for_removal(final: str, client: Any = None) -> None:
    """Wait until the scheduler of a distributed client has cleaned up a write that failed.

    On the event loop of an asynchronous client nobody can wait: the scheduler cleans up meanwhile.
    """
    client = current_client() if client is None else client
    if client is None or is_own_loop(client):
        return
    deadline = time.monotonic() + _WAIT_SECONDS
    # a scheduler that never heard of the write, or is gone, has nothing to wait for
    with contextlib.suppress(Exception):
        while client.sync(client.scheduler.ccog_is_open, final=final) and time.monotonic() < deadline:
            time.sleep(0.05)
