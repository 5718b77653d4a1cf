"""What the geometry needs to know of a raster besides its size and chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: How GDAL weighs a mask, and keeps its overviews.
#:
#: ``"array"``: a mask of an array. It is its own mask at full resolution, but not in overviews.
#: ``"file"``: a mask of a file, or an alpha band that JPEG cannot keep. It always is its own mask.
#: ``"bits"``: a mask within a GeoTIFF. The same, but its overviews have one bit.
#: ``"each"``: every band has a mask of its own. It is not stored; the first overview heeds it.
MaskKind = Literal["array", "file", "bits", "each"]

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
    """Bands, type and masks of the raster, as they are in the file."""

    #: Number of bands.
    count: int
    #: Rasterio's name of the type of the pixels.
    dtype: str
    #: Whether there is an internal mask.
    has_mask: bool = False
    nodata: float | int | None = None
    #: Whether the last band is the alpha of the others.
    has_alpha: bool = False
    #: The bands, counted from 0, that are said to be alpha.
    alphas: tuple[int, ...] = ()
    #: Where overviews are made of colours.
    palette: Palette | None = None
    #: Bits of a sample of the source file, where they are fewer than those of the type.
    source_bits: int | None = None
    #: Where bands differ in it; the file keeps that of the first.
    nodata_by_band: tuple[float | int | None, ...] | None = None
    #: Values of the bands that together mean nodata (the tag NODATA_VALUES).
    nodata_values: tuple[float, ...] | None = None
    mask_kind: MaskKind = "array"

    @property
    def has_band_masks(self) -> bool:
        """Whether each band has a mask of its own, which the file does not keep."""
        return self.mask_kind == "each"

    @property
    def is_masked(self) -> bool:
        """Whether there can be pixels that overviews do not weigh, or weigh less."""
        nodata = (self.nodata, self.nodata_by_band, self.nodata_values)
        has_nodata = any(values is not None for values in nodata)
        return self.has_mask or self.has_band_masks or has_nodata or bool(self.alphas)

    @property
    def has_nan_beside_nodata(self) -> bool:
        """Whether pixels can be NaN, which then are values: another value is nodata."""
        has_nan = self.array_type.startswith(("float", "complex"))
        return (
            has_nan
            and not self.is_whole_complex
            and self.nodata is not None
            and self.nodata == self.nodata
        )

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
        bits = int("".join(filter(str.isdigit, self.dtype)))
        # the number in the name of complex integers is that of one part
        return bits // 4 if self.is_whole_complex else bits // 8

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel in the file, all bands."""
        return self.count * self.itemsize
