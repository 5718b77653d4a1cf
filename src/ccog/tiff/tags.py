"""Numbers of the TIFF format by name (TIFF 6.0, BigTIFF, libtiff, GDAL)."""

from __future__ import annotations

# tags
NEW_SUBFILE_TYPE = 254
IMAGE_WIDTH = 256
IMAGE_LENGTH = 257
BITS_PER_SAMPLE = 258
COMPRESSION = 259
PHOTOMETRIC = 262
FILL_ORDER = 266
STRIP_OFFSETS = 273
SAMPLES_PER_PIXEL = 277
ROWS_PER_STRIP = 278
STRIP_BYTE_COUNTS = 279
PLANAR_CONFIG = 284
PREDICTOR = 317
TILE_WIDTH = 322
TILE_LENGTH = 323
TILE_OFFSETS = 324
TILE_BYTE_COUNTS = 325
SAMPLE_FORMAT = 339
JPEG_TABLES = 347
YCBCR_SUBSAMPLING = 530
ICC_PROFILE = 34675
GDAL_METADATA = 42112
GDAL_NODATA = 42113
LERC_PARAMETERS = 50674
XMP = 700

#: Pixel scale, tie points, transformation, and the keys of GeoTIFF with their numbers and texts.
GEOREFERENCING = (33550, 33922, 34264, 34735, 34736, 34737)

#: Transfer function, white point and primaries: tags of the domain COLOR_PROFILE.
COLOURS = (301, 318, 319)

#: Tags whose values GDAL writes behind that of GDAL_NODATA: tile arrays, georeferencing and XMP.
AFTER_NODATA = (TILE_OFFSETS, TILE_BYTE_COUNTS, XMP, *GEOREFERENCING)

# field types
BYTE, ASCII, SHORT, LONG, IFD, LONG8, IFD8 = 1, 2, 3, 4, 13, 16, 18

#: Bytes of one value of each field type.
FIELD_SIZES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}

#: Bits of NEW_SUBFILE_TYPE.
REDUCED, MASK = 1, 4

#: Value of PLANAR_CONFIG where the bands lie one after the other.
SEPARATE = 2

#: Value of PHOTOMETRIC for colours that JPEG separates from brightness.
YCBCR = 6

# values of COMPRESSION
UNCOMPRESSED = 1
LZW = 5
OLD_JPEG = 6
JPEG = 7
DEFLATE = 8
PACKBITS = 32773
OLD_DEFLATE = 32946
JPEG2000 = 34712
LERC = 34887
LZMA = 34925
ZSTD = 50000
WEBP = 50001
JXL = 50002
JXL_DNG = 52546

#: Names of compressions, for people.
COMPRESSION_NAMES = {
    UNCOMPRESSED: "none",
    LZW: "lzw",
    OLD_JPEG: "jpeg (old)",
    JPEG: "jpeg",
    DEFLATE: "deflate",
    PACKBITS: "packbits",
    OLD_DEFLATE: "deflate",
    JPEG2000: "jpeg2000",
    LERC: "lerc",
    LZMA: "lzma",
    ZSTD: "zstd",
    WEBP: "webp",
    JXL: "jxl",
    JXL_DNG: "jxl",
}

#: Names of the values of SAMPLE_FORMAT, as NumPy's.
SAMPLE_FORMAT_NAMES = {
    1: "uint",
    2: "int",
    3: "float",
    4: "void",
    5: "complex_int",
    6: "complex",
}
