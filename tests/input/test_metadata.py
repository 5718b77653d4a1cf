"""What xarray users store with their arrays reaches the file as GDAL would write it."""

from __future__ import annotations

import base64
import datetime
import re
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import odc.geo.xr
import pytest
import rasterio
import rioxarray
import xarray as xr
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile

import ccog
from ccog import errors
from ccog.geometry.tiling_scheme import SCHEMES
from ccog.tiff.directories import parse
from conftest import GEO, gdal_cog, terrain

PIXELS = terrain((2, 300, 260), "int16")


def georeferenced(pixels: np.ndarray = PIXELS, **attrs: Any) -> xr.DataArray:
    dims = ("band", "y", "x")[-pixels.ndim :]
    array = xr.DataArray(pixels, dims=dims, attrs=attrs)
    return array.rio.write_crs(GEO["crs"]).rio.write_transform(GEO["transform"])


def written(array: Any, **options: Any) -> bytes:
    return bytes(ccog.write_ccog(array, COG_creation_options=options).compute())


@pytest.mark.parametrize(
    ("attrs", "describe"),
    [
        (
            {"long_name": "height"},
            {"descriptions": ["height", "height"], "update_tags": {0: {"long_name": "height"}}},
        ),
        ({"long_name": ("red", "green")}, {"descriptions": ["red", "green"]}),
        ({"long_name": ("red", None)}, {"descriptions": ["red", ""]}),
        ({"units": "m"}, {"units": ["m", "m"], "update_tags": {0: {"units": "m"}}}),
        (
            {"scale_factor": 0.1, "add_offset": np.float64(5)},
            {"scales": [0.1, 0.1], "offsets": [5.0, 5.0]},
        ),
        (
            {"scales": (0.5, 2.0), "offsets": [1.0, 2.0]},
            {"scales": [0.5, 2.0], "offsets": [1.0, 2.0]},
        ),
        ({"AREA_OR_POINT": "Area"}, {}),
        ({"AREA_OR_POINT": "Point"}, {"update_tags": {0: {"AREA_OR_POINT": "Point"}}}),
        (
            {"source": "a & b", "level": 3, "history": [1, 2]},
            {"update_tags": {0: {"source": "a & b", "level": "3", "history": "[1, 2]"}}},
        ),
    ],
    ids=str,
)
def test_attributes_of_xarray_become_metadata(
    attrs: dict[str, Any], describe: dict[str, Any]
) -> None:
    assert written(georeferenced(**attrs)) == gdal_cog(PIXELS, describe=describe)


def test_fill_value_is_nodata() -> None:
    assert written(georeferenced(_FillValue=np.int16(-1))) == gdal_cog(PIXELS, nodata=-1)
    assert written(georeferenced().rio.write_nodata(-1)) == gdal_cog(PIXELS, nodata=-1)
    # the name that odc-geo and odc-stac use
    assert written(georeferenced(nodata=-1)) == gdal_cog(PIXELS, nodata=-1)


def test_text_of_the_band_coordinate_becomes_descriptions() -> None:
    array = georeferenced(long_name="reflectance").assign_coords(band=["B02", "B03"])
    tags = {"descriptions": ["B02", "B03"], "update_tags": {0: {"long_name": "reflectance"}}}
    assert written(array) == gdal_cog(PIXELS, describe=tags)
    numbered = georeferenced().assign_coords(band=[1, 2])
    assert written(numbered) == gdal_cog(PIXELS)


def test_the_name_of_an_array_is_its_description() -> None:
    named = {"descriptions": ["dem", "dem"]}
    assert written(georeferenced().rename("dem")) == gdal_cog(PIXELS, describe=named)
    lazy = da.from_array(PIXELS, chunks=(2, 100, 100))
    array = xr.DataArray(lazy, dims=("band", "y", "x")).rio.write_crs(GEO["crs"])
    assert array.name == lazy.name  # xarray takes it from dask
    assert written(array, transform=GEO["transform"], blocksize=128) == gdal_cog(
        PIXELS, {"blocksize": 128}
    )


