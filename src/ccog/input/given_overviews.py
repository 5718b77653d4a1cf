"""Overviews that exist already, a user's own or those of a source file.

Which of them a file gets follows GDALCOGCreator::Create (cogdriver.cpp).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
from affine import Affine
from rasterio.crs import CRS

from ccog.errors import ArgumentTypeError, DtypeError, OptionError, RasterError, warn_user
from ccog.geometry.intervals import Size
from ccog.geometry.options import CreationOptions
from ccog.input.arrays import Cut
from ccog.input.chunk_checks import type_name
from ccog.input.raster import Raster, read_raster
from ccog.versions import GDAL_VERSION

# GDAL before this has no overviews in a VRT of some bands, nor any smaller than the next number
_ALL_IN_VRT = (3, 12)
_LEAST_IN_VRT = 128


@dataclass(frozen=True, kw_only=True)
class GivenOverviews:
    """Arrays to write as overviews, level 1 first, and the mask of each, or None."""

    arrays: tuple[Any, ...]
    masks: tuple[Any, ...]
    #: What the file that they come from says they were made by; None for a user's own arrays.
    made_by: str | None = None
    #: Whether they are those of a VRT, all of which another VRT has.
    is_of_vrt: bool = False

    @classmethod
    def of_user(cls, arrays: Any, masks: Any) -> GivenOverviews:
        """A user's own, for which there may be a list of masks."""
        if not isinstance(arrays, list | tuple):
            raise ArgumentTypeError(
                f"overviews is {type_name(arrays)}; give a list of arrays, level 1 first, or one "
                "of AUTO, NONE, IGNORE_EXISTING, FORCE_USE_EXISTING"
            )
        masks = (None,) * len(arrays) if masks is None else masks
        if not isinstance(masks, list | tuple) or len(masks) != len(arrays):
            raise OptionError(
                f"overview_masks is a list with a mask (y, x), or None, for each of the "
                f"{len(arrays)} arrays in overviews=[...]"
            )
        return cls(arrays=tuple(arrays), masks=tuple(masks))

    def used_by(self, options: CreationOptions, raster: Raster) -> GivenOverviews | None:
        """Those that the file gets; None where it gets new ones."""
        if self.made_by is None:
            return self._first(options.overview_count)
        kept = self._seen_by_gdal(options, raster)
        fits_a_tile = max(raster.height, raster.width) <= options.blocksize
        may_have_new = not fits_a_tile or bool(options.overview_count)
        may_have_new &= options.overviews != "FORCE_USE_EXISTING"
        wants_new = options.overviews == "IGNORE_EXISTING" or not kept.arrays
        if options.overviews == "NONE" or (wants_new and may_have_new):
            return None
        lacks_masks = raster.has_mask and any(mask is None for mask in self.masks)
        if options.overviews == "AUTO" and lacks_masks:
            # GDAL would make those of the mask alone (GDALCOGCreator::Create, bGenerateMskOvr)
            warn_user(
                "the file has a mask that its overviews lack, so they are not used; "
                "OVERVIEWS=IGNORE_EXISTING says the same"
            )
            return None
        return kept._first(options.overview_count)

    def _first(self, count: int | None) -> GivenOverviews:
        return replace(self, arrays=self.arrays[:count], masks=self.masks[:count])

    def _seen_by_gdal(self, options: CreationOptions, raster: Raster) -> GivenOverviews:
        """Those that GDAL sees: a VRT, by which it copies some rasters, has not all.

        See VRTDataset::BuildVirtualOverviews.
        """
        loses_alpha = raster.alpha_becomes_mask(options)
        if loses_alpha and GDAL_VERSION < _ALL_IN_VRT:
            return self._first(0)
        if not loses_alpha and options.statistics != "YES":
            return self
        pairs = []
        for array, mask in zip(self.arrays, self.masks, strict=True):
            height, width = array.shape[-2:]
            if GDAL_VERSION < _ALL_IN_VRT and min(height, width) < _LEAST_IN_VRT:
                break
            if self.is_of_vrt or (height < raster.height and width < raster.width):
                pairs.append((array, mask))
        arrays, masks = zip(*pairs, strict=True) if pairs else ((), ())
        return replace(self, arrays=arrays, masks=masks)


