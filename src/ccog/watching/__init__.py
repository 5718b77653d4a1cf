"""Watching writes while they are computed."""

from __future__ import annotations

from ccog.watching.display import progress

__all__ = ["progress"]
