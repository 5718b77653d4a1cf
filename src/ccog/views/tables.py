"""Reports that people read: facts, warnings, tables, a picture; text and HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from ccog.views.drawing import Drawing

# longest line under the title of a column
_RULE = 40


class Table(NamedTuple):
    """Titles of columns, and rows of as many cells."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> Iterator[str]:
        """Lines for a terminal."""
        columns = zip(self.titles, *self.rows, strict=True)
        widths = [max(map(len, column)) for column in columns]
        rules = ["-" * min(width, _RULE) for width in widths]
        for row in (self.titles, rules, *self.rows):
            yield "  ".join(map(str.ljust, row, widths)).rstrip()

    def html(self) -> str:
        """The look is part of it, since those of notebooks and pages differ."""
        head = _html_row("th", self.titles, "border-bottom:1px solid #9aa0a6")
        body = "".join(_html_row("td", row) for row in self.rows)
        look = "border-collapse:collapse;font-size:13px;margin:10px 0"
        return f'<table style="{look}"><thead>{head}</thead><tbody>{body}</tbody></table>'


def _html_row(tag: str, cells: Sequence[str], more: str = "") -> str:
    look = f"text-align:left;padding:2px 22px 2px 0;white-space:nowrap;{more}"
    row = "".join(f'<{tag} style="{look}">{escape(cell)}</{tag}>' for cell in cells)
    return f"<tr>{row}</tr>"


@dataclass(frozen=True, kw_only=True)
class Report:
    """The parts of a report, in the order in which they are shown."""

    facts: Sequence[str]
    tables: Sequence[Table]
    warnings: Sequence[str] = ()
    drawing: Drawing | None = None

    def text(self) -> str:
        """Everything but the picture, for a terminal."""
        lines = list(self.facts)
        for table in self.tables:
            lines += ["", *table.text()]
        if self.warnings:
            lines += ["", *(f"Warning: {text}" for text in self.warnings)]
        return "\n".join(lines)

    def html(self) -> str:
        """Everything, for a notebook."""
        facts = "".join(f"<div>{escape(line)}</div>" for line in self.facts)
        look = "border-left:3px solid #e5484d;padding-left:8px;margin:4px 0"
        start = f'<div style="{look}"><b>Warning:</b> '
        warned = "".join(f"{start}{escape(text)}</div>" for text in self.warnings)
        tables = "".join(table.html() for table in self.tables)
        picture = "" if self.drawing is None else self.drawing.svg
        return f"<div>{facts}{warned}{tables}{picture}</div>"


class Reported:
    """A result that shows itself in terminals and notebooks."""

    def _report(self) -> Report:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._report().text()

    def _repr_html_(self) -> str:
        return self._report().html()


class Pictured(Reported):
    """A result with a picture."""

    drawing: Drawing

    @property
    def svg(self) -> str:
        """The picture as an SVG element."""
        return self.drawing.svg

    def save_svg(self, path: Any) -> None:
        """Save the picture as an SVG file."""
        Path(path).write_text(self.svg, encoding="utf-8")