def blank_overviews(raster: Raster, sizes: Sequence[Size], text: str) -> GivenOverviews:
    """Overviews of these sizes without pixels, as OVERVIEW_RESAMPLING=NONE makes them.

    ``text`` is NONE as the user wrote it, which the file keeps.
    """
    warn_user(
        "OVERVIEW_RESAMPLING=NONE leaves the overviews blank, as GDAL does, so that the file looks "
        "empty from afar; OVERVIEWS=NONE leaves them out"
    )
    chunks, dtype = raster.pixels.chunksize, raster.pixels.dtype
    value = raster.metadata.nodata or 0
    arrays = [da.full((raster.count, *size), value, dtype=dtype, chunks=chunks) for size in sizes]
    masks = [da.zeros(size, bool, chunks=chunks[1:]) if raster.has_mask else None for size in sizes]
    return GivenOverviews(arrays=tuple(arrays), masks=tuple(masks), made_by=text)


def with_overviews(raster: Raster, overviews: GivenOverviews, cut: Cut) -> Raster:
    """The raster with its overviews, each checked to fit it; NumPy arrays are cut by ``cut``."""
    pairs = zip(overviews.arrays, overviews.masks, strict=True)
    levels = [_read(raster, arr, mask, n, cut) for n, (arr, mask) in enumerate(pairs, 1)]
    if overviews.made_by is None:
        _check_sizes([raster, *levels])
    return replace(raster, overviews=tuple(levels), overviews_made_by=overviews.made_by or "")


def _read(raster: Raster, arr: Any, mask: Any, n: int, cut: Cut) -> Raster:
    try:
        # an overview lies where its raster lies, whatever its coordinates say
        given = {"NODATA": raster.metadata.nodata, "CRS": CRS(), "TRANSFORM": Affine.identity()}
        level = read_raster(arr, mask, given, cut, is_ordered=True)
    except (RasterError, DtypeError, ArgumentTypeError) as error:
        raise type(error)(f"overview {n}: {error}") from error
    if level.count != raster.count:
        raise RasterError(
            f"overview {n} has {level.count} bands, the raster {raster.count}; they must be equal"
        )
    if level.pixels.dtype != raster.pixels.dtype:
        raise DtypeError(
            f"overview {n} is {level.pixels.dtype}, the raster {raster.pixels.dtype}; cast it, "
            f"e.g. with astype('{raster.pixels.dtype}')"
        )
    if level.has_mask and not raster.has_mask:
        raise RasterError(
            f"overview {n} has a mask and the raster has none; give the raster one (mask=), or "
            "nodata=, which masked pixels become then"
        )
    if raster.has_mask and not level.has_mask:
        raise RasterError(
            f"the raster has a mask and overview {n} has none; give a masked array (numpy.ma), or "
            "overview_masks=[...] beside overviews=[...]. For those of a file use "
            "OVERVIEWS=IGNORE_EXISTING, which makes new ones"
        )
    return replace(level, metadata=raster.metadata)


def _check_sizes(levels: Sequence[Raster]) -> None:
    """Refuse overviews that do not become smaller: GDAL would write them, and readers stumble."""
    for n, (before, level) in enumerate(itertools.pairwise(levels), 1):
        size, most = (level.height, level.width), (before.height, before.width)
        if size == most or size[0] > most[0] or size[1] > most[1]:
            name = f"overview {n - 1}" if n > 1 else "the raster"
            raise RasterError(
                f"overview {n} has {size[0]} x {size[1]} pixels (y, x), and {name} {most[0]} x "
                f"{most[1]}; each is smaller than the one before along one axis at least, and "
                "larger along none: give the largest first"
            )
