"""Decoded values of xarray, and the pixels that they are stored as.

xarray decodes what it opens: missing pixels become NaN, packed integers become floats. How they
were stored stays in ``encoding``. xarray's writers and ``rioxarray.to_raster`` turn it back, and so
does this module: ``pixel = (value - add_offset) / scale_factor``, rounded; NaN is the fill value.
Arithmetic of xarray drops ``encoding``: its results are stored as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ccog.errors import RasterError
from ccog.input.metadata import per_band, python_number, same_value

Array = npt.NDArray[Any]
Number = float | int

# kinds of dtypes that an encoding may ask for: text and times are not pixels
_PIXEL_KINDS = "iufc"

_WHOLE_COMPLEX = "complex_int16"

_FILL_VALUES = ("_FillValue", "missing_value")

#: What users do who want the values in the file as they hold them.
REMEDY = "arr.drop_encoding() writes the values as they are"


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What ``encoding`` says of the pixels: their type, nodata value, and one scale a band.

    ``fills`` says that NaN is stored as a number, be it this nodata value or a user's.
    """

    decoded: np.dtype[Any]
    dtype: np.dtype[Any]
    nodata: Number | None
    fills: bool
    scales: tuple[float, ...] | None
    offsets: tuple[float, ...] | None
    stored_type: str | None

    @property
    def changes_values(self) -> bool:
        """Whether values and pixels differ."""
        is_scaled = any(scale != 1 for scale in self.scales or ())
        is_moved = any(offset != 0 for offset in self.offsets or ())
        is_filled = self.fills and self.decoded.kind in "fc"
        return self.decoded != self.dtype or is_scaled or is_moved or is_filled

    def pixels(self, values: Array, nodata: Any, first_band: int) -> Array:
        """Pixels of decoded values (band, y, x), whose first band is ``first_band`` from 0.

        Masked values become ``nodata``, and so do missing ones where the encoding fills them or the
        type has no NaN.

        Raises
        ------
        ValueError
            A value is out of the range of the type, or not whole where nothing scales it to be, or
            missing where there is no nodata value.
        """
        is_masked = isinstance(values, np.ma.MaskedArray)
        if is_masked:
            floats = values.astype(np.result_type(values.dtype, np.float32))
            values = np.ma.filled(floats, np.nan)
        out = np.empty(values.shape, self.dtype)
        for n, band in enumerate(values):
            out[n] = self._band(band, nodata, first_band + n, fills=self.fills or is_masked)
        return out

    def _band(self, values: Array, nodata: Any, band: int, *, fills: bool) -> Array:
        packed = self._packed(values, band, has_fill=nodata is not None)
        missing = np.isnan(packed)
        if self.dtype.kind in "iu" and packed is values and values.dtype.kind == "f":
            # rounding would change values: they are no longer those that were decoded
            odd = values[(np.rint(values) != values) & ~missing]
            if odd.size:
                raise ValueError(
                    f"{odd[0]} is not a whole number, as {self.dtype} is: arithmetic in place "
                    "(arr *= 0.1) keeps the encoding; set arr.encoding['scale_factor'], or round: "
                    "arr.copy(data=arr.round().data)"
                )
        has_nan = self.dtype.kind not in "iu" and (nodata is None or not fills)
        if has_nan or not missing.any():
            return self._cast(packed)
        if nodata is None:
            raise ValueError(
                f"{self.dtype} has no NaN, and there is no fill value: "
                "give nodata=, set arr.encoding['_FillValue'], or write a mask: "
                f"arr.fillna(0).astype('{self.dtype}') with mask=arr.notnull().all('band')"
            )
        pixels = self._cast(np.where(missing, packed.dtype.type(0), packed))
        pixels[missing] = nodata
        return pixels

    def _packed(self, values: Array, band: int, *, has_fill: bool) -> Array:
        """The values without scale and offset, in the type that xarray computes them in."""
        scale = 1.0 if self.scales is None else self.scales[band]
        offset = 0.0 if self.offsets is None else self.offsets[band]
        if scale == 1 and offset == 0:
            return values
        is_wide = values.dtype.kind == "f" and values.dtype.itemsize >= 4
        keeps_type = values.dtype.kind == "c" or (is_wide and has_fill)
        packed: Array = values.astype(values.dtype if keeps_type else np.float64)
        packed -= offset
        packed /= scale
        return packed

    def _cast(self, packed: Array) -> Array:
        if self.dtype.kind in "iu":
            whole = np.rint(packed) if packed.dtype.kind == "f" else packed
            limits = np.iinfo(self.dtype)
            for extreme in (whole.min(), whole.max()) if whole.size else ():
                if not math.isfinite(extreme) or not limits.min <= int(extreme) <= limits.max:
                    raise _out_of_range(extreme, self.dtype)
            return whole.astype(self.dtype)
        try:
            with np.errstate(over="raise"):
                return packed.astype(self.dtype)
        except FloatingPointError:
            largest = np.nanmax(np.abs(packed[np.isfinite(packed)]))
            raise _out_of_range(largest, self.dtype) from None


