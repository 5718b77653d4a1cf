"""The geometry of a file: what is known of levels, blocks and tiles before a pixel is touched."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from ccog.geometry.file_order import FileLayout as FileLayout
from ccog.geometry.file_order import FileOrder
from ccog.geometry.level_reductions import LevelReductions
from ccog.geometry.options import CreationOptions
from ccog.geometry.pyramid import Level, Pyramid
from ccog.geometry.raster_facts import RasterFacts
from ccog.geometry.upload_groups import UploadGroups

# >>> until renames_fgeometry
# ruff: noqa: D102, E402, I001
from collections.abc import Sequence
from typing import TypeAlias

from ccog.geometry.blocks import choose_block as choose_block
from ccog.geometry.blocks import choose_chunk as choose_chunk
from ccog.geometry.blocks import is_small as is_small
from ccog.geometry.blocks import choose_group
from ccog.geometry.file_order import GroupSequence as GroupSequence
from ccog.geometry.file_order import UploadGroup
from ccog.geometry.level_reductions import LevelReduction
from ccog.geometry.parts import Rows as Rows
from ccog.geometry.seams import Seam
from ccog.geometry.seams import Seams as Seams

choose_unit = choose_group
Unit: TypeAlias = UploadGroup
Flow: TypeAlias = LevelReduction
Gap: TypeAlias = Seam
# <<< until renames_fgeometry


@dataclass(frozen=True, kw_only=True)
class CogGeometry:
    """What is written, and the geometry that follows.

    Attributes
    ----------
    options
        Creation options.
    raster
        Bands, type and masks.
    pyramid
        Levels with their tiles and blocks.
    method
        The overview kernel after defaults.
    layout
        Order of the tiles of a level.
    planar
        Whether the bands of full resolution, and those of the overviews, are compressed each by
        itself.
    unit
        Blocks of full resolution in an upload group of ``layout="chunk"``.
    """

    options: CreationOptions
    raster: RasterFacts
    pyramid: Pyramid
    method: str
    layout: FileLayout = "gdal"
    planar: tuple[bool, bool] = (False, False)
    unit: int = 1

    def __getstate__(self) -> dict[str, Any]:
        """The fields: what follows from them grows with the raster and is soon worked out again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def by_chunk(self) -> bool:
        """Whether the tiles of a chunk lie together."""
        return self.layout == "chunk"

    @property
    def last_level(self) -> int:
        """Index of the smallest level."""
        return len(self.pyramid.levels) - 1

    def level(self, k: int) -> Level:
        """Level ``k``, 0 being full resolution."""
        return self.pyramid.levels[k]

    @cached_property
    def reductions(self) -> LevelReductions:
        """From which level, and from which of its blocks, each overview is computed."""
        return LevelReductions(self.pyramid, self.raster, self.method)

    @cached_property
    def file_order(self) -> FileOrder:
        """What comes where in the file."""
        return FileOrder(
            pyramid=self.pyramid,
            raster=self.raster,
            by_chunk=self.by_chunk,
            interleave=self.options.interleave,
            planar=self.planar,
        )

    @cached_property
    def groups(self) -> UploadGroups:
        """Which blocks are uploaded together."""
        return UploadGroups(order=self.file_order, reductions=self.reductions, size=self.unit)

    # >>> until renames_fgeometry
    def __init__(
        self,
        options: CreationOptions,
        pyramid: Pyramid,
        count: int = 0,
        dtype: str = "",
        has_mask: bool = False,
        method: str = "",
        nodata: float | int | None = None,
        has_alpha: bool = False,
        mask_is_alpha: bool = False,
        planar: tuple[bool, bool] = (False, False),
        layout: FileLayout = "gdal",
        unit: int = 1,
        *,
        raster: RasterFacts | None = None,
    ) -> None:
        raster = raster or RasterFacts(
            count=count,
            dtype=dtype,
            has_mask=has_mask,
            nodata=nodata,
            has_alpha=has_alpha,
            mask_is_alpha=mask_is_alpha,
        )
        values = (options, raster, pyramid, method, layout, planar, unit)
        for field, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, field.name, value)

    @property
    def count(self) -> int:
        return self.raster.count

    @property
    def dtype(self) -> str:
        return self.raster.dtype

    @property
    def has_mask(self) -> bool:
        return self.raster.has_mask

    @property
    def nodata(self) -> float | int | None:
        return self.raster.nodata

    @property
    def has_alpha(self) -> bool:
        return self.raster.has_alpha

    @property
    def mask_is_alpha(self) -> bool:
        return self.raster.mask_is_alpha

    @property
    def array_type(self) -> str:
        return self.raster.array_type

    @property
    def itemsize(self) -> int:
        return self.raster.itemsize

    @property
    def top(self) -> int:
        return self.last_level

    @property
    def tile_planes(self) -> int:
        return self.file_order.side_by_side

    def is_planar(self, k: int) -> bool:
        return self.file_order.is_planar(k)

    def planes(self, k: int) -> int:
        return self.file_order.planes(k)

    @property
    def flows(self) -> tuple[Flow, ...]:
        return self.reductions.all

    def flows_to(self, k: int) -> list[Flow]:
        return self.reductions.to_level(k)

    def flows_from(self, k: int) -> list[Flow]:
        return self.reductions.from_level(k)

    def children(self, flow: Flow, i: int, j: int) -> list[tuple[int, int]]:
        return self.reductions.source_blocks(flow, i, j)

    def unit_count(self, k: int) -> int:
        return self.groups.count(k)

    def unit_length(self, k: int) -> int:
        return self.groups.length(k)

    @property
    def units(self) -> GroupSequence:
        return self.groups.all

    @property
    def stretches(self) -> GroupSequence:
        return self.groups.for_merges

    @property
    def unit_rows(self) -> tuple[Rows, ...]:
        return self.groups.sizes

    def unit_blocks(self, k: int, n: int) -> list[tuple[int, int]]:
        return self.groups.blocks(k, n)

    def joined_at(self, n: int) -> list[int]:
        return self.groups.joined_at(n)

    def left_apart(self, count: int) -> Sequence[int]:
        return self.groups.last_joined(count)

    def unit_of(self, k: int, i: int, j: int) -> int:
        return self.groups.of_block(k, i, j)

    def last_unit(self, k: int, n: int) -> int:
        return self.groups.last_needed(k, n)

    def unit_bytes(self, k: int) -> int:
        return self.groups.bytes(k)

    # <<< until renames_fgeometry


# >>> until renames_fgeometry
from ccog.geometry.tiff_limits import check_tiles as check_tiles
from ccog.geometry.tiff_limits import needs_big_tiff as needs_big_tiff

# <<< until renames_fgeometry
