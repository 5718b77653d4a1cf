"""A block -> the bytes of its tiles, compressed by the installed GDAL's GTiff driver.

The GTiff driver compresses inside ``write`` with the interpreter lock released. Its tiles are the
COG driver's, byte for byte. Those of DEFLATE need no driver where its library gives the same bytes
(:mod:`ccog.gdal.deflate`). Each tile gets its leader and trailer, and its mask tile behind it.
"""

from __future__ import annotations

import functools
import itertools
import struct
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio.io import MemoryFile

from ccog.errors import EncodeError
from ccog.gdal.blank import is_blank, is_nodata
from ccog.gdal.deflate import TRIAL_SIDE, TileKind, deflated_tiles, tile_count, tile_kind
from ccog.gdal.lerc import lerc_tiles
from ccog.gdal.rasterio_edges import GDAL_FAILURES, SILENT_TRANSFORM, MemoryDataset
from ccog.gdal.uncompressed import plain_tiles
from ccog.geometry.intervals import ceil_div
from ccog.tiff import directories as tiff
from ccog.tiff import tags
from ccog.tiff.tile_tags import TileTags

Array = npt.NDArray[Any]

#: Consecutive bytes of the file: tiles of one tile row.
TileBytes = bytes | npt.NDArray[np.uint8]

#: What to do where GDAL did not do as it was told.
UNKNOWN_OPTION = (
    "An option of GDAL that ccog does not know seems to be set in rasterio.Env or in the "
    "environment of this process: remove it"
)

#: Bytes of each tile, (plane, tile row, tile column).
Sizes = npt.NDArray[np.uint32]


class EncodedTiles(NamedTuple):
    """The compressed tiles of a block.

    ``planes`` has the file bytes of each tile row of each plane that lies apart in the file. A
    mask is the last of these in a planar file and in one that lies chunk by chunk; elsewhere each
    mask tile follows its image tile. Sizes are of tiles without leaders and trailers.
    """

    planes: list[list[TileBytes]]
    image_sizes: Sizes
    mask_sizes: Sizes | None


@dataclass(frozen=True)
class Codec:
    """GTiff creation options for the tiles of a level and of its mask, as (name, value) pairs.

    ``dtype`` is rasterio's name of the pixels' type in the file. Bands are compressed apart where
    ``planar``, and their tiles still lie side by side where ``by_tile``. In ``layout="chunk"``
    (``by_chunk``) mask tiles lie behind all of the image. ``framed`` tiles have leaders and
    trailers. ``tile_tags`` and ``mask_tile_tags`` are what the header says of the tiles.
    """

    blocksize: int
    dtype: str
    image: tuple[tuple[str, str], ...]
    mask: tuple[tuple[str, str], ...]
    nodata: float | int | None
    sparse: bool
    planar: bool
    by_tile: bool = False
    is_mask: bool = False
    by_chunk: bool = False
    framed: bool = True
    tile_tags: TileTags | None = None
    mask_tile_tags: TileTags | None = None

    @property
    def of_mask(self) -> Codec:
        """How mask tiles are compressed."""
        return replace(
            self,
            dtype="uint8",
            image=self.mask,
            tile_tags=self.mask_tile_tags,
            nodata=None,
            planar=False,
            is_mask=True,
        )

    @property
    def compression(self) -> str:
        """GTiff's name of how image tiles are compressed."""
        return dict(self.image).get("compress", "")

    def planes(self, count: int) -> int:
        """How many planes ``count`` bands are compressed in."""
        return count if self.planar else 1

    def parted(self, pixels: Array) -> list[Array]:
        """The pixels (band, y, x) of each plane."""
        return list(pixels[:, np.newaxis]) if self.planar else [pixels]

    @property
    def by_plane(self) -> bool:
        """Whether each band, and then the mask, has a part of the file of its own."""
        return self.planar and not self.by_tile


