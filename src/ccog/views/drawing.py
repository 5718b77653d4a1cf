"""A drawing of rectangles, lines and text, as SVG; knows nothing of TIFF."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import NamedTuple


class Box(NamedTuple):
    """A filled rectangle; ``line`` is the colour of its border.

    ``title`` shows when the pointer rests on it.
    """

    x: float
    y: float
    width: float
    height: float
    fill: str
    line: str = "none"
    title: str = ""

    def svg(self) -> str:
        """The element."""
        at = f'x="{self.x:.6g}" y="{self.y:.6g}"'
        size = f'width="{self.width:.6g}" height="{self.height:.6g}"'
        look = f'fill="{self.fill}" stroke="{self.line}" stroke-width="0.5"'
        title = f"<title>{escape(self.title)}</title>" if self.title else ""
        return f"<rect {at} {size} {look}>{title}</rect>"


class Line(NamedTuple):
    """A straight line from (x, y) to (right, bottom)."""

    x: float
    y: float
    right: float
    bottom: float
    colour: str
    width: float

    def svg(self) -> str:
        """The element."""
        start = f'x1="{self.x:.6g}" y1="{self.y:.6g}"'
        stop = f'x2="{self.right:.6g}" y2="{self.bottom:.6g}"'
        return f'<line {start} {stop} stroke="{self.colour}" stroke-width="{self.width:g}"/>'


class Text(NamedTuple):
    """One line of text; (x, y) is the left end of its base line."""

    x: float
    y: float
    text: str
    size: float = 11

    def svg(self) -> str:
        """The element."""
        look = f'font-size="{self.size:g}" fill="#333333"'
        return f'<text x="{self.x:.6g}" y="{self.y:.6g}" {look}>{escape(self.text)}</text>'


Shape = Box | Line | Text


@dataclass(frozen=True)
class Drawing:
    """Shapes on white, the later ones on top."""

    width: float
    height: float
    shapes: tuple[Shape, ...]


def to_svg(drawing: Drawing) -> str:
    """An SVG element that stands by itself, in a page or in a file."""
    size = f'viewBox="0 0 {drawing.width:g} {drawing.height:g}"'
    look = f"max-width:{drawing.width:g}px;width:100%;font-family:sans-serif"
    # white of its own, since pages are dark, and some drop the look of what they show
    paper = Box(0, 0, drawing.width, drawing.height, "#ffffff")
    shapes = "".join(shape.svg() for shape in (paper, *drawing.shapes))
    namespace = "http://www.w3.org/2000/svg"
    return f'<svg xmlns="{namespace}" {size} style="{look}" role="img">{shapes}</svg>'