def test_dataset_variables_are_bands() -> None:
    dataset = xr.Dataset(
        {"dem": georeferenced(PIXELS[0], units="m"), "slope": georeferenced(PIXELS[1], method="x")}
    )
    dataset.attrs["title"] = "both"
    describe = {
        "descriptions": ["dem", "slope"],
        "units": ["m", ""],
        "update_tags": {0: {"title": "both"}, 1: {"units": "m"}, 2: {"method": "x"}},
    }
    assert written(dataset.chunk({"x": 100})) == gdal_cog(PIXELS, describe=describe)


def test_a_dataset_of_two_nodata_values_is_refused() -> None:
    dataset = xr.Dataset(
        {k: georeferenced(PIXELS[0]).rio.write_nodata(int(k == "a")) for k in "ab"}
    )
    with pytest.raises(errors.RasterError, match="nodata values"):
        ccog.write_ccog(dataset)


def test_an_attribute_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(errors.RasterError, match="3 entries for 2 bands"):
        ccog.write_ccog(georeferenced(long_name=["a", "b", "c"]))


def test_ground_control_points_of_rioxarray_are_written() -> None:
    points = [
        GroundControlPoint(r, c, 10 + c / 900, 50 - r / 900)
        for r, c in ((0, 0), (0, 260), (300, 0))
    ]
    array = xr.DataArray(PIXELS, dims=("band", "y", "x")).rio.write_gcps(points, "EPSG:4326")
    with MemoryFile(written(array)) as memory, memory.open() as dataset:
        found, crs = dataset.gcps
        assert crs.to_epsg() == 4326
        assert [(p.row, p.col, p.x, p.y) for p in found] == [
            (p.row, p.col, p.x, p.y) for p in points
        ]


def test_a_raster_on_the_grid_of_a_tiling_scheme() -> None:
    pixel, half = 156543.03392804097 / 1024, 20037508.342789244
    transform = rasterio.Affine(
        pixel, 0, 17 * 256 * pixel - half, 0, -pixel, half - 16 * 256 * pixel
    )
    pixels, options = terrain((1, 512, 768), "uint8"), {"tiling_scheme": "GoogleMapsCompatible"}
    place = {"crs": "EPSG:3857", "transform": transform}
    assert written(pixels, **options, **place) == gdal_cog(pixels, options, **place)
    shifted = place | {"transform": transform * rasterio.Affine.translation(1, 0)}
    with pytest.raises(errors.ReprojectionError, match="512 x 1024 pixels"):
        ccog.write_ccog(pixels, COG_creation_options=options | shifted)


# far from the edges of each scheme: the tile at this part of its width and height
_SCHEME_TILES = {"NZTM2000": (0.55, 0.5)}


@pytest.mark.parametrize("zoom", [7, 8])
@pytest.mark.parametrize("name", SCHEMES)
def test_a_raster_on_the_grid_of_any_tiling_scheme(name: str, zoom: int) -> None:
    scheme = SCHEMES[name]
    for more in (
        {},
        {"overview_resampling": "average", "overview_count": 2},
        {"overview_resampling": "nearest", "aligned_levels": 2},
        {"overview_resampling": "mode", "blocksize": 512},
    ):
        if name == "MapML_CBMTILE" and "aligned_levels" in more:
            continue  # GDAL refuses it: the ratios of its levels are no simple fractions
        side, step = more.get("blocksize", 256), scheme.step(zoom, more.get("aligned_levels"))
        span, pixel = scheme.pixels[zoom] * 256, scheme.pixels[zoom] * 256 / side
        across, down = _SCHEME_TILES.get(name, (0.6, 0.3))
        column = int(scheme.width * across / span) // step * step
        row = int(scheme.height * down / span) // step * step
        origin = scheme.left + column * span, scheme.top - row * span
        transform = rasterio.Affine(pixel, 0, origin[0], 0, -pixel, origin[1])
        pixels = terrain((1, 2 * step * side, 3 * step * side), "uint8")
        options = {"tiling_scheme": name, **more}
        place = {"crs": scheme.crs, "transform": transform, "nodata": 0}
        assert written(pixels, **options, **place) == gdal_cog(pixels, options, **place), more
        shifted = place | {"transform": transform @ rasterio.Affine.translation(1, 0)}
        with pytest.raises(errors.ReprojectionError, match=f"grid of TILING_SCHEME={name}"):
            ccog.write_ccog(pixels, COG_creation_options=options | shifted)


