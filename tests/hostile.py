"""Damaged GeoTIFFs: python tests/hostile.py {inspect,validate} [N=500] [SEED=0] prints what came of N, as JSON.

Small valid files are changed at random: bytes, lengths, directory entries, links between directories, tile arrays.
"""

from __future__ import annotations

import io
import json
import random
import struct
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

import ccog
from ccog.views.inspect.header import Header, read_header
from ccog.views.inspect.ranges import open_ranges
from conftest import GEO, gdal_cog, terrain

EXTREMES = (
    0,
    1,
    2,
    3,
    255,
    65535,
    65536,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 62,
    (1 << 63) + 1,
    (1 << 64) - 1,
)


@dataclass(frozen=True)
class Sample:
    """A valid file, where its parts lie, and how its numbers are stored."""

    data: bytes
    header: Header

    @property
    def entries(self) -> list[int]:
        """Where the entries of all directories begin."""
        count, entry, link = (8, 20, 8) if self.header.layout.big else (2, 12, 4)
        extents = [one.extent for one in self.header.directories]
        return [at for start, stop in extents for at in range(start + count, stop - link, entry)]

    @property
    def links(self) -> list[int]:
        """Where the offsets of directories lie."""
        width = 8 if self.header.layout.big else 4
        return [width, *(one.extent[1] - width for one in self.header.directories)]

    @property
    def arrays(self) -> list[tuple[int, int]]:
        """Where values lie that are outside the directories."""
        tags = (tag for one in self.header.directories for tag in one.tags.values())
        return [tag.extent for tag in tags if tag.extent is not None]


def sample(data: bytes) -> Sample:
    with open_ranges(data) as reader:
        return Sample(data, read_header(reader))


def samples() -> list[Sample]:
    """Our own file with a mask, GDAL's BigTIFF, chunk by chunk, big-endian tiles and strips."""
    mask = np.random.default_rng(0).random((300, 401)) > 0.3
    small = {
        "blocksize": 128,
        "compress": "deflate",
        "nodata": float("nan"),
        "overview_resampling": "average",
    }
    ours = ccog.write_ccog(
        terrain((2, 300, 401), "float32"), COG_creation_options=GEO | small
    ).compute()
    masked = {"blocksize": 128, "compress": "lzw"}
    chunks = ccog.write_ccog(
        terrain((1, 300, 401)), mask=mask, layout="chunk", COG_creation_options=masked
    ).compute()
    plain = terrain((1, 300, 200))[0]
    tiled, strips = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(tiled, plain, byteorder=">", bigtiff=True, tile=(64, 64))
    tifffile.imwrite(strips, plain, byteorder=">", rowsperstrip=32)
    with_mask = np.where(mask, np.uint8(255), np.uint8(0))
    big = gdal_cog(terrain((1, 300, 401)), {"blocksize": 128, "bigtiff": "yes"}, with_mask)
    return [sample(data) for data in (ours, big, chunks, tiled.getvalue(), strips.getvalue())]


def number(rng: random.Random, one: Sample, width: int) -> bytes:
    """A number that is extreme, near the end of the file, or any other, in the byte order of the file."""
    near = len(one.data) + rng.randrange(-64, 64)
    value = rng.choice([*EXTREMES, near, rng.randrange(len(one.data)), rng.getrandbits(8 * width)])
    order = "little" if one.header.layout.order == "<" else "big"
    return (value % (1 << (8 * width))).to_bytes(width, order)


def put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def flipped(rng: random.Random, one: Sample) -> bytes:
    """Bytes anywhere, or in the header, are others."""
    end = rng.choice([len(one.data), min(len(one.data), 2048)])
    data = bytearray(one.data)
    for _ in range(rng.choice([1, 2, 8, 32])):
        data[rng.randrange(end)] = rng.randrange(256)
    return bytes(data)


def cut(rng: random.Random, one: Sample) -> bytes:
    return one.data[: rng.choice([rng.randrange(len(one.data)), rng.randrange(600)])]


