"""What a file says of its pixels: georeferencing, nodata, colours, descriptions and tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError
from rasterio.rpc import RPC

from ccog.errors import OptionError

#: Options of write_ccog that describe the raster rather than the file's layout.
METADATA_OPTIONS = (
    "CRS",
    "TRANSFORM",
    "NODATA",
    "UPDATE_TAGS",
    "DESCRIPTIONS",
    "OFFSETS",
    "SCALES",
    "UNITS",
    "COLORMAP",
    "COLORINTERP",
    "GCPS",
    "RPCS",
    "DTYPE",
)


#: A band number, 0 for the dataset, with or without a metadata domain.
TagKey = int | tuple[int, str]


@dataclass(frozen=True)
class Metadata:
    """What the file says of its pixels; all as rasterio takes it.

    Keys of ``tags`` are band numbers, 0 for the dataset, or (band, domain). ``stored_type`` is the
    pixels' type in the file where NumPy has none for it.
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

    @property
    def has_alpha(self) -> bool:
        """Whether the last band is said to be the alpha of the others."""
        return self.colorinterp is not None and self.colorinterp[-1] == ColorInterp.alpha

    def without_last_band(self) -> Metadata:
        """The same for all bands but the last."""
        last = len(self.colorinterp or ())
        tags = {
            key: found
            for key, found in self.tags.items()
            if (key[0] if isinstance(key, tuple) else key) != last
        }
        shorter = {
            name: value[:-1] for name in _BY_BAND if (value := getattr(self, name)) is not None
        }
        return replace(self, tags=tags, **shorter)


# fields of Metadata with one entry a band
_BY_BAND = ("descriptions", "offsets", "scales", "units", "colorinterp")


def with_options(metadata: Metadata, options: Mapping[str, Any], count: int) -> Metadata:
    """Metadata of ``count`` bands with the user's own (upper-case keys of METADATA_OPTIONS) in its place.

    Raises
    ------
    OptionError
        A value is not what rasterio would take, or does not fit the bands.
    """
    changes: dict[str, Any] = {}
    if options.get("CRS") is not None:
        changes["crs"] = _crs(options["CRS"])
    if options.get("TRANSFORM") is not None:
        changes["transform"] = _transform(options["TRANSFORM"])
    if options.get("NODATA") is not None:
        changes["nodata"] = _number("nodata", options["NODATA"])
    if options.get("UPDATE_TAGS"):
        changes["tags"] = _tags(options["UPDATE_TAGS"], count)
    for key, kind in (("DESCRIPTIONS", str), ("UNITS", str), ("OFFSETS", float), ("SCALES", float)):
        if options.get(key) is not None:
            changes[key.lower()] = _per_band(key.lower(), options[key], count, kind)
    if options.get("COLORMAP") is not None:
        changes["colormap"] = _colormap(options["COLORMAP"])
    if options.get("COLORINTERP") is not None:
        changes["colorinterp"] = _colorinterp(options["COLORINTERP"], count)
    if options.get("GCPS"):
        changes["gcps"] = _gcps(options["GCPS"])
    if options.get("RPCS") is not None:
        changes["rpcs"] = _rpcs(options["RPCS"])
    if options.get("DTYPE") is not None:
        changes["stored_type"] = _stored_type(options["DTYPE"])
    return replace(metadata, **changes)


def python_number(value: Any) -> float | int | None:
    """A NumPy scalar, or anything float() takes, as Python's own number."""
    if value is None:
        return None
    number = value.item() if hasattr(value, "item") else value
    return (
        number
        if isinstance(number, int | float) and not isinstance(number, bool)
        else float(number)
    )


def _crs(value: Any) -> CRS:
    try:
        return CRS.from_user_input(value)
    except (CRSError, TypeError, ValueError) as error:
        raise OptionError(f"crs={value!r} is no coordinate reference system: {error}") from error


def _transform(value: Any) -> Affine:
    try:
        return value if isinstance(value, Affine) else Affine(*[float(v) for v in list(value)[:6]])
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"transform={value!r} is not six numbers (a, b, c, d, e, f) or an affine.Affine"
        ) from error


def _number(name: str, value: Any) -> float | int:
    try:
        number = python_number(value) if not isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        raise OptionError(f"{name}={value!r} is not a number") from None
    if number is None:
        raise OptionError(f"{name}={value!r} is not a number")
    return number


def _tags(value: Any, count: int) -> dict[TagKey, dict[str, str]]:
    if not isinstance(value, Mapping) or not all(isinstance(v, Mapping) for v in value.values()):
        raise OptionError(
            f"update_tags is {{0: {{dataset tags}}, 1: {{tags of band 1}}, ...}}, not {value!r}"
        )
    for key in value:
        band, domain = key if isinstance(key, tuple) and len(key) == 2 else (key, "")
        if not isinstance(band, int) or not 0 <= band <= count or not isinstance(domain, str):
            raise OptionError(
                f"update_tags has an entry for band {key!r}; 0 (the dataset) to {count} are allowed, "
                "or (band, 'DOMAIN') for another metadata domain"
            )
    return {key: {str(k): str(v) for k, v in tags.items()} for key, tags in value.items()}


def _per_band(name: str, value: Any, count: int, kind: type) -> tuple[Any, ...]:
    values = [value] if isinstance(value, str | int | float) else list(value)
    if len(values) != count:
        raise OptionError(f"{name} has {len(values)} entries for {count} bands: {values!r}")
    try:
        return tuple(v if v is None and kind is str else kind(v) for v in values)
    except (TypeError, ValueError):
        raise OptionError(f"{name}={values!r}: every entry must be a {kind.__name__}") from None


def _colormap(value: Any) -> dict[int, tuple[int, ...]]:
    if not isinstance(value, Mapping):
        raise OptionError(
            f"colormap is {{pixel value: (red, green, blue[, alpha])}}, not {value!r}"
        )
    return {int(k): tuple(int(c) for c in v) for k, v in value.items()}


def _colorinterp(value: Any, count: int) -> tuple[ColorInterp, ...]:
    given = [value] if isinstance(value, str | ColorInterp) else list(value)
    if len(given) != count:
        raise OptionError(f"colorinterp has {len(given)} entries for {count} bands: {value!r}")
    try:
        return tuple(
            v if isinstance(v, ColorInterp) else ColorInterp[str(v).lower()] for v in given
        )
    except KeyError as error:
        names = ", ".join(found.name for found in ColorInterp)
        raise OptionError(f"colorinterp has {error.args[0]!r}; choose of {names}") from None


def _gcps(value: Any) -> tuple[GroundControlPoint, ...]:
    given = tuple(value)
    wrong = [v for v in given if not isinstance(v, GroundControlPoint)]
    if wrong:
        raise OptionError(f"gcps has {wrong[0]!r}, which is no rasterio.control.GroundControlPoint")
    return given


def _stored_type(value: Any) -> str:
    if value != "complex_int16":
        raise OptionError(f"dtype={value!r} is not allowed: cast the array, arr.astype(...); only complex_int16, "
                          "for which NumPy has no type, is asked for here (of a complex64 array)")  # fmt: skip
    return str(value)


def _rpcs(value: Any) -> RPC:
    if not isinstance(value, RPC):
        raise OptionError(
            f"rpcs={value!r} is no rasterio.rpc.RPC; make one, e.g. with RPC.from_gdal(tags)"
        )
    return value