def test_a_raster_beyond_the_tiles_of_a_scheme_is_refused() -> None:
    scheme = SCHEMES["NZTM2000"]
    pixel = scheme.pixels[8]
    transform = rasterio.Affine(pixel, 0, scheme.left - 256 * pixel, 0, -pixel, scheme.top)
    with pytest.raises(errors.ReprojectionError, match="reproject the array"):
        ccog.write_ccog(
            terrain((1, 256, 512), "uint8"),
            crs="EPSG:2193",
            transform=transform,
            tiling_scheme="NZTM2000",
        )


def recommended(arr: xr.DataArray, options: dict[str, Any]) -> xr.DataArray:
    """What the call gives that an error prints."""
    with pytest.raises(errors.ReprojectionError, match="xr_reproject") as caught:
        ccog.write_ccog(arr, COG_creation_options=options)
    found = re.search(r"arr = (odc.*resampling=\"cubic\"\))", str(caught.value))
    return eval(found[1], {"odc": odc, "arr": arr})


@pytest.mark.parametrize("epsg", [3857, 32755, 4326])
@pytest.mark.parametrize("more", [{}, {"zoom_level": 14}, {"aligned_levels": 2}], ids=str)
def test_the_error_prints_the_call_that_brings_an_array_to_the_grid(
    epsg: int, more: dict[str, int]
) -> None:
    pixel = 1e-4 if epsg == 4326 else 10
    left, upper = (147, -30) if epsg == 4326 else (5e5, 6e6)
    transform = rasterio.Affine(pixel, 0, left, 0, -pixel, upper)
    arr = xr.DataArray(da.from_array(PIXELS[0], chunks=128), dims=("y", "x"))
    arr = arr.rio.write_crs(epsg).rio.write_transform(transform)
    options = {"tiling_scheme": "GoogleMapsCompatible", **more}
    with MemoryFile(written(recommended(arr, options), **options)) as memory:
        ours = memory.open().profile
    place = {"crs": f"EPSG:{epsg}", "transform": transform}
    with MemoryFile(gdal_cog(PIXELS[:1], options, **place)) as memory:
        gdals = memory.open().profile
    for key in ("width", "height", "crs"):
        assert ours[key] == gdals[key]
    assert ours["transform"].almost_equals(gdals["transform"], 1e-6)


@pytest.mark.parametrize(
    "options",
    [{"target_srs": "EPSG:4326"}, {"res": 25}, {"target_srs": "EPSG:3857", "res": 25},
     {"extent": "500000,5999000,501000,6000000"},
     {"target_srs": "EPSG:3857", "extent": "16364000,-4321000,16366000,-4319000", "res": 20}],
    ids=str,
)  # fmt: skip
def test_the_error_prints_the_call_for_options_that_reproject(options: dict[str, Any]) -> None:
    arr = xr.DataArray(da.from_array(PIXELS[0], chunks=128), dims=("y", "x"))
    arr = arr.rio.write_crs(32755).rio.write_transform(GEO["transform"])
    moved = recommended(arr, options)
    assert moved.rio.crs.to_string() == options.get("target_srs", "EPSG:32755")
    assert abs(moved.rio.resolution()[0]) == options.get("res", abs(moved.rio.resolution()[0]))
    if "extent" in options:
        assert moved.rio.bounds() == tuple(map(float, options["extent"].split(",")))


