"""How the tiles of a level follow each other in the file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from ccog.geometry.intervals import Size, ceil_div
from ccog.geometry.tile_order import morton
from ccog.views.inspect.directory import Array, ImageDirectory

#: From rows and columns of tiles to keys that ascend in the order of the file.
Rule = Callable[[Array, Array], Array]

# side of the corner in which a rule is tried first
_CORNER = 64


class TileOrder(NamedTuple):
    """The order in words; ``group`` is (rows, columns) of the groups of tiles, if any."""

    name: str
    group: Size | None = None


def tile_order(directory: ImageDirectory) -> TileOrder:
    """The first rule that all tiles obey."""
    offsets = directory.stored.offsets
    planes, _, cols = directory.offsets.shape
    if offsets.size < 2:
        return TileOrder("-")
    if bool(np.all(offsets[1:] > offsets[:-1])):
        return TileOrder("row-major" if planes == 1 else "row-major, plane by plane")
    if _fits(directory, morton):
        return TileOrder("Morton")
    group = _first_group(directory)
    if group is not None:
        down, across = group
        groups_in_row = ceil_div(cols, across)
        for outer, rule in (("Morton", morton), ("row-major", lambda y, x: y * groups_in_row + x)):
            if _fits(directory, partial(_grouped, group, rule)):
                return TileOrder(f"groups of {across} x {down} tiles, {outer}", group)
    return TileOrder("no known order")


def _fits(directory: ImageDirectory, rule: Rule) -> bool:
    """Whether all tiles obey a rule.

    Most fail in a corner already, which spares sorting millions of tiles.
    """
    corner = directory.part(slice(_CORNER), slice(_CORNER), planes=slice(1))
    return _obeys(corner, rule) and _obeys(directory, rule)


def _obeys(directory: ImageDirectory, rule: Rule) -> bool:
    stored = directory.counts > 0
    plane, y, x = np.nonzero(stored)
    order = np.lexsort((rule(y, x), plane))
    ascends = np.diff(directory.offsets[stored][order]) > 0
    is_next_plane = np.diff(plane[order]) > 0
    return bool(np.all(ascends | is_next_plane))


def _first_group(directory: ImageDirectory) -> Size | None:
    """Shape of the group in the corner, all of which must be stored.

    The first row of a group ends where the next tile lies further away than the one below.
    The group ends where the next row does not follow its last tile.
    """
    offsets, stored = directory.offsets[0], directory.counts[0] > 0
    rows, cols = offsets.shape
    if rows < 2 or cols < 2 or not stored[:2, 0].all():
        return None
    across = _leading(stored[0] & (offsets[0] < offsets[1, 0]))
    down = rows
    if across < cols:
        down = _leading(stored[:, 0] & (offsets[:, 0] < offsets[0, across]))
    is_group = down > 0 and across > 0 and (down, across) != (rows, cols)
    return (down, across) if is_group else None


def _leading(flags: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int:
    """How many are true before the first that is not."""
    return int(np.count_nonzero(np.logical_and.accumulate(flags)))


def _grouped(group: Size, outer: Rule, y: Array, x: Array) -> Array:
    """Row-major inside groups, the groups by another rule."""
    down, across = group
    first = outer(y // down, x // across) * down * across
    return first + (y % down) * across + x % across
