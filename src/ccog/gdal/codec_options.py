"""From COG creation options to the GTiff options that give the same tiles.

The rules are those of cogdriver.cpp (GDALCOGCreator::Create) and gtiffdataset_write.cpp.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from ccog.errors import EncodeError, OptionError
from ccog.gdal.encode import Codec, encode_block
from ccog.geometry.file_order import FileOrder
from ccog.geometry.options import CreationOptions
from ccog.geometry.pyramid import overview_blocksize
from ccog.geometry.raster_facts import RasterFacts
from ccog.tiff import tags
from ccog.tiff.directories import Directory
from ccog.tiff.header import Template
from ccog.tiff.tile_tags import TileTags
from ccog.versions import GDAL_VERSION

# TIFF's numbers of a colour space and of compressions
_MASK_COMPRESSIONS = {1: "NONE", 8: "DEFLATE", 32773: "PACKBITS", 5: "LZW"}

# GTiff's name of LEVEL for each compression
_LEVEL_NAMES = {
    "DEFLATE": "zlevel",
    "LERC_DEFLATE": "zlevel",
    "ZSTD": "zstd_level",
    "LERC_ZSTD": "zstd_level",
    "LZMA": "lzma_preset",
}

_DEFAULT_JPEG_QUALITY = 75

_JXL_OPTIONS = ("jxl_lossless", "jxl_effort", "jxl_distance", "jxl_alpha_distance")

# a tile of so many bands takes long to compress
_MANY_BANDS = 64

# side in pixels of the tile that tries a codec
_TRIAL_SIDE = 16


def tried_codecs(order: FileOrder, template: Template) -> tuple[Codec, Codec]:
    """How the tiles of full resolution, and those of overviews, are compressed.

    One tile is compressed with each, so that a refusal by the encoder is known before the work
    starts.

    Raises
    ------
    OptionError
        GDAL cannot compress such tiles.
    """
    raster = order.raster
    full = _level_codec(order, template, overview=False)
    overviews = _level_codec(order, template, overview=True)
    for codec in {full, overviews}:
        # bands that are compressed by themselves are all alike
        count = min(raster.count, 2) if codec.planar else raster.count
        _try_codec(codec, count, raster.array_type, raster.has_mask)
    return full, overviews


@lru_cache
def _try_codec(codec: Codec, count: int, dtype: str, has_mask: bool) -> None:
    side = _TRIAL_SIDE
    mask = np.ones((side, side), np.uint8) if has_mask else None
    if count > _MANY_BANDS:
        # a refusal of many bands does not depend on the size of their tile
        codec = replace(codec, blocksize=side)
    try:
        encode_block(np.ones((count, side, side), dtype), mask, codec)
    except EncodeError as error:
        raise OptionError(str(error)) from error


def _level_codec(order: FileOrder, template: Template, *, overview: bool) -> Codec:
    options, raster, dtype = order.options, order.raster, order.raster.dtype
    directory = template.overview if overview else template.image
    mask = template.overview_mask if overview else template.mask
    image = _image_options(options, raster, directory, overview=overview)
    blocksize = options.blocksize
    # GTiff's test for sparse tiles passes over nodata of 64 bits (GTiffDataset::HasOnlyNoData),
    # which overviews do not have
    is_wide = dtype in ("int64", "uint64")
    may_be_sparse = overview or not is_wide or raster.nodata is None
    return Codec(
        blocksize=overview_blocksize(blocksize) if overview else blocksize,
        dtype=dtype,
        image=tuple(sorted(image.items())),
        mask=() if mask is None else tuple(sorted(_mask_options(mask).items())),
        # it decides which tiles are sparse. Otherwise GTiff would only pad tiles with it, which the
        # COG driver does not
        nodata=raster.nodata if options.sparse_ok and not is_wide else None,
        sparse=options.sparse_ok and may_be_sparse,
        planar=directory.value(tags.PLANAR_CONFIG, 1) == tags.SEPARATE,
        by_tile=options.interleave == "TILE",
        by_chunk=order.by_chunk,
        framed=any(template.framing_of(int(overview))),
        tile_tags=TileTags.of(directory),
        mask_tile_tags=None if mask is None else TileTags.of(mask),
    )


def _image_options(
    options: CreationOptions, raster: RasterFacts, directory: Directory, *, overview: bool
) -> dict[str, str]:
    compress = options.effective_overview_compress if overview else options.effective_compress
    gtiff = {"compress": compress}
    predictor = directory.value(tags.PREDICTOR, 1)
    if predictor > 1:
        gtiff["predictor"] = str(predictor)
    gtiff |= _level_options(options, compress)
    if compress == "JPEG":
        gtiff |= _jpeg_options(options, directory, overview=overview)
        by_band = options.interleave in ("BAND", "TILE") and GDAL_VERSION >= (3, 11)
        if by_band and raster.count == 1 and not overview:
            # GDAL numbers the components of planes otherwise, even where there is but one
            gtiff["interleave"] = "BAND"
    elif compress == "WEBP":
        gtiff |= _webp_options(options, overview=overview)
    elif compress.startswith("LERC"):
        gtiff |= _lerc_options(options, overview=overview)
    elif compress == "JXL":
        values = {name: getattr(options, name) for name in _JXL_OPTIONS}
        gtiff |= {name: str(value) for name, value in values.items() if value is not None}
    bits = directory.value(tags.BITS_PER_SAMPLE, 1)
    if bits != raster.itemsize * 8:
        # NBITS, or fewer bits of a source file
        if compress.startswith("LERC"):
            raise OptionError(
                f"COMPRESS={compress} takes no {bits}-bit {raster.dtype}: use another compression"
            )
        gtiff["nbits"] = str(bits)
    return gtiff


def _level_options(options: CreationOptions, compress: str) -> dict[str, str]:
    """LEVEL reaches the overviews only if the full resolution calls it by the same name."""
    name = _LEVEL_NAMES.get(compress)
    is_shared = name == _LEVEL_NAMES.get(options.effective_compress)
    return {name: str(options.level)} if name and is_shared and options.level is not None else {}


def _jpeg_options(
    options: CreationOptions, directory: Directory, *, overview: bool
) -> dict[str, str]:
    quality = _quality(options, overview=overview) or _DEFAULT_JPEG_QUALITY
    gtiff = {"jpeg_quality": str(quality)}
    if directory.value(tags.PHOTOMETRIC) == tags.YCBCR:
        gtiff["photometric"] = "YCBCR"
    return gtiff


def _webp_options(options: CreationOptions, *, overview: bool) -> dict[str, str]:
    quality = _quality(options, overview=overview)
    if not quality:
        return {}
    gtiff = {"webp_level": str(quality)}
    # overviews are lossless only where OVERVIEW_QUALITY itself says so
    own = options.overview_quality if overview else options.quality
    if own == 100:
        gtiff["webp_lossless"] = "YES"
    return gtiff


def _quality(options: CreationOptions, *, overview: bool) -> int | None:
    own = options.overview_quality if overview else None
    return own or options.quality


def _lerc_options(options: CreationOptions, *, overview: bool) -> dict[str, str]:
    error = options.max_z_error
    if overview and options.max_z_error_overview is not None:
        error = options.max_z_error_overview
    return {} if error is None else {"max_z_error": repr(error)}


def _mask_options(directory: Directory) -> dict[str, str]:
    """Masks are single bits; LEVEL does not reach them (GTiffDataset::CreateMaskBand)."""
    compression = _MASK_COMPRESSIONS[directory.value(tags.COMPRESSION, 1)]
    return {"compress": compression, "nbits": "1"}