def test_complex_integers_are_stored_as_such() -> None:
    pixels = (terrain((1, 300, 300), "complex64") * 500).round().astype("complex64")
    data = written(
        pixels, dtype="complex_int16", overview_resampling="average", blocksize=128, **GEO
    )
    with MemoryFile(data) as memory, memory.open() as dataset:
        assert dataset.dtypes == ("complex_int16",)
        assert np.array_equal(dataset.read(), pixels)
    with pytest.raises(errors.DtypeError, match="complex64"):
        ccog.write_ccog(PIXELS, COG_creation_options={"dtype": "complex_int16"})


# What users of arrays give as options, in rasterio's manner

XMP = (
    '<?xpacket begin="x" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<a b="c = d">\u00e9 &amp; =</a></x:xmpmeta>\n<?xpacket end="w"?>'
)
ICC = base64.b64encode(b"\0" * 128 + b"acsp").decode()
RGBA = ["red", "green", "blue", "alpha"]


def tags_of(data: bytes, band: int = 0, domain: str | None = None) -> dict[str, str]:
    with MemoryFile(data) as memory, memory.open() as dataset:
        return dict(dataset.tags(band, ns=domain))


def test_xmp_comes_out_as_it_went_in() -> None:
    pixels = terrain((1, 300, 260))
    data = written(pixels, update_tags={(0, "xml:XMP"): {"xml:XMP": XMP}}, **GEO)
    assert tags_of(data, domain="xml:XMP") == {"xml:XMP": XMP}
    # rasterio can be made to write the same
    before, _, after = XMP.partition("=")
    describe = {"update_tags": {(0, "xml:XMP"): {before: after}}}
    assert data == gdal_cog(pixels, describe=describe)
    # what one file says is what the next is given
    again = written(pixels, update_tags={(0, "xml:XMP"): tags_of(data, domain="xml:XMP")}, **GEO)
    assert again == data
    with pytest.raises(errors.OptionError, match="which is not XML"):
        ccog.plan(pixels, COG_creation_options={"update_tags": {(0, "xml:XMP"): {"xml:XMP": "?"}}})


@pytest.mark.parametrize(
    "describe",
    [
        {"update_tags": {(0, "COLOR_PROFILE"): {"SOURCE_ICC_PROFILE": ICC}}},
        {"update_tags": {(4, "IMAGE_STRUCTURE"): {"ALPHA": "PREMULTIPLIED"}}},
        {"update_tags": {1: {"STATISTICS_MINIMUM": "1", "STATISTICS_MAXIMUM": "5"}}},
        {"update_tags": {0: {"TIFFTAG_SOFTWARE": "s", "TIFFTAG_DATETIME": "2024:01:01 00:00:00"}}},
        {"update_tags": {(0, "RPC"): {"A": "b"}, (0, "IMAGERY"): {"CLOUDCOVER": "3"}}},
    ],
    ids=["icc", "premultiplied", "statistics", "tiff tags", "domains"],
)
def test_metadata_of_rasterio_is_an_option(describe: dict[str, Any]) -> None:
    pixels = terrain((4, 300, 260), "uint8")
    expected = gdal_cog(
        pixels, describe=describe | {"colorinterp": [ColorInterp[name] for name in RGBA]}
    )
    assert written(pixels, colorinterp=RGBA, **describe, **GEO) == expected


@pytest.mark.tried("nodata of 64-bit integers", "kept, as CreateCopy keeps it")
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("int64", -9999),
        ("int64", 0),
        ("int64", -(2**63)),
        ("uint64", 0),
        ("uint64", 99999),
        ("uint64", 2**53),
    ],
)
def test_nodata_of_64_bit_integers_is_kept(dtype: str, nodata: int) -> None:
    pixels = terrain((2, 301, 260), dtype)
    pixels[:, 100:180, 20:110] = nodata
    pixels[:, ::7, ::3] = nodata
    for method in ("AVERAGE", "CUBIC", "NEAREST"):
        options = {"blocksize": 128, "compress": "deflate", "overview_resampling": method}
        data = written(da.from_array(pixels, chunks=(1, 128, 256)), **options, nodata=nodata, **GEO)
        assert data == gdal_cog(pixels, options, nodata=nodata)
    array = georeferenced(pixels).rio.write_nodata(nodata)
    assert written(array, **options) == data


