"""Creation options of GDAL's COG driver, parsed once into a frozen value.

The rules are those of GDALCOGCreator::Create (cogdriver.cpp).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from ccog.errors import OptionError, ReprojectionError
from ccog.geometry.axis_reduction import KERNEL_RADIUS

#: The tiling schemes that ccog writes to, as GDAL names them.
TILING_SCHEMES = (
    "GoogleMapsCompatible", "InspireCRS84Quad", "NZTM2000", "LINZAntarticaMapTileGrid",
    "MapML_APSTILE", "MapML_CBMTILE",
)  # fmt: skip

#: The method by which GDAL makes overviews without pixels.
BLANK = "none"

_LERC = ("LERC", "LERC_DEFLATE", "LERC_ZSTD")
_COMPRESSIONS = ("NONE", "LZW", "DEFLATE", "ZSTD", "LZMA", "JPEG", "WEBP", *_LERC, "JXL")

# options that make the COG driver warp: they are refused
_REPROJECTING = ("TARGET_SRS", "RES", "EXTENT")

# threads are the scheduler's business; the others mean nothing where nothing is warped, as in GDAL
_WITHOUT_EFFECT = ("NUM_THREADS", "WARP_RESAMPLING", "ADD_ALPHA", "ZOOM_LEVEL_STRATEGY")

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

_YES_OR_NO = {"TRUE": "YES", "ON": "YES", "1": "YES", "FALSE": "NO", "OFF": "NO", "0": "NO"}
_RESAMPLING_ALIASES = {
    "near": "nearest",
    "cubic_spline": "cubicspline",
    "nearest_neighbour": "nearest",
}

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

# gets the name of an option and its value, as people write it
_Parser = Callable[[str, Any], Any]


def is_false(value: Any) -> bool:
    """Whether a value says no, as people write it."""
    word = str(value).upper()
    return _YES_OR_NO.get(word, word) == "NO"


def _choice(*allowed: str, synonyms: Mapping[str, str] = _YES_OR_NO) -> _Parser:
    def parse(key: str, value: Any) -> str:
        word = str(value).upper()
        name = synonyms.get(word, word)
        if name not in allowed:
            raise OptionError(f"{key}={value!r} is not allowed; choose one of {', '.join(allowed)}")
        return name

    return parse


def _integer(least: int, most: int) -> _Parser:
    def parse(key: str, value: Any) -> int:
        try:
            number = int(str(value))
        except ValueError:
            raise OptionError(f"{key}={value!r} is not a whole number") from None
        if isinstance(value, bool) or not least <= number <= most:
            raise OptionError(f"{key}={value} is out of range; {least} to {most} are allowed")
        return number

    return parse


_compression = _choice(*_COMPRESSIONS)
_yes_or_no = _choice("YES", "NO")
_auto_yes_or_no = _choice("AUTO", "YES", "NO")
_quality = _integer(1, 100)

# the numbers are those of the tag in a TIFF, 1 being no predictor
_predictor = _choice(
    *("YES", "NO", "STANDARD", "FLOATING_POINT"),
    synonyms={"TRUE": "YES", "ON": "YES", "FALSE": "NO", "OFF": "NO"}
    | {"1": "NO", "2": "STANDARD", "3": "FLOATING_POINT"},
)


def _blocksize(key: str, value: Any) -> Any:
    number = _integer(16, 1 << 16)(key, value)
    if number % 16:
        raise OptionError(
            f"{key}={value} is not a multiple of 16, which TIFF tiles must be (TIFF 6.0, TileWidth)"
        )
    return number


def _number(key: str, value: Any) -> float | int:
    """A number in the form it was given in: some are written to the file as text."""
    text = str(value).strip()
    try:
        number: float | int = int(text) if text.isdigit() else float(text)
    except ValueError:
        raise OptionError(f"{key}={value!r} is not a number") from None
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise OptionError(f"{key}={value} must be a finite number, 0 or more")
    return value if isinstance(value, int | float) else number


def _boolean(key: str, value: Any) -> bool:
    return bool(_yes_or_no(key, value) == "YES")


def _tiling_scheme(key: str, value: Any) -> str | None:
    name = str(value)
    if name.upper() == "CUSTOM":
        return None
    if name not in TILING_SCHEMES:
        raise ReprojectionError(
            f"{key}={value!r} is not supported: CUSTOM, the default, and, for a raster that "
            f"already lies on its grid, one of {', '.join(TILING_SCHEMES)}"
        )
    return name


def _texts(key: str, value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise OptionError(f"{key}={value!r} is not text, or a list of texts")
    return tuple(texts)


def _resampling(key: str, value: Any) -> str:
    word = str(getattr(value, "name", value)).lower()
    method = _RESAMPLING_ALIASES.get(word, word)
    if method not in (BLANK, *KERNEL_RADIUS):
        known = ", ".join([*sorted(KERNEL_RADIUS), BLANK])
        raise OptionError(f"{key}={value!r} is not allowed; choose one of {known}")
    return method


@dataclass(frozen=True, kw_only=True)
class CreationOptions:
    """How the file is laid out and compressed; None leaves GDAL's own default.

    Each option is annotated with the function that parses it.

    ``blocksize`` is the tile side in pixels. ``overview_resampling`` is a key of ``KERNEL_RADIUS``,
    ``BLANK``, or None: cubic, or nearest for palettes and complex data. GDAL writes it to the file
    as it was given, which ``resampling_text`` keeps. ``overview_count`` None halves until both
    sides fit a tile.
    """

    blocksize: Annotated[int, _blocksize] = 512
    compress: Annotated[str | None, _compression] = None
    level: Annotated[int | None, _integer(0, 22)] = None
    predictor: Annotated[str | None, _predictor] = None
    quality: Annotated[int | None, _quality] = None
    max_z_error: Annotated[float | int | None, _number] = None
    bigtiff: Annotated[str | None, _choice("YES", "NO", "IF_NEEDED", "IF_SAFER")] = None
    overview_resampling: Annotated[str | None, _resampling] = None
    overviews: Annotated[str, _choice("AUTO", "NONE", "IGNORE_EXISTING", "FORCE_USE_EXISTING")] = (
        "AUTO"
    )
    overview_count: Annotated[int | None, _integer(0, 64)] = None
    overview_compress: Annotated[str | None, _choice(*_COMPRESSIONS, "AUTO")] = None
    overview_quality: Annotated[int | None, _quality] = None
    overview_predictor: Annotated[str | None, _predictor] = None
    geotiff_version: Annotated[str | None, _choice("AUTO", "1.0", "1.1")] = None
    sparse_ok: Annotated[bool, _boolean] = False
    interleave: Annotated[str | None, _choice("PIXEL", "BAND", "TILE")] = None
    nbits: Annotated[int | None, _integer(1, 32)] = None
    max_z_error_overview: Annotated[float | int | None, _number] = None
    jxl_lossless: Annotated[str | None, _yes_or_no] = None
    jxl_effort: Annotated[int | None, _integer(1, 9)] = None
    jxl_distance: Annotated[float | int | None, _number] = None
    jxl_alpha_distance: Annotated[float | int | None, _number] = None
    statistics: Annotated[str | None, _auto_yes_or_no] = None
    copy_src_mdd: Annotated[str | None, _auto_yes_or_no] = None
    src_mdd: Annotated[tuple[str, ...] | None, _texts] = None
    tiling_scheme: Annotated[str | None, _tiling_scheme] = None
    zoom_level: Annotated[int | None, _integer(0, 30)] = None
    aligned_levels: Annotated[int | None, _integer(0, 10)] = None
    resampling_text: str | None = None

    @classmethod
    def parse(
        cls, options: Mapping[str, Any], others: Sequence[str], problems: list[OptionError]
    ) -> CreationOptions:
        """Parse options with case-insensitive keys and values as people write them.

        ``others`` are names of options that are known elsewhere. Unknown options and bad values are
        added to ``problems``, with what is allowed.
        """
        upper = _upper_keys(options)
        _refuse_reprojection(upper, problems)
        if upper.get("RESAMPLING") is not None:
            upper.setdefault("OVERVIEW_RESAMPLING", upper["RESAMPLING"])
        for key in ("RESAMPLING", *_WITHOUT_EFFECT):
            upper.pop(key, None)
        values: dict[str, Any] = {}
        for key, value in upper.items():
            try:
                if value is not None and key in _PARSERS:
                    values[key.lower()] = _PARSERS[key](key, value)
            except OptionError as error:
                problems.append(error)
        problems.extend(_unknown([key for key in upper if key not in _PARSERS], others))
        if isinstance(upper.get("OVERVIEW_RESAMPLING"), str):
            values["resampling_text"] = upper["OVERVIEW_RESAMPLING"]
        if values.get("tiling_scheme") is not None:
            values.setdefault("blocksize", _SCHEME_TILE)
        parsed = cls(**values)
        level, compress = parsed.level, parsed.effective_compress
        lowest, highest = _LEVELS.get(compress, (0, math.inf))
        if level is not None and not lowest <= level <= highest:
            problems.append(
                OptionError(
                    f"LEVEL={level} is out of range: {compress} takes {lowest} to {highest}"
                )
            )
        return parsed

    def check_raster(self, dtype: str, count: int, source_bits: int | None = None) -> None:
        """Refuse what no codec could encode, in words: GDAL says little.

        Samples have ``source_bits`` where the file has fewer than the type and NBITS says nothing.
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
        is_jpeg = name == "JPEG" and (dtype == "int8" or (dtype == "uint16" and bits == 12))
        if name in ("JPEG", "WEBP") and dtype != "uint8" and not is_jpeg:
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
        if name in _LERC and (dtype in _NOT_IN_LERC or dtype.startswith("complex")):
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
        values["SRC_MDD"] = None if self.src_mdd is None else ",".join(self.src_mdd)
        values["OVERVIEW_RESAMPLING"] = self.resampling_text or self.overview_resampling
        return {key: str(value) for key, value in values.items() if value is not None}


