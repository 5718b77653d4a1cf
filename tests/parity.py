"""Every creation option and kind of metadata against the installed GDAL: python tests/parity.py.

Writes docs/parity.md, keeping the verdicts of other GDAL versions in docs/parity.json.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp as C
from rasterio.io import MemoryFile

import ccog
from cases import CRSES, LOSSLESS, MODERN, RPCS, TEXTS, TRANSFORMS
from ccog.geometry.axis_reduction import KERNEL_RADIUS
from ccog.tiff import directories as tiff
from ccog.tiff import tags
from conftest import GEO, gdal_cog, terrain

DOCS = Path(__file__).resolve().parents[1] / "docs"
# tile (17, 16) of zoom level 10
_PIXEL, _HALF = 156543.03392804097 / 1024, 20037508.342789244
WEB_MERCATOR = rasterio.Affine(
    _PIXEL, 0, 17 * 256 * _PIXEL - _HALF, 0, -_PIXEL, _HALF - 16 * 256 * _PIXEL
)


# verdicts, the worst first
KINDS = ("differs", "pixels identical", "refused", "refused by GDAL", "identical")


@dataclass(frozen=True)
class Trial:
    """One raster, written with the same options and metadata by both."""

    options: dict[str, Any] = field(default_factory=dict)
    described: dict[str, Any] = field(default_factory=dict)
    profile: dict[str, Any] = field(default_factory=dict)
    dtype: str = "uint8"
    bands: int = 1
    size: tuple[int, int] = (300, 401)
    masked: bool = False
    holes: float | None = None
    alpha: bool = False


@dataclass(frozen=True)
class Row:
    """What a row of the table claims, and the trials it rests on; ``why`` explains anything but identity."""

    what: str
    trials: tuple[Trial, ...]
    why: str = ""


def options(*given: dict[str, Any], **more: Any) -> tuple[Trial, ...]:
    return tuple(Trial(option, **more) for option in given)


def described(*given: dict[str, Any], **more: Any) -> tuple[Trial, ...]:
    return tuple(Trial(described=found, **more) for found in given)


def layout_rows() -> list[Row]:
    lossy = [{"compress": "jpeg", "quality": q} for q in (40, 75, 100)]
    webp = [{"compress": "webp", "quality": q} for q in (40, 75, 100)]
    floats = [
        {"compress": c, "max_z_error": e}
        for c in ("lerc", "lerc_deflate", "lerc_zstd")
        for e in (0, 0.5)
    ]
    kernels = [{"overview_resampling": k} for k in sorted(KERNEL_RADIUS)]
    nbits = [
        Trial({"nbits": n}, dtype=d)
        for d, n in (("uint8", 1), ("uint8", 5), ("uint16", 12), ("uint32", 20))
    ]
    return [
        Row("BLOCKSIZE", options(*({"blocksize": b} for b in (128, 256, 512, 1024)))),
        Row("COMPRESS=NONE, LZW, DEFLATE, ZSTD", options(*({"compress": c} for c in LOSSLESS[:4]), bands=3)),
        Row("COMPRESS=LZMA", options({"compress": "lzma"}, {"compress": "lzma", "level": 1}, dtype="uint16")),
        Row("COMPRESS=JPEG, QUALITY", options(*lossy, bands=3) + options(*lossy)),
        Row("COMPRESS=WEBP, QUALITY", options(*webp, bands=3) + options(*webp, bands=4)),
        Row("COMPRESS=LERC family, MAX_Z_ERROR", options(*floats, dtype="float32")),
        Row(
            "COMPRESS=LERC of bytes",
            options({"compress": "lerc"}),
            "LERC leaves the last word of a tile unset: GDAL's own files differ from run to run. ccog's has zeros there",
        ),
        Row("LEVEL", options(*({"compress": c, "level": n} for c in ("deflate", "zstd") for n in (1, 9)))),
        Row("PREDICTOR", options(*({"predictor": p, "compress": "deflate"} for p in ("yes", "no", 2)), dtype="int16")),
        Row("PREDICTOR=FLOATING_POINT", options({"predictor": 3, "compress": "zstd"}, dtype="float32")),
        Row("OVERVIEW_RESAMPLING, RESAMPLING", options(*kernels, {"resampling": "average"}, dtype="int16")),
        Row("OVERVIEWS=AUTO, IGNORE_EXISTING, FORCE_USE_EXISTING, NONE", options(*({"overviews": o} for o in ("auto", "ignore_existing", "force_use_existing", "none")))),
        Row("OVERVIEW_COUNT", options(*({"overview_count": n} for n in (1, 2, 4, 12)))),
        Row("OVERVIEW_COUNT=0", options({"overview_count": 0}), "GDAL fails; ccog writes no overviews"),
        Row("OVERVIEW_COMPRESS", options(*({"compress": "zstd", "overview_compress": c} for c in (*LOSSLESS, "jpeg", "auto")))),
        Row("OVERVIEW_QUALITY", options({"compress": "jpeg", "overview_quality": 30}, bands=3)),
        Row("OVERVIEW_PREDICTOR", options({"compress": "deflate", "overview_predictor": "yes"}, dtype="int16")),
        Row("MAX_Z_ERROR_OVERVIEW", options({"compress": "lerc", "max_z_error_overview": 2}, dtype="float32")),
        Row("BIGTIFF", options(*({"bigtiff": b} for b in ("yes", "no", "if_needed", "if_safer")))),
        Row("GEOTIFF_VERSION", options(*({"geotiff_version": v} for v in ("auto", "1.0", "1.1")))),
        Row("SPARSE_OK", options({"sparse_ok": "yes"}, {"sparse_ok": "no"}, holes=0, profile={"nodata": 0})),
        Row("NUM_THREADS", options({"num_threads": "all_cpus"})),
        Row("NBITS", tuple(nbits)),
        Row("NBITS=16 of float32", options({"nbits": 16}, dtype="float32")),
        Row(
            "NBITS of several bands, uncompressed",
            options({"nbits": 5, "compress": "none"}, bands=3),
            "GDAL 3.12 writes these band by band, with wrong pixels; ccog's are right",
        ),
        Row(
            "NBITS of several bands",
            options({"nbits": 5, "compress": "deflate"}, bands=3),
            "GDAL fills the rest of tiles at the right and lower edge with what its memory holds: its own files differ "
            "from run to run. ccog fills with zeros",
        ),
        Row("STATISTICS=YES of 8- and 16-bit unsigned", options({"statistics": "yes"}) + options({"statistics": "yes"}, dtype="uint16", bands=3)),
        Row("STATISTICS=AUTO, NO", tuple(Trial({"statistics": s}, {"update_tags": {1: STATISTICS}}) for s in ("auto", "no"))),
        Row(
            "STATISTICS=YES of other types, or beside a mask",
            options({"statistics": "yes"}, dtype="float32") + options({"statistics": "yes"}, masked=True),
            "sums are rounded in another order: the last of the 14 digits of a mean or deviation may differ. GDAL "
            "before 3.11 counts masked pixels and NaN wrongly for the deviation",
        ),
        Row("COPY_SRC_MDD, SRC_MDD", tuple(Trial(o, {"update_tags": {(0, "D"): {"k": "v"}}}) for o in MDD)),
        Row("INTERLEAVE=PIXEL, BAND, TILE", options(*INTERLEAVES, bands=3) + options(*INTERLEAVES, bands=2, masked=True)),
        Row("TILING_SCHEME=GoogleMapsCompatible, ZOOM_LEVEL, ALIGNED_LEVELS, raster on its grid", tuple(Trial({"tiling_scheme": "GoogleMapsCompatible", "blocksize": 256} | more, {}, {"crs": "EPSG:3857", "transform": WEB_MERCATOR}, size=(512, 768)) for more in ({}, {"zoom_level": 10}, {"aligned_levels": 1}, {"add_alpha": "no"}))),
        Row("WARP_RESAMPLING, ADD_ALPHA, ZOOM_LEVEL, ZOOM_LEVEL_STRATEGY, ALIGNED_LEVELS where nothing is warped", options(*OF_WARPING)),
        Row("JXL_LOSSLESS, JXL_EFFORT, JXL_DISTANCE, JXL_ALPHA_DISTANCE", options({"compress": "jxl", "jxl_effort": 3}, bands=3), "the GDAL of rasterio's wheels is built without JPEG XL"),
        *(Row(f"{key}", options({key.lower(): value}), "reprojects: the error says to reproject the array first") for key, value in REPROJECTING.items()),
    ]  # fmt: skip


STATISTICS = {f"STATISTICS_{k}": "1" for k in ("MINIMUM", "MAXIMUM", "MEAN", "STDDEV")}
MDD: list[dict[str, Any]] = [{"copy_src_mdd": v} for v in ("auto", "yes", "no")] + [
    {"src_mdd": "D"}
]
INTERLEAVES = [{"interleave": v} for v in ("pixel", "band", "tile")] if MODERN else []
REPROJECTING = {
    "TARGET_SRS": "EPSG:3857", "RES": 10, "EXTENT": "0,0,1,1", "TILING_SCHEME": "NZTM2000",
}  # fmt: skip
OF_WARPING = [
    {"warp_resampling": "cubic"},
    {"add_alpha": "yes"},
    {"add_alpha": "no"},
    {"zoom_level": 3},
    {"zoom_level_strategy": "upper"},
    {"aligned_levels": 2},
]


def metadata_rows() -> list[Row]:
    gray_alpha, rgba = [C.gray, C.alpha], [C.red, C.green, C.blue, C.alpha]
    jpeg = {"compress": "jpeg"}
    points = [
        GroundControlPoint(r, c, 10 + c / 900, 50 - r / 900, 7.5)
        for r, c in ((0, 0), (0, 401), (300, 0))
    ]
    interps = ([C.red, C.green, C.blue], [C.blue, C.green, C.red], [C.gray, C.undefined, C.alpha])
    return [
        Row("crs (EPSG, PROJ, WKT, compound, engineering, none)", tuple(Trial(profile={"crs": crs}) for crs in CRSES)),
        Row("transform (north up, y ascending, rotated, sheared, none)", tuple(Trial(profile={"transform": t}) for t in TRANSFORMS)),
        Row("PixelIsPoint", described({"update_tags": {0: {"AREA_OR_POINT": "Point"}}})),
        Row("gcps", (Trial({}, {"gcps": points}, {"crs": "EPSG:4326", "transform": None}),)),
        Row("rpcs", described({"rpcs": RPCS})),
        Row("nodata, in the data and not", tuple(Trial({}, {}, {"nodata": n}, "int16", holes=n) for n in (0, -9999)) + (Trial({}, {}, {"nodata": float("nan")}, "float32", holes=float("nan")), Trial({}, {}, {"nodata": -1}, "float64", holes=float("nan")))),
        Row("nodata of int64 and uint64, as CreateCopy keeps it", tuple(Trial({"overview_resampling": k}, {}, {"nodata": n}, d, holes=n) for k in ("AVERAGE", "CUBIC", "NEAREST") for d, n in (("int64", -9999), ("int64", -(2**63)), ("uint64", 0), ("uint64", 2**53)))),
        Row("ICC profile, premultiplied alpha", (Trial({}, {"update_tags": {(0, "COLOR_PROFILE"): {"SOURCE_ICC_PROFILE": "A" * 512}}}), Trial({}, {"colorinterp": rgba, "update_tags": {(4, "IMAGE_STRUCTURE"): {"ALPHA": "PREMULTIPLIED"}}}, bands=4, alpha=True))),
        Row("mask, in every resampling", options(*({"overview_resampling": k} for k in sorted(KERNEL_RADIUS)), masked=True)),
        Row("mask beside nodata", (Trial({}, {}, {"nodata": 7}, masked=True, holes=7),)),
        Row("alpha (gray, RGB) in every resampling", tuple(Trial({"overview_resampling": k}, {"colorinterp": i}, bands=len(i), alpha=True) for k in sorted(KERNEL_RADIUS) for i in (gray_alpha, rgba))),
        Row("alpha with COMPRESS=JPEG: becomes the mask", tuple(Trial(jpeg, {"colorinterp": i}, bands=len(i), alpha=True) for i in (gray_alpha, rgba))),
        Row("colorinterp", tuple(Trial({}, {"colorinterp": i}, bands=3) for i in interps)),
        Row("colormap", described({"colormap": {k: (k, 255 - k, 7, 255) for k in range(256)}})),
        Row("colormap, OVERVIEW_RESAMPLING", tuple(Trial({"overview_resampling": k}, {"colormap": {v: (v * 7 % 256, 255 - v, v * v % 256, 255) for v in range(256)}}) for k in KERNEL_RADIUS)),
        Row("update_tags, of the dataset and of bands", tuple(Trial({}, {"update_tags": {0: {"K": t}, 2: {"é": t}}}, bands=2) for t in TEXTS)),
        Row("descriptions", tuple(Trial({}, {"descriptions": [t, "b"]}, bands=2) for t in TEXTS)),
        Row("units, scales, offsets", described({"units": ["µm"], "scales": [0.1], "offsets": [-273.15]}, {"scales": [2.5e-7]})),
        Row("every real dtype", tuple(Trial(dtype=d) for d in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"))),
        Row("complex dtypes", tuple(Trial({"overview_resampling": k}, dtype=d) for d in ("complex64", "complex128") for k in ("nearest", "average", "mode", "rms"))),
        Row("float16", options({"overviews": "none"}, dtype="float16", bands=2) + options({}, dtype="float16"), "rasterio has no such type before GDAL 3.11"),
        Row("float16 with overviews of several bands", options({}, dtype="float16", bands=2), "GDAL fails to build them"),
        Row("1 x 1, 1 x N and N x 1 pixels", tuple(Trial(size=s) for s in ((1, 1), (1, 700), (700, 1)))),
        Row("200 bands", options({"compress": "deflate"}, bands=200, size=(150, 140))),
    ]  # fmt: skip


def verdict(trial: Trial) -> str:
    """identical, pixels identical, differs or refused."""
    try:
        ours = by_ccog(trial)
    except ccog.CCOGError:
        return "refused"
    try:
        theirs = by_gdal(trial)
    except Exception:
        return "refused by GDAL"
    if ours == theirs:
        return "identical"
    return "pixels identical" if _same_pixels(ours, theirs) else "differs"


def by_ccog(trial: Trial, **arguments: Any) -> bytes:
    """The file of write_ccog, with more of its arguments."""
    pixels, mask = _pixels(trial)
    profile = {k: v for k, v in (GEO | trial.profile).items() if v is not None}
    given = _layout(trial) | trial.described | profile
    array = da.from_array(pixels, chunks=(1, 200, 200))
    delayed = ccog.write_ccog(array, mask=mask, COG_creation_options=given, **arguments)
    return bytes(delayed.compute(scheduler="synchronous"))


def by_gdal(trial: Trial) -> bytes:
    """The file of GDAL's COG driver."""
    pixels, mask = _pixels(trial)
    profile = GEO | trial.profile
    described = dict(trial.described)
    if "gcps" in described:
        described["gcps"] = (described["gcps"], CRS.from_user_input(profile["crs"]))
        profile["crs"] = None
    return gdal_cog(pixels, _layout(trial), mask, described, **profile)


