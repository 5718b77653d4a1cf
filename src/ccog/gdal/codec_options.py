"""From COG creation options to the GTiff options that give the same tiles (cogdriver.cpp, gtiffdataset_write.cpp)."""

from __future__ import annotations

from ccog.gdal.encode import Codec
from ccog.geometry.options import CreationOptions
from ccog.geometry.pyramid import overview_blocksize
from ccog.tiff import directories as tiff
from ccog.tiff.directories import Directory
from ccog.tiff.header import Template

_YCBCR = 6

_JXL_OPTIONS = ("jxl_lossless", "jxl_effort", "jxl_distance", "jxl_alpha_distance")


def level_codec(
    options: CreationOptions,
    template: Template,
    dtype: str,
    nodata: float | int | None,
    *,
    overview: bool,
    by_chunk: bool = False,
) -> Codec:
    """How the tiles of full resolution, or of an overview, are compressed."""
    directory = template.overview if overview else template.image
    mask = template.overview_mask if overview else template.mask
    image = _image_options(options, directory, overview=overview)
    return Codec(
        blocksize=overview_blocksize(options.blocksize) if overview else options.blocksize,
        dtype=dtype,
        image=tuple(sorted(image.items())),
        mask=tuple(sorted(_mask_options(mask).items())) if mask is not None else (),
        # only sparse tiles need it; GTiff pads tiles of nothing else with it, which the COG driver does not.
        # tiles of 64-bit integers are sparse where they are zero, whatever is nodata
        nodata=nodata if options.sparse_ok and dtype not in ("int64", "uint64") else None,
        sparse=options.sparse_ok,
        planar=directory.value(tiff.PLANAR_CONFIG, 1) == tiff.SEPARATE,
        by_tile=options.interleave == "TILE",
        by_chunk=by_chunk,
    )


def _image_options(
    options: CreationOptions, directory: Directory, *, overview: bool
) -> dict[str, str]:
    compress = options.effective_overview_compress if overview else options.effective_compress
    found = {"compress": compress}
    predictor = directory.value(tiff.PREDICTOR, 1)
    if predictor > 1:
        found["predictor"] = str(predictor)
    quality = options.overview_quality if overview else options.quality
    found |= _level_options(options, compress)
    if compress == "JPEG":
        found |= {"jpeg_quality": str(quality or options.quality or 75)}
        if directory.value(tiff.PHOTOMETRIC) == _YCBCR:
            found["photometric"] = "YCBCR"
    elif compress == "WEBP" and (quality or options.quality):
        found["webp_level"] = str(quality or options.quality)
        # overviews are lossless only where OVERVIEW_QUALITY itself says so
        if quality == 100:
            found["webp_lossless"] = "YES"
    elif compress.startswith("LERC"):
        found |= _lerc_options(options, overview=overview)
    elif compress == "JXL":
        found |= {
            name: str(v) for name in _JXL_OPTIONS if (v := getattr(options, name)) is not None
        }
    if options.nbits is not None:
        found["nbits"] = str(directory.value(tiff.BITS_PER_SAMPLE, 1))
    return found


def _lerc_options(options: CreationOptions, *, overview: bool) -> dict[str, str]:
    error = options.max_z_error
    if overview and options.max_z_error_overview is not None:
        error = options.max_z_error_overview
    return {} if error is None else {"max_z_error": repr(error)}


def _level_options(options: CreationOptions, compress: str) -> dict[str, str]:
    """LEVEL reaches a compression only where the full resolution has it too (GDALCOGCreator::Create)."""
    family = {"DEFLATE": "zlevel", "LERC_DEFLATE": "zlevel", "ZSTD": "zstd_level", "LERC_ZSTD": "zstd_level",
              "LZMA": "lzma_preset"}  # fmt: skip
    name = family.get(compress)
    if options.level is None or name is None or family.get(options.effective_compress) != name:
        return {}
    return {name: str(options.level)}


def _mask_options(directory: Directory) -> dict[str, str]:
    """Masks are single bits; LEVEL does not reach them (GTiffDataset::CreateMaskBand)."""
    compression = {1: "NONE", 8: "DEFLATE", 32773: "PACKBITS", 5: "LZW"}[
        directory.value(tiff.COMPRESSION, 1)
    ]
    return {"compress": compression, "nbits": "1"}