def encode_block(pixels: Array, mask: Array | None, codec: Codec) -> EncodedTiles:
    """Compress a block whose origin is a tile corner.

    Parameters
    ----------
    pixels
        (band, y, x); sides that are not multiples of the tile are edges of the raster.
    mask
        (y, x) uint8, non-zero valid, or None.

    Raises
    ------
    EncodeError
        GDAL could not compress the block.
    """
    if codec.dtype == "complex_int32":
        pixels, codec = _as_one_integer(pixels), replace(codec, dtype="int64")
    if mask is None and _is_plain(pixels, codec):
        return _plain_tiles(pixels, codec)
    strips = [_encode_strip(pixels, mask, rows, codec) for rows in _strips(pixels, codec.blocksize)]
    planes = zip(*(strip.planes for strip in strips), strict=True)
    mask_sizes = [strip.mask_sizes for strip in strips if strip.mask_sizes is not None]
    return EncodedTiles(
        [list(itertools.chain(*rows)) for rows in planes],
        np.concatenate([strip.image_sizes for strip in strips], axis=1),
        np.concatenate(mask_sizes, axis=1) if mask_sizes else None,
    )


def _as_one_integer(pixels: Array) -> Array:
    """Complex pixels of two 32-bit integers, for which rasterio has no type, as one of 64 bits.

    To the encoders of TIFF they are the same bytes.
    """
    parts = np.stack([pixels.real, pixels.imag], axis=-1).astype(np.int32)
    return parts.view(np.int64)[..., 0]


def _encode_strip(pixels: Array, mask: Array | None, rows: slice, codec: Codec) -> EncodedTiles:
    columns = ceil_div(pixels.shape[2], codec.blocksize)
    with ExitStack() as files:
        image = _compress(files, pixels[:, rows], codec)
        masks = []
        if mask is not None:
            valid = (mask[rows] != 0).view(np.uint8)[np.newaxis]
            masks = _compress(files, valid, codec.of_mask)
        planes = [
            _tile_rows(interleaved, columns, framed=codec.framed)
            for interleaved in _interleaved(image, masks, codec)
        ]
        mask_sizes = _sizes(masks, columns) if masks else None
        return EncodedTiles(planes, _sizes(image, columns), mask_sizes)


def _interleaved(
    image: list[list[memoryview]], masks: list[list[memoryview]], codec: Codec
) -> list[list[list[memoryview]]]:
    """For each plane that lies apart in the file, the lists whose tiles take turns in it."""
    if codec.by_plane:
        return [[tiles] for tiles in image + masks]
    if masks and codec.by_chunk:
        return [image, masks]
    return [image + masks]


def _is_plain(pixels: Array, codec: Codec) -> bool:
    """Whether tiles are the pixels as they are: whole, present, neither compressed nor packed."""
    whole = not any(side % codec.blocksize for side in pixels.shape[1:])
    plain = codec.image == (("compress", "NONE"),) and codec.dtype == pixels.dtype.name
    if codec.tile_tags is not None and codec.tile_tags.compression != tags.UNCOMPRESSED:
        return False
    return whole and plain and not (codec.sparse or codec.planar)


