"""Numbers as people read them."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """A count and its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def byte_text(count: int) -> str:
    """A number of bytes in the unit that suits it (powers of ten)."""
    if count < 10_000:
        return f"{count:,} bytes"
    unit = _unit(count)
    return f"{count / _UNITS[unit]:.2f} {unit}"


def size_text(width: int, height: int) -> str:
    """Columns and rows, in the order in which people name them."""
    return f"{width} x {height}"


def about_bytes(count: float) -> str:
    """A guess at a number of bytes, to the two figures that are known of it at most."""
    rounded = float(f"{count:.2g}")
    unit = _unit(rounded)
    return f"{rounded / _UNITS[unit]:g} {unit}"


_UNITS = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3, "bytes": 1}


def _unit(count: float) -> str:
    """The largest unit of which there is one or more."""
    return next((unit for unit, size in _UNITS.items() if count >= size), "bytes")
