"""The keys of a rasterio profile that the COG driver has no option of that name for.

Some say what the array is, and are checked. Others are options of the GTiff driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp

from ccog.errors import OptionError
from ccog.geometry.options import is_false
from ccog.input.raster import Raster
from ccog.tiff import tags
from ccog.tiff.directories import Directory

_BLOCKS = ("TILED", "BLOCKXSIZE", "BLOCKYSIZE")

# options of GTiff for some compressions, and what the COG driver calls them
_OF_COMPRESSIONS = {
    "ZLEVEL": ("LEVEL", ("DEFLATE", "LERC_DEFLATE")),
    "ZSTD_LEVEL": ("LEVEL", ("ZSTD", "LERC_ZSTD")),
    "LZMA_PRESET": ("LEVEL", ("LZMA",)),
    "JPEG_QUALITY": ("QUALITY", ("JPEG",)),
    "WEBP_LEVEL": ("QUALITY", ("WEBP",)),
}

_OF_ARRAY = ("DRIVER", "WIDTH", "HEIGHT", "COUNT", "DTYPE")

# TIFF's numbers of what rasterio calls photometric
_PHOTOMETRIC = {
    "MINISWHITE": 0, "MINISBLACK": 1, "RGB": 2, "PALETTE": 3, "CMYK": 5, "YCBCR": 6, "CIELAB": 8,
}  # fmt: skip

#: All of them, in upper case.
PROFILE_KEYS = (*_BLOCKS, *_OF_COMPRESSIONS, *_OF_ARRAY, "PHOTOMETRIC")


def as_cog_options(
    profile: Mapping[str, Any], options: Mapping[str, Any], problems: list[OptionError]
) -> dict[str, Any]:
    """The options of the COG driver, with those that a profile (PROFILE_KEYS) asks for.

    What cannot be had is added to ``problems``.
    """
    upper = {key.upper(): value for key, value in options.items() if isinstance(key, str)}
    asked: dict[str, tuple[str, Any]] = {}
    try:
        asked |= _blocksize(profile, "BLOCKSIZE" in upper)
    except OptionError as problem:
        problems.append(problem)
    compress = str(upper.get("COMPRESS") or "LZW").upper()
    for key, (name, compressions) in _OF_COMPRESSIONS.items():
        value = profile.get(key)
        if value is None:
            continue
        if compress in compressions:
            asked[name] = (key, value)
        else:
            text = f"is for {' and '.join(compressions)}, and compress is {compress}: leave it out"
            problems.append(OptionError(f"{key.lower()}={value!r} {text}"))
    added = {}
    for name, (key, value) in asked.items():
        own = upper.get(name)
        if own is None:
            added[name] = value
        elif str(own) != str(value):
            both = f"{name.lower()}={own!r} and {key.lower()}={value!r}"
            problems.append(OptionError(f"{both} contradict each other: leave one out"))
    return {**options, **added}


def _blocksize(profile: Mapping[str, Any], has_blocksize: bool) -> dict[str, tuple[str, Any]]:
    """BLOCKSIZE, and the key of the profile that it comes from."""
    tiled, x, y = map(profile.get, _BLOCKS)
    if tiled is not None and is_false(tiled):
        if has_blocksize:
            return {}
        raise OptionError(
            "tiled=False: a COG has tiles; add blocksize=512, or leave out tiled, "
            "blockxsize and blockysize"
        )
    if x is not None and y is not None and str(x) != str(y):
        raise OptionError(
            f"blockxsize={x!r} and blockysize={y!r}: tiles of a COG are square; "
            f"leave both out and give blocksize, e.g. blocksize={x}"
        )
    key, side = ("BLOCKXSIZE", x) if x is not None else ("BLOCKYSIZE", y)
    return {} if side is None else {"BLOCKSIZE": (key, side)}


def check_array(profile: Mapping[str, Any], raster: Raster, problems: list[OptionError]) -> None:
    """Add to ``problems`` what a profile says of the array that is not so."""
    driver = profile.get("DRIVER")
    found = []
    if driver is not None and str(driver).upper() not in ("COG", "GTIFF"):
        found.append(f"driver={driver!r}: ccog writes COGs; leave it out, or give driver='COG'")
    facts = {
        "WIDTH": (raster.width, "columns"),
        "HEIGHT": (raster.height, "rows"),
        "COUNT": (raster.count, "bands"),
    }
    for key, (fact, noun) in facts.items():
        value = profile.get(key)
        if value is not None and str(value) != str(fact):
            found.append(
                f"{key.lower()}={value!r}, and the array has {fact} {noun}: "
                "leave it out, or write the array that it describes"
            )
    dtype = profile.get("DTYPE")
    try:
        name = np.dtype(dtype).name.replace("bool", "uint8")
    except TypeError:
        name = str(dtype)
    if dtype is not None and name != raster.stored_type:
        found.append(
            f"dtype={name!r}, and the array is {raster.stored_type}: cast it, "
            f"arr.astype({name!r}), or leave dtype out"
        )
    problems += map(OptionError, found)


def check_photometric(profile: Mapping[str, Any], image: Directory) -> None:
    """Refuse another photometric than that of the file, which follows from colours and codec."""
    asked = profile.get("PHOTOMETRIC")
    if asked is None:
        return
    number = image.value(tags.PHOTOMETRIC, 1)
    if _PHOTOMETRIC.get(str(asked).upper()) == number:
        return
    names = {value: name for name, value in _PHOTOMETRIC.items()}
    raise OptionError(
        f"photometric={asked!r}: the COG driver chooses it by the colours of bands and the "
        f"compression, here {names.get(number, number)}; leave it out, or name the colours, "
        "e.g. colorinterp=['red', 'green', 'blue']"
    )


def with_colours(profile: Mapping[str, Any], raster: Raster) -> Raster:
    """The raster with the colours that photometric=RGB implies, as it does for rasterio's GTiff."""
    is_rgb = str(profile.get("PHOTOMETRIC")).upper() == "RGB" and raster.count > 2
    if not is_rgb or raster.file_header is not None or raster.metadata.colorinterp is not None:
        return raster
    others = [ColorInterp.undefined] * (raster.count - 3)
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, *others)
    return replace(raster, metadata=replace(raster.metadata, colorinterp=colours))
