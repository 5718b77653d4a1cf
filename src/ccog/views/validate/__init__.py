"""Judging whether a finished file is a valid COG, and the one that it claims to be."""
