"""GDAL's configuration options one by one: what ccog does with each, and whether that is so.

The list is that of GDAL 3.12 (``port/cpl_known_config_options.h``): all options that the drivers
GTiff, COG, MEM and VRT, its overviews, statistics and georeferencing, and libtiff heed. Those of
other drivers and of access to files reach GDAL as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import rasterio
from rasterio.enums import ColorInterp as C

import ccog
from ccog.gdal_configuration import HONOURED, NEUTRAL, REFUSED
from parity import Row, Trial, by_ccog, by_gdal

Kind = Literal["honoured", "neutral", "refused"]

_SIZE = (150, 170)
_HELMERT = "+proj=laea +lat_0=10 +lon_0=5 +ellps=intl +towgs84=1,2,3 +units=m +no_defs"

RASTERS = {
    "jpeg": Trial({"compress": "jpeg"}, bands=3, size=_SIZE, masked=True),
    "webp": Trial({"compress": "webp", "quality": 60}, bands=3, size=_SIZE),
    "lerc": Trial(
        {"compress": "lerc_zstd", "max_z_error": 0.1},
        profile={"nodata": float("nan"), "crs": _HELMERT},
        dtype="float32",
        size=_SIZE,
    ),
    "nodata": Trial(
        {"compress": "zstd", "overview_resampling": "average"},
        profile={"nodata": 0},
        dtype="int16",
        bands=2,
        size=_SIZE,
        holes=0,
    ),
    "alpha": Trial(
        {"compress": "deflate"},
        described={
            "colorinterp": [C.red, C.green, C.blue, C.alpha],
            "update_tags": {0: {"AREA_OR_POINT": "Point"}},
        },
        bands=4,
        size=_SIZE,
        alpha=True,
    ),
    "complex": Trial({"overview_resampling": "average"}, dtype="complex64", size=(301, 170)),
}

#: A value of each option that is not the usual one, and the raster that it would change.
_TRIED = {
    "ESRI_XML_PAM": ("YES", "jpeg"),
    "GDAL_TIFF_DEFLATE_SUBCODEC": ("ZLIB", "alpha"),
    "GTIFF_ALPHA": ("PREMULTIPLIED", "alpha"),
    "GTIFF_ESRI_CITATION": ("NO", "lerc"),
    "GTIFF_LINEAR_UNITS": ("BROKEN", "lerc"),
    "GTIFF_POINT_GEO_IGNORE": ("YES", "alpha"),
    "GTIFF_WRITE_ANGULAR_PARAMS_IN_DEGREE": ("YES", "lerc"),
    "GTIFF_WRITE_IMAGE_STRUCTURE_METADATA": ("NO", "webp"),
    "GTIFF_WRITE_TOWGS84": ("NO", "lerc"),
    "OSR_STRIP_TOWGS84": ("NO", "lerc"),
    "OSR_WKT_FORMAT": ("WKT2", "lerc"),
    "COG_DELETE_TEMP_FILES": ("NO", "jpeg"),
    "COG_TMP_COMPRESSION": ("JPEG", "jpeg"),
    "CONVERT_YCBCR_TO_RGB": ("NO", "jpeg"),
    "GDAL_DEFAULT_CREATE_COPY": ("YES", "jpeg"),
    "GDAL_FORCE_CACHING": ("YES", "lerc"),
    "GDAL_MEM_ENABLE_OPEN": ("NO", "jpeg"),
    "GDAL_PAM_ENABLED": ("NO", "alpha"),
    "GDAL_TIFF_INTERNAL_MASK": ("NO", "jpeg"),
    "GDAL_TIFF_INTERNAL_MASK_TO_8BIT": ("NO", "jpeg"),
    "GTIFF_DONT_WRITE_BLOCKS": ("YES", "nodata"),
    "GTIFF_FORCE_RGBA": ("YES", "jpeg"),
    "GTIFF_IGNORE_READ_ERRORS": ("YES", "jpeg"),
    "TIFF_READ_STREAMING": ("YES", "jpeg"),
    "TIFF_USE_OVR": ("YES", "jpeg"),
    "USE_RRD": ("YES", "jpeg"),
    "VRT_VIRTUAL_OVERVIEWS": ("YES", "jpeg"),
    "COMPRESS_OVERVIEW": ("DEFLATE", "nodata"),
    "GDAL_OVR_PROPAGATE_NODATA": ("YES", "nodata"),
    "GDAL_TIFF_ENDIANNESS": ("BIG", "jpeg"),
    "GDAL_TIFF_OVR_BLOCKSIZE": ("64", "jpeg"),
    "GTIFF_WRITE_COG_GHOST_AREA": ("NO", "jpeg"),
    "INTERLEAVE_OVERVIEW": ("BAND", "nodata"),
    "JPEG_QUALITY_OVERVIEW": ("95", "jpeg"),
    "JPEG_TABLESMODE_OVERVIEW": ("0", "jpeg"),
    "JXL_ALPHA_DISTANCE_OVERVIEW": ("1", "jpeg"),
    "JXL_DISTANCE_OVERVIEW": ("1", "jpeg"),
    "JXL_EFFORT_OVERVIEW": ("3", "jpeg"),
    "JXL_LOSSLESS_OVERVIEW": ("NO", "jpeg"),
    "MAX_Z_ERROR_OVERVIEW": ("5", "lerc"),
    "PHOTOMETRIC_OVERVIEW": ("MINISWHITE", "jpeg"),
    "PREDICTOR_OVERVIEW": ("2", "alpha"),
    "WEBP_LEVEL_OVERVIEW": ("10", "webp"),
    "WEBP_LOSSLESS_OVERVIEW": ("YES", "webp"),
    "ZLEVEL_OVERVIEW": ("9", "alpha"),
    "ZSTD_LEVEL_OVERVIEW": ("1", "nodata"),
}

#: Options that nothing heeds which ccog asks of GDAL.
_UNHEEDED = {
    "ALPHA_OVERVIEW": ("PREMULTIPLIED", "alpha"),
    "BIGTIFF_OVERVIEW": ("YES", "jpeg"),
    "CHECK_DISK_FREE_SPACE": ("NO", "jpeg"),
    "GDAL_BAND_BLOCK_CACHE": ("HASHSET", "jpeg"),
    "GDAL_ENABLE_READ_WRITE_MUTEX": ("NO", "jpeg"),
    "GDAL_ENABLE_TIFF_SPLIT": ("NO", "jpeg"),
    "GDAL_GTIFF_PREDICTOR_CHECKS": ("NO", "alpha"),
    "GDAL_MAX_RAW_BLOCK_CACHE_SIZE": ("10", "jpeg"),
    "GDAL_NO_COSTLY_OVERVIEW": ("YES", "jpeg"),
    "GDAL_NUM_THREADS": ("2", "nodata"),
    "GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD": ("3", "jpeg"),
    "GDAL_OVR_CHUNKYSIZE": ("16", "complex"),
    "GDAL_OVR_CHUNK_MAX_SIZE": ("100", "complex"),
    "GDAL_OVR_CHUNK_MAX_SIZE_FOR_TEMP_FILE": ("1", "alpha"),
    "GDAL_OVR_TEMP_DRIVER": ("GTiff", "alpha"),
    "GDAL_PAM_ENABLE_MARK_DIRTY": ("NO", "jpeg"),
    "GDAL_PAM_MODE": ("AUX", "jpeg"),
    "GDAL_RASTERIO_RESAMPLING": ("BILINEAR", "nodata"),
    "GDAL_STATS_USE_FLOAT32_OPTIM": ("NO", "lerc"),
    "GDAL_STATS_USE_FLOAT64_OPTIM": ("NO", "lerc"),
    "GDAL_STATS_USE_INTEGER_STATS": ("NO", "nodata"),
    "GDAL_SWATH_SIZE": ("1000", "complex"),
    "GDAL_USE_SSSE3": ("NO", "nodata"),
    "GDAL_VALIDATE_CREATION_OPTIONS": ("NO", "jpeg"),
    "GTIFF_ALLOW_PREAD": ("NO", "jpeg"),
    "GTIFF_DELETE_ON_ERROR": ("NO", "jpeg"),
    "GTIFF_DIRECT_IO": ("YES", "nodata"),
    "GTIFF_HAS_OPTIMIZED_READ_MULTI_RANGE": ("NO", "jpeg"),
    "GTIFF_HONOUR_NEGATIVE_SCALEY": ("YES", "jpeg"),
    "GTIFF_IMPLICIT_JPEG_OVR": ("NO", "jpeg"),
    "GTIFF_IMPORT_FROM_EPSG": ("NO", "jpeg"),
    "GTIFF_READ_ANGULAR_PARAMS_IN_DEGREE": ("YES", "lerc"),
    "GTIFF_REPORT_COMPD_CS": ("YES", "lerc"),
    "GTIFF_SRS_SOURCE": ("EPSG", "lerc"),
    "GTIFF_USE_DEFER_STRILE_LOADING": ("NO", "jpeg"),
    "GTIFF_USE_MMAP": ("YES", "jpeg"),
    "GTIFF_VIRTUAL_MEM_IO": ("YES", "nodata"),
    "GTIFF_WRITE_RAT_TO_PAM": ("YES", "jpeg"),
    "JPEGMEM": ("1M", "jpeg"),
    "OSR_ADD_TOWGS84_ON_EXPORT_TO_WKT1": ("YES", "lerc"),
    "OSR_ADD_TOWGS84_ON_IMPORT_FROM_EPSG": ("YES", "jpeg"),
    "OSR_DEFAULT_AXIS_MAPPING_STRATEGY": ("AUTHORITY_COMPLIANT", "jpeg"),
    "OSR_USE_NON_DEPRECATED": ("NO", "jpeg"),
    "SPARSE_OK_OVERVIEW": ("YES", "nodata"),
    "VRT_ALLOW_MEM_DRIVER": ("NO", "jpeg"),
    "VRT_MIN_MAX_FROM_SOURCES": ("NO", "jpeg"),
    "VRT_NUM_THREADS": ("2", "jpeg"),
    "VRT_SHARED_SOURCE": ("0", "jpeg"),
}


@dataclass(frozen=True)
class Setting:
    """An option, a value that is not the usual one, and the raster to try it with."""

    name: str
    value: str
    raster: str
    kind: Kind

    @property
    def why(self) -> str:
        return REFUSED[self.name].instead if self.kind == "refused" else ""


def settings() -> Iterator[Setting]:
    """All options that are known, each with a value."""
    kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (
        ("honoured", (*HONOURED,)),
        ("neutral", (*NEUTRAL, *_UNHEEDED)),
        ("refused", (*REFUSED,)),
    )
    for kind, names in kinds:
        for name in sorted(names):
            value, raster = (_TRIED | _UNHEEDED)[name]
            yield Setting(name, value, raster, kind)


def outcome(setting: Setting, given: dict[str, str] | None = None) -> str:
    """What came of an option, or that it is not of its kind.

    It is set where this is called, or ``given`` as rasterio_env_options.
    """
    trial = RASTERS[setting.raster]
    try:
        ours = by_ccog(trial, rasterio_env_options=given)
    except ccog.OptionError as error:
        is_named = f"{setting.name}={setting.value} is set" in str(error)
        return "refused" if is_named else f"refused otherwise: {error}"
    if setting.kind == "honoured" and ours == _gdal_under(setting):
        return "honoured"
    return "neutral" if ours == _plain(setting.raster) else "differs"


@cache
def _plain(raster: str) -> bytes:
    """GDAL's file without any option, made before one was set."""
    return by_gdal(RASTERS[raster])


@cache
def _gdal_under(setting: Setting) -> bytes:
    with rasterio.Env(**{setting.name: setting.value}):
        return by_gdal(RASTERS[setting.raster])


def prepare() -> None:
    """Make GDAL's files without options."""
    for raster in RASTERS:
        _plain(raster)


def rows() -> list[Row]:
    """The rows of the table, whose trials are settings."""
    return [Row(f"{s.name}", (), s.why) for s in settings()]


def summaries() -> dict[str, str]:
    """What came of each option, by name."""
    prepare()
    found = {}
    for setting in settings():
        with rasterio.Env(**{setting.name: setting.value}):
            found[setting.name] = outcome(setting)
    return found
