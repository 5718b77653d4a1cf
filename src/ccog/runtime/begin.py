"""Where a write begins, and when its upload is aborted.

A write begins in a task that every load waits for: a refusal shows before any work, and
one rule serves all schedulers. That task runs again if its worker dies, and must then
find the upload that it has begun. So on a cluster uploads are kept by a plugin on the
scheduler (``open_uploads``), elsewhere by those who hold their id (``runs``).

An upload is aborted when:

==================================  ===============================  ========================
this happens                        on a cluster, by                 on other schedulers, by
==================================  ===============================  ========================
a task fails                        the plugin: last task erred      the task
Ctrl-C in ``compute``               the plugin: last task forgotten  ``compute``
a computation beside it fails       (the write goes on)              the last holder of the id
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
from ccog.runtime.manifest import Resumption, find_resumable
from ccog.runtime.runs import Begun, Run, abort, begin_run, warn_of_parts
from ccog.runtime.task_names import task_name, token_of
from ccog.runtime.whereabouts import current_client, current_task, is_own_loop
from ccog.stores import Store
from ccog.stores.base import MANIFEST

# seconds a client that saw a write fail waits for the scheduler to clean up
_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.05

# seconds for the scheduler's answer to a worker that has begun an upload
_KEEP_SECONDS = 60.0


def begin_write(store: Store, final: str, run: Run, resumption: Resumption | None = None) -> Begun:
    """Begin the write whose last task is ``final``, unless it has begun.

    It runs as a task.
    """
    token = token_of(final)
    task = current_task(token)
    if task is None and resumption is None:
        begun = begin_run(run, store, token)
        if begun is None:
            raise _given_up(store)
        return begun
    if task is None:
        upload_id = _begin(store, run.name, resumption)
    else:
        upload_id = _begin_on_cluster(task.worker, store, final, run.name, resumption)
    is_new = resumption is None or (resumption.looked and resumption.upload_id is None)
    return Begun(upload_id, run.name if is_new else None, token)


def _begin_on_cluster(
    worker: Any, store: Store, final: str, write: str, resumption: Resumption | None
) -> str:
    from ccog.runtime.scheduler_plugin import CcogPlugin

    offer_plugin(worker, CcogPlugin())
    begun, unanswered = ask_scheduler(worker, "ccog_announce", final=final)
    if begun is not None:
        return str(begun)
    upload_id = _begin(store, write, resumption, unanswered)
    is_continued = resumption is not None and resumption.upload_id == upload_id
    kept = None
    try:
        kept = ask_scheduler(
            worker,
            "ccog_keep",
            _KEEP_SECONDS,
            final=final,
            upload_id=upload_id,
            store=travelling(Sealed(store)),
            stays=resumption is not None,
        )
    finally:
        # a worker that was away for long may not reach its scheduler any more
        if kept != upload_id and not is_continued:
            abort(store, upload_id)
    if kept is None:
        raise _given_up(store)
    return str(kept)


def _given_up(store: Store) -> StoreError:
    return StoreError(f"writing {store.url} was given up while it began")


def _begin(store: Store, write: str, resumption: Resumption | None, unanswered: float = 0.0) -> str:
    """A new upload, or the one to continue."""
    if resumption is None:
        return store.begin(write, unanswered)
    found = resumption.upload_id
    if not (found or resumption.looked):
        # all work is done again
        kept = find_resumable(store, resumption.manifest)
        found = None if kept is None else kept.upload_id
    if found is not None:
        return _continue(store, found)
    store.remove_stale_checkpoints()
    upload_id = store.begin(write, unanswered)
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


def remove_elsewhere(store: Store, write: str) -> None:
    """Abort the upload that a task in a process out of reach may have begun under that name.

    Beginning again finds it.
    """
    try:
        upload_id = store.begin(write, unanswered=_WAIT_SECONDS)
    except Exception as error:
        warn_of_parts(store, error)
    else:
        abort(store, upload_id)


def may_be_complete(token: str) -> Callable[[], bool]:
    """Whether the write of that token may have been completed by its own last task.

    So it is where a worker died after completing: its tasks run again, and find the upload
    over. Elsewhere somebody else has ended it. Ask in the thread that runs the task; any
    thread may call the answer.
    """
    task = current_task(token)
    if task is None:
        return lambda: False
    final = task_name("finish", token)
    return lambda: bool(ask_scheduler(task.worker, "ccog_may_be_complete", final=final))


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