@pytest.mark.parametrize("given", [int, str, np.uint64])
@pytest.mark.parametrize("nodata", [2**53 + 1, 2**64 - 1])
def test_nodata_that_no_float_holds_is_exact(tmp_path: Path, nodata: int, given: Any) -> None:
    """GDAL fills the overviews with the nearest float, or 0: pixels that are not nodata."""
    pixels = terrain((1, 300, 260), "uint64")
    pixels[:, :129, :129] = nodata
    options = {"blocksize": 128, "overview_resampling": "average"}
    data = written(pixels, nodata=given(nodata), **options, **GEO)
    theirs = parse(gdal_cog(pixels, options, nodata=nodata)).directories[0]
    ours = parse(data).directories[0]
    assert ours.tags[42113].raw == theirs.tags[42113].raw == f"{nodata}\0".encode()
    (tmp_path / "a.tif").write_bytes(data)
    assert "100.00% are what average gives" in str(ccog.validate(tmp_path / "a.tif"))
    with MemoryFile(data) as memory, memory.open(overview_level=0) as overview:
        assert (overview.read()[:, :64, :64] == nodata).all()
        assert (overview.read()[:, :64, 70:] != nodata).all()


@pytest.mark.tried(
    "attributes of every type: lists, NumPy scalars, dates, dictionaries, None",
    "text, as rasterio makes it of them",
)
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, 2], "[1, 2]"),
        ((1, "a"), "(1, 'a')"),
        (np.float32(3.5), "3.5"),
        (np.arange(3), "[0 1 2]"),
        (np.datetime64("2020-01-02"), "2020-01-02"),
        (datetime.datetime(2020, 1, 2, 3), "2020-01-02 03:00:00"),
        ({"a": 1}, "{'a': 1}"),
        (True, "True"),
        (None, "None"),
    ],
    ids=str,
)
def test_attributes_become_text(value: Any, text: str) -> None:
    array = georeferenced(thing=value)
    tags = {"update_tags": {0: {"thing": text}}}
    assert written(array) == gdal_cog(PIXELS, describe=tags)
    dataset = xr.Dataset({"a": array[0], "b": array[1]}, attrs={"other": value})
    with MemoryFile(written(dataset)) as memory, memory.open() as file:
        assert file.tags()["other"] == file.tags(1)["thing"] == file.tags(2)["thing"] == text


@pytest.mark.parametrize("lazy", [False, True])
def test_names_of_bands_that_rioxarray_opens_as_variables_are_kept(
    tmp_path: Path, lazy: bool
) -> None:
    describe = {"descriptions": ["red", "near infrared"], "units": ["", "m"]}
    (tmp_path / "a.tif").write_bytes(gdal_cog(PIXELS, describe=describe, nodata=-1))
    chunks = {"chunks": {}} if lazy else {}
    dataset = rioxarray.open_rasterio(tmp_path / "a.tif", band_as_variable=True, **chunks)
    with MemoryFile(written(dataset)) as memory, memory.open() as file:
        assert file.descriptions == ("red", "near infrared")
        assert file.units[1] == "m"
        assert file.tags(1) == {"long_name": "red"}
        assert file.nodata == -1


def test_long_names_of_variables_are_their_descriptions() -> None:
    named, other = georeferenced(PIXELS[0], long_name="Height"), georeferenced(PIXELS[1])
    data = written(xr.Dataset({"a": named, "b": other}))
    with MemoryFile(data) as memory, memory.open() as file:
        assert file.descriptions == ("Height", "b")


