"""Sizes of the header and of the file: exact, largest possible, and guessed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ccog.gdal.statistics import BandStatistics
from ccog.gdal.template import write_template
from ccog.geometry.cog import CogGeometry
from ccog.tasks.uploads import WriteJob
from ccog.tiff import directories as tiff
from ccog.tiff.header import CLASSIC_LIMIT, LevelCounts, header_size
from ccog.views.preview.bounds import largest_tile, usual_mask_ratio, usual_ratio

# longest that statistics get as text
_LONG = -1.2345678901234e-100
_LONGEST = BandStatistics(12345678, 10**12, _LONG, _LONG, _LONG, 1.2345678e-300)


def band_planes(plan: CogGeometry, k: int) -> int:
    """Bands of a level that are compressed apart, else 1."""
    return plan.count if plan.planar[min(k, 1)] else 1


@dataclass(frozen=True)
class Sizes:
    """Sizes of the file in bytes; ``ratio`` says how pixels of the full resolution compress: a guess, or a sample."""

    header: int
    classic_header: int | None
    is_exact: bool
    big: bool | None
    largest: int
    expected: int
    ratio: float

    @classmethod
    def of(cls, job: WriteJob, sampled: float | None) -> Sizes:
        """Sizes of the file that a job writes, whose pixels compress to ``sampled`` times their size, if known."""
        wants_statistics = job.plan.options.statistics == "YES"
        template = (
            write_template(job.described, (_LONGEST,) * job.plan.count)
            if wants_statistics
            else job.template
        )
        counts = tuple(_counts(job.plan, k) for k in range(job.plan.top + 1))
        classic, big = (header_size(template, counts, big=kind) for kind in (False, True))
        pixels = sum(_largest_level(job, k) for k in range(job.plan.top + 1))
        decided = False if job.big is None and classic + pixels < CLASSIC_LIMIT else job.big
        header = classic if decided is False else big
        expected = sum(_expected_level(job, k, sampled) for k in range(job.plan.top + 1))
        return cls(
            header,
            classic if decided is None else None,
            not wants_statistics and decided is not None,
            decided,
            header + pixels,
            min(header + int(expected), header + pixels),
            _ratio(job, 0, sampled),
        )


def _counts(plan: CogGeometry, k: int) -> LevelCounts:
    """Tiles of a level without memory for their sizes."""
    level = plan.level(k)
    tiles = level.tiles[0] * level.tiles[1]
    image = np.broadcast_to(np.uint32(1), (tiles * band_planes(plan, k),))
    mask = np.broadcast_to(np.uint32(1), (tiles,)) if plan.has_mask else None
    return LevelCounts(*level.size, image, mask, plan.is_planar(k))


def _largest_level(job: WriteJob, k: int) -> int:
    """Most bytes that the tiles of a level can take."""
    image, mask = (
        (job.template.overview, job.template.overview_mask)
        if k
        else (job.template.image, job.template.mask)
    )
    rows, cols = job.plan.level(k).tiles
    each = largest_tile(image) * band_planes(job.plan, k) + (
        largest_tile(mask) if mask is not None else 0
    )
    return rows * cols * (each + _frames(job, k))


def _frames(job: WriteJob, k: int) -> int:
    """Bytes around the tiles of a place."""
    return (band_planes(job.plan, k) + job.plan.has_mask) * sum(job.template.framing)


def _compression(job: WriteJob, k: int) -> str:
    options = job.plan.options
    return options.effective_overview_compress if k else options.effective_compress


def _ratio(job: WriteJob, k: int, sampled: float | None) -> float:
    """How pixels of level ``k`` compress: as the sample of full resolution where they are compressed alike."""
    if sampled is not None and job.codecs[min(k, 1)].image == job.codecs[0].image:
        return sampled
    return usual_ratio(_compression(job, k), job.template.overview if k else job.template.image)


def _expected_level(job: WriteJob, k: int, sampled: float | None) -> float:
    plan, level = job.plan, job.plan.level(k)
    image, mask = (
        (job.template.overview, job.template.overview_mask)
        if k
        else (job.template.image, job.template.mask)
    )
    tiles = level.tiles[0] * level.tiles[1]
    # uncompressed tiles are stored with their padding, which otherwise compresses to next to nothing
    pixels = (
        tiles * level.blocksize**2 if _compression(job, k) == "NONE" else level.height * level.width
    )
    bits = plan.count * image.value(tiff.BITS_PER_SAMPLE, 1) * _ratio(job, k, sampled)
    bits += 0 if mask is None else usual_mask_ratio(mask)
    return pixels * bits / 8 + tiles * _frames(job, k)
