"""Judging whether a finished file is a valid COG, and the one that it claims to be."""

from __future__ import annotations

from ccog.views.validate.checks import Check, Validation, validate

__all__ = ["Check", "Validation", "validate"]
