"""``ccog.validate``: rio-cogeo's verdict, and checks that it does not make."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rasterio.errors import NotGeoreferencedWarning

from ccog.errors import MissingDependencyError, StoreError, needs
from ccog.redaction import addressed, hidden
from ccog.tiff import tags
from ccog.tiff.directories import Range
from ccog.tiff.header import LEADER, TRAILER, framing
from ccog.views.inspect.georeference import overview_resampling
from ccog.views.inspect.header import Header, read_header
from ccog.views.inspect.order import tile_order
from ccog.views.inspect.ranges import RangeReader, open_ranges
from ccog.views.inspect.spans import Spans
from ccog.views.tables import Report, Reported, Table
from ccog.views.validate.overviews import EXACT, OverviewArea, compare_overviews
from ccog.wording import plural

Outcome = Literal["ok", "warning", "error", "skipped"]

#: Tiles whose leader and trailer are looked at unless all are asked for.
SAMPLED_TILES = 64

#: Mean difference, in standard deviations, from which an overview shows another image.
FAR = 0.25

# errors that say nothing of the file
_PASSED_ON = (StoreError, MissingDependencyError, MemoryError)

_PIXELS = "overview pixels"
# tiles whose frames are read at once
_BATCH = 4096
_LOSSY = (
    *(tags.OLD_JPEG, tags.JPEG, tags.JPEG2000),
    *(tags.LERC, tags.WEBP, tags.JXL, tags.JXL_DNG),
)


@dataclass(frozen=True)
class Check:
    """One check of a file.

    Attributes
    ----------
    name
        What was checked, as in "order of tiles".
    outcome
        "ok", "warning", "error" or "skipped".
    detail
        The findings.
    """

    name: str
    outcome: Outcome
    detail: str

    @classmethod
    def of(cls, name: str, errors: Sequence[str], remarks: Sequence[str], fine: str) -> Check:
        """A check from its errors and warnings, or from what to say without any."""
        outcome: Outcome = "error" if errors else "warning" if remarks else "ok"
        return cls(name, outcome, "; ".join([*errors, *remarks]) or fine)


@dataclass(frozen=True, repr=False)
class Validation(Reported):
    """Whether a file is a valid COG and what it claims to be: see :func:`ccog.validate`.

    Attributes
    ----------
    url
        The file.
    checks
        The checks, in the order in which they were made.
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

    def _report(self) -> Report:
        checks = [(check.outcome, check.name, check.detail) for check in self.checks]
        tables = [Table(("Outcome", "Check", "Findings"), checks)]
        if self.overviews:
            titles = ("Overview", "Compared with", "Rows", "Columns", "Method", "Equal")
            tables.append(Table(titles, list(map(_area_row, self.overviews))))
        verdict = "valid" if self.is_valid else "NOT valid"
        return Report(facts=[f"{self.url}: {verdict}"], tables=tables)


def _area_row(area: OverviewArea) -> Sequence[str]:
    source = f"overview {area.source}" if area.source else "full resolution"
    rows, cols = (f"{first} to {stop}" for first, stop in (area.rows, area.cols))
    overview, equal = f"overview {area.overview}", f"{area.equal:.2%}"
    return overview, source, rows, cols, area.method, equal


def validate(
    url: Any,
    storage_options: Mapping[str, Any] | None = None,
    *,
    thorough: bool = False,
) -> Validation:
    """Judge whether a file is a valid Cloud Optimised GeoTIFF and what it claims to be.

    Beside the verdict of rio-cogeo it checks the order of directories, levels and tiles, that
    nothing overlaps or lies beyond the end, the leader and trailer of tiles, and that overviews are
    what GDAL's kernels make of the level above them (not for complex pixels and alpha bands).

    Parameters
    ----------
    url
        Local path, URL of any protocol that fsspec knows, or the bytes of a file.
    storage_options
        As fsspec takes them for the protocol.
    thorough
        Look at the leader and trailer of every tile and at every overview pixel, not at samples (64
        tiles, and three areas of 128 x 128 pixels of each overview).

    Returns
    -------
    Validation
        Prints as a list of checks; ``is_valid`` is the verdict.

    Raises
    ------
    ccog.MissingDependencyError
        rio-cogeo, or the package for the protocol, is not installed.
    ccog.RasterError
        The file is not a TIFF, is damaged, or has more directories or tiles than any real file.
    ccog.StoreError
        It does not exist, cannot be read, or is not a regular file (a pipe, a device, a directory).
    """
    url, storage_options = addressed(url), hidden(storage_options)
    with open_ranges(url, storage_options) as reader, warnings.catch_warnings():
        # a file without georeference can be a valid COG
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        header = read_header(reader)
        pixels, areas = _check_pixels(reader, header, thorough)
        checks = (
            _check_rio_cogeo(reader),
            _check_directories(header),
            _check_levels(header),
            _check_order(header),
            _check_ranges(header),
            _check_frames(reader, header, thorough),
            pixels,
        )
    return Validation(header.url, checks, areas)


