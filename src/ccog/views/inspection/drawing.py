"""A drawing of rectangles, lines and text, as SVG or PNG; knows nothing of TIFF."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from ccog.errors import MissingDependencyError

# pixels of the PNG per unit of the drawing
_SCALE = 2


@dataclass(frozen=True)
class Box:
    """A filled rectangle; ``line`` is the colour of its border, ``title`` shows when the pointer rests on it."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    line: str | None = None
    title: str = ""


@dataclass(frozen=True)
class Path:
    """Straight lines through points."""

    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 1


@dataclass(frozen=True)
class Text:
    """One line of text; (x, y) is the left end of its base line, or with ``centred`` the middle of it."""

    x: float
    y: float
    text: str
    size: float = 12
    colour: str = "#333333"
    centred: bool = False


@dataclass(frozen=True)
class Drawing:
    """Shapes on white, the later ones on top."""

    width: float
    height: float
    shapes: tuple[Box | Path | Text, ...]


def to_svg(drawing: Drawing) -> str:
    """An SVG element that stands by itself, in a page or in a file."""
    size = f'viewBox="0 0 {drawing.width:g} {drawing.height:g}"'
    style = f'style="max-width:{drawing.width:g}px;width:100%;background:#ffffff;font-family:sans-serif"'
    body = "".join(_svg_shape(shape) for shape in drawing.shapes)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style} role="img">{body}</svg>'


def _svg_shape(shape: Box | Path | Text) -> str:
    match shape:
        case Box(x, y, width, height, fill, line, title):
            border = f' stroke="{line}" stroke-width="0.5"' if line else ""
            inside = f"<title>{escape(title)}</title>" if title else ""
            at = f'x="{x:.6g}" y="{y:.6g}" width="{width:.6g}" height="{height:.6g}"'
            return f'<rect {at} fill="{fill}"{border}>{inside}</rect>'
        case Path(points, colour, width):
            at = " ".join(f"{x:.6g},{y:.6g}" for x, y in points)
            return (
                f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'
            )
        case Text(x, y, text, size, colour, centred):
            at = f'x="{x:.6g}" y="{y:.6g}"' + (' text-anchor="middle"' if centred else "")
            return f'<text {at} font-size="{size:g}" fill="{colour}">{escape(text)}</text>'


def to_png(drawing: Drawing) -> bytes:
    """The drawing as a PNG image of twice its size.

    Raises
    ------
    MissingDependencyError
        Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise MissingDependencyError("a PNG needs Pillow: pip install 'ccog[png]'") from error
    image = Image.new(
        "RGB", (round(drawing.width * _SCALE), round(drawing.height * _SCALE)), "#ffffff"
    )
    pen = ImageDraw.Draw(image)
    for shape in drawing.shapes:
        match shape:
            case Box(x, y, width, height, fill, line):
                left, top = round(x * _SCALE), round(y * _SCALE)
                right, bottom = (
                    max(left, round((x + width) * _SCALE) - 1),
                    max(top, round((y + height) * _SCALE) - 1),
                )
                pen.rectangle((left, top, right, bottom), fill=fill, outline=line)
            case Path(points, colour, width):
                pen.line(list(_scaled(points)), fill=colour, width=max(1, round(width * _SCALE)))
            case Text(x, y, text, size, colour, centred):
                font, anchor = ImageFont.load_default(size * _SCALE), "ms" if centred else "ls"
                pen.text((x * _SCALE, y * _SCALE), text, fill=colour, font=font, anchor=anchor)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _scaled(points: tuple[tuple[float, float], ...]) -> Iterator[tuple[float, float]]:
    for x, y in points:
        yield x * _SCALE, y * _SCALE
