"""Looking at a write before it is paid for: its figures, warnings and a picture."""

from __future__ import annotations

from ccog.views.plan.figures import plan_job
from ccog.views.plan.report import CogPlan, PlannedLevel, PlannedRead

__all__ = ["CogPlan", "PlannedLevel", "PlannedRead", "plan_job"]
