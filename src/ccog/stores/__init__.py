"""Where the file goes: one small protocol, and a store for each kind of target."""

from __future__ import annotations

from ccog.stores.base import IncompleteUpload, Store, WriteResult
from ccog.stores.incomplete import (
    abort_incomplete,
    abort_these,
    list_incomplete,
    warn_of_sidecars,
    warn_of_unfinished,
)
from ccog.stores.resolve import resolve_store
from ccog.stores.single_writer import SingleWriterStore

__all__ = [
    "IncompleteUpload",
    "SingleWriterStore",
    "Store",
    "WriteResult",
    "abort_incomplete",
    "abort_these",
    "list_incomplete",
    "resolve_store",
    "warn_of_sidecars",
    "warn_of_unfinished",
]
