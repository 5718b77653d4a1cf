"""Looking at finished files by byte ranges: how they are stored, and whether they are what they claim."""

from __future__ import annotations

from ccog.inspection.report import Inspection, LevelReport, inspect

__all__ = ["Inspection", "LevelReport", "inspect"]
