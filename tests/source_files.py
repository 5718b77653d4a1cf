"""Raster files of many kinds, made with rasterio and with VRTs, for tests of what files say of themselves."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC

TRANSFORM = rasterio.Affine(10, 0, 5e5, 0, -10, 6e6)
HEIGHT, WIDTH = 203, 317

XMP = "<?xpacket begin='' id='x'?>\n<x:xmpmeta xmlns:x='adobe:ns:meta/'> <a b='c=d'/> &amp; é</x:xmpmeta>  \n<?xpacket end='w'?> "
ICC = base64.b64encode(b"\0\0\0\x80" + b"acsp" * 31).decode()
PRIMARIES = {
    "SOURCE_PRIMARIES_RED": "0.64,0.33,1",
    "SOURCE_PRIMARIES_GREEN": "0.3,0.6,1",
    "SOURCE_PRIMARIES_BLUE": "0.15,0.06,1",
    "SOURCE_WHITEPOINT": "0.31,0.33,1",
}
STATISTICS = {
    "STATISTICS_MINIMUM": "0",
    "STATISTICS_MAXIMUM": "201",
    "STATISTICS_MEAN": "5",
    "STATISTICS_STDDEV": "1",
    "STATISTICS_APPROXIMATE": "YES",
}
RAT = (
    '<GDALRasterAttributeTable tableType="thematic">'
    '<FieldDefn index="0"><Name>Value</Name><Type>0</Type><Usage>5</Usage></FieldDefn>'
    '<FieldDefn index="1"><Name>N</Name><Type>2</Type><Usage>2</Usage></FieldDefn>'
    '<Row index="0"><F>1</F><F>one</F></Row></GDALRasterAttributeTable>'
)
CATEGORIES = "<CategoryNames><Category>a</Category><Category>b</Category></CategoryNames>"

# what satellite operators, MapInfo and GDAL itself put beside an image
RPB = "\n".join(
    [
        'satId = "QB02";\nbandId = "P";\nSpecId = "RPC00B";\nBEGIN_GROUP = IMAGE',
        "  errBias = 56.0;\n  errRand = 0.12;\n  lineOffset = 4100.0;\n  sampOffset = 1234.0;",
        "  latOffset = 39.9;\n  longOffset = -5.6;\n  heightOffset = 100.0;\n  lineScale = 4100.0;",
        "  sampScale = 1234.0;\n  latScale = 0.1;\n  longScale = 0.2;\n  heightScale = 500.0;",
        *(
            f"  {name} = (\n    {(','.join(['1.0'] * 20))});"
            for name in ("lineNumCoef", "lineDenCoef", "sampNumCoef", "sampDenCoef")
        ),
        "END_GROUP = IMAGE\nEND;\n",
    ]
)
IMD = (
    'version = "R";\nBEGIN_GROUP = IMAGE_1\n  satId = "QB02";\n  cloudCover = 0.1;\n'
    "  firstLineTime = 2003-05-11T11:20:22.123456Z;\nEND_GROUP = IMAGE_1\nEND;\n"
)
_RPC_ITEMS = ("LINE", "SAMP", "LAT", "LONG", "HEIGHT")
RPC_TXT = "".join(
    [f"{item}_{kind}: 12.5\n" for kind in ("OFF", "SCALE") for item in _RPC_ITEMS]
    + [
        f"{axis}_{part}_COEFF_{n}: 0.5\n"
        for axis in ("LINE", "SAMP")
        for part in ("NUM", "DEN")
        for n in range(1, 21)
    ]
)
AUX_XML = (
    '<PAMDataset><Metadata><MDI key="A">b</MDI></Metadata><Metadata domain="X"><MDI key="A">b</MDI>'
    '</Metadata><PAMRasterBand band="1"><Description>d</Description></PAMRasterBand></PAMDataset>'
)
TAB = """!table
!version 300
!charset WindowsLatin1

Definition Table
  File "x.tif"
  Type "RASTER"
  (500000,6000000) (0,0) Label "Pt 1",
  (500100,6000000) (10,0) Label "Pt 2",
  (500000,5999900) (0,10) Label "Pt 3"
  CoordSys Earth Projection 8, 104, "m", 3, 0, 0.9996, 500000, 0
  Units "m"
