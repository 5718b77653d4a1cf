"""What killed writes have left at a target, and its removal."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ccog.errors import CCOGWarning, StoreError
from ccog.stores.base import IncompleteUpload, Store
from ccog.stores.resolve import resolve_place, resolve_store
from ccog.stores.whole import WholeStore

# buckets and hosts that have not told this process what is unfinished there: who writes many files waits once
_SILENT: set[str] = set()


def list_incomplete(
    store: Any,
    storage_options: Mapping[str, Any] | None = None,
    *,
    older_than: timedelta = timedelta(0),
) -> list[IncompleteUpload]:
    """Writes that were begun below a target and neither completed nor aborted, oldest first.

    Those that are in progress are among them, and so are those of other programs on the same store.

    Parameters
    ----------
    store
        What ``write_ccog`` takes, or the directory, bucket or prefix above it (``s3://bucket``, ``s3://bucket/dir/``).
        On local file systems the directory itself is searched, not those in it.
    storage_options
        As fsspec takes them for the store's protocol.
    older_than
        Leave younger ones out: they may be in progress. Default: all.

    Raises
    ------
    ccog.StoreError
        The target does not exist, or may not be listed.
    """
    found = sorted(
        resolve_place(store, storage_options).incomplete(), key=lambda upload: upload.started
    )
    latest = datetime.now(UTC) - older_than
    # without a limit all are listed, however the clocks of this machine and the store differ
    return [upload for upload in found if upload.started <= latest] if older_than else found


def abort_incomplete(
    store: Any,
    storage_options: Mapping[str, Any] | None = None,
    *,
    older_than: timedelta = timedelta(0),
) -> list[IncompleteUpload]:
    """Remove what :func:`list_incomplete` lists, and return it.

    The records of resumable writes go with them, and those of such writes of this target that are over.

    Parameters
    ----------
    store, storage_options, older_than
        As for :func:`list_incomplete`.

    Raises
    ------
    ccog.StoreError
        The target does not exist, or access is refused. What could be removed is removed.
    """
    found = list_incomplete(store, storage_options, older_than=older_than)
    refused = []
    for upload in found:
        try:
            resolve_store(upload.url, storage_options).abort(upload.session)
        except StoreError as error:
            # somebody else's, for example; what can be removed is
            refused.append(error)
    resolve_place(store, storage_options).tidy()
    if refused:
        raise refused[0]
    return found


def warn_of_unfinished(store: Store | WholeStore) -> None:
    """Name what is unfinished at exactly this target, where the store tells that at once."""
    place = "/".join(store.url.split("/")[:3])
    if "://" in store.url and place in _SILENT:
        return
    try:
        unfinished = store.incomplete(quick=True)
    except OSError:
        _SILENT.add(place)
        return
    begun = [upload.started for upload in unfinished if upload.url == store.url]
    if begun:
        warnings.warn(
            f"{'An unfinished write' if len(begun) == 1 else f'{len(begun)} unfinished writes'} to {store.url}, begun "
            f"{_times(begun)}: an earlier one has left this, or another one is running now. If none is, remove what is "
            f"left with `ccog uploads abort {store.url}`",
            CCOGWarning,
            stacklevel=3,
        )


def _times(begun: list[datetime]) -> str:
    first, last = (f"{found:%Y-%m-%d %H:%M:%SZ}" for found in (min(begun), max(begun)))
    return first if first == last else f"{first} to {last}"
