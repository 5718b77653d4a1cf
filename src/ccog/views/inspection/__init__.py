"""Looking at finished files by byte ranges: how they are stored, and whether they are what they claim."""

from __future__ import annotations

from ccog.views.inspection.report import Inspection, LevelReport, inspect
from ccog.views.inspection.validation import Check, Validation, validate

__all__ = ["Check", "Inspection", "LevelReport", "Validation", "inspect", "validate"]
