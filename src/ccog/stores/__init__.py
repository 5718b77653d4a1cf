"""Where the file goes: one small protocol, and a store for each kind of target."""

from __future__ import annotations

from ccog.stores.base import Store, WriteResult
from ccog.stores.resolve import resolve_store

__all__ = ["Store", "WriteResult", "resolve_store"]
