"""Tables and numbers of reports, as text and HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


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


def text_table(titles: Sequence[str], rows: list[Sequence[str]]) -> Iterable[str]:
    """Lines of a table for a terminal."""
    widths = [max(len(row[k]) for row in (titles, *rows)) for k in range(len(titles))]
    for row in (titles, tuple("-" * width for width in widths), *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def html_table(titles: Sequence[str], rows: list[Sequence[str]]) -> str:
    """An HTML table, with the look in it, since notebooks and pages differ in theirs."""
    head = "".join(_cell("th", title, "border-bottom:1px solid #9aa0a6") for title in titles)
    body = "".join("<tr>" + "".join(_cell("td", cell) for cell in row) + "</tr>" for row in rows)
    look = "border-collapse:collapse;font-size:13px;margin:10px 0"
    return f'<table style="{look}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cell(tag: str, text: str, more: str = "") -> str:
    return f'<{tag} style="text-align:left;padding:2px 22px 2px 0;white-space:nowrap;{more}">{escape(text)}</{tag}>'
