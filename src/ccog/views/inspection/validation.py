"""``ccog.validate``: rio-cogeo's verdict, and what it does not look at."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rasterio.errors import NotGeoreferencedWarning

from ccog.errors import MissingDependencyError, StoreError
from ccog.tiff.header import LEADER, TRAILER, framing
from ccog.views.inspection.directories import Header, read_header
from ccog.views.inspection.layout import COMPRESSIONS, Grid, Spans, header_pieces, tile_order
from ccog.views.inspection.overviews import EXACT, OverviewArea, compare_overviews
from ccog.views.inspection.report import level_names
from ccog.views.inspection.source import Range, RangeReader, open_ranges

Outcome = Literal["ok", "warning", "error", "skipped"]

#: Tiles whose leader and trailer are looked at unless all are asked for.
SAMPLED_TILES = 64

#: Mean difference, in standard deviations, beyond which an overview does not show its level.
FAR = 0.25

# errors that say nothing of the file
_PASSES_ON = (StoreError, MissingDependencyError, MemoryError)

_PIXELS = "overview pixels"
_RESAMPLING = re.compile(rb'<Item name="OVERVIEW_RESAMPLING" domain="IMAGE_STRUCTURE">(\w+)</Item>')
# tiles whose frames are read at once
_BATCH = 4096
_LOSSY = {
    code
    for code, name in COMPRESSIONS.items()
    if name in ("jpeg", "jpeg (old)", "webp", "lerc", "jxl", "jpeg2000")
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what, how it came out, and what was found."""

    name: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class Validation:
    """Whether a file is a valid COG and what it claims to be: see :func:`ccog.validate`.

    Attributes
    ----------
    url
        What was looked at.
    checks
        What was found, in the order of looking.
    overviews
        The areas of overviews that were computed again from the level above.
    """

    url: str
    checks: tuple[Check, ...]
    overviews: tuple[OverviewArea, ...]

    @property
    def is_valid(self) -> bool:
        """Whether no check ended in an error; warnings do not count."""
        return all(check.outcome != "error" for check in self.checks)

    def __repr__(self) -> str:
        """One line for each check, and one for each area of an overview."""
        lines = [f"{self.url}: {'valid' if self.is_valid else 'NOT valid'}"]
        lines += [f"  {check.outcome:8} {check.name}: {check.detail}" for check in self.checks]
        return "\n".join(lines + [f"           {_area(one)}" for one in self.overviews])

    def _repr_html_(self) -> str:
        rows = [(check.outcome, check.name, check.detail) for check in self.checks]
        cells = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        areas = "".join(f"<li>{escape(_area(one))}</li>" for one in self.overviews)
        verdict = f"<b>{'valid' if self.is_valid else 'not valid'}</b>"
        return f"<div>{escape(self.url)}: {verdict}<table>{cells}</table><ul>{areas}</ul></div>"


def _area(one: OverviewArea) -> str:
    source = f"overview {one.source}" if one.source else "full resolution"
    return (
        f"overview {one.overview} from {source}, rows {one.rows[0]} to {one.rows[1]}, columns {one.cols[0]} to "
        f"{one.cols[1]}: {one.equal:.2%} equal with {one.method}"
    )


def validate(
    url: Any, storage_options: Mapping[str, Any] | None = None, *, thorough: bool = False
) -> Validation:
    """Judge whether a file is a valid Cloud Optimised GeoTIFF and what it claims to be.

    Beside the verdict of rio-cogeo it checks the order of directories, levels and tiles, that nothing overlaps or
    lies beyond the end, the leader and trailer of tiles, and that overviews are what GDAL's kernels make of the level
    above them (not for complex pixels and alpha bands).

    Parameters
    ----------
    url
        Local path, URL of any protocol that fsspec knows, or the bytes of a file.
    storage_options
        As fsspec takes them for the protocol.
    thorough
        Look at the leader and trailer of every tile and at every overview pixel, not at samples (64 tiles, and three
        areas of 128 x 128 pixels of each overview).

    Returns
    -------
    Validation
        Prints as a list of checks; ``is_valid`` is the verdict.

    Raises
    ------
    ccog.MissingDependencyError
        rio-cogeo, or the package for the protocol, is not installed (``pip install 'ccog[validate]'``).
    ccog.RasterError
        The file is not a TIFF, is damaged, or has more directories or tiles than any real file.
    ccog.StoreError
        It does not exist, cannot be read, or is not a regular file (a pipe, a device, a directory).
    """
    with open_ranges(url, storage_options) as reader, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # no reason not to be a valid COG
        header = read_header(reader)
        grids = [Grid.of(directory) for directory in header.directories]
        names = level_names(header.directories)
        overviews = _compared(reader, header, thorough)
        checks = (
            _rio_cogeo(reader),
            _directories(header),
            _levels(grids, names),
            _tiles(header, grids, names),
            _places(header, grids),
            _frames(reader, header, grids, thorough),
            overviews if isinstance(overviews, Check) else _overviews(header, overviews),
        )
    return Validation(header.url, checks, overviews if isinstance(overviews, tuple) else ())


