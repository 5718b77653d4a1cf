"""How many range requests typical reads of a file cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ccog.geometry.intervals import Size
from ccog.tiff.header import framing
from ccog.views.inspect.directory import ImageDirectory, sum_of
from ccog.views.inspect.header import Header
from ccog.views.inspect.spans import Spans

# readers built on object_store or obstore (async-tiff) join ranges that are this near
_COALESCE = 1 << 20
_WINDOW_TILES = 8
_THUMBNAIL = 256


@dataclass(frozen=True, kw_only=True)
class ReadCost:
    """What one typical read costs after the file is opened.

    Attributes
    ----------
    name
        The read, for people.
    tiles
        Tiles it needs, masks included; sparse ones cost nothing.
    size
        Bytes it needs.
    gdal
        Range requests of GDAL, which joins ranges that touch. It knows of leaders and trailers, and
        of masks beside the image, only where the ghost area says ``BLOCK_ORDER=ROW_MAJOR``
        (GTiffRasterBand::CacheMultiRange).
    coalescing
        Range requests of readers that join ranges up to 1 MiB apart.
    """

    name: str
    tiles: int
    size: int
    gdal: int
    coalescing: int


def read_costs(header: Header, group: Size | None) -> tuple[ReadCost, ...]:
    """Costs of a thumbnail, of one tile, and of a window of 8 x 8 tiles in the middle of the image.

    Where tiles lie in groups, also of one of these, as files of ``layout="chunk"`` have them.
    """
    full, small = header.directories[0], _thumbnail(header.directories)
    rows, cols = full.offsets.shape[1:]
    height, width = min(rows, _WINDOW_TILES), min(cols, _WINDOW_TILES)
    windows = {"one tile": (1, 1), f"window of {width} x {height} tiles": (height, width)}
    if group is not None:
        windows[f"chunk of {group[1]} x {group[0]} tiles"] = group
    thumbnail = f"thumbnail ({small.width} x {small.height})"
    costs = [_cost(header, small, thumbnail, slice(None), slice(None))]
    for name, (down, across) in windows.items():
        # the groups of so many tiles in the middle
        top, left = rows // 2 // down * down, cols // 2 // across * across
        window = slice(top, top + down), slice(left, left + across)
        costs.append(_cost(header, full, name, *window))
    return tuple(costs)


def _thumbnail(directories: Sequence[ImageDirectory]) -> ImageDirectory:
    """The smallest image with 256 pixels on its longer side, else the largest."""
    images = [image for image in directories if not image.is_mask] or list(directories)
    images.sort(key=lambda image: image.width * image.height)
    return next((one for one in images if max(one.size) >= _THUMBNAIL), images[-1])


def _cost(header: Header, image: ImageDirectory, name: str, rows: slice, cols: slice) -> ReadCost:
    same_size = (one for one in header.directories if one.size == image.size)
    masks = [one for one in same_size if one.is_mask and one is not image]
    parts = [directory.part(rows, cols) for directory in (image, *masks)]
    tiles = Spans.of_tiles(parts)
    if "BLOCK_ORDER=ROW_MAJOR" in header.ghost:
        gdal = tiles.requests(join=sum(framing(header.ghost)))
    else:
        gdal = sum(Spans.of_tiles(some).requests(join=0) for some in (parts[:1], parts[1:]))
    return ReadCost(
        name=name,
        tiles=int(tiles.starts.size),
        size=sum_of(tiles.stops - tiles.starts),
        gdal=gdal,
        coalescing=tiles.requests(join=_COALESCE),
    )
