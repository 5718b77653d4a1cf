"""GDAL's configuration options that decide what a file holds: what becomes of each.

GDAL reads them from ``rasterio.Env``, from its configuration file and from the environment of the
process, in the client and in every worker. An option that reached the header alone, or one worker,
would make a file that nobody can read. So each is of one of three kinds:

- honoured: the value that the client finds holds in all tasks,
- neutral: wherever ccog calls GDAL, the option has the value that it has where nobody sets it,
- refused: ccog cannot do what GDAL would, and says so.

``tests/parity.py`` tries each against GDAL. It also names those that change nothing here. What is
on no list, as an option of a GDAL to come, is noticed by the tags of the tiles
(:mod:`ccog.tiff.tile_tags`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from rasterio.env import get_gdal_config

from ccog.errors import OptionError

#: Options that are honoured, with what stands for an option that nobody has set.
HONOURED: Mapping[str, str] = MappingProxyType(
    {
        "ESRI_XML_PAM": "NO",
        "GDAL_TIFF_DEFLATE_SUBCODEC": "",
        "GTIFF_ALPHA": "",
        "GTIFF_ESRI_CITATION": "YES",
        "GTIFF_LINEAR_UNITS": "DEFAULT",
        "GTIFF_POINT_GEO_IGNORE": "NO",
        "GTIFF_WRITE_ANGULAR_PARAMS_IN_DEGREE": "NO",
        "GTIFF_WRITE_IMAGE_STRUCTURE_METADATA": "YES",
        "GTIFF_WRITE_TOWGS84": "AUTO",
        "OSR_STRIP_TOWGS84": "YES",
        "OSR_WKT_FORMAT": "DEFAULT",
    }
)

#: Options that are neutral, with the value that they have wherever ccog calls GDAL.
#:
#: ``GDAL_MEM_ENABLE_OPEN`` lets :class:`ccog.gdal.rasterio_edges.Frame` open pointers to memory.
NEUTRAL: Mapping[str, str] = MappingProxyType(
    {
        "COG_DELETE_TEMP_FILES": "YES",
        "CONVERT_YCBCR_TO_RGB": "YES",
        "GDAL_DEFAULT_CREATE_COPY": "NO",
        "GDAL_FORCE_CACHING": "NO",
        "GDAL_MEM_ENABLE_OPEN": "YES",
        "GDAL_PAM_ENABLED": "YES",
        "GDAL_TIFF_INTERNAL_MASK": "YES",
        "GDAL_TIFF_INTERNAL_MASK_TO_8BIT": "YES",
        "GTIFF_DONT_WRITE_BLOCKS": "NO",
        "GTIFF_FORCE_RGBA": "NO",
        "GTIFF_IGNORE_READ_ERRORS": "NO",
        "TIFF_READ_STREAMING": "NO",
        "TIFF_USE_OVR": "NO",
        "USE_RRD": "NO",
        "VRT_VIRTUAL_OVERVIEWS": "NO",
    }
)


#: Options that change what a file reads as: tasks read as the client does. With what stands for one
#: that nobody has set.
_OF_READING: Mapping[str, str] = MappingProxyType(
    {
        "CONVERT_YCBCR_TO_RGB": "YES",
        "GDAL_ENABLE_TIFF_SPLIT": "YES",
        "GDAL_JPEG_TO_RGB": "YES",
        "GDAL_RASTERIO_RESAMPLING": "",
        "GDAL_TIFF_INTERNAL_MASK_TO_8BIT": "YES",
        "GTIFF_FORCE_RGBA": "NO",
        "GTIFF_IGNORE_READ_ERRORS": "NO",
        "JPEG_READ_MASK": "YES",
        "TIFF_READ_STREAMING": "NO",
    }
)


class Refusal(NamedTuple):
    """What to do instead of setting an option, and values that change nothing."""

    instead: str
    harmless: tuple[str, ...] = ()


_OFF, _ON = ("NO", "FALSE", "OFF", "0"), ("YES", "TRUE", "ON", "1")
_QUALITY = Refusal("give overview_quality=")
_LEVEL = Refusal("give level=, which is of overviews too")
_JXL = Refusal("its namesake among the creation options is of overviews too")

#: Options that are refused.
REFUSED: Mapping[str, Refusal] = MappingProxyType(
    {
        "COG_TMP_COMPRESSION": Refusal("it is for debugging GDAL"),
        "COMPRESS_OVERVIEW": Refusal("give overview_compress="),
        "GDAL_OVR_PROPAGATE_NODATA": Refusal("overviews leave nodata pixels out", _OFF),
        "GDAL_TIFF_ENDIANNESS": Refusal("ccog writes little-endian files", ("NATIVE", "LITTLE")),
        "GDAL_TIFF_OVR_BLOCKSIZE": Refusal("blocksize= is of overviews too"),
        "GTIFF_WRITE_COG_GHOST_AREA": Refusal("give layout='chunk' for bare tiles", _ON),
        "INTERLEAVE_OVERVIEW": Refusal("interleave= is of overviews too"),
        "JPEG_QUALITY_OVERVIEW": _QUALITY,
        "JPEG_TABLESMODE_OVERVIEW": Refusal("overviews have the tables of full resolution"),
        "JXL_ALPHA_DISTANCE_OVERVIEW": _JXL,
        "JXL_DISTANCE_OVERVIEW": _JXL,
        "JXL_EFFORT_OVERVIEW": _JXL,
        "JXL_LOSSLESS_OVERVIEW": _JXL,
        "MAX_Z_ERROR_OVERVIEW": Refusal("give the creation option of this name"),
        "PHOTOMETRIC_OVERVIEW": Refusal("overviews have the colours of full resolution"),
        "PREDICTOR_OVERVIEW": Refusal("give overview_predictor="),
        "WEBP_LEVEL_OVERVIEW": _QUALITY,
        "WEBP_LOSSLESS_OVERVIEW": Refusal("give overview_quality=100"),
        "ZLEVEL_OVERVIEW": _LEVEL,
        "ZSTD_LEVEL_OVERVIEW": _LEVEL,
    }
)


def honoured_here() -> dict[str, str]:
    """The options that are honoured, as they are set in this process and thread."""
    return _set_here(HONOURED)


def reading_here() -> dict[str, str]:
    """The options that change what files read as, as they are set in this process and thread."""
    return _set_here(_OF_READING)


def _set_here(options: Mapping[str, str]) -> dict[str, str]:
    found = {name: get_gdal_config(name, normalize=False) for name in options}
    return {name: options[name] if value is None else value for name, value in found.items()}


def refuse_options() -> None:
    """Raise an OptionError if an option is set here that is refused."""
    for name, refusal in REFUSED.items():
        value = get_gdal_config(name, normalize=False)
        if value is not None and value.upper() not in refusal.harmless:
            raise OptionError(
                f"{name}={value} is set among GDAL's options, and ccog does not write such files. "
                f"Leave it out of rasterio_env_options, --config, rasterio.Env and the environment "
                f"of the client and of all workers: {refusal.instead}"
            )