def _rio_cogeo(reader: RangeReader) -> Check:
    try:
        import rio_cogeo
    except ImportError as error:
        raise MissingDependencyError(
            "validating needs rio-cogeo: pip install 'ccog[validate]'"
        ) from error
    try:
        with reader.for_gdal() as target:
            _, errors, remarks = rio_cogeo.cog_validate(target, quiet=True)
    except _PASSES_ON:
        raise
    except Exception as error:  # of a damaged file it, rasterio and NumPy raise whatever comes
        return Check("rio-cogeo", "error", f"cannot look at it: {_cause(error)}")
    return _judged(
        "rio-cogeo", errors, remarks, f"a valid COG, says version {rio_cogeo.__version__}"
    )


def _judged(name: str, errors: Sequence[str], remarks: Sequence[str], fine: str) -> Check:
    outcome: Outcome = "error" if errors else "warning" if remarks else "ok"
    return Check(name, outcome, "; ".join([*errors, *remarks]) or fine)


def _directories(header: Header) -> Check:
    images = [d for d in header.directories if not d.is_mask]
    errors = []
    if header.directories[0].is_mask or header.directories[0].is_overview:
        errors.append("the first directory is not the full resolution")
    sizes = [(d.height, d.width) for d in images]
    if any(a[0] < b[0] or a[1] < b[1] for a, b in itertools.pairwise(sizes)):
        errors.append(f"sizes do not decrease: {sizes}")
    lonely = [
        (d.height, d.width)
        for d in header.directories
        if d.is_mask and (d.height, d.width) not in sizes
    ]
    if lonely:
        errors.append(f"masks without an image of their size: {lonely}")
    starts = [
        int(d.offsets[d.counts > 0].min()) for d in header.directories if np.any(d.counts > 0)
    ]
    end = max(stop for _, stop in header_pieces(header))
    if "LAYOUT=IFDS_BEFORE_DATA" in header.ghost and starts and end > min(starts):
        errors.append(f"the header ends at byte {end}, after the first tile at byte {min(starts)}")
    return _judged(
        "directories", errors, [], f"{len(header.directories)}, sizes decrease, masks match"
    )


def _levels(grids: Sequence[Grid], names: Sequence[str]) -> Check:
    """Data of smaller levels lies before that of larger ones, and levels do not mix."""
    found = [
        (grid.extent, name)
        for grid, name in zip(grids, names, strict=True)
        if not grid.directory.is_mask
    ]
    extents = [(extent, name) for extent, name in found if extent is not None]
    errors, remarks = [], []
    for (large, larger), (small, smaller) in itertools.pairwise(extents):
        if small[0] > large[0]:
            errors.append(f"data of {smaller} begins after that of {larger}")
        elif small[1] > large[0]:
            remarks.append(f"data of {smaller} and {larger} are mixed")
    return _judged(
        "order of levels", errors, remarks, "smallest overview first, each level in one piece"
    )


def _tiles(header: Header, grids: Sequence[Grid], names: Sequence[str]) -> Check:
    orders = {name: tile_order(grid) for name, grid in zip(names, grids, strict=True)}
    claimed = "BLOCK_ORDER=ROW_MAJOR" in header.ghost
    wrong = [
        f"{name}: {order}"
        for name, order in orders.items()
        if order != "-" and not order.startswith("row-major")
    ]
    backwards = [
        f"{name}: {order}" for name, order in orders.items() if order.endswith("backwards")
    ]
    errors = (
        [f"the ghost area says ROW_MAJOR, but {', '.join(wrong + backwards)}"]
        if claimed and wrong + backwards
        else []
    )
    kinds = ", ".join(sorted(set(orders.values()) - {"-"})) or "one tile a level"
    return _judged(
        "order of tiles", errors, [], f"{kinds}{', as the ghost area says' if claimed else ''}"
    )


