"""The job of a write: all that its tasks need besides pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ccog.gdal.encode import Codec
from ccog.gdal.environment import WithEnv
from ccog.gdal.template import HeaderSpec
from ccog.geometry.cog import CogGeometry
from ccog.geometry.parts import PartPlan
from ccog.runtime.task_names import task_name
from ccog.stores import SingleWriterStore, Store
from ccog.tiff.header import Template
from ccog.versions import Libraries


@dataclass(frozen=True, kw_only=True)
class WriteJob:
    """All that tasks need besides pixels.

    ``codecs`` are of full resolution and of overviews; ``big`` says whether the file is a BigTIFF,
    None where its size will decide. A write with a ``manifest`` keeps a checkpoint, from which it
    can be resumed.
    """

    geometry: CogGeometry
    store: Store | SingleWriterStore
    parts: PartPlan
    header_spec: HeaderSpec
    template: Template
    codecs: tuple[Codec, Codec]
    big: bool | None
    token: str
    env: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    libraries: Libraries = field(default_factory=Libraries.here)
    manifest: str | None = None

    @property
    def with_env(self) -> WithEnv:
        """What runs GDAL with the user's configuration options."""
        return WithEnv(self.env, self.libraries)

    def key(self, kind: str, *index: int) -> tuple[str | int, ...]:
        """The key of a task, whose kind the dashboard groups it by."""
        return (task_name(kind, self.token), *index)

    def codec(self, k: int) -> Codec:
        """How tiles of level ``k`` are compressed."""
        return self.codecs[min(k, 1)]
