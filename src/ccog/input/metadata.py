"""The metadata of a file: georeferencing, nodata, colours, descriptions and tags."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from numbers import Number
from typing import Any

import numpy as np
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError
from rasterio.rpc import RPC
from rasterio.transform import tastes_like_gdal

from ccog.errors import OptionError, RasterError, warn_user

#: A band number, 0 for the dataset, with or without a metadata domain.
TagKey = int | tuple[int, str]


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """The metadata of a file, as rasterio takes it.

    Keys of ``tags`` are band numbers, 0 for the dataset, or (band, domain). ``stored_type`` is the
    pixels' type in the file where NumPy has none for it. ``description`` is the content of a VRT
    that says what a source file says of itself; the other fields add to it, or change it. ``bits``
    are those of a sample of the file, where they are fewer than those of its type.
    """

    crs: CRS | None = None
    transform: Affine | None = None
    nodata: float | int | None = None
    tags: Mapping[TagKey, Mapping[str, str]] = field(default_factory=dict)
    descriptions: tuple[str | None, ...] | None = None
    offsets: tuple[float, ...] | None = None
    scales: tuple[float, ...] | None = None
    units: tuple[str, ...] | None = None
    colormap: Mapping[int, tuple[int, ...]] | None = None
    colorinterp: tuple[ColorInterp, ...] | None = None
    gcps: tuple[GroundControlPoint, ...] | None = None
    rpcs: RPC | None = None
    stored_type: str | None = None
    description: str | None = None
    bits: int | None = None
    #: What says where an array lies.
    placed_by: str | None = None

    @property
    def has_alpha(self) -> bool:
        """Whether the last band is said to be the alpha of the others."""
        colours = self.colorinterp or ()
        return len(colours) > 1 and colours[-1] == ColorInterp.alpha

    @property
    def alphas(self) -> tuple[int, ...]:
        """The bands, counted from 0, that are said to be alpha."""
        colours = enumerate(self.colorinterp or ())
        return tuple(band for band, colour in colours if colour == ColorInterp.alpha)

    @property
    def has_palette(self) -> bool:
        """Whether pixels stand for colours; a gray band may have a table that nobody heeds."""
        is_gray = self.colorinterp is not None and self.colorinterp[0] != ColorInterp.palette
        return self.colormap is not None and not is_gray

    def without_last_band(self) -> Metadata:
        """The same for all bands but the last."""
        last = len(self.colorinterp or ())
        tags = {key: items for key, items in self.tags.items() if band_and_domain(key)[0] != last}
        by_band = {name: getattr(self, name) for name in _BY_BAND}
        shorter = {name: all_[:-1] for name, all_ in by_band.items() if all_ is not None}
        return replace(self, tags=tags, **shorter)


#: Tags of these names cannot be given to rasterio's ``update_tags``.
ARGUMENTS_OF_RASTERIO = ("bidx", "ns")

# fields of Metadata with one entry a band
_BY_BAND = ("descriptions", "offsets", "scales", "units", "colorinterp")


def band_and_domain(key: TagKey) -> tuple[int, str]:
    """The band of tags, 0 for the dataset, and their domain, which may be empty."""
    return key if isinstance(key, tuple) else (key, "")


def with_options(metadata: Metadata, options: Mapping[str, Any], count: int) -> Metadata:
    """Metadata of ``count`` bands with the user's options in its place.

    Keys of ``options`` are those of METADATA_OPTIONS.
    """
    changes: dict[str, Any] = {}
    for option, parse in _PARSERS.items():
        value = options.get(option)
        if value is None or (option in _MAY_BE_EMPTY and not value):
            continue
        name = option.lower()
        changes[_FIELDS.get(option, name)] = parse(name, value, count)
    return replace(metadata, **changes)


def python_number(value: Any) -> float | int | None:
    """A number of Python's or NumPy's, or text of one, as Python's own.

    rioxarray makes nodata complex where pixels are; GDAL's is real.

    Raises
    ------
    TypeError, ValueError
        It is no single number. Booleans, lists and arrays are none, even of one entry.
    """
    if value is None:
        return None
    is_scalar = isinstance(value, np.ndarray) and value.ndim == 0 and value is not np.ma.masked
    if is_scalar or isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        # a float would lose digits of 64-bit integers
        return int(value) if value.strip().lstrip("+-").isdigit() else float(value)
    if isinstance(value, bool) or not isinstance(value, Number | Decimal):
        raise TypeError(f"{value!r} is not a number")
    if isinstance(value, complex) and value.imag == 0:
        value = value.real
    return int(value) if isinstance(value, int) else float(value)


def same_value(one: Any, other: Any) -> bool:
    """Whether two values are equal; -9999 and -9999.0 are, and so is NaN to NaN."""
    both_nan = all(
        isinstance(value, float | np.floating) and value != value for value in (one, other)
    )
    return both_nan or bool(np.array_equal(one, other))


def misfit(nodata: float | int, dtype: np.dtype[Any]) -> str | None:
    """What nodata values of a type can be, where this one is none of them."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        is_whole = math.isfinite(nodata) and nodata == int(nodata)
        fits = is_whole and limits.min <= nodata <= limits.max
        return None if fits else f"a whole number from {limits.min} to {limits.max}"
    # GDAL rounds a value that is hardly larger to the largest float
    largest = float(np.finfo(dtype).max)
    if math.isfinite(nodata) and abs(nodata) > largest * (1 + 1e-7):
        return f"a number from {-largest:g} to {largest:g}, or nan"
    return None


