"""Numbers as people read them."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """A count and its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def byte_text(count: int) -> str:
    """A number of bytes in the unit that suits it (powers of ten)."""
    if count < 10_000:
        return f"{count:,} bytes"
    for unit, size in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if count < 1000 * size:
            return f"{count / size:.2f} {unit}"
    return f"{count / 1e12:.2f} TB"


def size_text(width: int, height: int) -> str:
    """Columns and rows, in the order in which people name them."""
    return f"{width} x {height}"


def about_bytes(count: float) -> str:
    """A guess at a number of bytes, to the two figures that are known of it at most."""
    rounded = float(f"{count:.2g}")
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if rounded >= size:
            return f"{rounded / size:g} {unit}"
    return f"{rounded:g} bytes"