def _layout(trial: Trial) -> dict[str, Any]:
    return {"blocksize": 128} | trial.options


def _pixels(trial: Trial) -> tuple[np.ndarray, np.ndarray | None]:
    pixels = terrain((trial.bands, *trial.size), trial.dtype)
    if "nbits" in trial.options and pixels.dtype.kind == "u":
        pixels &= np.array((1 << trial.options["nbits"]) - 1, pixels.dtype)
    if trial.holes is not None:
        pixels[:, :140, :150] = trial.holes
    if trial.alpha:
        pixels[-1] = np.random.default_rng(0).choice(
            np.array([0, 1, 90, 255], pixels.dtype), size=trial.size
        )
        pixels[-1, :100] = 0
    mask = np.random.default_rng(1).random(trial.size) > 0.2 if trial.masked else None
    return pixels, mask


def _same_pixels(ours: bytes, theirs: bytes) -> bool:
    levels = len(
        [d for d in tiff.parse(theirs).directories if not d.value(tags.NEW_SUBFILE_TYPE) & 4]
    )
    for level in range(levels):
        at = {} if level == 0 else {"overview_level": level - 1}
        with MemoryFile(ours) as a, MemoryFile(theirs) as b, a.open(**at) as x, b.open(**at) as y:
            if not np.array_equal(x.read(), y.read(), equal_nan=True):
                return False
    return True


