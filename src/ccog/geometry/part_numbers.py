"""Which part numbers upload groups own: those of a store are limited."""

from __future__ import annotations

import math
from dataclasses import replace

from ccog.errors import RasterError, warn_user
from ccog.geometry.cog import CogGeometry
from ccog.geometry.parts import Limits, PartPlan, fewest_parts


def assign_parts(geometry: CogGeometry, limits: Limits, url: str) -> tuple[CogGeometry, PartPlan]:
    """The part numbers, and the geometry: more blocks are uploaded together if numbers are few.

    The parts suffice however badly the tiles compress. Near the limit of the store they suffice
    only if the tiles compress well enough, and a warning says so.

    Raises
    ------
    RasterError
        The store has too few part numbers for such a raster.
    """
    parts = PartPlan.build(geometry.groups.sizes, limits)
    while parts is None and _can_upload_more_together(geometry):
        geometry = replace(geometry, group_size=2 * geometry.group_size)
        parts = PartPlan.build(geometry.groups.sizes, limits)
    if parts is not None:
        return geometry, parts
    if geometry.options.effective_compress != "NONE":
        fit = PartPlan.build_for_compressed(geometry.groups.sizes, limits)
        if fit is not None:
            parts, percent = fit
            warn_user(
                f"{url} takes {limits.max_parts} parts of at most "
                f"{limits.max_part} bytes: blocks that are uploaded together must compress "
                f"to {percent} % of their {_largest_upload(geometry)} bytes, "
                "or the write fails when they do not"
            )
            return geometry, parts
    raise _too_few_parts(geometry, limits, url)


def _can_upload_more_together(geometry: CogGeometry) -> bool:
    return geometry.by_chunk and geometry.group_size < math.prod(geometry.level(0).blocks)


def _largest_upload(geometry: CogGeometry) -> int:
    return max(size for _, size in geometry.groups.sizes)


def _too_few_parts(geometry: CogGeometry, limits: Limits, url: str) -> RasterError:
    groups = "runs" if geometry.by_chunk else "rows"
    needed = fewest_parts(geometry.groups.sizes, limits)
    return RasterError(
        f"{len(geometry.groups.all)} {groups} of blocks of up to {_largest_upload(geometry)} bytes "
        f"need {needed} parts, and {url} takes {limits.max_parts} of at most "
        f"{limits.max_part} bytes; {_how_to_need_fewer_parts(geometry)}"
    )


def _how_to_need_fewer_parts(geometry: CogGeometry) -> str:
    if geometry.by_chunk:
        return "split the raster into several files"
    if geometry.file_order.planes(0) > 1:
        return "use interleave='pixel' or layout='chunk', which upload all bands together"
    return "use chunks with more rows"
