"""Drawings of rectangles, lines and text, as SVG; knows nothing of TIFF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


def box(
    x: float,
    y: float,
    width: float,
    height: float,
    fill: str,
    *,
    line: str = "none",
    title: str = "",
) -> str:
    """A filled rectangle with a border of colour ``line``.

    ``title`` shows when the pointer rests on it.
    """
    at = f'x="{x:.6g}" y="{y:.6g}" width="{width:.6g}" height="{height:.6g}"'
    look = f'fill="{fill}" stroke="{line}" stroke-width="0.5"'
    tip = f"<title>{escape(title)}</title>" if title else ""
    return f"<rect {at} {look}>{tip}</rect>"


def line(x: float, y: float, right: float, bottom: float, colour: str, width: float) -> str:
    """A straight line from (x, y) to (right, bottom)."""
    ends = f'x1="{x:.6g}" y1="{y:.6g}" x2="{right:.6g}" y2="{bottom:.6g}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width:g}"/>'


def text(x: float, y: float, words: str, size: float = 11) -> str:
    """One line of text; (x, y) is the left end of its base line."""
    look = f'font-size="{size:g}" fill="#333333"'
    return f'<text x="{x:.6g}" y="{y:.6g}" {look}>{escape(words)}</text>'


@dataclass(frozen=True)
class Drawing:
    """Shapes on white, the later ones on top."""

    width: float
    height: float
    shapes: Sequence[str]

    @property
    def svg(self) -> str:
        """An SVG element that stands by itself, in a page or in a file."""
        size = f'viewBox="0 0 {self.width:g} {self.height:g}"'
        look = f"max-width:{self.width:g}px;width:100%;font-family:sans-serif"
        # white of its own, since pages are dark, and some drop the look of what they show
        paper = box(0, 0, self.width, self.height, "#ffffff")
        namespace = "http://www.w3.org/2000/svg"
        start = f'<svg xmlns="{namespace}" {size} style="{look}" role="img">'
        return "".join([start, paper, *self.shapes, "</svg>"])
