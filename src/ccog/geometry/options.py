"""Creation options of GDAL's COG driver, parsed once into a frozen value.

The rules are those of GDALCOGCreator::Create (cogdriver.cpp).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccog.errors import OptionError, ReprojectionError
from ccog.geometry.axis_reduction import KERNEL_RADIUS
from ccog.geometry.tiling_scheme import GOOGLE_MAPS

COMPRESSIONS = (
    "NONE",
    "LZW",
    "DEFLATE",
    "ZSTD",
    "LZMA",
    "JPEG",
    "WEBP",
    "LERC",
    "LERC_DEFLATE",
    "LERC_ZSTD",
    "JXL",
)

#: Options that make the COG driver warp: they are refused.
REPROJECTING = ("TARGET_SRS", "RES", "EXTENT")

#: Options that say how to warp, and mean nothing where nothing is warped, as in GDAL.
OF_WARPING = ("WARP_RESAMPLING", "ADD_ALPHA", "ZOOM_LEVEL_STRATEGY")

# lowest and highest LEVEL of a compression
_LEVELS = {
    "DEFLATE": (1, 12),
    "LERC_DEFLATE": (1, 12),
    "ZSTD": (1, 22),
    "LERC_ZSTD": (1, 22),
    "LZMA": (0, 9),
}

# least NBITS of a type of so many bits
_LEAST_NBITS = {8: 1, 16: 9, 32: 17}

# most that libtiff's JPEG encoder takes of bands by pixel, as GDAL asks for them
_MOST_JPEG_BANDS = 4

# besides complex types (tif_lerc.c, GetLercDataType)
_NOT_IN_LERC = ("int64", "uint64", "float16")

# tile side where there is a tiling scheme and no BLOCKSIZE
_SCHEME_TILE = 256

_TRUE = ("YES", "TRUE", "ON", "1")
_FALSE = ("NO", "FALSE", "OFF", "0")
_PREDICTORS = {
    "2": "STANDARD",
    "3": "FLOATING_POINT",
    "STANDARD": "STANDARD",
    "FLOATING_POINT": "FLOATING_POINT",
}
_RESAMPLING_ALIASES = {
    "near": "nearest",
    "cubic_spline": "cubicspline",
    "nearest_neighbour": "nearest",
}


@dataclass(frozen=True, kw_only=True)
class CreationOptions:
    """How the file is laid out and compressed; None leaves GDAL's own default.

    ``blocksize`` is the tile side in pixels. ``overview_resampling`` is a key of ``KERNEL_RADIUS``,
    or None: cubic, or nearest for palettes and complex data. GDAL writes it to the file as it was
    given, which ``resampling_text`` keeps. ``overview_count`` None halves until both sides fit a
    tile.
    """

    blocksize: int = 512
    compress: str | None = None
    level: int | None = None
    predictor: str | None = None
    quality: int | None = None
    max_z_error: float | int | None = None
    bigtiff: str | None = None
    overview_resampling: str | None = None
    overviews: str = "AUTO"
    overview_count: int | None = None
    overview_compress: str | None = None
    overview_quality: int | None = None
    overview_predictor: str | None = None
    geotiff_version: str | None = None
    sparse_ok: bool = False
    interleave: str | None = None
    nbits: int | None = None
    max_z_error_overview: float | int | None = None
    jxl_lossless: str | None = None
    jxl_effort: int | None = None
    jxl_distance: float | int | None = None
    jxl_alpha_distance: float | int | None = None
    statistics: str | None = None
    copy_src_mdd: str | None = None
    src_mdd: str | None = None
    tiling_scheme: str | None = None
    zoom_level: int | None = None
    aligned_levels: int | None = None
    resampling_text: str | None = None

    @classmethod
    def parse(
        cls, options: Mapping[str, Any], others: Sequence[str], problems: list[OptionError]
    ) -> CreationOptions:
        """Parse options with case-insensitive keys and values as people write them.

        ``others`` are names of options that are known elsewhere. Unknown options and bad values are
        added to ``problems``, with what is allowed.

        Raises
        ------
        OptionError
            A name is not text, or is there twice.
        """
        upper = _upper_keys(options)
        _refuse(upper, problems)
        _settle_aliases(upper)
        values: dict[str, Any] = {}
        for key, value in upper.items():
            if key not in _PARSERS:
                continue
            try:
                if value is not None:
                    values[key.lower()] = _PARSERS[key](key, value)
            except OptionError as error:
                problems.append(error)
        problems.extend(_unknown([key for key in upper if key not in _PARSERS], others))
        if isinstance(upper.get("OVERVIEW_RESAMPLING"), str):
            values["resampling_text"] = upper["OVERVIEW_RESAMPLING"]
        if values.get("tiling_scheme") is not None:
            values.setdefault("blocksize", _SCHEME_TILE)
        parsed = cls(**values)
        parsed._check_level(problems)
        return parsed

    def _check_level(self, problems: list[OptionError]) -> None:
        """Refuse a LEVEL that the compression does not have."""
        compress = self.effective_compress
        if self.level is None or compress not in _LEVELS:
            return
        lowest, highest = _LEVELS[compress]
        if not lowest <= self.level <= highest:
            problems.append(
                OptionError(
                    f"LEVEL={self.level} is out of range: {compress} takes {lowest} to {highest}"
                )
            )

    def check_raster(self, dtype: str, count: int, source_bits: int | None = None) -> None:
        """Refuse what no codec could encode, in words: GDAL says little.

        Samples have ``source_bits`` where the file has fewer than the type and NBITS says nothing.

        Raises
        ------
        OptionError
            The compression, its predictor or NBITS does not suit so many bands of the type.
        """
        for name in dict.fromkeys((self.effective_compress, self.effective_overview_compress)):
            self._check_codec(name, dtype, count, self.nbits or source_bits)
        has_predictor = self.effective_compress in ("LZW", "DEFLATE", "ZSTD")
        if self.predictor == "FLOATING_POINT" and has_predictor and not dtype.startswith("float"):
            raise OptionError(
                f"PREDICTOR=FLOATING_POINT (3) takes float32 and float64, and the array is {dtype}:"
                " use PREDICTOR=YES, which suits every type"
            )
        self._check_bits(dtype)

    def _check_codec(self, name: str, dtype: str, count: int, bits: int | None) -> None:
        """Refuse what a codec of libtiff does not take (tif_jpeg.c, tif_webp.c, tif_lerc.c)."""
        others = "DEFLATE, ZSTD and LZW take every type"
        is_12_bit = name == "JPEG" and dtype == "uint16" and bits == 12
        if name in ("JPEG", "WEBP") and dtype != "uint8" and not is_12_bit:
            raise OptionError(
                f"COMPRESS={name}: {name} takes uint8, and the array is {dtype}; {others}, or "
                "scale the pixels to 0..255 and cast them, arr.astype('uint8')"
            )
        if name == "WEBP" and count not in (3, 4):
            raise OptionError(
                f"COMPRESS=WEBP: WEBP takes 3 bands (RGB) or 4 (RGBA), and the array has {count}; "
                "use another compression, or write these bands only"
            )
        if name == "JPEG" and count > _MOST_JPEG_BANDS and self.interleave in (None, "PIXEL"):
            raise OptionError(
                f"COMPRESS=JPEG: JPEG takes up to {_MOST_JPEG_BANDS} bands, and the array has "
                f"{count}; use another compression, or INTERLEAVE=BAND (GDAL 3.11 and later)"
            )
        if name.startswith("LERC") and (dtype in _NOT_IN_LERC or dtype.startswith("complex")):
            raise OptionError(
                f"COMPRESS={name}: LERC takes integers of up to 32 bits, float32 and float64, and "
                f"the array is {dtype}; {others}, or cast it, e.g. arr.astype('float32')"
            )

    def _check_bits(self, dtype: str) -> None:
        """Refuse an NBITS that the type cannot have; GDAL would ignore it with a warning."""
        bits = int("".join(character for character in dtype if character.isdigit()))
        allowed: tuple[int, ...] = (bits,)
        if dtype.startswith("uint") and bits in _LEAST_NBITS:
            allowed = tuple(range(_LEAST_NBITS[bits], bits + 1))
        elif dtype == "float32":
            allowed = (16, 32)
        if self.nbits is not None and self.nbits not in allowed:
            raise OptionError(
                f"NBITS={self.nbits} is not possible for {dtype}, which takes {allowed[0]} to "
                f"{allowed[-1]}"
            )

    @property
    def effective_compress(self) -> str:
        """Compression of the full resolution (the COG driver's default is LZW)."""
        return self.compress or "LZW"

    @property
    def effective_overview_compress(self) -> str:
        """Compression of the overviews: that of the full resolution unless given."""
        # the COG driver hands AUTO on to the GTiff driver, which knows no such compression
        own = "NONE" if self.overview_compress == "AUTO" else self.overview_compress
        return own or self.effective_compress

    def cog_options(self) -> dict[str, str]:
        """The options as the COG driver takes them (only those that were given)."""
        values = {name: getattr(self, name.lower()) for name in _PARSERS}
        values["SPARSE_OK"] = "YES" if self.sparse_ok else None
        values["OVERVIEW_RESAMPLING"] = self.resampling_text or self.overview_resampling
        return {key: str(value) for key, value in values.items() if value is not None}


def _upper_keys(options: Mapping[str, Any]) -> dict[str, Any]:
    upper: dict[str, Any] = {}
    for key, value in options.items():
        if not isinstance(key, str):
            raise OptionError(f"creation option names are strings, got {key!r}")
        if key.upper() in upper:
            raise OptionError(f"creation option {key.upper()} is given twice")
        upper[key.upper()] = value
    return upper


def _settle_aliases(upper: dict[str, Any]) -> None:
    """RESAMPLING stands for overviews; threads are the scheduler's business, and accepted."""
    resampling = upper.pop("RESAMPLING", None)
    if resampling is not None:
        upper.setdefault("OVERVIEW_RESAMPLING", resampling)
    for key in ("NUM_THREADS", *OF_WARPING):
        upper.pop(key, None)


def _refuse(upper: dict[str, Any], problems: list[OptionError]) -> None:
    given = {key: str(upper.pop(key)) for key in REPROJECTING if upper.get(key) is not None}
    if given:
        named = ", ".join(f"{key}={value}" for key, value in given.items())
        problems.append(
            ReprojectionError(
                f"{named} would reproject the raster, which ccog does not do: reproject the array "
                f"first, {_reprojecting_call(given)}, then write it without {' and '.join(given)}"
            )
        )


def _reprojecting_call(given: Mapping[str, str]) -> str:
    """The call of odc-geo that does what these options of the COG driver do."""
    crs = repr(given["TARGET_SRS"]) if "TARGET_SRS" in given else "arr.odc.crs"
    resolution = given.get("RES", f"arr.odc.output_geobox({crs}).resolution")
    if "EXTENT" in given:
        target = (
            f"odc.geo.geobox.GeoBox.from_bbox(({given['EXTENT']}), {crs}, resolution={resolution})"
        )
    elif "RES" in given:
        target = f"{crs}, resolution={resolution}"
    else:
        target = crs
    return f'arr = odc.geo.xr.xr_reproject(arr, {target}, resampling="cubic")'


# arguments of the calls that take options, by what they look like among these
_ARGUMENTS = {
    "MASK": "mask",
    "COG_CREATION_OPTIONS": "COG_creation_options",
    "STORAGE_OPTIONS": "storage_options",
    "RASTERIO_ENV_OPTIONS": "rasterio_env_options",
    "LAYOUT": "layout",
    "RESUME": "resume of write_ccog",
    "COMPUTE": "compute of write_ccog",
    "SAMPLE": "sample of plan",
}


def _unknown(keys: Sequence[str], others: Sequence[str]) -> list[OptionError]:
    """An error for each name that is not an option; the known ones follow the last."""
    known = sorted({*_PARSERS, "RESAMPLING", *others})
    texts = [f"no creation option {key!r}{_guess(key, known)}" for key in keys]
    if any("the argument" not in text for text in texts):
        texts[-1] += f" Known are {', '.join(known)}"
    return [OptionError(text) for text in texts]


def _guess(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, [*known, *_ARGUMENTS], n=1)
    if near and near[0] in _ARGUMENTS:
        return f": did you mean the argument {_ARGUMENTS[near[0]]}?"
    return f": did you mean {near[0]}?" if near else "."


def is_false(value: Any) -> bool:
    """Whether a value says no, as people write it."""
    return str(value).upper() in _FALSE


def _choice(*allowed: str) -> Any:
    def parse(key: str, value: Any) -> str:
        name = str(value).upper()
        if name not in allowed:
            raise OptionError(f"{key}={value!r} is not allowed; choose one of {', '.join(allowed)}")
        return name

    return parse


def _integer(least: int, most: int) -> Any:
    def parse(key: str, value: Any) -> int:
        try:
            number = int(str(value))
        except ValueError:
            raise OptionError(f"{key}={value!r} is not a whole number") from None
        if isinstance(value, bool) or not least <= number <= most:
            raise OptionError(f"{key}={value} is out of range; {least} to {most} are allowed")
        return number

    return parse


def _blocksize(key: str, value: Any) -> int:
    number: int = _integer(16, 1 << 16)(key, value)
    if number % 16:
        raise OptionError(
            f"{key}={value} is not a multiple of 16, which TIFF tiles must be (TIFF 6.0, TileWidth)"
        )
    return number


def _number(key: str, value: Any) -> float | int:
    """A number in the form it was given in: some are written to the file as text."""
    try:
        number = value if isinstance(value, int | float) else _literal(str(value))
    except ValueError:
        raise OptionError(f"{key}={value!r} is not a number") from None
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise OptionError(f"{key}={value} must be a finite number, 0 or more")
    return number


def _literal(text: str) -> float | int:
    return int(text) if text.strip().isdigit() else float(text)


def _boolean(key: str, value: Any) -> bool:
    word = str(value).upper()
    if word not in _TRUE + _FALSE:
        raise OptionError(f"{key}={value!r} is neither yes nor no")
    return word in _TRUE


def _yes_or_no(key: str, value: Any) -> str:
    return "YES" if _boolean(key, value) else "NO"


def _auto_or_boolean(key: str, value: Any) -> str:
    return "AUTO" if str(value).upper() == "AUTO" else _yes_or_no(key, value)


def _tiling_scheme(key: str, value: Any) -> str | None:
    name = str(value)
    if name.upper() == "CUSTOM":
        return None
    if name != GOOGLE_MAPS:
        raise ReprojectionError(
            f"{key}={value!r} is not supported: CUSTOM, the default, and {GOOGLE_MAPS} for a "
            "raster that already lies on its grid"
        )
    return name


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise OptionError(f"{key}={value!r} is not text")
    return value


def _predictor(key: str, value: Any) -> str:
    word = str(value).upper()
    if word in ("YES", "TRUE", "ON"):
        return "YES"
    # 1 is the number of no predictor in a TIFF
    if word in ("NO", "FALSE", "OFF", "1"):
        return "NO"
    if word not in _PREDICTORS:
        raise OptionError(
            f"{key}={value!r} is not allowed; choose YES, NO, STANDARD (2) or FLOATING_POINT (3)"
        )
    return _PREDICTORS[word]


def _resampling(key: str, value: Any) -> str:
    word = str(getattr(value, "name", value)).lower()
    method = _RESAMPLING_ALIASES.get(word, word)
    if method not in KERNEL_RADIUS:
        known = ", ".join(sorted(KERNEL_RADIUS))
        raise OptionError(f"{key}={value!r} is not allowed; choose one of {known}")
    return method


def _bigtiff(key: str, value: Any) -> str:
    word = str(value).upper()
    if word in _TRUE + _FALSE:
        return "YES" if word in _TRUE else "NO"
    result: str = _choice("YES", "NO", "IF_NEEDED", "IF_SAFER")(key, value)
    return result


_PARSERS: dict[str, Any] = {
    "BLOCKSIZE": _blocksize,
    "COMPRESS": _choice(*COMPRESSIONS),
    "LEVEL": _integer(0, 22),
    "PREDICTOR": _predictor,
    "QUALITY": _integer(1, 100),
    "MAX_Z_ERROR": _number,
    "BIGTIFF": _bigtiff,
    "OVERVIEW_RESAMPLING": _resampling,
    "OVERVIEWS": _choice("AUTO", "NONE", "IGNORE_EXISTING", "FORCE_USE_EXISTING"),
    "OVERVIEW_COUNT": _integer(0, 64),
    "OVERVIEW_COMPRESS": _choice(*COMPRESSIONS, "AUTO"),
    "OVERVIEW_QUALITY": _integer(1, 100),
    "OVERVIEW_PREDICTOR": _predictor,
    "GEOTIFF_VERSION": _choice("AUTO", "1.0", "1.1"),
    "SPARSE_OK": _boolean,
    "INTERLEAVE": _choice("PIXEL", "BAND", "TILE"),
    "NBITS": _integer(1, 32),
    "MAX_Z_ERROR_OVERVIEW": _number,
    "JXL_LOSSLESS": _yes_or_no,
    "JXL_EFFORT": _integer(1, 9),
    "JXL_DISTANCE": _number,
    "JXL_ALPHA_DISTANCE": _number,
    "STATISTICS": _auto_or_boolean,
    "COPY_SRC_MDD": _auto_or_boolean,
    "SRC_MDD": _text,
    "TILING_SCHEME": _tiling_scheme,
    "ZOOM_LEVEL": _integer(0, 30),
    "ALIGNED_LEVELS": _integer(0, 10),
}