def _out_of_range(pixel: Any, dtype: np.dtype[Any]) -> ValueError:
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    return ValueError(
        f"{pixel} is out of the range of {dtype}, {limits.min} to {limits.max}; "
        "clip the values, or set arr.encoding['dtype']"
    )


def encoding_of(arr: Any, count: int, *, nodata_given: bool = False) -> Encoding:
    """What the encoding of a DataArray of ``count`` bands says, read as rioxarray reads it.

    Its nodata value is not looked at where the user has ``nodata_given``.
    """
    encoding = {str(key): value for key, value in arr.encoding.items() if value is not None}
    _check_attributes(encoding, arr.attrs, () if nodata_given else _FILL_VALUES)
    if "missing_value" in encoding and arr.attrs.get("_FillValue") is not None:
        # rio.write_nodata leaves the one, and sets the other
        encoding.setdefault("_FillValue", arr.attrs["_FillValue"])
    dtype = _dtype(encoding, arr.dtype)
    # rioxarray keeps the type of the file, for which NumPy has none, beside the dtype
    is_whole_complex = encoding.get("rasterio_dtype") == _WHOLE_COMPLEX and dtype == np.complex64
    name = next((name for name in _FILL_VALUES if name in encoding), "")
    nodata = None if nodata_given or not name else _nodata(encoding, name, dtype)
    fills = not same_value(encoding.get(name, math.nan) if nodata is None else nodata, math.nan)
    return Encoding(
        decoded=arr.dtype,
        dtype=dtype,
        nodata=nodata,
        fills=fills,
        scales=_numbers(encoding, "scales", "scale_factor", count),
        offsets=_numbers(encoding, "offsets", "add_offset", count),
        stored_type=_WHOLE_COMPLEX if is_whole_complex else None,
    )


def _numbers(
    encoding: Mapping[str, Any], name_of_rasterio: str, name: str, count: int
) -> tuple[float, ...] | None:
    value = encoding.get(name_of_rasterio, encoding.get(name))
    numbers = per_band(f"encoding[{name!r}]", value, count, float)
    for number in numbers or ():
        if not math.isfinite(number) or (number == 0 and name == "scale_factor"):
            raise RasterError(f"encoding[{name!r}] is {number}; nothing can be stored so")
    return numbers


def _check_attributes(
    encoding: Mapping[str, Any], attrs: Mapping[Any, Any], fill_values: tuple[str, ...]
) -> None:
    """Refuse what xarray's writers refuse, too: which of the two holds cannot be told."""
    for name in (*fill_values, "scale_factor", "add_offset", "scales", "offsets"):
        if name not in encoding or attrs.get(name) is None:
            continue
        if not same_value(encoding[name], attrs[name]):
            raise RasterError(
                f"encoding[{name!r}] is {encoding[name]} and attrs[{name!r}] is {attrs[name]}; "
                f"delete one: del arr.attrs[{name!r}], or {REMEDY}"
            )


def _dtype(encoding: Mapping[str, Any], decoded: np.dtype[Any]) -> np.dtype[Any]:
    try:
        dtype = np.dtype(encoding.get("dtype", decoded))
    except TypeError:
        return decoded
    if dtype.kind not in _PIXEL_KINDS or decoded.kind not in (*_PIXEL_KINDS, "b"):
        return decoded
    if decoded.kind == "c" and dtype.kind != "c":
        raise RasterError(
            f"the values are {decoded} and encoding['dtype'] is {dtype}, "
            f"which has no imaginary part; {REMEDY}"
        )
    kind = {"true": "u", "false": "i"}.get(str(encoding.get("_Unsigned")).lower(), dtype.kind)
    # GeoTIFF has no _Unsigned: the type says it
    unsigned = np.dtype(f"{kind}{dtype.itemsize}") if dtype.kind in "iu" else dtype
    return decoded if unsigned == decoded else unsigned.newbyteorder("=")


def _nodata(encoding: Mapping[str, Any], name: str, dtype: np.dtype[Any]) -> Number | None:
    nodata = read_nodata(f"encoding[{name!r}]", encoding[name], REMEDY)
    if nodata is None or not math.isfinite(nodata):
        return nodata
    if "_Unsigned" in encoding and dtype.kind in "iu" and nodata == int(nodata):
        # xarray leaves the fill value as the file has it, of the other sign
        bits = int(nodata) % 2 ** (8 * dtype.itemsize)
        return int(np.array(bits, f"u{dtype.itemsize}").view(dtype))
    return rounded(nodata, dtype)


def read_nodata(where: str, value: Any, remedy: str) -> Number | None:
    """The nodata value that stands somewhere in an array."""
    try:
        return python_number(value)
    except (TypeError, ValueError, OverflowError):
        raise RasterError(
            f"{where} is {value!r}, not a number: set one, give nodata=, or {remedy}"
        ) from None


def rounded(nodata: Number, dtype: np.dtype[Any]) -> Number:
    """A nodata value as pixels of floats hold it."""
    if dtype.kind != "f":
        return nodata
    with np.errstate(over="ignore"):
        nearest = float(dtype.type(nodata))
    return nearest if math.isfinite(nearest) else nodata
