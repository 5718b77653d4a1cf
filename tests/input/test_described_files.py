"""What a file says of itself comes out as CreateCopy of GDAL's COG driver writes it."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from click.testing import CliRunner, Result
from rasterio.control import GroundControlPoint

import ccog
from ccog.cli import main
from conftest import DATA
from libgdal import create_copy
from source_files import MAKERS, RPC_TXT, XMP, SourceFiles, pixels

SMALL = {"BLOCKSIZE": "128"}
SETS = [
    SMALL | {"COMPRESS": "DEFLATE", "PREDICTOR": "YES", "OVERVIEW_RESAMPLING": "NEAREST"},
    {},
    SMALL | {"COMPRESS": "ZSTD", "OVERVIEW_RESAMPLING": "AVERAGE"},
    SMALL | {"COMPRESS": "LZW", "STATISTICS": "YES", "OVERVIEW_RESAMPLING": "NEAREST"},
    SMALL | {"COMPRESS": "JPEG", "QUALITY": "80"},
    SMALL | {"COMPRESS": "WEBP", "QUALITY": "100"},
    SMALL | {"SPARSE_OK": "YES", "OVERVIEW_RESAMPLING": "MODE", "COMPRESS": "NONE"},
    SMALL | {"INTERLEAVE": "BAND", "COMPRESS": "DEFLATE", "OVERVIEW_RESAMPLING": "LANCZOS"},
]
QUICK = [
    number if number < 2 else pytest.param(number, marks=pytest.mark.slow)
    for number in range(len(SETS))
]
# where GDAL itself gives other bytes at each run, or counts wrongly
BY_CHANCE = {
    ("gray and alpha", 3): "GDAL's statistics of a VRT are those of its source",
    ("alpha first of four", 3): "GDAL's statistics of a VRT are those of its source",
    ("CMYK", 3): "GDAL's statistics of a VRT are those of its source",
    **{(name, 3): "the last digit of statistics" for name in ("complex", "CInt16", "CInt32")},
    ("1 bit", 7): "GDAL 3.12 writes wrong pixels of odd bits with INTERLEAVE=BAND",
    ("7 bits", 7): "GDAL 3.12 writes wrong pixels of odd bits with INTERLEAVE=BAND",
    ("12 bits", 7): "GDAL 3.12 writes wrong pixels of odd bits with INTERLEAVE=BAND",
    ("cint16.tif", 3): "the last digit of statistics",
    ("gadas.tif", 3): "GDAL before 3.11 divides by the wrong count",
    ("goes.tif", 3): "GDAL before 3.11 divides by the wrong count",
    ("alpha.tif", 3): "GDAL before 3.11 divides by the wrong count",
    ("rgba", 3): "GDAL before 3.11 divides by the wrong count",
    ("premultiplied alpha", 3): "GDAL before 3.11 divides by the wrong count",
}


def create(source: Path, target: Path, options: dict[str, str], *more: str) -> Result:
    pairs = [word for key, value in options.items() for word in ("--co", f"{key}={value}")]
    command = ["create", str(source), str(target), "--quiet", "--chunks", "128", *pairs, *more]
    return CliRunner().invoke(main, command)


def createcopy(source: Path | str, target: Path, options: dict[str, str]) -> bytes | None:
    """The file that GDAL writes; None where it refuses."""
    try:
        rasterio.shutil.copy(source, target, driver="COG", **options)
    except Exception:
        return None
    return target.read_bytes()


def assert_as_createcopy(source: Path, folder: Path, options: dict[str, str]) -> None:
    expected = createcopy(source, folder / "gdal.tif", options)
    result = create(source, folder / "ccog.tif", options)
    assert not isinstance(result.exception, Exception), result.exception
    if expected is None:
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        return
    assert result.exit_code == 0, result.output
    same = (folder / "ccog.tif").read_bytes() == expected
    assert same, f"the files of {options} differ"


@pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")
@pytest.mark.parametrize("number", QUICK)
@pytest.mark.parametrize("name", MAKERS)
def test_a_file_comes_out_as_gdal_copies_it(name: str, number: int, tmp_path: Path) -> None:
    if (name, number) in BY_CHANCE:
        pytest.skip(BY_CHANCE[name, number])
    assert_as_createcopy(SourceFiles(tmp_path).make(name), tmp_path, SETS[number])


DOMAINS = [
    [], ["MINE"], ["IMAGERY"], ["mine"], [""], ["_DEFAULT_"], ["MINE", "IMAGERY"], ["IMAGERY", "MINE"],
    ["", "MINE"], ["xml:XMP", "MINE", ""], ["nothing"], ["RPC"], ["IMD", "RPC"], ["COLOR_PROFILE"],
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")
@pytest.mark.parametrize(
    "name", ["tags of all domains", "RPB and IMD beside it", "ICC profile", "statistics"]
)
def test_domains_are_copied_as_asked(name: str, tmp_path: Path) -> None:
    source = SourceFiles(tmp_path).make(name)
    for domains, more in itertools.product(
        DOMAINS, ([], ["COPY_SRC_MDD=YES"], ["COPY_SRC_MDD=NO"])
    ):
        pairs = [*(f"SRC_MDD={domain}" for domain in domains), *more]
        expected = create_copy(source, tmp_path / "gdal.tif", pairs)
        options = [word for pair in pairs for word in ("--co", pair)]
        assert create(source, tmp_path / "ccog.tif", {}, "--overwrite", *options).exit_code == 0
        assert (tmp_path / "ccog.tif").read_bytes() == expected, pairs


def test_a_list_of_domains_is_copied(tmp_path: Path) -> None:
    source = SourceFiles(tmp_path).make("tags of all domains")
    for domains in (["MINE", "IMAGERY"], ("MINE",), "MINE"):
        named = [domains] if isinstance(domains, str) else domains
        expected = create_copy(source, tmp_path / "g.tif", [f"SRC_MDD={name}" for name in named])
        assert ccog.write_ccog(source, src_mdd=domains).compute() == expected


@pytest.mark.parametrize("pairs", [["BLOCKSIZE=128", "blocksize=256"], ["LEVEL=1", "LEVEL=2"]])
def test_an_option_that_is_given_twice_is_refused(pairs: list[str], tmp_path: Path) -> None:
    options = [word for pair in pairs for word in ("--co", pair)]
    result = create(tmp_path / "a.tif", tmp_path / "x.tif", {}, *options)
    assert result.exit_code == 2
    assert "given twice" in result.output


GEO_TRANSFORMS = {
    "no transform": "",
    "north up": "<GeoTransform>500000,10,0,6000000,0,-10</GeoTransform>",
    "identity": "<GeoTransform>0,1,0,0,0,1</GeoTransform>",
    "rotated": "<GeoTransform>500000,10,3,6000000,2,-10</GeoTransform>",
    "south up": "<GeoTransform>500000,10,0,6000000,0,10</GeoTransform>",
}
POINT_LIST = "".join(
    f'<GCP Id="{n}" Pixel="{x}.123456789" Line="{y}" X="{147 + x / 700}" Y="-36" Z="{n}"/>'
    for n, (x, y) in enumerate([(0, 0), (64, 0), (0, 64)])
)
POINTS = (
    "",
    f"<GCPList>{POINT_LIST}</GCPList>",
    f'<GCPList Projection="EPSG:4326">{POINT_LIST}</GCPList>',
)
RPCS = "".join(
    f'<MDI key="{line.split(":")[0]}">{line.split(":")[1]}</MDI>'
    for line in RPC_TXT.splitlines()
    if "COEFF" not in line
) + "".join(
    f'<MDI key="{axis}_{part}_COEFF">{"0.5 " * 20}</MDI>'
    for axis in ("LINE", "SAMP")
    for part in ("NUM", "DEN")
)
OTHER_PLACES = (
    "",
    f'<Metadata domain="RPC">{RPCS}</Metadata>'
    '<Metadata><MDI key="AREA_OR_POINT">Point</MDI></Metadata>',
)


@pytest.mark.tried(
    "files with transform, points and RPCs, in 60 combinations", "as GDAL copies them"
)
@pytest.mark.parametrize("transform", GEO_TRANSFORMS)
def test_a_file_lies_where_gdal_says_it_lies(transform: str, tmp_path: Path) -> None:
    files = SourceFiles(tmp_path)
    plain = files.tif("plain", pixels(), crs=None, transform=None)
    source = files.vrt("placed", plain, ("Byte", 1, ""))
    head, rest = source.read_text().split("<SRS></SRS>")
    rest = rest.partition("</GeoTransform>")[2]
    for crs, points, other in itertools.product(
        ("", "<SRS>EPSG:32755</SRS>"), POINTS, OTHER_PLACES
    ):
        source.write_text(head + crs + GEO_TRANSFORMS[transform] + points + other + rest)
        (tmp_path / "ccog.tif").unlink(missing_ok=True)
        assert_as_createcopy(source, tmp_path, {})


CORNERS = [GroundControlPoint(0, 0, 147, -36), GroundControlPoint(0, 64, 148, -36),
           GroundControlPoint(64, 0, 147, -37)]  # fmt: skip


def test_a_place_that_a_user_gives_wins_over_that_of_a_file(tmp_path: Path) -> None:
    files = SourceFiles(tmp_path)
    by_points, placed = files.make("ground control points"), files.make("gray")
    moved = rasterio.Affine(5, 0, 1, 0, -5, 2)
    # source, options, and what the file has then: CRS, transform, points, CRS of the points
    rows: list[tuple[Path, dict[str, Any], tuple[Any, ...]]] = [
        (by_points, {"crs": "EPSG:32633"}, (None, rasterio.Affine.identity(), 6, 32633)),
        (by_points, {"transform": moved}, (4326, moved, 0, None)),
        (by_points, {"gcps": CORNERS}, (None, rasterio.Affine.identity(), 3, 4326)),
        (placed, {"gcps": CORNERS}, (None, rasterio.Affine.identity(), 3, 32755)),
        (
            placed,
            {"gcps": CORNERS, "crs": "EPSG:4326"},
            (None, rasterio.Affine.identity(), 3, 4326),
        ),
        (placed, {"transform": moved}, (32755, moved, 0, None)),
    ]
    for source, options, expected in rows:
        ccog.write_ccog(source, tmp_path / "x.tif", COG_creation_options=options).compute()
        with rasterio.open(tmp_path / "x.tif") as dataset:
            points, crs = dataset.gcps
            found = (_epsg(dataset.crs), dataset.transform, len(points), _epsg(crs))
        assert found == expected, (source.name, options)


def _epsg(crs: Any) -> int | None:
    return crs.to_epsg() if crs else None


def test_points_need_no_crs(tmp_path: Path) -> None:
    ccog.write_ccog(pixels(), tmp_path / "x.tif", gcps=CORNERS).compute()
    with rasterio.open(tmp_path / "x.tif") as dataset:
        assert len(dataset.gcps[0]) == 3
        assert not dataset.gcps[1]


def test_xmp_is_kept_to_the_letter(tmp_path: Path) -> None:
    source = SourceFiles(tmp_path).make("tags of all domains")
    assert create(source, tmp_path / "x.tif", {}).exit_code == 0
    with rasterio.open(tmp_path / "x.tif") as dataset:
        assert dataset.tags(ns="xml:XMP")["xml:XMP"] == XMP


def test_tags_can_be_dropped(tmp_path: Path) -> None:
    source = SourceFiles(tmp_path).make("tags of all domains")
    assert create(source, tmp_path / "x.tif", {}, "--no-tags").exit_code == 0
    with rasterio.open(tmp_path / "x.tif") as dataset:
        assert set(dataset.tags()) == {"AREA_OR_POINT"}
        assert dataset.tags()["AREA_OR_POINT"] == "Point"
        assert not dataset.tags(1)
        assert not dataset.tags(ns="xml:XMP")
        assert dataset.descriptions == ("r", "g", "b")


def test_a_path_is_written_as_create_writes_it(tmp_path: Path) -> None:
    source = SourceFiles(tmp_path).make("tags of all domains")
    expected = createcopy(source, tmp_path / "gdal.tif", SMALL)
    assert ccog.write_ccog(source, COG_creation_options=SMALL).compute() == expected
    assert ccog.write_ccog(str(source), COG_creation_options=SMALL).compute() == expected


def test_options_win_over_what_the_file_says(tmp_path: Path) -> None:
    source = SourceFiles(tmp_path).make("tags of all domains")
    options = {"nodata": 7, "crs": "EPSG:32632", "descriptions": ("x", "y", "z")}
    options |= {"update_tags": {0: {"AUTHOR": "you"}}}
    ccog.write_ccog(source, tmp_path / "x.tif", COG_creation_options=options).compute()
    with rasterio.open(tmp_path / "x.tif") as dataset:
        assert dataset.nodata == 7
        assert dataset.crs.to_epsg() == 32632
        assert dataset.descriptions == ("x", "y", "z")
        assert dataset.tags()["AUTHOR"] == "you"
        assert dataset.scales == (1, 0.1, 3)


def jpeg_sources(folder: Path, bands: int) -> dict[str, str]:
    """Rasters by whether GDAL can copy their JPEG data, and by name."""
    files = SourceFiles(folder)
    source, path = files.rgb() if bands == 3 else files.gray(), folder / "j.jpg"
    rasterio.shutil.copy(source, path, driver="JPEG", quality=90)
    rasterio.shutil.copy(path, folder / "of-it.vrt", driver="VRT")
    rasterio.shutil.copy(folder / "of-it.vrt", folder / "of-vrt.vrt", driver="VRT")
    in_tiff = files.copy("in_tiff", source, COMPRESS="JPEG")
    small = f"vrt://{path}?outsize=50%,50%"
    found = {
        "jpeg": str(path),
        "vrt": str(folder / "of-it.vrt"),
        "vrt of vrt": str(folder / "of-vrt.vrt"),
        "nodata": f"vrt://{path}?a_nodata=0",
        "JPEG in TIFF": str(in_tiff),
        "smaller": small,
    }
    return found | ({"bands": f"vrt://{path}?bands=3,2,1"} if bands == 3 else {})


@pytest.mark.tried("a JPEG file with COMPRESS=JPEG, whose data GDAL copies", "a warning")
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize(
    "options",
    [{}, {"QUALITY": "80"}, {"NBITS": "8"}, {"INTERLEAVE": "BAND"}, {"STATISTICS": "YES"}],
)
def test_a_jpeg_is_as_gdal_copies_it_or_the_loss_is_told(
    bands: int, options: dict[str, str], tmp_path: Path
) -> None:
    options = {"COMPRESS": "JPEG"} | options
    for name, source in jpeg_sources(tmp_path, bands).items():
        expected = createcopy(source, tmp_path / "gdal.tif", options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = ccog.write_ccog(source, COG_creation_options=options).compute()
        told = [str(w.message) for w in caught if "JPEG file" in str(w.message)]
        assert (found == expected) == (not told), (name, told)
        assert not told or "QUALITY=95" in told[0]


@pytest.mark.parametrize("interleave", ["PIXEL", "BAND", "TILE"])
def test_one_band_of_jpeg_is_gdal_s_however_bands_lie(interleave: str, tmp_path: Path) -> None:
    options = SMALL | {"COMPRESS": "JPEG", "INTERLEAVE": interleave}
    assert_as_createcopy(SourceFiles(tmp_path).gray(), tmp_path, options)


def test_a_jpeg_in_another_compression_is_not_warned_of(tmp_path: Path) -> None:
    source = jpeg_sources(tmp_path, 3)["jpeg"]
    for options in ({}, {"COMPRESS": "WEBP"}, {"COMPRESS": "DEFLATE"}):
        assert_as_createcopy(Path(source), tmp_path, options)
        (tmp_path / "ccog.tif").unlink()


ROTATED_POLE = (
    "+proj=ob_tran +o_proj=longlat +o_lon_p=-162 +o_lat_p=39.25 +lon_0=180 "
    "+to_meter=0.0174532925199433"
)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("category names", {}, r"category names are left out.*\.aux\.xml"),
        ("RPB and IMD beside it", {}, r"IMD metadata is left out.*\.IMD.*COPY_SRC_MDD=YES"),
        ("gray", {"crs": ROTATED_POLE}, r"the CRS is left out.*\.aux\.xml.*reproject"),
    ],
)
def test_what_gdal_keeps_beside_the_file_is_named(
    name: str, options: dict[str, str], text: str, tmp_path: Path
) -> None:
    source = SourceFiles(tmp_path).make(name)
    with pytest.warns(ccog.CCOGWarning, match=text):
        ccog.write_ccog(source, **options)


@pytest.mark.tried("an array with a CRS that GeoTIFF has no keys for", "a warning: it is left out")
def test_a_crs_that_tiff_cannot_hold_is_warned_of() -> None:
    with pytest.warns(ccog.CCOGWarning, match="the CRS is left out"):
        ccog.write_ccog(pixels(), crs=ROTATED_POLE, transform=(1, 0, 0, 0, -1, 0))


@pytest.mark.filterwarnings("error::ccog.CCOGWarning")
def test_what_the_file_keeps_is_not_warned_of(tmp_path: Path) -> None:
    source = SourceFiles(tmp_path).make("RPB and IMD beside it")
    ccog.write_ccog(source, copy_src_mdd="YES")
    ccog.write_ccog(SourceFiles(tmp_path).make("tags of all domains"))


def test_bands_of_several_types_are_stored_as_the_first(tmp_path: Path) -> None:
    files = SourceFiles(tmp_path)
    source = files.vrt("mixed", files.rgb(), ("Byte", 1, ""), ("Int16", 2, ""), ("Byte", 3, ""))
    assert_as_createcopy(source, tmp_path, {})
    with pytest.warns(ccog.CCOGWarning, match="uint8, int16, uint8"):
        ccog.write_ccog(source)


@pytest.mark.parametrize(("dtype", "name"), [("int64", "Int64"), ("uint64", "UInt64")])
def test_the_largest_nodata_of_64_bits_stays_out_of_overviews(
    dtype: str, name: str, tmp_path: Path
) -> None:
    files, nodata = SourceFiles(tmp_path), np.iinfo(dtype).max
    values = np.random.default_rng(0).integers(0, 1000, (1, 300, 260)).astype(dtype)
    values[:, 51:200, 31:150] = nodata
    inside = f"<NoDataValue>{nodata}</NoDataValue>"
    source = files.vrt("largest", files.tif("pixels", values), (name, 1, inside))
    options = {"blocksize": 128, "overview_resampling": "average"}
    ccog.write_ccog(source, tmp_path / "x.tif", COG_creation_options=options).compute()
    for level in (0, 1):
        with rasterio.open(tmp_path / "x.tif", overview_level=level) as dataset:
            found = dataset.read()
        assert found[found != nodata].max() < 1000
        assert (found == nodata).any()


REAL = sorted(path for path in DATA.glob("*.*") if path.suffix != ".md")
# each file with every second set, each set with every second file
TURNS = [(path, n) for k, path in enumerate(REAL) for n in range(k % 2, len(SETS), 2)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ccog.CCOGWarning")
@pytest.mark.skipif(not REAL, reason="the folder of real rasters is not here")
@pytest.mark.parametrize(("path", "number"), TURNS, ids=lambda value: getattr(value, "name", value))
def test_real_files_come_out_as_gdal_copies_them(path: Path, number: int, tmp_path: Path) -> None:
    if (path.name, number) in BY_CHANCE:
        pytest.skip(BY_CHANCE[path.name, number])
    assert_as_createcopy(path, tmp_path, SETS[number])
