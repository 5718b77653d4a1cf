"""The geometry of a file: what is known of levels, blocks and tiles before a pixel is touched."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from ccog.geometry.file_order import FileLayout, FileOrder
from ccog.geometry.level_reductions import LevelReductions
from ccog.geometry.options import CreationOptions
from ccog.geometry.pyramid import Level, Pyramid
from ccog.geometry.raster_facts import RasterFacts
from ccog.geometry.upload_groups import UploadGroups


@dataclass(frozen=True, kw_only=True)
class CogGeometry:
    """What is written, and the geometry that follows."""

    #: What comes where in the file.
    file_order: FileOrder
    #: Method of resampling, after defaults.
    method: str
    #: Blocks of full resolution in an upload group of ``layout="chunk"``.
    group_size: int
    #: Whether what a block of full resolution gives to the overviews is parted from its tiles.
    parts_halos: bool

    def __getstate__(self) -> dict[str, Any]:
        """The fields: what follows from them grows with the raster and is soon worked out again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def options(self) -> CreationOptions:
        """Creation options, parsed."""
        return self.file_order.options

    @property
    def raster(self) -> RasterFacts:
        """Bands, type and masks."""
        return self.file_order.raster

    @property
    def pyramid(self) -> Pyramid:
        """All levels."""
        return self.file_order.pyramid

    @property
    def by_chunk(self) -> bool:
        """Whether the tiles of a chunk lie together."""
        return self.file_order.by_chunk

    @property
    def layout(self) -> FileLayout:
        """The same in the user's words."""
        return "chunk" if self.by_chunk else "gdal"

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
    def groups(self) -> UploadGroups:
        """Which blocks are uploaded together."""
        return UploadGroups(order=self.file_order, reductions=self.reductions, size=self.group_size)
