"""Tiles laid out without GDAL are those that GDAL writes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ccog.gdal.encode import Codec, _is_plain, encode_block

SPARSE = Codec(64, "uint8", (("compress", "NONE"),), (), None, sparse=True, planar=False)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "float32", "int64", "float64", "complex64", "complex128"]
)
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("by_chunk", [False, True])
def test_uncompressed_tiles_are_gdals(dtype: str, bands: int, by_chunk: bool) -> None:
    pixels = np.random.default_rng(bands).integers(1, 100, (bands, 128, 320)).astype(dtype)
    by_gdal = replace(SPARSE, dtype=dtype, by_chunk=by_chunk)
    by_ccog = replace(by_gdal, sparse=False)
    assert _is_plain(pixels, by_ccog)
    assert not _is_plain(pixels, by_gdal)
    segments, counts, mask = encode_block(pixels, None, by_ccog)
    expected, expected_counts, _ = encode_block(pixels, None, by_gdal)
    assert [bytes(segment) for segment in segments[0]] == [
        bytes(segment) for segment in expected[0]
    ]
    np.testing.assert_array_equal(counts, expected_counts)
    assert mask is None


@pytest.mark.parametrize("shape", [(1, 100, 128), (1, 128, 100)])
def test_edges_are_left_to_gdal(shape: tuple[int, int, int]) -> None:
    pixels = np.ones(shape, "uint8")
    assert not _is_plain(pixels, replace(SPARSE, sparse=False))
