"""Which part numbers upload groups own: those of a store are limited."""

from __future__ import annotations

import math
from dataclasses import replace

from ccog.errors import RasterError, warn_user
from ccog.geometry.parts import Limits, PartPlan, fewest_parts
from ccog.geometry.upload_groups import UploadGroups


def assign_parts(groups: UploadGroups, limits: Limits, url: str) -> tuple[UploadGroups, PartPlan]:
    """The part numbers, and the groups: more blocks are uploaded together if numbers are few.

    The parts suffice however badly the tiles compress. Near the limit of the store they suffice
    only if the tiles compress well enough, and a warning says so.

    Raises
    ------
    RasterError
        The store has too few part numbers for such a raster.
    """
    blocks = math.prod(groups.order.pyramid.levels[0].blocks)
    parts = PartPlan.build(groups.sizes, limits)
    while parts is None and groups.order.by_chunk and groups.size < blocks:
        groups = replace(groups, size=2 * groups.size)
        parts = PartPlan.build(groups.sizes, limits)
    if parts is not None:
        return groups, parts
    largest = max(size for _, size in groups.sizes)
    fit = None
    if groups.order.options.effective_compress != "NONE":
        fit = PartPlan.build_for_compressed(groups.sizes, limits)
    if fit is None:
        raise _too_few_parts(groups, largest, limits, url)
    parts, percent = fit
    warn_user(
        f"{url} takes {limits.max_parts} parts of at most "
        f"{limits.max_part} bytes: blocks that are uploaded together must compress "
        f"to {percent} % of their {largest} bytes, or the write fails when they do not"
    )
    return groups, parts


def _too_few_parts(groups: UploadGroups, largest: int, limits: Limits, url: str) -> RasterError:
    kind, remedy = "rows", "use chunks with more rows"
    if groups.order.by_chunk:
        kind, remedy = "runs", "split the raster into several files"
    elif groups.order.planes(0) > 1:
        remedy = "use interleave='pixel' or layout='chunk', which upload all bands together"
    return RasterError(
        f"{len(groups.all)} {kind} of blocks of up to {largest} bytes "
        f"need {fewest_parts(groups.sizes, limits)} parts, and {url} takes {limits.max_parts} of "
        f"at most {limits.max_part} bytes; {remedy}"
    )