"""


def pixels(count: int = 1, dtype: str = "uint8", high: int = 200, seed: int = 0) -> np.ndarray:
    """Blocks of ten pixels with a little noise, (band, y, x)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, high - 3, (count, HEIGHT // 10 + 1, WIDTH // 10 + 1))
    smooth = coarse.repeat(10, axis=1).repeat(10, axis=2)[:, :HEIGHT, :WIDTH]
    return (smooth + 3 * rng.random((count, HEIGHT, WIDTH))).astype(dtype)


def palette(count: int) -> dict[int, tuple[int, ...]]:
    colours = np.random.default_rng(1).integers(0, 256, (count, 3))
    return {value: (*map(int, colour), 255) for value, colour in enumerate(colours)}


def write_tif(
    path: Path, array: np.ndarray, describe: Callable[[Any], None] | None = None, **profile: Any
) -> Path:
    count, height, width = array.shape
    size = {"count": count, "height": height, "width": width, "dtype": array.dtype.name}
    profile = {"crs": "EPSG:32755", "transform": TRANSFORM} | profile
    with rasterio.open(path, "w", driver="GTiff", **size, **profile) as dataset:
        dataset.write(array)
        if describe is not None:
            describe(dataset)
    return path


def write_vrt(path: Path, source: Path, *bands: tuple[str, int, str]) -> Path:
    """Bands of (type, band of the source, XML inside)."""
    with rasterio.open(source) as dataset:
        wkt = dataset.crs.to_wkt() if dataset.crs else ""
        transform = ",".join(map(repr, dataset.transform.to_gdal()))
        height, width = dataset.shape
    lines = [f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{wkt}</SRS>']
    lines.append(f"<GeoTransform>{transform}</GeoTransform>")
    for number, (dtype, band, inside) in enumerate(bands, 1):
        lines.append(f'<VRTRasterBand dataType="{dtype}" band="{number}">{inside}<SimpleSource>')
        lines.append(f'<SourceFilename relativeToVRT="0">{source}</SourceFilename>')
        lines.append(f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>")
    path.write_text("".join(lines) + "</VRTDataset>")
    return path


def copied(source: Path, target: Path, **options: str) -> Path:
    rasterio.shutil.copy(source, target, driver="GTiff", **options)
    return target


def _colours(*names: str) -> list[str]:
    return [f"<ColorInterp>{name}</ColorInterp>" for name in names]


def _tags(dataset: Any) -> None:
    name, _, value = XMP.partition("=")
    dataset.update_tags(ns="xml:XMP", **{name: value})
    dataset.update_tags(TIFFTAG_SOFTWARE="me", AUTHOR="a <&> b\nc", AREA_OR_POINT="Point")
    dataset.update_tags(1, STATISTICS_MINIMUM="0", WAVE="1")
    dataset.update_tags(ns="MINE", A="b")
    dataset.update_tags(1, ns="MINE", C="d")
    dataset.update_tags(ns="IMAGERY", CLOUDCOVER="3")
    dataset.descriptions = ("r", "g", "b")
    dataset.units = ("m", "", "K")
    dataset.scales = (1, 0.1, 3)
    dataset.offsets = (0, 1, 2)


def _points(dataset: Any) -> None:
    places = [(row, col) for row in (0, 100, 202) for col in (0, 316)]
    points = [
        GroundControlPoint(row + 0.123456789, col + 0.3, col + 1 / 3, 2 / 7 - row, 1 / 9)
        for row, col in places
    ]
    dataset.gcps = (points, rasterio.crs.CRS.from_epsg(4326))


def _rpcs(dataset: Any) -> None:
    ones, thirds = [1.0] * 20, [1 / 3] * 20
    dataset.rpcs = RPC(1, 2, 3, 4, ones, thirds, 5, 6, 7, 8, ones, thirds, 9, 10, None, None)


def _rgba(dataset: Any) -> None:
    dataset.colorinterp = tuple(map(ColorInterp, (3, 4, 5, 6)))


class SourceFiles:
    """Makes files by name in a folder; what a file is made of is made beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, name: str) -> Path:
        return MAKERS[name](self)

    def path(self, name: str) -> Path:
        return self.folder / name

    def tif(self, name: str, *args: Any, **profile: Any) -> Path:
        return write_tif(self.path(f"{name}.tif"), *args, **profile)

    def beside(self, files: dict[str, str], **profile: Any) -> Path:
        """A file and others beside it, by their endings."""
        for ending, text in files.items():
            self.path(f"x{ending}").write_text(text)
        return self.tif("x", pixels(), **profile)

    def vrt(self, name: str, source: Path, *bands: tuple[str, int, str]) -> Path:
        return write_vrt(self.path(f"{name}.vrt"), source, *bands)

    def copy(self, name: str, source: Path, **options: str) -> Path:
        return copied(source, self.path(f"{name}.tif"), **options)

    def rgb(self) -> Path:
        return self.tif("rgb", pixels(3), photometric="rgb")

    def rgba(self) -> Path:
        return self.tif("rgba", pixels(4), _rgba)

    def gray(self) -> Path:
        return self.tif("gray", pixels())

    def one_band(self, name: str, dtype: str, inside: str, source: Path | None = None) -> Path:
        return self.vrt(name, source or self.gray(), (dtype, 1, inside))

    def coloured(self, name: str, *colours: str, source: Path | None = None) -> Path:
        bands = enumerate(_colours(*colours), 1)
        source = source or (self.rgba() if len(colours) > 3 else self.rgb())
        return self.vrt(name, source, *(("Byte", band, inside) for band, inside in bands))

    def paletted(self, name: str, dtype: str = "uint8", **profile: Any) -> Path:
        values = pixels(1, dtype, 40) % 23
        return self.tif(name, values, lambda d: d.write_colormap(1, palette(23)), **profile)

    def complex64(self) -> Path:
        return self.tif("complex", pixels(seed=1) + np.complex64(1j) * pixels(seed=2))

    def integers(self) -> Path:
        return self.tif("int64", pixels(dtype="int64"))


Make = Callable[[SourceFiles], Path]

MAKERS: dict[str, Make] = {
    "rgb": SourceFiles.rgb,
    "rgba": SourceFiles.rgba,
    "gray": SourceFiles.gray,
    "tags of all domains": lambda f: f.tif("tags", pixels(3), _tags),
    "statistics": lambda f: f.tif("stats", pixels(), lambda d: d.update_tags(1, **STATISTICS)),
    "ICC profile": lambda f: f.copy("icc", f.rgb(), SOURCE_ICC_PROFILE=ICC),
    "colour primaries": lambda f: f.copy("primaries", f.rgb(), **PRIMARIES),
    "premultiplied alpha": lambda f: f.copy("pre", f.rgba(), ALPHA="PREMULTIPLIED"),
    "MINISWHITE": lambda f: f.copy("white", f.gray(), PHOTOMETRIC="MINISWHITE"),
    "1 bit": lambda f: f.copy("n1", f.tif("b", pixels(high=5) % 2), NBITS="1"),
    "7 bits": lambda f: f.copy("n7", f.tif("b", pixels(high=128)), NBITS="7"),
    "12 bits": lambda f: f.copy("n12", f.tif("b", pixels(1, "uint16", 4096)), NBITS="12"),
    "half floats": lambda f: f.copy("n16", f.tif("b", pixels(1, "float32")), NBITS="16"),
    "YCbCr JPEG": lambda f: f.copy("y", f.rgb(), COMPRESS="JPEG", PHOTOMETRIC="YCBCR"),
    "RGB JPEG": lambda f: f.copy("jpeg", f.rgb(), COMPRESS="JPEG"),
    "LZW bands": lambda f: f.copy("lzw", f.rgb(), COMPRESS="LZW", INTERLEAVE="BAND"),
    "ZSTD": lambda f: f.copy("zstd", f.rgb(), COMPRESS="ZSTD"),
    "palette": lambda f: f.paletted("pal"),
    "palette with nodata": lambda f: f.paletted("pal", nodata=3),
    "16-bit palette": lambda f: f.paletted("pal", "uint16"),
    "pixels are points": lambda f: f.tif(
        "point", pixels(), lambda d: d.update_tags(AREA_OR_POINT="Point")
    ),
    "ground control points": lambda f: f.tif("gcps", pixels(), _points, crs=None, transform=None),
    "RPB and IMD beside it": lambda f: f.beside({".RPB": RPB, ".IMD": IMD}),
    "RPB beside it, and no place": lambda f: f.beside({".RPB": RPB}, crs=None, transform=None),
    "RPC.TXT beside it": lambda f: f.beside({"_RPC.TXT": RPC_TXT}),
    "aux.xml beside it": lambda f: f.beside({".tif.aux.xml": AUX_XML}),
    "world file beside it": lambda f: f.beside(
        {".tfw": "10\n0\n0\n-10\n500005\n5999995\n"}, crs=None, transform=None
    ),
    "MapInfo's .tab beside it": lambda f: f.beside({".tab": TAB}, crs=None, transform=None),
    "RPCs": lambda f: f.tif("rpcs", pixels(), _rpcs),
    "no CRS": lambda f: f.tif("nocrs", pixels(), crs=None),
    "no georeferencing": lambda f: f.tif("nogeo", pixels(), crs=None, transform=None),
    "rotated": lambda f: f.tif("rot", pixels(), transform=rasterio.Affine(9, 3, 1, 2, -9, 6e6)),
    "south up": lambda f: f.tif("up", pixels(), transform=rasterio.Affine(9, 0, 1, 0, 9, 6e6)),
    "compound CRS": lambda f: f.tif("compound", pixels(), crs="EPSG:32631+5773"),
    "CRS without a code": lambda f: f.tif("aeqd", pixels(), crs="+proj=aeqd +lat_0=53 +lon_0=24"),
    "int64 nodata": lambda f: f.one_band(
        "i64", "Int64", "<NoDataValue>-9223372036854775808</NoDataValue>", f.integers()
    ),
    "uint64 nodata": lambda f: f.one_band(
        "u64", "UInt64", "<NoDataValue>9223372036854775808</NoDataValue>", f.integers()
    ),
    "CInt16": lambda f: f.one_band("c16", "CInt16", "", f.complex64()),
    "CInt32": lambda f: f.one_band("c32", "CInt32", "", f.complex64()),
    "complex": SourceFiles.complex64,
    "one alpha band": lambda f: f.coloured("a", "Alpha", source=f.gray()),
    "alpha first": lambda f: f.coloured("ag", "Alpha", "Gray"),
    "alpha first of four": lambda f: f.coloured("argb", "Alpha", "Red", "Green", "Blue"),
    "gray and alpha": lambda f: f.coloured("ga", "Gray", "Alpha"),
    "BGR": lambda f: f.coloured("bgr", "Blue", "Green", "Red"),
    "CMYK": lambda f: f.coloured("cmyk", "Cyan", "Magenta", "Yellow", "Black"),
    "YCbCr bands": lambda f: f.coloured("ycc", "YCbCr_Y", "YCbCr_Cb", "YCbCr_Cr"),
    "near infrared": lambda f: f.coloured("nir", "NIR", "RedEdge"),
    "palette without a table": lambda f: f.coloured("p", "Palette", source=f.gray()),
    "category names": lambda f: f.one_band("cat", "Byte", CATEGORIES),
    "attribute table": lambda f: f.one_band("rat", "Byte", RAT),
    "NaN": lambda f: f.tif(
        "nan", np.where(pixels() > 99, np.nan, pixels(1, "float32")).astype("f4"), nodata=np.nan
    ),
    "hidden nodata": lambda f: f.one_band(
        "h", "Byte", "<NoDataValue>5</NoDataValue><HideNoDataValue>1</HideNoDataValue>"
    ),
    "lowest float as nodata": lambda f: f.tif(
        "low", pixels(1, "float32"), nodata=-3.4028234663852886e38
    ),
}
