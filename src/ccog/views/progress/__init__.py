"""Watching writes while they are computed."""

from __future__ import annotations

from ccog.views.progress.display import progress

__all__ = ["progress"]