def _places(header: Header, grids: Sequence[Grid]) -> Check:
    spans = Spans.of(header, list(grids))
    errors, remarks = [], []
    beyond = int(np.count_nonzero(spans.stops > header.size))
    if beyond:
        errors.append(f"{beyond} ranges end after the file, which has {header.size} bytes")
    if overlaps := spans.overlaps():
        errors.append(
            f"{len(overlaps)} overlaps, the first at bytes {overlaps[0][0]} to {overlaps[0][1]}"
        )
    if gaps := spans.gaps(header.size):
        total = sum(stop - start for start, stop in gaps)
        remarks.append(f"{len(gaps)} gaps of {total} bytes, the first at byte {gaps[0][0]}")
    return _judged("places of tiles", errors, remarks, "no overlap, no gap, nothing beyond the end")


def _frames(reader: RangeReader, header: Header, grids: Sequence[Grid], thorough: bool) -> Check:
    name = "leaders and trailers"
    if framing(header.ghost) != (LEADER, TRAILER):
        return Check(name, "skipped", "the ghost area announces none")
    tiles = np.concatenate([_stored(grid) for grid in grids])
    if not len(tiles):
        return Check(name, "skipped", "no tile has bytes")
    chosen = (
        tiles
        if thorough
        else tiles[np.unique(np.linspace(0, len(tiles) - 1, SAMPLED_TILES).astype(int))]
    )
    wrong = [
        offset
        for at in range(0, len(chosen), _BATCH)
        for offset in _wrong(reader, chosen[at : at + _BATCH])
    ]
    errors = (
        [f"{len(wrong)} of {len(chosen)} tiles, the first at byte {wrong[0]}, have a wrong one"]
        if wrong
        else []
    )
    return _judged(name, errors, [], f"right for {len(chosen):,} of {len(tiles):,} tiles looked at")


def _stored(grid: Grid) -> npt.NDArray[np.int64]:
    """(offset, byte count) of the tiles that have bytes."""
    offsets, counts = grid.places
    return np.stack([offsets, counts.astype(np.int64)], axis=1)


def _wrong(reader: RangeReader, tiles: npt.NDArray[np.int64]) -> Iterator[int]:
    """Offsets of the tiles whose size does not stand before them, or whose last bytes are not repeated."""
    ranges = [r for offset, count in tiles.tolist() for r in _frame(offset, count)]
    found = reader.read_many(ranges)
    for (offset, count), before, after in zip(tiles.tolist(), found[::2], found[1::2], strict=True):
        if (
            len(before) < LEADER
            or int.from_bytes(before, "little") != count
            or after[:-TRAILER] != after[TRAILER:]
        ):
            yield offset


def _frame(offset: int, count: int) -> tuple[Range, Range]:
    """The leader, and the last bytes of a tile with the trailer."""
    return (offset - LEADER, offset), (
        offset + count - min(count, TRAILER),
        offset + count + min(count, TRAILER),
    )


def _compared(
    reader: RangeReader, header: Header, thorough: bool
) -> tuple[OverviewArea, ...] | Check:
    said = _RESAMPLING.search(header.directories[0].text)
    try:
        found = compare_overviews(
            reader, said[1].decode().lower() if said else None, thorough=thorough
        )
    except _PASSES_ON:
        raise
    except Exception as error:  # as above
        return Check(_PIXELS, "error", f"cannot be read: {_cause(error)}")
    return Check(_PIXELS, "skipped", found) if isinstance(found, str) else found


def _cause(error: BaseException) -> str:
    """What went wrong, in one line; rasterio says it in the cause of its error."""
    cause = error.__cause__ or error
    return " ".join(f"{type(cause).__name__}: {cause}".split())


def _overviews(header: Header, areas: tuple[OverviewArea, ...]) -> Check:
    name = _PIXELS
    method, pixels = areas[0].method, sum(_pixels(one) for one in areas)
    equal = sum(one.equal * _pixels(one) for one in areas) / pixels
    worst = max(areas, key=lambda one: one.difference)
    where = f"{len(areas)} areas of {pixels:,} pixels"
    if equal >= EXACT:
        return Check(name, "ok", f"{where}: {equal:.2%} are what {method} gives")
    if worst.difference > FAR:
        detail = (
            f"{_area(worst)}; they differ by {worst.difference:.2f} standard deviations on average"
        )
        return Check(name, "error", detail)
    lossy = header.directories[0].value(259, 1) in _LOSSY
    detail = f"{where}: {equal:.2%} are what {method} gives, the nearest; the largest mean difference is "
    detail += f"{worst.difference:.3f} standard deviations{', as lossy compression may cause' if lossy else ''}"
    return Check(name, "ok" if lossy else "warning", detail)


def _pixels(one: OverviewArea) -> int:
    return (one.rows[1] - one.rows[0]) * (one.cols[1] - one.cols[0])