def per_band(name: str, value: Any, count: int, kind: type) -> tuple[Any, ...] | None:
    """One value for all bands, or one each, where None is no text; None where there is none."""
    if value is None:
        return None
    values = [value] if isinstance(value, str) else np.asarray(value).reshape(-1).tolist()
    values = values * count if len(values) == 1 else values
    if len(values) != count:
        raise RasterError(f"{name} has {len(values)} entries for {count} bands: {value!r}")
    try:
        return tuple(kind("" if entry is None and kind is str else entry) for entry in values)
    except (TypeError, ValueError):
        raise RasterError(f"{name}={value!r} is not made of {kind.__name__}") from None


# Parsers of options: each gets the name of the option, its value and the number of bands


def _crs(name: str, value: Any, count: int) -> CRS:
    try:
        return CRS.from_user_input(value)
    except (CRSError, TypeError, ValueError) as error:
        raise OptionError(
            f"{name}={value!r} is not a coordinate reference system: {error}"
        ) from error


def _transform(name: str, value: Any, count: int) -> Affine:
    try:
        transform = value if isinstance(value, Affine) else Affine(*map(float, list(value)[:6]))
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"{name}={value!r} is not six numbers (a, b, c, d, e, f) or an affine.Affine"
        ) from error
    # rasterio refuses the same (rasterio.transform.guard_transform)
    if not isinstance(value, Affine) and tastes_like_gdal(transform[:6]):
        raise OptionError(
            f"{name}={value!r} is in GDAL's order (x origin, pixel width, ...); "
            f"give rasterio's order, rasterio.Affine.from_gdal(*{name})"
        )
    if not all(map(math.isfinite, transform)) or transform.is_degenerate:
        raise OptionError(f"{name}={value!r} gives pixels no size; it cannot place a raster")
    warn_of_gdal_order(transform)
    return transform


def warn_of_gdal_order(transform: Affine) -> None:
    """Warn of a transform that was made of GDAL's numbers, in GDAL's order."""
    a, b, c, d, e, f = transform[:6]
    if tastes_like_gdal((a, b, c, d, e, f)) and a != 0:
        warn_user(
            f"the transform {(a, b, c, d, e, f)} looks like GDAL's order "
            "(x origin, pixel width, ...), and is taken as rasterio's: "
            f"if it is GDAL's, give rasterio.Affine.from_gdal{(a, b, c, d, e, f)}"
        )


def _number(name: str, value: Any, count: int) -> float | int | None:
    try:
        return python_number(value)
    except (TypeError, ValueError, OverflowError):
        raise OptionError(
            f"{name}={value!r} is not a number; give one, such as {name}=0 or {name}=nan"
        ) from None


def _tags(name: str, value: Any, count: int) -> dict[TagKey, dict[str, str]]:
    if not isinstance(value, Mapping) or not all(isinstance(v, Mapping) for v in value.values()):
        raise OptionError(
            f"{name} is {{0: {{dataset tags}}, 1: {{tags of band 1}}, ...}}, not {value!r}"
        )
    tags: dict[TagKey, dict[str, str]] = {}
    for key, items in value.items():
        band, domain = key if isinstance(key, tuple) and len(key) == 2 else (key, "")
        if not isinstance(band, int) or not 0 <= band <= count or not isinstance(domain, str):
            raise OptionError(
                f"{name} has an entry for band {key!r}; "
                f"0 (the dataset) to {count} are allowed, "
                "or (band, 'DOMAIN') for another metadata domain"
            )
        tags[key] = {str(item): str(text) for item, text in items.items()}
        _check_for_rasterio(name, key, tags[key])
    return tags


