"""A work block -> the bytes of its tiles, compressed by the installed GDAL's GTiff driver.

The GTiff driver compresses inside ``write`` with the interpreter lock released; its tiles are the COG
driver's, byte for byte. Each tile gets its leader and trailer, and its mask tile behind it.
"""

from __future__ import annotations

import struct
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from ccog.errors import EncodeError
from ccog.gdal.blank import is_blank
from ccog.gdal.rasterio_edges import CPLE_BaseError, MemoryDataset
from ccog.gdal.uncompressed import plain_tiles
from ccog.tiff import directories as tiff

Array = npt.NDArray[Any]

#: Consecutive bytes of the file.
Segment = bytes | npt.NDArray[np.uint8]

#: Tiles of a block: file bytes of each tile row of each plane (the mask of a planar file, or of one that lies chunk by
#: chunk, is its last plane, else mask tiles follow their image tiles), tile byte counts (planes, tile rows, tile
#: columns), and the mask's or None.
Tiles = tuple[list[list[Segment]], npt.NDArray[np.uint32], "npt.NDArray[np.uint32] | None"]


@dataclass(frozen=True)
class Codec:
    """GTiff creation options for the tiles of a level and of its mask, as (name, value) pairs.

    ``dtype`` is rasterio's name of the pixels' type in the file. Bands are compressed apart
    where ``planar``, and their tiles still lie side by side where ``by_tile``. Of ``layout="chunk"`` (``by_chunk``)
    tiles have no leaders and trailers, and those of masks lie behind all of the image.
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

    @property
    def of_mask(self) -> Codec:
        """How mask tiles are compressed."""
        return replace(
            self, dtype="uint8", image=self.mask, nodata=None, planar=False, is_mask=True
        )

    def planes(self, count: int) -> int:
        """How many planes ``count`` bands are compressed in."""
        return count if self.planar else 1

    @property
    def by_plane(self) -> bool:
        """Whether each band, and then the mask, has a stretch of the file of its own."""
        return self.planar and not self.by_tile


def encode_block(pixels: Array, mask: Array | None, codec: Codec) -> Tiles:
    """Compress a block whose origin is a tile corner.

    Parameters
    ----------
    pixels
        (band, y, x); sides that are no multiple of the tile are edges of the raster.
    mask
        (y, x) uint8, non-zero valid, or None.

    Raises
    ------
    EncodeError
        GDAL could not compress the block.
    """
    if mask is None and _is_plain(pixels, codec):
        return _plain_tiles(pixels, codec)
    columns = -(-pixels.shape[2] // codec.blocksize)
    planes = codec.planes(len(pixels))
    mask_plane = mask is not None and (codec.by_plane or codec.by_chunk)
    segments: list[list[Segment]] = [
        [] for _ in range((planes if codec.by_plane else 1) + mask_plane)
    ]
    counts, mask_counts = [], []
    for rows in _strips(pixels, codec.blocksize):
        with ExitStack() as files:
            tiles = _compress(files, pixels[:, rows], codec)
            counts.append(_counts(tiles, columns))
            masks = []
            if mask is not None:
                valid = (mask[rows] != 0).view(np.uint8)[np.newaxis]
                masks = _compress(files, valid, codec.of_mask)
                mask_counts.append(_counts(masks, columns))
            images = (
                [[plane] for plane in tiles]
                if codec.by_plane
                else [tiles if mask_plane else tiles + masks]
            )
            for plane, interleaved in zip(
                segments, [*images, masks] if mask_plane else images, strict=True
            ):
                plane += _tile_rows(interleaved, columns, framed=not codec.by_chunk)
    return (
        segments,
        np.concatenate(counts, axis=1),
        np.concatenate(mask_counts, axis=1) if mask_counts else None,
    )


def _is_plain(pixels: Array, codec: Codec) -> bool:
    """Whether the tiles are the pixels as they are: whole, all present, neither compressed nor packed."""
    whole = not any(side % codec.blocksize for side in pixels.shape[1:])
    plain = codec.image == (("compress", "NONE"),) and codec.dtype == pixels.dtype.name
    return whole and plain and not (codec.sparse or codec.planar)


def _plain_tiles(pixels: Array, codec: Codec) -> Tiles:
    rows, columns = (side // codec.blocksize for side in pixels.shape[1:])
    size = codec.blocksize**2 * len(pixels) * pixels.itemsize
    return (
        [list(plain_tiles(pixels, codec.blocksize, framed=not codec.by_chunk))],
        np.full((1, rows, columns), size, np.uint32),
        None,
    )


def _counts(planes: list[list[memoryview]], columns: int) -> npt.NDArray[np.uint32]:
    return np.array([[len(t) for t in tiles] for tiles in planes], np.uint32).reshape(
        len(planes), -1, columns
    )


def _tile_rows(interleaved: list[list[memoryview]], columns: int, *, framed: bool) -> list[bytes]:
    """File bytes of each tile row, the tiles of the given lists taken in turn."""
    size = len(interleaved[0])
    return [
        b"".join(
            part
            for n in range(at, at + columns)
            for tiles in interleaved
            for part in (_framed(tiles[n]) if framed else (tiles[n],))
        )
        for at in range(0, size, columns)
    ]


def _framed(tile: memoryview) -> tuple[bytes | memoryview, ...]:
    """A tile between its size and its last four bytes repeated (COG driver, BLOCK_LEADER and BLOCK_TRAILER)."""
    return (struct.pack("<I", len(tile)), tile, tile[-4:]) if tile else ()


# any but the identity, which rasterio would warn of
_SILENT_TRANSFORM = rasterio.Affine(1, 0, 1, 0, -1, 1)

# of more bands rasterio's ``write`` takes time that grows with their square: it looks for each among all of them
_MANY_BANDS = 256

# pixels are compressed in strips of whole tile rows of about this size: in cache, and little held twice
_STRIP_BYTES = 4 << 20


def _strips(pixels: Array, blocksize: int) -> list[slice]:
    row_bytes = blocksize * pixels.shape[2] * len(pixels) * pixels.itemsize
    rows = blocksize * max(1, _STRIP_BYTES // row_bytes)
    return [slice(top, top + rows) for top in range(0, pixels.shape[1], rows)]


def _compress(files: ExitStack, pixels: Array, codec: Codec) -> list[list[memoryview]]:
    """Tiles of each plane of a strip in row-major order, empty where sparse; valid while ``files`` is open."""
    if _is_sparse(pixels, codec):
        return [
            [memoryview(b"")] * _tile_count(pixels, codec.blocksize)
            for _ in range(codec.planes(len(pixels)))
        ]
    options = dict(codec.image)
    if _padded_by_chance(pixels, codec, options):
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
        "transform": _SILENT_TRANSFORM,
        **options,
    }
    try:
        memory = files.enter_context(MemoryFile())
        if _is_copied(pixels, codec, options):
            _write_by_copy(pixels, memory, profile)
        else:
            with memory.open(**profile) as dataset:
                dataset.write(pixels)
        tiles = _tiles_of(memoryview(memory.getbuffer()))
    except (RasterioError, CPLE_BaseError, SystemError, TypeError, ValueError) as error:
        raise EncodeError(
            f"GDAL {rasterio.__gdal_version__} could not compress a block of {count} x {height} x {width} "
            f"{pixels.dtype.name} with {options}: {error}"
        ) from error
    planes = codec.planes(len(pixels))
    size = len(tiles) // planes
    return [tiles[n * size : (n + 1) * size] for n in range(planes)]


def _is_sparse(pixels: Array, codec: Codec) -> bool:
    """Whether GDAL would leave out all tiles of zeros; it compresses those of complex data, and edges of masks."""
    able = (
        codec.sparse
        and codec.nodata in (None, 0)
        and not codec.is_mask
        and pixels.dtype.kind != "c"
    )
    return able and is_blank(pixels)


def _is_copied(pixels: Array, codec: Codec, options: dict[str, str]) -> bool:
    """Whether GTiff's CreateCopy makes the COG driver's tiles and ``write`` does not, or far more slowly.

    libtiff's LZMA then filters bytes, and not samples, and its JPEG numbers the components of planes otherwise.
    """
    compress, count = options.get("compress"), len(pixels)
    return (
        compress == "LZMA"
        or (compress == "JPEG" and codec.planar and count > 1)
        or count > _MANY_BANDS
    )


def _tile_count(pixels: Array, blocksize: int) -> int:
    down, across = (-(-int(side) // blocksize) for side in pixels.shape[1:])
    return down * across


def _padded_by_chance(pixels: Array, codec: Codec, options: dict[str, str]) -> bool:
    """Whether GDAL fills the rest of tiles at the edges with what its memory happens to hold."""
    odd_bits_apart = "nbits" in options and (len(pixels) > 1 or codec.planar)
    return odd_bits_apart or (
        options.get("compress", "").startswith("LERC") and pixels.itemsize == 1
    )


def _whole_tiles(pixels: Array, blocksize: int) -> Array:
    """Pixels padded with zeros to whole tiles."""
    down, right = (-side % blocksize for side in pixels.shape[1:])
    return np.pad(pixels, ((0, 0), (0, down), (0, right)))


def _write_by_copy(pixels: Array, memory: MemoryFile, profile: dict[str, Any]) -> None:
    """Write as the COG driver does, by CreateCopy."""
    plain = {
        key: profile[key]
        for key in ("driver", "count", "height", "width", "dtype", "transform", "interleave")
    }
    plain |= {"nbits": profile["nbits"]} if "nbits" in profile else {}
    creation = {
        key: value
        for key, value in profile.items()
        if key not in plain or key in ("driver", "interleave")
    }
    copied = {k: str(v).upper() for k, v in creation.items() if v is not None and k != "nodata"}
    if pixels.dtype.name == profile["dtype"] and "nbits" not in plain and not profile["nodata"]:
        with MemoryDataset(np.ascontiguousarray(pixels)) as source:
            rasterio.shutil.copy(source, memory.name, copy_src_overviews="YES", **copied)
        return
    with MemoryFile() as file:
        with file.open(**plain) as dataset:
            dataset.write(pixels)
        rasterio.shutil.copy(file.name, memory.name, copy_src_overviews="YES", **copied)


def _tiles_of(data: memoryview) -> list[memoryview]:
    directory = tiff.parse(data).directories[0]
    offsets = directory.array(tiff.TILE_OFFSETS).tolist()
    counts = directory.array(tiff.TILE_BYTE_COUNTS).tolist()
    return [data[at : at + size] for at, size in zip(offsets, counts, strict=True)]
