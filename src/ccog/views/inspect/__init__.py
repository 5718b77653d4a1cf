"""Looking at how a finished file is stored, by reading its header in byte ranges."""

from __future__ import annotations

from ccog.views.inspect.report import Inspection, LevelReport, inspect

__all__ = ["Inspection", "LevelReport", "inspect"]