def _plain_tiles(pixels: Array, codec: Codec) -> EncodedTiles:
    rows, columns = (side // codec.blocksize for side in pixels.shape[1:])
    size = codec.blocksize**2 * len(pixels) * pixels.itemsize
    tile_rows = plain_tiles(pixels, codec.blocksize, framed=codec.framed)
    return EncodedTiles([list(tile_rows)], np.full((1, rows, columns), size, np.uint32), None)


def _sizes(planes: list[list[memoryview]], columns: int) -> Sizes:
    sizes = np.array([list(map(len, tiles)) for tiles in planes], np.uint32)
    return sizes.reshape(len(planes), -1, columns)


def _tile_rows(
    interleaved: list[list[memoryview]], columns: int, *, framed: bool
) -> list[TileBytes]:
    """File bytes of each tile row, the tiles of the given lists taken in turn."""
    in_turn = list(itertools.chain(*zip(*interleaved, strict=True)))
    length = columns * len(interleaved)
    rows = [in_turn[at : at + length] for at in range(0, len(in_turn), length)]
    return [_joined(tiles, framed=framed) for tiles in rows]


def _joined(tiles: list[memoryview], *, framed: bool) -> TileBytes:
    """All bytes of some tiles; NumPy copies them without the interpreter lock.

    A framed tile is between its size and its last bytes (COG driver, BLOCK_LEADER, BLOCK_TRAILER).
    """
    pieces: list[bytes | memoryview] = []
    for tile in filter(None, tiles):
        pieces += [struct.pack("<I", len(tile)), tile, tile[-4:]] if framed else [tile]
    arrays = [np.frombuffer(piece, np.uint8) for piece in pieces]
    return np.concatenate(arrays) if arrays else b""


# of more bands rasterio's ``write`` takes time that grows with their square: it looks for each
# among all of them
_MANY_BANDS = 256

# with fewer bytes of pixels the driver is used: the first tiles of a kind are compressed both ways,
# which must pay
_LEAST_DEFLATED = 1 << 20

# pixels are compressed in strips of whole tile rows of about this size: these fit the cache, and
# little is held twice
_STRIP_BYTES = 4 << 20


def _strips(pixels: Array, blocksize: int) -> list[slice]:
    row_bytes = blocksize * pixels.shape[2] * len(pixels) * pixels.itemsize
    rows = blocksize * max(1, _STRIP_BYTES // row_bytes)
    return [slice(top, top + rows) for top in range(0, pixels.shape[1], rows)]


def _compress(files: ExitStack, pixels: Array, codec: Codec) -> list[list[memoryview]]:
    """Tiles of each plane of a strip, row-major, empty where sparse.

    They are valid while ``files`` is open.
    """
    if _is_sparse(pixels, codec):
        missing = [memoryview(b"")] * tile_count(pixels, codec.blocksize)
        return [missing] * codec.planes(len(pixels))
    if codec.compression.startswith("LERC") and codec.dtype in ("uint8", "int8"):
        return _lerc_of_bytes(files, pixels, codec)
    return _deflated(pixels, codec) or _compress_by_driver(files, pixels, codec)


def _lerc_of_bytes(files: ExitStack, pixels: Array, codec: Codec) -> list[list[memoryview]]:
    pixels = _whole_tiles(pixels, codec.blocksize)
    alone = replace(codec, planar=False, tile_tags=codec.tile_tags and codec.tile_tags.of_plane())
    # threads would compress tiles in buffers of their own
    options = dict(codec.image) | {"num_threads": "1"}

    def compress(part: Array, compression: str) -> list[memoryview]:
        image = tuple((options | {"compress": compression}).items())
        tile_tags = alone.tile_tags if compression == codec.compression else None
        (tiles,) = _compress_by_driver(
            files, part, replace(alone, image=image, tile_tags=tile_tags)
        )
        return tiles

    planes = codec.parted(pixels)
    return [lerc_tiles(plane, codec.blocksize, codec.compression, compress) for plane in planes]


def _deflated(pixels: Array, codec: Codec) -> list[list[memoryview]] | None:
    """The tiles, where libdeflate gives those of the driver and there are enough to be quicker."""
    if codec.sparse or pixels.nbytes < _LEAST_DEFLATED or pixels.dtype.name != codec.dtype:
        return None
    planes = codec.parted(pixels)
    kind = tile_kind(planes[0], dict(codec.image))
    if kind is None or not _is_as_by_driver(kind, codec.image):
        return None
    return [deflated_tiles(plane, codec.blocksize, kind) for plane in planes]


@functools.cache
def _is_as_by_driver(kind: TileKind, options: tuple[tuple[str, str], ...]) -> bool:
    """Whether tiles of a kind, whole ones and those at edges, are the driver's, byte for byte."""
    pixels = kind.trial
    codec = Codec(
        blocksize=TRIAL_SIDE,
        dtype=kind.dtype,
        image=options,
        mask=(),
        nodata=None,
        sparse=False,
        planar=False,
    )
    with ExitStack() as files:
        (expected,) = _compress_by_driver(files, pixels, codec)
        return expected == deflated_tiles(pixels, TRIAL_SIDE, kind)


def _compress_by_driver(files: ExitStack, pixels: Array, codec: Codec) -> list[list[memoryview]]:
    """Tiles of each plane of a strip, as the GTiff driver compresses them."""
    planes, options = codec.planes(len(pixels)), dict(codec.image)
    if "nbits" in options and (len(pixels) > 1 or codec.planar):
        # GDAL fills the rest of tiles at the edges with what its memory happens to hold
        pixels = _whole_tiles(pixels, codec.blocksize)
    count, height, width = pixels.shape
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": codec.dtype,
        "tiled": True,
        "blockxsize": codec.blocksize,
        "blockysize": codec.blocksize,
        "bigtiff": "YES",
        "sparse_ok": codec.sparse,
        "nodata": codec.nodata,
        "interleave": "band" if codec.planar and count > 1 else "pixel",
        "transform": SILENT_TRANSFORM,
        **options,
    }
    try:
        memory = files.enter_context(MemoryFile())
        if _is_copied(pixels, codec, options):
            _write_by_copy(pixels, memory, profile)
        else:
            with memory.open(**profile) as dataset:
                dataset.write(pixels)
        tiles = _tiles_of(memoryview(memory.getbuffer()), codec)
    except GDAL_FAILURES as error:
        raise EncodeError(
            f"GDAL {rasterio.__gdal_version__} could not compress a block of "
            f"{count} x {height} x {width} {pixels.dtype.name} with {options}: {error}"
        ) from error
    size = len(tiles) // planes
    return [tiles[n * size : (n + 1) * size] for n in range(planes)]


def _is_sparse(pixels: Array, codec: Codec) -> bool:
    """Whether GDAL would leave out all tiles.

    It leaves out tiles of nodata, or of zeros where there is no such value, but for those of
    complex data and at the edges of masks.
    """
    if not codec.sparse or codec.is_mask or pixels.dtype.kind == "c":
        return False
    if codec.nodata in (None, 0):
        return is_blank(pixels)
    return is_nodata(pixels, codec.nodata)


def _is_copied(pixels: Array, codec: Codec, options: dict[str, str]) -> bool:
    """Whether only CreateCopy of GTiff makes the COG driver's tiles, or is far quicker.

    libtiff's LZMA then filters bytes, not samples, and its JPEG numbers the components of planes
    otherwise.
    """
    count = len(pixels)
    if codec.compression == "JPEG" and ("interleave" in options or (codec.planar and count > 1)):
        return True
    return codec.compression == "LZMA" or count > _MANY_BANDS


def _whole_tiles(pixels: Array, blocksize: int) -> Array:
    """Pixels padded with zeros to whole tiles."""
    down, right = (-side % blocksize for side in pixels.shape[1:])
    return np.pad(pixels, ((0, 0), (0, down), (0, right)))


# options of the source of a copy: some are of the copy too, others are not
_ONLY_SOURCE_KEYS = ("count", "height", "width", "dtype", "transform", "nbits", "nodata")
_SOURCE_KEYS = ("driver", "interleave", *_ONLY_SOURCE_KEYS[:-1])


def _write_by_copy(pixels: Array, memory: MemoryFile, profile: dict[str, Any]) -> None:
    """Write as the COG driver does, by CreateCopy."""
    plain = {key: profile[key] for key in _SOURCE_KEYS if key in profile}
    creation = {key: value for key, value in profile.items() if key not in _ONLY_SOURCE_KEYS}
    options = {key: str(value).upper() for key, value in creation.items() if value is not None}
    is_plain = pixels.dtype.name == profile["dtype"] and "nbits" not in plain
    if is_plain and not profile["nodata"]:
        with MemoryDataset(np.ascontiguousarray(pixels)) as source:
            rasterio.shutil.copy(source, memory.name, copy_src_overviews="YES", **options)
        return
    with MemoryFile() as file:
        with file.open(**plain) as dataset:
            dataset.write(pixels)
        rasterio.shutil.copy(file.name, memory.name, copy_src_overviews="YES", **options)


def _tiles_of(data: memoryview, codec: Codec) -> list[memoryview]:
    directory = tiff.parse(data).directories[0]
    found = TileTags.of(directory)
    if codec.tile_tags is not None and codec.tile_tags != found:
        raise EncodeError(
            f"the header and the tiles would differ in {codec.tile_tags.differences(found)}. "
            f"{UNKNOWN_OPTION}"
        )
    offsets = directory.array(tags.TILE_OFFSETS).tolist()
    counts = directory.array(tags.TILE_BYTE_COUNTS).tolist()
    return [data[at : at + size] for at, size in zip(offsets, counts, strict=True)]
