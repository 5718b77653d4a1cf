"""Random arrays of xarray, and what ``rioxarray.to_raster`` writes of them where that is right.

Pixels, nodata, names, tags, scales, offsets and units are compared. What rioxarray cannot write, or
writes wrongly, is put right before it is asked (``_as_rioxarray_takes_it``), with a row in
``docs/identical.md``; or ccog refuses it (``_refusal``), or warns of it (``_warning``).
"""

from __future__ import annotations

import datetime
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rasterio.io import MemoryFile

import ccog
from conftest import GEO, gdal_cog

HEIGHT, WIDTH = 6, 8
NAN = float("nan")

#: How many are drawn; ``CCOG_DRAWS=5000 CCOG_HYPOTHESIS=random`` draws others.
DRAWS = int(os.environ.get("CCOG_DRAWS", "300"))

# attributes with a place of their own in a file; rioxarray writes some of them as tags of bands
_NO_TAGS = {
    "_FillValue", "missing_value", "fill_value", "nodata", "scale_factor", "scales", "add_offset",
    "offsets", "AREA_OR_POINT", "grid_mapping", "crs", "transform", "nodatavals", "is_tiled", "res",
}  # fmt: skip

VALUES = st.sampled_from([
    "text", "ünï <&> \"'", "", 3, -2.5, True, None, [1, 2], ("a", 1), {"k": [1]}, b"bytes",
    np.float32(0.1), np.int8(-3), np.bool_(False), np.arange(3), np.array(["a", "b"]),
    np.datetime64("2020-01-02T03:04"), datetime.datetime(2020, 1, 2, 3), datetime.date(2020, 1, 2),
    np.timedelta64(3, "D"), 1 + 2j, "a\nb",
])  # fmt: skip
KEYS = st.sampled_from(["history", "source", "b c", "ünï", "self", "tags", "TIFFTAG_SOFTWARE"])
ODD_KEYS = st.sampled_from(["ns", "bidx", "eo:cloud", "a=b", "", 5, ("t", 1)])
LONG_NAMES = st.sampled_from(["height", "", None])
UNITS = st.sampled_from(["m", "µm", ""])
FILLS = ["_FillValue", "missing_value", "fill_value", "nodata"]
NUMBERS: dict[str, list[Any]] = {
    "u": [0, 7, np.uint8(255), 255.0, -1, NAN, 300000],
    "i": [-1, -9.0, np.int16(-9), "7", 0, NAN, 2**40],
    "f": [-9999, -9999.0, NAN, np.float32(NAN), 7, 0.1, "-1", 1e20],
    "b": [255, 0, -9999],
}
BAD = [[-1], np.array([3]), True, "none", (1,), 1j]


@dataclass
class Drawn:
    """An array as ccog gets it: its dimensions may be named and ordered in other ways."""

    arr: Any
    dims: dict[str, str]
    order: tuple[int, ...]

    @property
    def given(self) -> Any:
        """What ccog writes."""
        renamed = self.arr.rename(self.dims)
        if isinstance(renamed, xr.Dataset):
            return renamed
        return renamed.transpose(*(renamed.dims[n] for n in self.order))


@st.composite
def attributes(draw: st.DrawFn, kind: str, count: int) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key in draw(st.lists(KEYS, max_size=2, unique=True)):
        found[key] = draw(VALUES)
    if draw(st.integers(0, 7)) == 0:
        found[draw(ODD_KEYS)] = "odd"
    if draw(st.booleans()):
        names = st.lists(LONG_NAMES, min_size=count, max_size=count)
        found["long_name"] = draw(st.one_of(LONG_NAMES, names, names.map(tuple)))
    if draw(st.booleans()):
        units = st.lists(UNITS, min_size=count, max_size=count)
        found["units"] = draw(st.one_of(UNITS, units.map(tuple)))
    if draw(st.integers(0, 3)) == 0:
        found["AREA_OR_POINT"] = draw(st.sampled_from(["Area", "Point"]))
    if draw(st.integers(0, 3)) == 0:
        found |= draw(
            st.sampled_from(
                [
                    {"scale_factor": 0.5},
                    {"add_offset": np.float32(-3)},
                    {"scales": (0.1,) * count, "offsets": [2.0] * count},
                    {"scale_factor": 1.0, "add_offset": 0.0},
                ]
            )
        )
    if draw(st.integers(0, 2)) == 0:
        values = NUMBERS[kind] + (BAD if draw(st.integers(0, 3)) == 0 else [])
        found[draw(st.sampled_from(FILLS))] = draw(st.sampled_from(values))
    return found


