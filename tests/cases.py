"""Random rasters, options and metadata, and the files that GDAL and ccog make of them."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import rasterio
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC

import ccog
from ccog.geometry.axis_reduction import KERNEL_RADIUS
from ccog.tiff import directories as tiff
from ccog.tiff import tags
from conftest import gdal_cog, terrain

REAL_TYPES = [
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float32",
    "float64",
]
SIDES = st.one_of(st.sampled_from([128, 256, 384, 512, 640]), st.integers(1, 700))
_COMPLEX_KERNELS = ["nearest", "average", "rms"]
LOSSLESS = ["none", "lzw", "deflate", "zstd", "lzma"]
MODERN = tuple(map(int, rasterio.__gdal_version__.split(".")[:2])) >= (3, 11)

ENGINEERING = 'ENGCRS["Site grid",EDATUM["Site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
CUSTOM = "+proj=laea +lat_0=12 +lon_0=-30 +x_0=1000 +ellps=GRS80 +units=m"
CRSES = [
    "EPSG:32755",
    "EPSG:4326",
    "EPSG:3857",
    "EPSG:4326+5773",
    "EPSG:9989",
    CUSTOM,
    ENGINEERING,
    None,
]
TRANSFORMS = [
    rasterio.Affine(10, 0, 5e5, 0, -10, 6e6),
    rasterio.Affine(10, 0, 5e5, 0, 10, 6e6),
    rasterio.Affine(9.8, 1.5, 5e5, 1.5, -9.8, 6e6),
    rasterio.Affine(0.1, 0.02, -30, 0.0, -0.3, 12.5),
    None,
]
TEXTS = ["x", 'a & b < "c" > d', "naïve 高さ ü", "long " * 400, "line\nbreak\ttab", " spaced ", ""]
RPCS = RPC(
    height_off=500.0, height_scale=100.0, lat_off=10.0, lat_scale=0.5, line_off=50.0, line_scale=49.0,
    line_den_coeff=[1.0] + [0.0] * 19, line_num_coeff=[0.1] * 20, long_off=-120.5, long_scale=0.2,
    samp_den_coeff=[1.0] + [0.01] * 19, samp_num_coeff=[0.3] * 20, samp_off=99.0, samp_scale=100.0,
    err_bias=1.0, err_rand=2.0,
)  # fmt: skip


@st.composite
def layouts(draw: st.DrawFn, dtype: str, count: int) -> dict[str, Any]:
    """Creation options that fit the type and number of bands."""
    is_complex = dtype.startswith("complex")
    kinds = list(LOSSLESS)
    if dtype == "uint8":
        # of more than four bands GDAL writes a file without tiles, and says nothing
        kinds += (["jpeg"] if count <= 4 else []) + (["webp"] if count in (3, 4) else [])
    # LERC tiles of bytes are padded by GDAL with what its memory happens to hold
    if dtype in ("int16", "uint16", "float32", "float64"):
        kinds += ["lerc", "lerc_deflate", "lerc_zstd"]
    compress = draw(st.sampled_from(kinds))
    lossless = compress in LOSSLESS
    options: dict[str, Any] = {
        "blocksize": draw(st.sampled_from([128, 256])),
        "compress": compress,
        "overview_resampling": draw(
            st.sampled_from(["nearest", "average", "rms"] if is_complex else sorted(KERNEL_RADIUS))
        ),
        "bigtiff": draw(st.sampled_from(["yes", "no", "if_needed", "if_safer"])),
    }

    def perhaps(name: str, values: Any) -> None:
        if draw(st.integers(0, 3)) == 0:
            options[name] = draw(values)

    perhaps("sparse_ok", st.sampled_from(["yes", "no"]))
    perhaps("geotiff_version", st.sampled_from(["1.0", "1.1"]))
    perhaps("overviews", st.sampled_from(["none", "auto", "ignore_existing"]))
    perhaps("overview_count", st.integers(0, 3))
    perhaps("copy_src_mdd", st.sampled_from(["auto", "yes", "no"]))
    perhaps("num_threads", st.sampled_from([1, 2, "all_cpus"]))
    if lossless and not is_complex:
        perhaps("predictor", st.sampled_from(["yes", "no", "standard"]))
        perhaps("overview_predictor", st.sampled_from(["yes", "no", "standard"]))
        perhaps("overview_compress", st.sampled_from(LOSSLESS))
    if compress in ("deflate", "zstd", "lzma", "lerc_deflate", "lerc_zstd"):
        perhaps("level", st.integers(1, 9))
    if compress in ("jpeg", "webp"):
        perhaps("quality", st.integers(30, 100))
        perhaps("overview_quality", st.integers(30, 100))
    if compress.startswith("lerc"):
        perhaps("max_z_error", st.sampled_from([0, 0.5, 2]))
        perhaps("max_z_error_overview", st.sampled_from([0, 0.25, 1]))
    if MODERN and compress != "webp":
        perhaps("interleave", st.sampled_from(["pixel", "band", "tile"]))
    # bands of odd bits, several or apart, are padded by GDAL with what its memory happens to hold
    if (
        lossless
        and count == 1
        and "interleave" not in options
        and dtype in ("uint8", "uint16", "uint32")
    ):
        perhaps(
            "nbits", st.integers(*{"uint8": (1, 7), "uint16": (9, 15), "uint32": (17, 31)}[dtype])
        )
    return options


@st.composite
def metadata(draw: st.DrawFn, dtype: str, count: int) -> dict[str, Any]:
    """What rasterio and ccog are told about the raster."""
    found: dict[str, Any] = {}
    texts = st.sampled_from(TEXTS)

    def perhaps(name: str, values: Any) -> None:
        if draw(st.integers(0, 4)) == 0:
            found[name] = draw(values)

    def each(values: Any) -> Any:
        return st.lists(values, min_size=count, max_size=count)

    keys = st.sampled_from([0, 1, count, (0, "DOMAIN"), (count, "OTHER")])
    names = st.sampled_from(
        ["A", "b c", "ünï", "TIFFTAG_SOFTWARE", "TIFFTAG_XRESOLUTION", "AREA_OR_POINT"]
    )
    perhaps(
        "update_tags", st.dictionaries(keys, st.dictionaries(names, texts, min_size=1), min_size=1)
    )
    for texts_by_name in found.get("update_tags", {}).values():
        texts_by_name.pop("TIFFTAG_XRESOLUTION", None)
        if "AREA_OR_POINT" in texts_by_name:
            texts_by_name["AREA_OR_POINT"] = "Point"
    perhaps("descriptions", each(texts))
    perhaps("units", each(st.sampled_from(["m", "K", "µm", ""])))
    perhaps("scales", each(st.sampled_from([1.0, 0.1, 2.5e-7])))
    perhaps("offsets", each(st.sampled_from([0.0, -273.15, 1e9])))
    perhaps("rpcs", st.just(RPCS))
    if dtype in ("uint8", "uint16") and count == 1:
        perhaps("colormap", st.just({k: (k, 255 - k, k // 2, 255) for k in range(256)}))
    if "colormap" not in found:
        kinds = st.sampled_from(
            [ColorInterp.gray, ColorInterp.red, ColorInterp.undefined, ColorInterp.alpha]
        )
        last = st.sampled_from([ColorInterp.alpha, ColorInterp.undefined])
        perhaps("colorinterp", st.builds(lambda a, b: [*a[:-1], b], each(kinds), last))
        # no alpha among the colours, nor of complex data, nor of 64-bit integers, in which GDAL heeds nodata by halves
        odd = dtype in ("int64", "uint64", "complex64", "complex128")
        if ColorInterp.alpha in found.get("colorinterp", [])[:-1] or count == 1 or odd:
            found.pop("colorinterp", None)
    return found


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """A raster, its chunks, and everything that may be said about it."""
    dtype = draw(st.sampled_from([*REAL_TYPES, "uint8", "uint16", "complex64", "complex128"]))
    count = draw(st.sampled_from([1, 1, 1, 2, 3, 4, 5]))
    shape = count, draw(SIDES), draw(SIDES)
    options = draw(layouts(dtype, count))
    described = draw(metadata(dtype, count))
    if "colormap" in described:
        options["overview_resampling"] = "nearest"
    # rasterio's writer drops nodata of 64-bit integers: test_metadata.py compares it with CreateCopy
    without = dtype.startswith("complex") or dtype in ("int64", "uint64")
    nodata = None if without else draw(st.sampled_from([None, None, 0, 7]))
    if np.dtype(dtype).kind == "f" and draw(st.booleans()):
        nodata = float("nan")
    masked = draw(st.booleans())
    if dtype in ("uint8", "uint16") and not masked and draw(st.integers(0, 3)) == 0:
        options["statistics"] = draw(st.sampled_from(["yes", "no", "auto"]))
    if ColorInterp.alpha in described.get("colorinterp", []):
        options.pop(
            "statistics", None
        )  # sums of masked pixels are rounded: the last of 14 digits may differ
    if any(isinstance(key, tuple) for key in described.get("update_tags", {})):
        # GDAL loses other domains where it goes through a VRT: for statistics, or alpha that becomes the mask
        options.pop("statistics", None)
        if options["compress"] == "jpeg":
            options.pop("copy_src_mdd", None)
    gcps = draw(st.integers(0, 9)) == 0
    crs = draw(st.sampled_from(CRSES))
    chunk = st.one_of(st.sampled_from([128, 256, 512, 333, 97]), st.integers(50, 700))
    return {
        "dtype": dtype,
        "shape": shape,
        "options": options,
        "described": described,
        "crs": "EPSG:4326" if gcps else crs,
        "transform": None if gcps else draw(st.sampled_from(TRANSFORMS)),
        "gcps": gcps,
        "nodata": nodata,
        "masked": masked,
        "holes": draw(st.booleans()),
        "chunks": (draw(st.integers(1, count)), draw(chunk), draw(chunk)),
        "seed": draw(st.integers(0, 99)),
    }


def pixels_of(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """(band, y, x) pixels and the (y, x) mask or None."""
    _, height, width = case["shape"]
    pixels = terrain(case["shape"], case["dtype"], case["seed"])
    nbits = case["options"].get("nbits")
    if nbits is not None:
        pixels &= np.array((1 << nbits) - 1, pixels.dtype)
    if case["holes"] and case["nodata"] is not None:
        pixels[:, height // 4 : height // 2 + 1, width // 3 : width // 2 + 1] = case["nodata"]
    rng = np.random.default_rng(case["seed"])
    if ColorInterp.alpha in case["described"].get("colorinterp", []) and pixels.dtype.kind == "u":
        top = np.iinfo(pixels.dtype).max
        pixels[-1] = rng.choice(np.array([0, 1, top // 3, top], pixels.dtype), size=(height, width))
        pixels[-1, : height // 3] = 0
    if not case["masked"]:
        return pixels, None
    mask = rng.random((height, width)) > 0.1
    mask[: height // 3] = False
    return pixels, mask


def _gcps(case: dict[str, Any]) -> list[GroundControlPoint]:
    _, height, width = case["shape"]
    corners = [(0, 0), (0, width), (height, 0), (height, width)]
    return [GroundControlPoint(r, c, 10 + c / 900 + r / 9e4, 50 - r / 900, 7.5) for r, c in corners]


def gdal_file(case: dict[str, Any]) -> bytes:
    """What the installed COG driver writes."""
    pixels, mask = pixels_of(case)
    profile = {"crs": case["crs"], "transform": case["transform"]}
    profile |= {} if case["nodata"] is None else {"nodata": case["nodata"]}
    describe = dict(case["described"])
    if case["gcps"]:
        describe["gcps"] = (_gcps(case), CRS.from_user_input(case["crs"]))
        profile = {k: v for k, v in profile.items() if k == "nodata"} | {
            "crs": None,
            "transform": None,
        }
    return gdal_cog(pixels, case["options"], mask, describe, **profile)


def ccog_file(case: dict[str, Any], **kwargs: Any) -> bytes:
    """What ccog writes, from chunks."""
    pixels, mask = pixels_of(case)
    options = case["options"] | case["described"]
    options |= {k: case[k] for k in ("crs", "transform", "nodata") if case[k] is not None}
    if case["gcps"]:
        options["gcps"] = _gcps(case)
    array = da.from_array(pixels, chunks=case["chunks"], name=False)
    return bytes(ccog.write_ccog(array, mask=mask, COG_creation_options=options).compute(**kwargs))


def difference(found: bytes, expected: bytes) -> str:
    """Which tags differ, or which level's tiles: the first thing to look at when GDAL has changed."""
    ours, theirs = tiff.parse(found).directories, tiff.parse(expected).directories
    if len(ours) != len(theirs):
        return f"{len(ours)} directories, GDAL writes {len(theirs)}"
    for n, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for tag in sorted(a.tags.keys() | b.tags.keys()):
            one, other = a.tags.get(tag), b.tags.get(tag)
            if tag != tags.TILE_OFFSETS and (one and (one.type, one.raw)) != (
                other and (other.type, other.raw)
            ):
                return f"directory {n}, tag {tag}: {one}, GDAL writes {other}"[:2000]
    return f"lengths {len(found)} and {len(expected)}, tags equal: order or tile bytes differ"
