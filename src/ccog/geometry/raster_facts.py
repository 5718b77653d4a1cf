"""What the geometry needs to know of a raster besides its size and chunks."""

from __future__ import annotations

from dataclasses import dataclass

#: Pixel values, and the red, green, blue and alpha of each.
Palette = tuple[tuple[int, tuple[int, ...]], ...]

# types of the file that are worked on in another
_ARRAY_TYPES = {
    "complex_int16": "complex64",
    "complex_int32": "complex128",
    "float16": "float32",
}


@dataclass(frozen=True, kw_only=True)
class RasterFacts:
    """Bands, type and masks of the raster, as they are in the file.

    Attributes
    ----------
    count
        Number of bands.
    dtype
        Rasterio's name of the type of the pixels.
    has_mask
        Whether there is an internal mask.
    nodata
        The nodata value; None where there is none.
    has_alpha
        Whether the last band is the alpha of the others.
    mask_is_alpha
        Whether the internal mask was such a band.
    palette
        Pixel values and their colours, where overviews are made of colours.
    source_bits
        Bits of a sample of the source file; None where they are those of the type.
    """

    count: int
    dtype: str
    has_mask: bool = False
    nodata: float | int | None = None
    has_alpha: bool = False
    mask_is_alpha: bool = False
    palette: Palette | None = None
    source_bits: int | None = None

    @property
    def is_complex(self) -> bool:
        """Whether pixels have two parts."""
        return self.dtype.startswith("complex")

    @property
    def is_whole_complex(self) -> bool:
        """Whether both parts are integers, for which NumPy has no type."""
        return self.dtype.startswith("complex_int")

    @property
    def array_type(self) -> str:
        """NumPy's type of the pixels while they are worked on.

        GDAL keeps the overviews of half floats as single ones until they are written
        (GTIFFBuildOverviewsEx).
        """
        return _ARRAY_TYPES.get(self.dtype, self.dtype)

    @property
    def itemsize(self) -> int:
        """Bytes of one sample in the file."""
        if self.is_whole_complex:
            return {"complex_int16": 4, "complex_int32": 8}[self.dtype]
        bits = "".join(character for character in self.dtype if character.isdigit())
        return int(bits) // 8

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel in the file, all bands."""
        return self.count * self.itemsize