def _check_rio_cogeo(reader: RangeReader) -> Check:
    name = "rio-cogeo"
    try:
        import rio_cogeo
    except ImportError as error:
        raise needs("validating", "rio-cogeo") from error
    try:
        with reader.for_gdal() as target:
            _, errors, remarks = rio_cogeo.cog_validate(target, quiet=True)
    except _PASSED_ON:
        raise
    except Exception as error:  # for a damaged file it, rasterio and NumPy raise all sorts
        return Check(name, "error", f"cannot look at it: {_cause(error)}")
    fine = f"a valid COG, says version {rio_cogeo.__version__}"
    return Check.of(name, errors, remarks, fine)


def _cause(error: BaseException) -> str:
    """What went wrong, in one line; rasterio says it in the cause of its error."""
    cause = error.__cause__ or error
    return " ".join(f"{type(cause).__name__}: {cause}".split())


def _check_directories(header: Header) -> Check:
    directories = header.directories
    errors = []
    if directories[0].is_mask or directories[0].is_overview:
        errors.append("the first directory is not the full resolution")
    sizes = [directory.size for directory in directories if not directory.is_mask]
    if any(a[0] < b[0] or a[1] < b[1] for a, b in itertools.pairwise(sizes)):
        errors.append(f"sizes do not decrease: {sizes}")
    masks = [directory.size for directory in directories if directory.is_mask]
    lonely = [size for size in masks if size not in sizes]
    if lonely:
        errors.append(f"masks without an image of their size: {lonely}")
    tiles = [directory.tiles_extent for directory in directories]
    first = min((start for start, _ in filter(None, tiles)), default=header.size)
    end = max(stop for _, stop in header.extents())
    if "LAYOUT=IFDS_BEFORE_DATA" in header.ghost and end > first:
        errors.append(f"the header ends at byte {end}, after the first tile at byte {first}")
    fine = f"{len(directories)}, sizes decrease, masks match"
    return Check.of("directories", errors, [], fine)


def _check_levels(header: Header) -> Check:
    """Data of smaller levels lies before that of larger ones, and levels do not mix."""
    extents = []
    for name, directory in zip(header.names, header.directories, strict=True):
        if not directory.is_mask and directory.tiles_extent is not None:
            extents.append((directory.tiles_extent, name))
    errors, remarks = [], []
    for (large, larger), (small, smaller) in itertools.pairwise(extents):
        if small[0] > large[0]:
            errors.append(f"data of {smaller} begins after that of {larger}")
        elif small[1] > large[0]:
            remarks.append(f"data of {smaller} and {larger} are mixed")
    fine = "smallest overview first, each level in one piece"
    return Check.of("order of levels", errors, remarks, fine)


def _check_order(header: Header) -> Check:
    orders = [tile_order(directory).name for directory in header.directories]
    levels = zip(header.names, orders, strict=True)
    known = [(name, order) for name, order in levels if order != "-"]
    fine = ", ".join(sorted({order for _, order in known})) or "one tile a level"
    errors = []
    if "BLOCK_ORDER=ROW_MAJOR" in header.ghost:
        fine += ", as the ghost area says"
        others = [level for level in known if not level[1].startswith("row-major")]
        if others:
            wrong = [f"{name}: {order}" for name, order in others]
            errors.append(f"the ghost area says ROW_MAJOR, but {', '.join(wrong)}")
    return Check.of("order of tiles", errors, [], fine)


