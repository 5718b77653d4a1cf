"""Telling quickly that a block holds nothing but one value, so that sparse rasters cost little."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def is_blank(pixels: npt.NDArray[Any], value: float = 0) -> bool:
    """Whether all pixels (band, y, x) are ``value`` to the bit; -0.0 is not 0.

    A few pixels are looked at first, so the answer is quick where it is no.
    """
    size = pixels.itemsize
    fill = np.full(1, value, pixels.dtype)
    # an axis along which memory repeats is looked at once
    pixels = pixels[tuple(slice(None if stride else 1) for stride in pixels.strides)]
    if size > 8:
        # the two parts of complex numbers, one by one
        pixels, fill, size = pixels[..., np.newaxis], fill[:, np.newaxis], 8
    raw, bits = pixels.view(f"u{size}"), fill.view(f"u{size}")[0]
    samples = raw[:, :1, :1], raw[:, ::97, ::89], raw
    return all(bool((sample == bits).all()) for sample in samples)


def is_nodata(pixels: npt.NDArray[Any], nodata: float | None) -> bool:
    """Whether all pixels are the nodata value.

    It is not said of complex numbers and 64-bit integers, whose nodata GDAL treats otherwise.
    """
    kind, size = pixels.dtype.kind, pixels.itemsize
    if nodata is None or not pixels.size:
        return False
    if kind == "f":
        return is_blank(pixels, nodata)
    if kind not in "iu" or size == 8:
        return False
    limits = np.iinfo(pixels.dtype)
    is_value = limits.min <= nodata <= limits.max and nodata == int(nodata)
    return is_value and is_blank(pixels, nodata)
