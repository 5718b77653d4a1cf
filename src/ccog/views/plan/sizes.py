"""Sizes of the header and of the file: exact, largest possible, and guessed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import dask.array as da
import numpy as np

from ccog.gdal.encode import encode_block
from ccog.gdal.statistics import BandStatistics
from ccog.gdal.template import write_template
from ccog.geometry.cog import CogGeometry
from ccog.geometry.intervals import Size
from ccog.tasks.job import WriteJob
from ccog.tiff import tags
from ccog.tiff.directories import Directory
from ccog.tiff.header import CLASSIC_LIMIT, LevelCounts, header_size, uncompressed_tile

# longest that statistics get as text
_LONG = -1.2345678901234e-100
_LONGEST = BandStatistics(
    count=12345678, nodata=10**12, low=_LONG, high=_LONG, mean=_LONG, spread=1.2345678e-300
)

#: Most that a tile can grow, by compression: a factor, and bytes on top.
GROWTH = {
    tags.UNCOMPRESSED: (1.0, 0),
    # codes of at most 12 bits for at least one byte each; a clear code at most every 3837
    tags.LZW: (1.501, 16),
    # twice the samples, subsampled chroma counted as such, and 2048 bytes (tjBufSize)
    tags.JPEG: (2.0, 2048),
    # stored blocks (deflateBound of zlib, libdeflate_zlib_compress_bound)
    tags.DEFLATE: (1.002, 64),
    # a byte for every 128 of a row, and for what is left of each of at most 4096 rows
    tags.PACKBITS: (1.01, 4096),
    # raw values, valid bits, headers by band (Lerc2), perhaps in a deflate or zstd stream
    tags.LERC: (1.16, 4096),
    # chunks of LZMA2 stored as they are (lzma_stream_buffer_bound)
    tags.LZMA: (1.001, 256),
    # ZSTD_COMPRESSBOUND
    tags.ZSTD: (1.004, 128),
    # prefix codes of at most 15 bits for symbols of 8, nearly optimal ones
    tags.WEBP: (2.0, 4096),
    tags.JXL: (2.0, 4096),
    tags.JXL_DNG: (2.0, 4096),
}

# bytes of a LERC header, of each band that has a blob of its own
_LERC_BAND = 256

#: Usual compressed bytes per byte of pixels, from terrain and imagery of 8 and 16 bits.
USUAL = {
    "NONE": 1.0,
    "LZW": 0.65,
    "DEFLATE": 0.5,
    "ZSTD": 0.5,
    "LZMA": 0.45,
    "LERC": 0.5,
    "LERC_DEFLATE": 0.4,
    "LERC_ZSTD": 0.4,
    "JPEG": 0.15,
    "WEBP": 0.1,
    "JXL": 0.3,
}

# steps along columns that never line up with those along rows
_GOLDEN = 0.6180339887498949

# what a predictor makes of it, and what is left of a mask of single bits
_PREDICTED, _MASK = 0.8, 0.1


@dataclass(frozen=True, kw_only=True)
class PlannedSizes:
    """Sizes of the file to be, in bytes.

    Attributes
    ----------
    header
        Bytes before the first tile.
    header_is_exact
        True unless statistics are written, which make the header smaller by a few bytes a band, or
        ``big_tiff`` is undecided.
    classic_header
        The header of a classic TIFF where ``big_tiff`` is undecided, else None.
    big_tiff
        Whether the file is a BigTIFF; None where that depends on how well the pixels compress.
    largest
        What the file cannot exceed, whatever the pixels.
    expected
        A guess: bytes of the pixels times ``ratio``.
    ratio
        Compressed bytes per byte of pixels at full resolution: usual for the compression, or that
        of the sample.
    """

    header: int
    header_is_exact: bool
    classic_header: int | None
    big_tiff: bool | None
    largest: int
    expected: int
    ratio: float


def sizes_of(job: WriteJob, sampled: float | None) -> PlannedSizes:
    """Sizes of the file of a job, whose pixels compress by ``sampled``, if known."""
    wants_statistics = job.geometry.options.statistics == "YES"
    template = job.template
    if wants_statistics:
        longest = (_LONGEST,) * job.geometry.raster.count
        template = write_template(job.header_spec, longest)
    levels = [_LevelSizes.of(job, k, sampled) for k in range(job.geometry.last_level + 1)]
    counts = tuple(level.counts for level in levels)
    classic, big = (header_size(template, counts, big=kind) for kind in (False, True))
    pixels = sum(level.largest for level in levels)
    big_tiff = job.big
    if big_tiff is None and classic + pixels < CLASSIC_LIMIT:
        big_tiff = False
    header = classic if big_tiff is False else big
    expected = int(sum(level.expected for level in levels))
    return PlannedSizes(
        header=header,
        header_is_exact=not wants_statistics and big_tiff is not None,
        classic_header=classic if big_tiff is None else None,
        big_tiff=big_tiff,
        largest=header + pixels,
        expected=header + min(expected, pixels),
        ratio=levels[0].ratio,
    )


def sampled_ratio(job: WriteJob, pixels: da.Array, sample: int) -> float:
    """Compressed bytes of ``sample`` blocks of ``pixels`` (band, y, x) per byte of pixels."""
    level = job.geometry.level(0)
    compressed = raw = 0
    for i, j in _spread(level.blocks, sample):
        rows, cols = level.rows(i), level.cols(j)
        block = pixels[:, rows.start : rows.stop, cols.start : cols.stop]
        block = np.ma.getdata(block.compute())
        _, counts, _ = encode_block(block, None, job.codecs[0])
        compressed += int(counts.sum())
        raw += block.size * job.geometry.raster.itemsize
    return compressed / raw


def _spread(blocks: Size, sample: int) -> Iterable[tuple[int, int]]:
    """Blocks in different rows and columns; all where ``sample`` is their number."""
    rows, cols = blocks
    if sample == rows * cols:
        return itertools.product(range(rows), range(cols))
    steps = [(n + 0.5) for n in range(sample)]
    return [(int(step / sample * rows), int(step * _GOLDEN % 1 * cols)) for step in steps]


def band_planes(geometry: CogGeometry, k: int) -> int:
    """Bands of a level that are compressed apart, else 1."""
    return geometry.file_order.encoded_planes(k)


class _LevelSizes(NamedTuple):
    """The tiles of one level: the most bytes that they take, and a guess at the same."""

    counts: LevelCounts
    largest: int
    expected: float
    ratio: float

    @classmethod
    def of(cls, job: WriteJob, k: int, sampled: float | None) -> _LevelSizes:
        """The sizes of level ``k``, leaders and trailers included."""
        image, mask = job.template.image_of(k), job.template.mask_of(k)
        planes = band_planes(job.geometry, k)
        tiles = math.prod(job.geometry.level(k).tiles)
        largest, directories = planes * _largest_tile(image), planes
        if mask is not None:
            largest, directories = largest + _largest_tile(mask), directories + 1
        frames = tiles * directories * sum(job.template.framing_of(k))
        ratio = _ratio(job, k, sampled)
        return cls(
            counts=_counts(job, k),
            largest=tiles * largest + frames,
            expected=_pixels(job, k) * _bits(job, k, ratio) / 8 + frames,
            ratio=ratio,
        )


def _counts(job: WriteJob, k: int) -> LevelCounts:
    """The tiles of a level, without memory for their sizes."""
    level, one = job.geometry.level(k), np.uint32(1)
    tiles = math.prod(level.tiles)
    mask = None if job.template.mask_of(k) is None else np.broadcast_to(one, (tiles,))
    return LevelCounts(
        height=level.height,
        width=level.width,
        image=np.broadcast_to(one, (tiles * band_planes(job.geometry, k),)),
        mask=mask,
        planar=job.geometry.file_order.is_planar(k),
    )


def _pixels(job: WriteJob, k: int) -> int:
    """Pixels that are stored of a level."""
    level = job.geometry.level(k)
    # tiles that are not compressed have padding, which otherwise is next to nothing
    if _compression(job, k) == "NONE":
        return math.prod(level.tiles) * level.blocksize**2
    return level.height * level.width


def _bits(job: WriteJob, k: int, ratio: float) -> float:
    """A guess at the bits that a pixel takes in the file."""
    image, mask = job.template.image_of(k), job.template.mask_of(k)
    bits = job.geometry.raster.count * image.value(tags.BITS_PER_SAMPLE, 1) * ratio
    if mask is None:
        return bits
    is_compressed = mask.value(tags.COMPRESSION, 1) != tags.UNCOMPRESSED
    return bits + (_MASK if is_compressed else 1)


def _ratio(job: WriteJob, k: int, sampled: float | None) -> float:
    """Compressed bytes per byte of pixels: of the sample where the codec is the same."""
    if sampled is not None and job.codecs[min(k, 1)].image == job.codecs[0].image:
        return sampled
    has_predictor = job.template.image_of(k).value(tags.PREDICTOR, 1) > 1
    return USUAL[_compression(job, k)] * (_PREDICTED if has_predictor else 1)


def _compression(job: WriteJob, k: int) -> str:
    options = job.geometry.options
    return options.effective_overview_compress if k else options.effective_compress


def _largest_tile(directory: Directory) -> int:
    """Most bytes that a tile can take in the file, its leader and trailer aside."""
    compression = directory.value(tags.COMPRESSION, 1)
    factor, more = GROWTH[compression]
    if compression == tags.LERC:
        more += _LERC_BAND * directory.value(tags.SAMPLES_PER_PIXEL, 1)
    return math.ceil(uncompressed_tile(directory) * factor) + more