def _check_ranges(header: Header) -> Check:
    spans = Spans.of(header)
    errors, remarks = [], []
    beyond = int(np.count_nonzero(spans.stops > header.size))
    if beyond:
        errors.append(f"{beyond} ranges end after the file, which has {header.size} bytes")
    if overlaps := spans.overlaps():
        first, stop = overlaps[0]
        errors.append(f"{len(overlaps)} overlaps, the first at bytes {first} to {stop}")
    if gaps := spans.gaps(header.size):
        total = sum(stop - start for start, stop in gaps)
        count = plural(len(gaps), "gap")
        remarks.append(f"{count} of {total:,} bytes, the first at byte {gaps[0][0]}")
    fine = "no overlap, no gap, all before the end"
    return Check.of("places of tiles", errors, remarks, fine)


def _check_frames(reader: RangeReader, header: Header, thorough: bool) -> Check:
    name = "leaders and trailers"
    if framing(header.ghost) != (LEADER, TRAILER):
        return Check(name, "skipped", "the ghost area announces none")
    stored = [np.stack(directory.stored, axis=1) for directory in header.directories]
    tiles = np.concatenate(stored).astype(np.int64)
    if not len(tiles):
        return Check(name, "skipped", "no tile has bytes")
    sample = np.linspace(0, len(tiles) - 1, SAMPLED_TILES).astype(int)
    chosen = tiles if thorough else tiles[np.unique(sample)]
    wrong: list[int] = []
    for at in range(0, len(chosen), _BATCH):
        wrong += _wrongly_framed(reader, chosen[at : at + _BATCH])
    if not wrong:
        fine = f"right for {len(chosen):,} of {len(tiles):,} tiles looked at"
        return Check(name, "ok", fine)
    tried = f"{len(wrong)} of {len(chosen)} tiles"
    return Check(name, "error", f"{tried}, the first at byte {wrong[0]}, have a wrong one")


def _wrongly_framed(reader: RangeReader, tiles: npt.NDArray[np.int64]) -> Iterator[int]:
    """Offsets of tiles (offset, byte count) without their size before or last bytes after."""
    ranges: list[Range] = []
    for offset, count in tiles.tolist():
        repeated, end = min(count, TRAILER), offset + count
        ranges += [(offset - LEADER, offset), (end - repeated, end + repeated)]
    frames = reader.read_many(ranges)
    for (offset, count), before, after in zip(
        tiles.tolist(), frames[::2], frames[1::2], strict=True
    ):
        is_size = len(before) == LEADER and int.from_bytes(before, "little") == count
        if not is_size or after[:-TRAILER] != after[TRAILER:]:
            yield offset


def _check_pixels(
    reader: RangeReader, header: Header, thorough: bool
) -> tuple[Check, tuple[OverviewArea, ...]]:
    """Whether overviews are made of the level above, and the areas that were compared."""
    try:
        areas = compare_overviews(reader, overview_resampling(header), thorough=thorough)
    except _PASSED_ON:
        raise
    except Exception as error:  # as of rio-cogeo
        return Check(_PIXELS, "error", f"cannot be read: {_cause(error)}"), ()
    if isinstance(areas, str):
        return Check(_PIXELS, "skipped", areas), ()
    is_lossy = header.directories[0].value(tags.COMPRESSION, 1) in _LOSSY
    return _judge_pixels(areas, is_lossy), areas


def _judge_pixels(areas: tuple[OverviewArea, ...], is_lossy: bool) -> Check:
    method, pixels = areas[0].method, sum(area.pixels for area in areas)
    equal = sum(area.equal * area.pixels for area in areas) / pixels
    compared = f"{len(areas)} areas of {pixels:,} pixels: {equal:.2%} are what {method} gives"
    if equal >= EXACT:
        return Check(_PIXELS, "ok", compared)
    worst = max(areas, key=lambda area: area.difference)
    where = f"overview {worst.overview}, rows {worst.rows[0]} to {worst.rows[1]}"
    detail = (
        f"{compared}, the nearest; {where} differs most, "
        f"by {worst.difference:.3f} standard deviations on average"
    )
    if worst.difference > FAR:
        return Check(_PIXELS, "error", detail)
    if is_lossy:
        return Check(_PIXELS, "ok", f"{detail}, as lossy compression may cause")
    return Check(_PIXELS, "warning", detail)