@st.composite
def encodings(draw: st.DrawFn) -> dict[str, Any]:
    dtype = draw(st.sampled_from(["uint8", "int16", "int32", "float32", "float64"]))
    found: dict[str, Any] = {"dtype": dtype}
    if draw(st.booleans()):
        values = NUMBERS[np.dtype(dtype).kind]
        name = draw(st.sampled_from(["_FillValue", "_FillValue", "missing_value"]))
        found[name] = draw(st.sampled_from(values))
    if draw(st.integers(0, 2)) == 0:
        found |= draw(
            st.sampled_from([{"scale_factor": 0.5}, {"scale_factor": 2.0, "add_offset": 1.0}])
        )
    return found


def _placed(arr: xr.DataArray) -> xr.DataArray:
    return arr.rio.write_crs(GEO["crs"]).rio.write_transform(GEO["transform"])


@st.composite
def single(draw: st.DrawFn, count: int, flat: bool, dtype: str) -> xr.DataArray:
    shape = (HEIGHT, WIDTH) if flat else (count, HEIGHT, WIDTH)
    kind = "b" if dtype == "bool" else np.dtype(dtype).kind
    pixels = np.arange(np.prod(shape)).reshape(shape) % 100
    values = (pixels % 2 > 0) if kind == "b" else pixels.astype(dtype)
    if kind == "f":
        values = draw(st.sampled_from([values, values / 2, values * 1e-4]))
        if draw(st.booleans()):
            values[..., 1:3, 2:5] = NAN
    arr = xr.DataArray(values, dims=("band", "y", "x")[-len(shape) :])
    arr = _placed(arr).assign_attrs(draw(attributes(kind, count)))
    arr.name = draw(st.sampled_from([None, None, "dem", ("a", 1)]))
    if kind == "f" and draw(st.booleans()):
        arr.encoding = draw(encodings())
    if not flat and draw(st.integers(0, 3)) == 0:
        names = [f"B{n}" for n in range(count)] if draw(st.booleans()) else range(1, count + 1)
        arr = arr.assign_coords(band=list(names))
    if kind != "b" and draw(st.integers(0, 5)) == 0:
        arr.rio.write_nodata(7, inplace=True, encoded=draw(st.booleans()) and kind == "f")
    return arr


@st.composite
def variables(draw: st.DrawFn, name: str, dtype: str) -> xr.DataArray:
    """A band of a Dataset, which has one name."""
    variable = draw(single(1, True, dtype)).rename(name)
    if isinstance(variable.attrs.get("long_name"), list | tuple):
        variable.attrs["long_name"] = variable.attrs["long_name"][0]
    return variable