def test_a_dataset_says_whether_pixels_are_points() -> None:
    array = georeferenced(PIXELS[0])
    dataset = xr.Dataset({"a": array}, attrs={"AREA_OR_POINT": "Point"})
    for points in (dataset, xr.Dataset({"a": array.assign_attrs(AREA_OR_POINT="Point")})):
        with MemoryFile(written(points)) as memory, memory.open() as file:
            assert file.tags()["AREA_OR_POINT"] == "Point"
            assert not file.tags(1)


@pytest.mark.tried(
    "attributes that GDAL has no tags for: `ns`, `bidx`, `eo:cloud`, NUL and surrogates",
    "left out, and named in one warning; rioxarray fails, or writes other names",
)
def test_attributes_that_cannot_be_tags_are_named_in_one_warning() -> None:
    attrs = {"ns": 1, "bidx": 2, "eo:cloud": 3, "a=b": 4, "": 5, "nul": "a\0b", "half": "\ud800"}
    array = georeferenced(kept="yes").assign_attrs(attrs)
    dataset = xr.Dataset({"a": array[0], "b": array[1]}, attrs={"ns": 9})
    for given in (array, dataset):
        with pytest.warns(ccog.CCOGWarning, match="are left out") as told:
            data = written(given)
        (text,) = [str(w.message) for w in told if w.category is ccog.CCOGWarning]
        assert all(repr(name) in text for name in attrs)
        assert "kept" not in text
        with MemoryFile(data) as memory, memory.open() as file:
            assert "kept" in file.tags() | file.tags(1)
            assert not {"eo", "a", "nul"} & {*file.tags(), *file.tags(1)}


def test_keys_that_are_not_text_become_text() -> None:
    data = written(georeferenced().assign_attrs({5: "five", ("t", 1): 2}))
    with MemoryFile(data) as memory, memory.open() as file:
        assert file.tags()["5"] == "five"
        assert file.tags()["('t', 1)"] == "2"


def test_tags_of_bands_that_rioxarray_takes_are_taken() -> None:
    array = georeferenced(band_tags=[{"a": 1}, {"b": [2]}])
    tags = {"update_tags": {1: {"a": "1"}, 2: {"b": "[2]"}}}
    assert written(array) == gdal_cog(PIXELS, describe=tags)


BLUES = {0: (1, 2, 3, 255), 1: (4, 5, 6, 255)}


@pytest.mark.tried("a palette that TIFF cannot hold", "a warning that names what is left out")
@pytest.mark.parametrize(
    ("dtype", "bands", "options", "text"),
    [
        ("int8", 1, {"colormap": BLUES}, "the palette is left out"),
        ("int16", 1, {"colormap": BLUES}, "the palette is left out"),
        ("float32", 1, {"colormap": BLUES}, "the palette is left out"),
        ("uint8", 3, {"colormap": BLUES}, "the palette is left out"),
        ("uint8", 1, {"colormap": BLUES | {300: (7, 8, 9)}}, "colours of 300.*0 to 255"),
        ("uint8", 1, {"colormap": BLUES, "nbits": 1}, None),
        ("uint8", 1, {"colormap": BLUES | {2: (7, 8, 9)}, "nbits": 1}, "colours of 2.*0 to 1"),
        ("uint8", 1, {"colormap": BLUES | {2: (7, 8, 9, 0)}}, "alpha of 2"),
        ("uint8", 1, {"colormap": BLUES | {2: (7, 8, 9, 0)}, "nodata": 2}, None),
        ("uint16", 1, {"colormap": BLUES | {300: (7, 8, 9)}}, None),
        ("uint8", 2, {"colormap": BLUES}, None),
    ],
)
def test_colours_that_the_file_cannot_hold_are_named(
    dtype: str, bands: int, options: dict[str, Any], text: str | None
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ccog.write_ccog(np.ones((bands, 20, 20), dtype), COG_creation_options=options)
    told = [str(w.message) for w in caught if issubclass(w.category, ccog.CCOGWarning)]
    assert bool(told) == (text is not None), told
    assert text is None or re.search(text, told[0])