def _check_for_rasterio(name: str, key: TagKey, items: Mapping[str, str]) -> None:
    """Refuse what rasterio cannot hand to GDAL; of XML it writes nothing without an equals sign."""
    domain = band_and_domain(key)[1]
    if domain.startswith("xml:") and "=" not in items.get(domain, "="):
        raise OptionError(
            f"{name} has {items[domain][:80]!r} for {domain}, which is not XML "
            "with a declaration or namespace (there is no '=')"
        )
    for item in ARGUMENTS_OF_RASTERIO:
        if item in items:
            raise OptionError(
                f"{name} has a tag {item!r} for {key!r}, which rasterio cannot hand to GDAL: "
                "it is the name of an argument; give the tag another name"
            )


def _texts(name: str, value: Any, count: int) -> tuple[str | None, ...]:
    entries = _entries(name, value, count)
    return tuple(None if entry is None else str(entry) for entry in entries)


def _floats(name: str, value: Any, count: int) -> tuple[float, ...]:
    entries = _entries(name, value, count)
    try:
        return tuple(map(float, entries))
    except (TypeError, ValueError):
        raise OptionError(f"{name}={entries!r}: every entry must be a float") from None


def _entries(name: str, value: Any, count: int) -> list[Any]:
    """One entry for each band; a single one need not be in a list."""
    is_single = isinstance(value, str | int | float | ColorInterp)
    entries = [value] if is_single else list(value)
    if len(entries) != count:
        raise OptionError(f"{name} has {len(entries)} entries for {count} bands: {value!r}")
    return entries


def _colormap(name: str, value: Any, count: int) -> dict[int, tuple[int, ...]]:
    if not isinstance(value, Mapping):
        raise OptionError(f"{name} is {{pixel value: (red, green, blue[, alpha])}}, not {value!r}")
    colours = {}
    for pixel, colour in value.items():
        try:
            entry, parts = int(pixel), tuple(map(int, colour))
        except (TypeError, ValueError):
            entry, parts = -1, ()
        if entry < 0 or len(parts) not in (3, 4) or not all(0 <= part < 256 for part in parts):
            raise OptionError(
                f"{name} has {pixel!r}: {colour!r}; a pixel value is a whole number from 0, and "
                "its colour is three or four numbers from 0 to 255 (red, green, blue[, alpha])"
            )
        colours[entry] = parts
    return colours


def _colorinterp(name: str, value: Any, count: int) -> tuple[ColorInterp, ...]:
    entries = _entries(name, value, count)
    try:
        return tuple(
            entry if isinstance(entry, ColorInterp) else ColorInterp[str(entry).lower()]
            for entry in entries
        )
    except KeyError as error:
        names = ", ".join(member.name for member in ColorInterp)
        raise OptionError(f"{name} has {error.args[0]!r}; choose one of {names}") from None


def _gcps(name: str, value: Any, count: int) -> tuple[GroundControlPoint, ...]:
    points = tuple(value)
    others = [point for point in points if not isinstance(point, GroundControlPoint)]
    if others:
        raise OptionError(
            f"{name} has {others[0]!r}, which is not a rasterio.control.GroundControlPoint"
        )
    return points


def _rpcs(name: str, value: Any, count: int) -> RPC:
    if not isinstance(value, RPC):
        raise OptionError(
            f"{name}={value!r} is not a rasterio.rpc.RPC; make one, e.g. with RPC.from_gdal(tags)"
        )
    return value


def _stored_type(name: str, value: Any, count: int) -> str:
    if value != "complex_int16":
        raise OptionError(
            f"{name}={value!r} is not allowed: cast the array, arr.astype(...). "
            "Only complex_int16 is asked for here (of a complex64 array), "
            "since NumPy has no such type"
        )
    return str(value)


_PARSERS: dict[str, Callable[[str, Any, int], Any]] = {
    "CRS": _crs,
    "TRANSFORM": _transform,
    "NODATA": _number,
    "UPDATE_TAGS": _tags,
    "DESCRIPTIONS": _texts,
    "UNITS": _texts,
    "OFFSETS": _floats,
    "SCALES": _floats,
    "COLORMAP": _colormap,
    "COLORINTERP": _colorinterp,
    "GCPS": _gcps,
    "RPCS": _rpcs,
    "DTYPE": _stored_type,
}

# options whose fields of Metadata have other names
_FIELDS = {"UPDATE_TAGS": "tags", "DTYPE": "stored_type"}

# options that say nothing where they are empty
_MAY_BE_EMPTY = ("UPDATE_TAGS", "GCPS")

#: Options of write_ccog that describe the raster rather than the file's layout.
METADATA_OPTIONS = tuple(_PARSERS)
