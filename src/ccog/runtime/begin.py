"""Where a write begins, and when its upload is aborted.

A write begins in a task that every load waits for: a refusal shows before any work, and
one rule serves all schedulers. That task runs again if its worker dies, and must then
find the upload that it has begun. So on a cluster uploads are kept by a plugin on the
scheduler (``open_uploads``), elsewhere by a callback of dask's (``local_guard``).

An upload is aborted when:

==================================  ===============================  ========================
this happens                        on a cluster, by                 on other schedulers, by
==================================  ===============================  ========================
a task fails                        the plugin: last task erred      the callback: an error
Ctrl-C in ``compute``               the plugin: last task forgotten  the callback: an error
a future is cancelled or let go of  the plugin: last task forgotten  (does not happen)
the client is gone                  the plugin: last task forgotten  (does not happen)
the scheduler closes                the plugin: ``before_close``     (does not happen)
the write is given up as it begins  the task that begins it          the task that begins it
two tasks have begun the write      the later of them                (does not happen)
==================================  ===============================  ========================

It is not aborted when a worker dies (the task runs again, with the same upload), when
the whole process is killed (``ccog uploads abort`` removes what is left), and with
``resume=True`` (the same call continues it).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from ccog.errors import ResumeError, StoreError, StoreNotFoundError
from ccog.runtime.distributed_edges import Sealed, ask_scheduler, offer_plugin, travelling
from ccog.runtime.local_guard import GUARD, abort
from ccog.runtime.manifest import Resumption
from ccog.runtime.task_names import task_name, token_of
from ccog.runtime.whereabouts import current_client, current_task, is_own_loop
from ccog.stores import Store
from ccog.stores.base import MANIFEST

# seconds a client that saw a write fail waits for the scheduler to clean up
_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.05


def begin_write(store: Store, final: str, resumption: Resumption | None = None) -> str:
    """Begin the write whose last task is ``final``, unless it has begun; its upload id.

    It runs as a task.
    """
    task = current_task()
    if task is not None:
        return _begin_on_cluster(task.worker, store, final, resumption)
    upload_id = GUARD.begin(final, lambda: _begin(store, final, resumption), store)
    if upload_id is None:
        raise _given_up(store)
    return upload_id


def _begin_on_cluster(worker: Any, store: Store, final: str, resumption: Resumption | None) -> str:
    from ccog.runtime.scheduler_plugin import CcogPlugin

    offer_plugin(worker, CcogPlugin())
    begun, unanswered = ask_scheduler(worker, "ccog_announce", final=final)
    if begun is not None:
        return str(begun)
    upload_id = _begin(store, final, resumption, unanswered)
    kept = ask_scheduler(
        worker,
        "ccog_keep",
        final=final,
        upload_id=upload_id,
        store=travelling(Sealed(store)),
        stays=resumption is not None,
    )
    is_continued = resumption is not None and resumption.upload_id == upload_id
    if kept != upload_id and not is_continued:
        abort(store, upload_id)
    if kept is None:
        raise _given_up(store)
    return str(kept)


def _given_up(store: Store) -> StoreError:
    return StoreError(f"writing {store.url} was given up while it began")


def _begin(store: Store, final: str, resumption: Resumption | None, unanswered: float = 0.0) -> str:
    """A new upload, or the one to continue."""
    if resumption is None:
        return store.begin(token_of(final), unanswered)
    if resumption.upload_id is not None:
        return _continue(store, resumption.upload_id)
    store.remove_stale_checkpoints()
    upload_id = store.begin(token_of(final), unanswered)
    try:
        store.save_checkpoint(upload_id, MANIFEST, resumption.manifest.encode())
    except BaseException:
        abort(store, upload_id)
        raise
    return upload_id


def _continue(store: Store, upload_id: str) -> str:
    """The upload to continue; an error if it has ended since it was found."""
    try:
        store.stored_parts(upload_id, 1, 1)
    except StoreNotFoundError as error:
        raise ResumeError(
            f"the unfinished write to {store.url} was ended meanwhile; start again ({error})"
        ) from error
    return upload_id


def may_be_complete() -> Callable[[], bool]:
    """Whether the write of the current task may have been completed by its own last task.

    So it is where a worker died after completing: its tasks run again, and find the upload
    over. Elsewhere somebody else has ended it. Ask in the thread that runs the task; any
    thread may call the answer.
    """
    task = current_task()
    if task is None:
        return lambda: False
    final = task_name("finish", task.token)
    return lambda: bool(ask_scheduler(task.worker, "ccog_may_be_complete", final=final))


def watch() -> None:
    """Have dask tell us how computations in this process end; may be called again."""
    GUARD.register()


def wait_for_removal(final: str, client: Any = None) -> None:
    """Wait until the scheduler of a client has cleaned up a write that failed.

    On the event loop of an asynchronous client nobody can wait.
    """
    client = current_client() if client is None else client
    if client is None or is_own_loop(client):
        return
    deadline = time.monotonic() + _WAIT_SECONDS
    # a scheduler that never heard of the write, or is gone, has nothing to wait for
    with contextlib.suppress(Exception):
        while ask_scheduler(client, "ccog_is_open", final=final) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