def summary(row: Row) -> str:
    """The worst verdict of a row's trials."""
    if not row.trials:
        return "GDAL has no such option"
    found = {verdict(trial) for trial in row.trials}
    return next(kind for kind in KINDS if kind in found)


def main() -> None:
    import configurations

    warnings.simplefilter("ignore")
    stored = DOCS / "parity.json"
    known: dict[str, dict[str, str]] = json.loads(stored.read_text()) if stored.exists() else {}
    layout, metadata = layout_rows(), metadata_rows()
    found = {row.what: summary(row) for row in [*layout, *metadata]}
    known[rasterio.__gdal_version__] = found | configurations.summaries()
    stored.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    (DOCS / "parity.md").write_text(
        render(
            known,
            {
                "Creation options": layout,
                "Metadata and pixels": metadata,
                "Configuration options of GDAL": configurations.rows(),
            },
        )
    )


def render(known: dict[str, dict[str, str]], parts: dict[str, list[Row]]) -> str:
    versions = sorted(known)
    lines = [
        "# Parity with GDAL's COG driver",
        "",
        "Each row compares whole files of `ccog.write_ccog` with those that GDAL's COG driver writes from the same "
        "pixels and options, for all the values named. Made by `python tests/parity.py`.",
        "",
        "GDAL's configuration options (`rasterio_env_options`, `--config`, `rasterio.Env`, the environment) that "
        "decide what a file holds are in the last table. *Honoured*: the file is GDAL's under the option, and all "
        "workers use the value that the client finds. *Neutral*: the file is the one without the option, wherever it "
        "is set. *Refused*: the error names the option. Options of other drivers, and of access to files, reach GDAL.",
    ]
    for title, rows in parts.items():
        heads = [title, *(f"GDAL {version}" for version in versions), "why"]
        lines += ["", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        lines += [
            "| "
            + " | ".join(
                [row.what, *(known[v].get(row.what, "") for v in versions), _reason(row, known)]
            )
            + " |"
            for row in rows
        ]
    return "\n".join(lines) + "\n"


def _reason(row: Row, known: dict[str, dict[str, str]]) -> str:
    return row.why if any(found.get(row.what) != "identical" for found in known.values()) else ""


if __name__ == "__main__":
    from parity import main  # the module that configurations knows

    main()
