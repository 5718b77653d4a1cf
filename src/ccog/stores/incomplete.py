"""Listing and removing what killed writes have left at a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ccog.errors import StoreError, warn_user
from ccog.redaction import addressed, hidden
from ccog.stores.base import IncompleteUpload, Store
from ccog.stores.resolve import resolve_place, resolve_store
from ccog.stores.single_writer import SingleWriterStore

# buckets and hosts that did not answer: a program of many writes waits for them once
_SILENT: set[str] = set()

# buckets and hosts that do not list what they hold: they are asked once
_UNLISTED: set[str] = set()


def list_incomplete(
    store: Any,
    storage_options: Mapping[str, Any] | None = None,
    *,
    older_than: timedelta = timedelta(0),
) -> list[IncompleteUpload]:
    """Writes that were begun below a target and neither completed nor aborted, oldest first.

    Writes in progress are among them, those of other programs on the same store, and
    those of which only records are left (``over``).

    Parameters
    ----------
    store
        What ``write_ccog`` takes, or the directory or bucket above it
        (``s3://bucket``, ``s3://bucket/dir``). Whole names are meant: ``s3://bucket/a.tif``
        is not ``s3://bucket/a.tiff``. On local file systems only the directory itself is
        searched, not its subdirectories.
    storage_options
        As fsspec takes them for the store's protocol.
    older_than
        Leave younger ones out: they may be in progress. Default: all.

    Raises
    ------
    ccog.StoreError
        The bucket does not exist, or may not be listed.
    """
    store, storage_options = addressed(store), hidden(storage_options)
    uploads = resolve_place(store, storage_options).incomplete()
    uploads = sorted(uploads, key=lambda upload: upload.started)
    if not older_than:
        # all of them, however the clocks of this machine and the store differ
        return uploads
    latest = datetime.now(UTC) - older_than
    return [upload for upload in uploads if upload.started <= latest]


def abort_incomplete(
    store: Any,
    storage_options: Mapping[str, Any] | None = None,
    *,
    older_than: timedelta = timedelta(0),
) -> list[IncompleteUpload]:
    """Remove what :func:`list_incomplete` lists, and return it.

    Uploads of other programs are among them (``by_ccog`` is False), which ``ccog uploads
    abort`` leaves unless it is told ``--all``. Checkpoints of resumable writes are removed
    too.

    Parameters
    ----------
    store
        As for :func:`list_incomplete`.
    storage_options
        As for :func:`list_incomplete`.
    older_than
        As for :func:`list_incomplete`.

    Raises
    ------
    ccog.StoreError
        The bucket does not exist, or access is refused. What could be removed is removed.
    """
    store, storage_options = addressed(store), hidden(storage_options)
    uploads = list_incomplete(store, storage_options, older_than=older_than)
    abort_these(uploads, store, storage_options)
    return uploads


def abort_these(
    uploads: Sequence[IncompleteUpload],
    store: Any,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Remove these uploads at a target, and checkpoints of finished writes to it.

    Raises
    ------
    ccog.StoreError
        Access is refused. What could be removed is removed.
    """
    refused = []
    for upload in uploads:
        try:
            resolve_store(upload.url, storage_options).abort(upload.upload_id)
        except StoreError as error:
            # it may be somebody else's; the others are still removed
            refused.append(error)
    resolve_place(store, storage_options).remove_stale_checkpoints()
    if refused:
        raise refused[0]


def warn_of_unfinished(store: Store | SingleWriterStore) -> None:
    """Warn of unfinished uploads to exactly this target, if the store answers at once."""
    host = "/".join(store.url.split("/")[:3])
    if "://" in store.url and host in _SILENT:
        return
    try:
        uploads = store.incomplete(quick=True)
    except OSError as error:
        _SILENT.add(host)
        if not isinstance(error, PermissionError):
            # nor would it answer any other question
            _UNLISTED.add(host)
        return
    warn_of(store, [upload for upload in uploads if upload.url == store.url])


def warn_of(store: Store, uploads: Sequence[IncompleteUpload]) -> None:
    """Warn of unfinished uploads to a target, if there are any."""
    begun = [upload.started for upload in uploads]
    if begun:
        ends = [f"{time:%Y-%m-%d %H:%M:%SZ}" for time in (min(begun), max(begun))]
        when = " to ".join(dict.fromkeys(ends))
        count = "An unfinished write" if len(begun) == 1 else f"{len(begun)} unfinished writes"
        warn_user(
            f"{count} to {store.url}, begun {when}: an earlier one has left this, or "
            "another one is running now. If none is, remove what is left with "
            f"`ccog uploads abort {store.url}`"
        )


def warn_of_sidecars(store: Store | SingleWriterStore) -> None:
    """Warn of files that readers take for parts of the new one, if the store lists them."""
    host = "/".join(store.url.split("/")[:3])
    if "://" in store.url and host in _UNLISTED:
        return
    try:
        names = store.sidecars()
    except OSError:
        _UNLISTED.add(host)
        return
    if names:
        warn_user(
            f"beside {store.url} there {'is' if len(names) == 1 else 'are'} {', '.join(names)}, "
            "which readers take for parts of the file that is written now. They are not removed: "
            "remove what describes an older file"
        )
