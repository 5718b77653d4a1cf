"""Progress of writes while they are computed."""

from __future__ import annotations

from ccog.views.progress.live import progress

__all__ = ["progress"]