@st.composite
def opened(draw: st.DrawFn, folder: Path) -> Any:
    """A file as rioxarray opens it."""
    dtype = draw(st.sampled_from(["uint8", "int16", "float32"]))
    count = draw(st.integers(1, 3))
    pixels = np.arange(count * HEIGHT * WIDTH).reshape(count, HEIGHT, WIDTH).astype(dtype)
    describe: dict[str, Any] = {}
    if draw(st.booleans()):
        describe |= {"scales": (0.5,) * count, "offsets": (1.0,) * count}
    if draw(st.booleans()):
        names = st.lists(st.sampled_from(["red", None, "b"]), min_size=count, max_size=count)
        describe["descriptions"] = draw(names)
    if draw(st.booleans()):
        describe["units"] = draw(st.lists(UNITS, min_size=count, max_size=count))
    if draw(st.booleans()):
        describe["update_tags"] = {0: {"a": "1", "AREA_OR_POINT": "Point"}, 1: {"of": "band"}}
    nodata = draw(st.sampled_from([None, 5, 0]))
    (folder / "a.tif").write_bytes(gdal_cog(pixels, None, None, describe, nodata=nodata))
    how = draw(st.sampled_from([{}, {"masked": True}, {"mask_and_scale": True}]))
    as_variables = draw(st.booleans())
    lazy = {"chunks": {}} if draw(st.booleans()) else {}
    return rioxarray.open_rasterio(
        folder / "a.tif", band_as_variable=as_variables, cache=False, **how, **lazy
    )


@st.composite
def arrays(draw: st.DrawFn, folder: Path) -> Drawn:
    source = draw(st.sampled_from(["array", "array", "dataset", "file"]))
    if source == "file":
        return Drawn(draw(opened(folder)), {}, (0, 1, 2))
    dtype = draw(
        st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64", "bool"])
    )
    if source == "dataset":
        names = draw(st.sampled_from([["a"], ["a", "b"], ["red", "nir", "3"]]))
        dataset = xr.Dataset({name: draw(variables(name, dtype)) for name in names})
        if draw(st.booleans()):
            dataset = dataset.assign_attrs({"title": draw(VALUES), draw(ODD_KEYS): 1})
        arr: Any = dataset
    else:
        count = draw(st.integers(1, 3))
        arr = draw(single(count, count == 1 and draw(st.booleans()), dtype))
    arr = arr.chunk({"y": 4}) if draw(st.integers(0, 2)) == 0 else arr
    dims = draw(
        st.sampled_from([{}, {}, {"y": "latitude", "x": "longitude"}, {"y": "lat", "x": "lon"}])
    )
    ndim = 2 if source == "dataset" else arr.ndim
    if ndim == 3 and "band" not in arr.coords:
        dims = dims | draw(st.sampled_from([{}, {"band": "wavelength"}]))
    return Drawn(arr, dims, tuple(draw(st.permutations(range(ndim)))))


# ---- what is compared ----


def facts(dataset: Any) -> dict[str, Any]:
    """What a file says, without what every file says."""
    count = dataset.count
    tags = [dataset.tags(n) for n in range(count + 1)]
    for of_band in tags[1:]:
        of_band.pop("AREA_OR_POINT", None)
    return {
        "pixels": dataset.read(),
        "dtype": dataset.dtypes[0],
        "nodata": dataset.nodata,
        "tags": tags,
        "descriptions": [name or None for name in dataset.descriptions],
        "scales": list(dataset.scales),
        "offsets": list(dataset.offsets),
        "units": [unit or None for unit in dataset.units],
    }


def by_rioxarray(arr: Any, path: Path) -> dict[str, Any]:
    arr.copy().rio.to_raster(path, driver="COG")
    with rasterio.open(path) as dataset:
        return facts(dataset)


def by_ccog(arr: Any) -> tuple[dict[str, Any] | ccog.CCOGError, list[str]]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            data = ccog.write_ccog(arr).compute(scheduler="sync")
        except ccog.CCOGError as error:
            return error, []
    told = [str(w.message) for w in seen if issubclass(w.category, ccog.CCOGWarning)]
    with MemoryFile(data) as memory, memory.open() as dataset:
        return facts(dataset), told