def with_entry(rng: random.Random, one: Sample) -> bytes:
    """Tag, type, count or value of directory entries are others."""
    data, wide = one.data, 8 if one.header.layout.big else 4
    for _ in range(rng.choice([1, 1, 3])):
        at = rng.choice(one.entries)
        skip, width = rng.choice([(0, 2), (2, 2), (4, wide), (4 + wide, wide), (4 + wide, 2)])
        data = put(data, at + skip, number(rng, one, width))
    return data


def with_link(rng: random.Random, one: Sample) -> bytes:
    """The chain of directories leads elsewhere, perhaps in a circle."""
    starts = [directory.extent[0] for directory in one.header.directories]
    width = 8 if one.header.layout.big else 4
    new = number(rng, one, width)
    if rng.random() < 0.3:
        new = rng.choice(starts).to_bytes(
            width, "little" if one.header.layout.order == "<" else "big"
        )
    return put(one.data, rng.choice(one.links), new)


def with_values(rng: random.Random, one: Sample) -> bytes:
    """Tile offsets, byte counts, texts: numbers among them are others."""
    data = one.data
    for _ in range(rng.choice([1, 3])):
        start, stop = rng.choice(one.arrays)
        width = rng.choice([1, 2, 4, 8])
        data = put(
            data, rng.randrange(start, max(start + 1, stop - width + 1)), number(rng, one, width)
        )
    return data


MUTATIONS: tuple[Callable[[random.Random, Sample], bytes], ...] = (
    flipped, flipped, cut, with_entry, with_entry, with_entry, with_link, with_values,
)  # fmt: skip


def mutated(count: int, seed: int) -> Iterator[bytes]:
    valid = samples()
    for n in range(count):
        rng = random.Random(f"{seed} {n}")
        yield MUTATIONS[n % len(MUTATIONS)](rng, valid[rng.randrange(len(valid))])


def peak_mb() -> float:
    """Peak memory of this program alone."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def show(data: bytes) -> object:
    found = ccog.inspect(data)
    return repr(found), found._repr_html_()


LOOKS: dict[str, Callable[[bytes], object]] = {
    "inspect": show,
    "validate": lambda data: repr(ccog.validate(data)),
}


def run(what: str, count: int, seed: int) -> dict[str, Any]:
    """Look at damaged files: how often each thing came of it, untyped errors, most seconds of CPU, and memory."""
    files = list(mutated(count, seed))
    LOOKS[what](samples()[0].data)
    tally: Counter[str] = Counter()
    untyped: list[str] = []
    slowest, before = 0.0, peak_mb()
    for n, data in enumerate(files):
        start = time.process_time()
        try:
            LOOKS[what](data)
            tally["report"] += 1
        except ccog.CCOGError as error:
            tally[type(error).__name__] += 1
        except Exception:
            untyped.append(f"{n}: {traceback.format_exc(limit=-2)}")
        slowest = max(slowest, time.process_time() - start)
    return {
        "tally": dict(tally),
        "untyped": untyped,
        "slowest": slowest,
        "grown_mb": peak_mb() - before,
    }


def classic(*directories: list[tuple[int, int, int, bytes]], more: bytes = b"") -> bytes:
    """A little-endian classic TIFF of directories of (tag, type, count, value or offset), one after the other."""
    data = struct.pack("<2sHI", b"II", 42, 8)
    for k, entries in enumerate(directories):
        stop = len(data) + 2 + 12 * len(entries) + 4
        data += struct.pack("<H", len(entries))
        data += b"".join(
            struct.pack("<HHI4s", tag, kind, count, value) for tag, kind, count, value in entries
        )
        data += struct.pack("<I", stop if k + 1 < len(directories) else 0)
    return data + more


def main() -> None:
    what, count, seed = [*sys.argv[1:], *("inspect", "500", "0")[len(sys.argv) - 1 :]]
    warnings.simplefilter("ignore")
    print(json.dumps(run(what, int(count), int(seed)), indent=1))


if __name__ == "__main__":
    main()