_PARSERS: dict[str, _Parser] = {
    name.upper(): hint.__metadata__[0]
    for name, hint in get_type_hints(CreationOptions, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}


def _upper_keys(options: Mapping[str, Any]) -> dict[str, Any]:
    upper: dict[str, Any] = {}
    for key, value in options.items():
        if not isinstance(key, str):
            raise OptionError(f"creation option names are strings, got {key!r}")
        if key.upper() in upper:
            raise OptionError(f"creation option {key.upper()} is given twice")
        upper[key.upper()] = value
    return upper


def _refuse_reprojection(upper: dict[str, Any], problems: list[OptionError]) -> None:
    asked = {key: str(upper.pop(key)) for key in _REPROJECTING if upper.get(key) is not None}
    if asked:
        named = ", ".join(f"{key}={value}" for key, value in asked.items())
        problems.append(
            ReprojectionError(
                f"{named} would reproject the raster, which ccog does not do: reproject the array "
                f"first, {_reprojecting_call(asked)}, then write it without {' and '.join(asked)}"
            )
        )


def _reprojecting_call(asked: Mapping[str, str]) -> str:
    """The call of odc-geo that does what these options of the COG driver do."""
    crs = repr(asked["TARGET_SRS"]) if "TARGET_SRS" in asked else "arr.odc.crs"
    resolution = asked.get("RES", f"arr.odc.output_geobox({crs}).resolution")
    if "EXTENT" in asked:
        target = (
            f"odc.geo.geobox.GeoBox.from_bbox(({asked['EXTENT']}), {crs}, resolution={resolution})"
        )
    elif "RES" in asked:
        target = f"{crs}, resolution={resolution}"
    else:
        target = crs
    return f'arr = odc.geo.xr.xr_reproject(arr, {target}, resampling="cubic")'


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
