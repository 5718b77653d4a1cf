"""Looking at a write before it is paid for: its figures, advice and a picture."""

from __future__ import annotations

from ccog.views.preview.figures import preview
from ccog.views.preview.report import CogPlan, PlannedLevel, PlannedRead

__all__ = ["CogPlan", "PlannedLevel", "PlannedRead", "preview"]