def different(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return [
        f"{name}: {ours[name]}, rioxarray {theirs[name]}"
        for name in theirs
        if not _same(ours[name], theirs[name])
    ]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(
            one, other, equal_nan=one.dtype.kind == "f"
        )
    return bool(one == other) or (isinstance(one, float) and one != one and other != other)


# ---- where rioxarray is not right ----


def expected(arr: Any, path: Path) -> dict[str, Any]:
    """What the file should say: rioxarray's, but for what ``docs/identical.md`` names."""
    if isinstance(arr, xr.Dataset):
        return _expected_of_dataset(arr, path)
    found = by_rioxarray(_as_rioxarray_takes_it(arr), path)
    if _fill(arr) is not None and "_FillValue" not in (*arr.encoding, *arr.attrs):
        found["nodata"] = _nodata(arr)  # which rioxarray fills with, but does not write
    if _fill(arr) is not None and (found["dtype"], arr.dtype) == ("float64", np.float32):
        found["nodata"] = float(_fill(arr))  # which rioxarray rounds in the header alone
    units = arr.attrs.get("units")
    found["units"] = [unit or None for unit in _each(units, _count(arr))]
    if _text_of_bands(arr) is not None and not isinstance(arr.attrs.get("long_name"), list | tuple):
        found["descriptions"] = _text_of_bands(arr)
    return found


def _expected_of_dataset(dataset: xr.Dataset, path: Path) -> dict[str, Any]:
    """Names and tags as rioxarray writes those of Datasets; pixels as those of each variable.

    Of a Dataset it forgets how its variables are encoded.
    """
    each = [expected(variable, path) for variable in dataset.data_vars.values()]
    variables = {name: _without_values(v) for name, v in dataset.data_vars.items()}
    bare = xr.Dataset(variables, attrs=dataset.attrs)
    found = by_rioxarray(_as_rioxarray_takes_it(bare), path)
    assert len({repr(of_band["nodata"]) for of_band in each}) == 1
    points = [dataset.attrs, *(v.attrs for v in dataset.data_vars.values())]
    is_point = any(attrs.get("AREA_OR_POINT") == "Point" for attrs in points)
    found["tags"][0]["AREA_OR_POINT"] = "Point" if is_point else "Area"
    for n, of_band in enumerate(found["tags"][1:], 1):
        found["tags"][n] = {key: text for key, text in of_band.items() if key not in _NO_TAGS}
    one_each = {
        name: [v for of in each for v in of[name]] for name in ("scales", "offsets", "units")
    }
    pixels = np.concatenate([of_band["pixels"] for of_band in each])
    return (
        found
        | one_each
        | {"pixels": pixels, "dtype": each[0]["dtype"], "nodata": each[0]["nodata"]}
    )


def _without_values(arr: xr.DataArray) -> xr.DataArray:
    """Its names and attributes, of which rioxarray takes none for a nodata value or a scale."""
    bare = (arr.fillna(0) if arr.dtype.kind == "f" else arr).astype("uint8").drop_encoding()
    bare.attrs = {key: value for key, value in arr.attrs.items() if key not in _NO_TAGS}
    if not bare.attrs.get("long_name"):
        bare.attrs.pop("long_name", None)  # for rioxarray an empty name is a name
    return bare


def _as_rioxarray_takes_it(arr: Any) -> Any:
    """The array without what rioxarray fails on, and with a nodata value as its type has it."""
    if isinstance(arr, xr.Dataset):
        variables = {name: _as_rioxarray_takes_it(v) for name, v in arr.data_vars.items()}
        taken = xr.Dataset(variables, attrs=_tags_taken(arr.attrs))
    else:
        taken = arr.astype("uint8", keep_attrs=True) if arr.dtype == bool else arr.copy()
        taken.encoding = _encoding_taken(arr)
        taken.attrs = _tags_taken(arr.attrs)
        for name in taken.encoding:
            # xarray refuses to write what both have, and rioxarray lists of scales beside it
            taken.attrs.pop(name, None)
            taken.attrs.pop({"scale_factor": "scales", "add_offset": "offsets"}.get(name), None)
        if not isinstance(arr.name, str):
            taken.name = None
        long_name = arr.attrs.get("long_name")
        if isinstance(long_name, list | tuple) and len(long_name) == 1 and arr.ndim == 2:
            taken.attrs["long_name"] = list(long_name)
        there = [name for name in FILLS if taken.attrs.get(name) is not None]
        # the first holds, and none where the encoding has one
        for name in there if _fill(arr) is not None else there[1:]:
            del taken.attrs[name]
        there = [name for name in there if name in taken.attrs]
        if there and isinstance(taken.attrs[there[0]], str):
            taken.attrs[there[0]] = float(taken.attrs[there[0]])
    return taken


def _encoding_taken(arr: xr.DataArray) -> dict[str, Any]:
    encoding = dict(arr.encoding)
    has_fill = any(name in encoding for name in ("_FillValue", "missing_value"))
    if has_fill and _fill(arr) is not None:
        encoding["_FillValue"] = _fill(arr)
        encoding.pop("missing_value", None)
    packed = np.dtype(encoding.get("dtype", arr.dtype)).kind in "iu" and arr.dtype.kind == "f"
    if packed and not has_fill and _said(arr) is not None:
        encoding["_FillValue"] = _said(arr)  # rioxarray makes zeros of NaN
    for name in ("_FillValue", "missing_value"):
        if isinstance(encoding.get(name), str):
            encoding[name] = float(encoding[name])
        if (
            encoding.get(name) is not None
            and np.dtype(encoding.get("dtype", arr.dtype)).kind == "f"
        ):
            encoding[name] = float(np.dtype(encoding.get("dtype", arr.dtype)).type(encoding[name]))
    return encoding


def _tags_taken(attrs: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in attrs.items() if not _is_odd(key)}


def _is_odd(key: Any) -> bool:
    text = str(key)
    return not text or text in ("ns", "bidx") or ":" in text or "=" in text


def _count(arr: xr.DataArray) -> int:
    return 1 if arr.ndim == 2 else int(arr.shape[0])


def _each(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * count


def _text_of_bands(arr: xr.DataArray) -> list[str] | None:
    if "band" not in arr.dims or "band" not in arr.coords or arr.band.dtype.kind not in "UO":
        return None
    return [str(name) for name in arr.band.values]


# ---- what is refused, and warned of ----


def _variables(arr: Any) -> list[xr.DataArray]:
    return list(arr.data_vars.values()) if isinstance(arr, xr.Dataset) else [arr]


def _refusal(arr: Any) -> bool:
    """Whether ccog has to refuse it, whatever rioxarray makes of it."""
    variables = _variables(arr)
    if any(map(_is_lossy, variables)) or any(map(_has_bad_nodata, variables)):
        return True
    if any(map(_contradicts_itself, variables)):
        return True
    types = {str(np.dtype(v.encoding.get("dtype", v.dtype))) for v in variables}
    nodata = [_nodata(v) for v in variables]
    agree = all(_same_number(value, nodata[0]) for value in nodata)
    return len(types) > 1 or not agree


def _contradicts_itself(arr: xr.DataArray) -> bool:
    names = ("_FillValue", "missing_value", "scale_factor", "add_offset")
    both = [n for n in names if n in arr.encoding and arr.attrs.get(n) is not None]
    return any(
        not _same_number(_number(arr.encoding[n]), _number(arr.attrs[n]))
        or type(arr.attrs[n]) is str
        or type(arr.encoding[n]) is str
        for n in both
    )


def _is_lossy(arr: xr.DataArray) -> bool:
    """Whether its encoding would change its values."""
    dtype, values = np.dtype(arr.encoding.get("dtype", arr.dtype)), arr.values
    if values.dtype.kind != "f":
        return False
    fill = _said(arr) if _fill(arr) is None else _fill(arr)
    scale, offset = arr.encoding.get("scale_factor", 1), arr.encoding.get("add_offset", 0)
    numbers = (values[~np.isnan(values)] - offset) / scale
    if dtype.kind == "f":
        return False
    is_whole = scale != 1 or offset != 0 or bool((np.rint(numbers) == numbers).all())
    limits = np.iinfo(dtype)
    fits = bool(((np.rint(numbers) >= limits.min) & (np.rint(numbers) <= limits.max)).all())
    return not is_whole or not fits or (fill is None and bool(np.isnan(values).any()))


def _fill(arr: xr.DataArray) -> Any:
    """What NaN is stored as, as the encoding has it; an attribute wins over missing_value."""
    if arr.encoding.get("_FillValue") is not None or "missing_value" not in arr.encoding:
        return arr.encoding.get("_FillValue")
    said = arr.attrs.get("_FillValue")
    return arr.encoding["missing_value"] if said is None else said


def _said(arr: xr.DataArray) -> Any:
    return next((arr.attrs[n] for n in FILLS if arr.attrs.get(n) is not None), None)


def _number(value: Any) -> float | None:
    try:
        if isinstance(value, bool | list | tuple) or np.ndim(value):
            return None
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _nodata(arr: xr.DataArray) -> float | None:
    value = _said(arr) if _fill(arr) is None else _fill(arr)
    dtype = np.dtype(arr.dtype if _fill(arr) is None else arr.encoding.get("dtype", arr.dtype))
    number = _number(value)
    return number if number is None or dtype.kind != "f" else float(dtype.type(number))


def _has_bad_nodata(arr: xr.DataArray) -> bool:
    value = _said(arr) if _fill(arr) is None else _fill(arr)
    if value is None:
        return False
    number = _number(value)
    stored = np.dtype(arr.encoding.get("dtype", arr.dtype))
    # that of attributes is one of the values, and of the pixels
    types = [stored, arr.dtype] if _fill(arr) is None else [stored]
    return number is None or any(not _holds(dtype, number) for dtype in types)


def _holds(dtype: Any, number: float) -> bool:
    dtype = np.dtype("uint8") if dtype.kind == "b" else dtype
    if dtype.kind == "f":
        return True
    whole = number == number and number == int(number)
    return whole and np.iinfo(dtype).min <= number <= np.iinfo(dtype).max


def _same_number(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and one != one and other != other)


def _warning(arr: Any, file: dict[str, Any]) -> list[str]:
    """What is warned of, in words of the warning."""
    words = []
    names = [key for of_one in (arr, *_variables(arr)) for key in of_one.attrs]
    words += ["are left out"] if any(map(_is_odd, names)) else []
    nodata, pixels = file["nodata"], file["pixels"]
    if (
        pixels.dtype.kind == "f"
        and nodata is not None
        and nodata == nodata
        and np.isnan(pixels).any()
    ):
        words.append(f"{int(np.isnan(pixels).sum())} pixels are NaN")
    return words


@pytest.mark.tried(
    "random arrays of xarray: nodata, encoding, attributes, names and dimensions in all places",
    "as `rioxarray.to_raster` writes them, refused, warned of, or a row of identical.md",
)
@settings(max_examples=DRAWS, phases=[Phase.explicit, Phase.generate])
@given(data=st.data())
def test_arrays_say_in_the_file_what_they_said_to_xarray(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "oracle"
    folder.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = data.draw(arrays(folder))
        ours, told = by_ccog(drawn.given)
        if _refusal(drawn.arr):
            assert isinstance(ours, ccog.CCOGError), ours
            return
        if isinstance(ours, ccog.CCOGError):
            raise ours
        theirs = expected(drawn.arr, folder / "theirs.tif")
    assert not different(ours, theirs)
    wanted = _warning(drawn.arr, theirs)
    assert len(told) == len(wanted), told
    assert all(any(words in text for text in told) for words in wanted)
