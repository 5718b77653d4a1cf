"""Several rasters on one grid as one raster: the VRT that ``gdalbuildvrt`` makes of them.

GDAL reads each chunk through a small VRT of the inputs that touch it, so that a task opens no
other, and knows none. A chunk that no input touches is known before anything is read.
"""

from __future__ import annotations

import itertools
import math
import os
import shlex
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple
from xml.sax.saxutils import escape

import dask.array as da
import numpy as np
import numpy.typing as npt
import rasterio
from dask.base import tokenize
from dask.task_spec import Task
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds

from ccog.errors import OptionError, RasterError, StoreError
from ccog.geometry.intervals import Area, Interval, ceil_div
from ccog.input.arrays import array_of_tasks
from ccog.input.description import vrt_of
from ccog.input.files import open_raster
from ccog.input.gdal_names import gdal_type
from ccog.input.gdal_options import Opener
from ccog.input.source import Source, absolute_path, file_stamp
from ccog.redaction import Address, harmless, in_words, redacted

#: Which input is seen where several overlap: as the methods of ``rasterio.merge``.
Overlap = Literal["last", "first", "min", "max"]

Array = npt.NDArray[Any]

# a grid may be off by this part of a pixel, as coordinates with few digits are
_MOST_SHIFT = 0.01

# so many remote inputs are opened at once; local ones are read quicker one by one than by threads,
# which wait for the interpreter lock
_REMOTE_AT_ONCE = 32

# facts of a band that gdalbuildvrt takes from the first input
_KEPT_OF_BAND = ("NoDataValue", "Offset", "Scale", "ColorInterp", "ColorTable")


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What an input says of itself; ``facts`` are by name what all inputs share."""

    path: str
    transform: rasterio.Affine
    shape: tuple[int, int]
    block: tuple[int, int]
    facts: dict[str, Any]
    #: Of each band, whether a mask, or alpha, hides pixels of it.
    masked: tuple[bool, ...]
    has_mask: bool


class _Input(NamedTuple):
    """An input, and its pixels of the mosaic."""

    path: Address
    area: Area
    block: tuple[int, int]
    masked: tuple[bool, ...]


class _Band(NamedTuple):
    """A band as a VRT has it: GDAL's name of its type, and its nodata value as text."""

    type: str
    nodata: str | None
    is_alpha: bool


class _Layout(NamedTuple):
    """What all windows of a mosaic have in common."""

    bands: tuple[_Band, ...]
    has_mask: bool
    dtype: str
    overlap: Overlap
    opener: Opener


def open_mosaic(
    paths: Sequence[str], chunk: int | None = None, *, overlap: Overlap = "last"
) -> Source:
    """Describe the raster that the rasters at ``paths`` make up, without reading their pixels.

    ``chunk`` is the side of the chunks in pixels. Where inputs overlap, the last is seen, or the
    one that ``overlap`` names; nodata and masked pixels let those below shine through. Pixels
    without input are nodata, or 0.
    """
    headers = _headers([absolute_path(path) for path in paths])
    inputs = _inputs(headers)
    height = max(each.area.rows.stop for each in inputs)
    width = max(each.area.cols.stop for each in inputs)
    has_mask = any(header.has_mask for header in headers)
    root = _description(headers, (height, width), has_mask=has_mask)
    source = open_raster(ET.tostring(root, "unicode"), chunk, tags=True)
    dtype = source.array.dtype.name
    bands = tuple(map(_band, root.findall("VRTRasterBand")))
    layout = _Layout(bands, has_mask, dtype, overlap, Opener.current())
    if overlap in ("min", "max") and source.array.dtype.kind == "c":
        raise OptionError(f"overlap={overlap} does not order complex pixels; use first or last")
    # the token of an Address is that of its repr, which leaves out what signed URLs differ in
    files = [(str(path), file_stamp(path)) for path in paths]
    token = tokenize(source.array.name, inputs, files, layout)
    blocks = _by_block(inputs if overlap != "first" else inputs[::-1], source.array.chunks[1:])
    array = _lazy(source.array, f"read-mosaic-{token}", blocks, _read_pixels, layout)
    mask = source.mask
    if mask is not None:
        mask = _lazy(mask, f"read-mosaic-mask-{token}", blocks, _read_mask, layout)
    return replace(source, array=array, mask=mask)


# Headers


def _headers(paths: Sequence[str]) -> list[_Header]:
    """The header of each input, all of which fit the first."""
    header = partial(_header, opener=Opener.current())
    if any(not os.path.isabs(path) or path.startswith("/vsi") for path in paths):
        pool = ThreadPoolExecutor(_REMOTE_AT_ONCE)
        try:
            return list(_checked(pool.map(header, paths)))
        finally:
            pool.shutdown(cancel_futures=True)
    # listing a folder of 10,000 files at each of them takes as long as all else
    listing = os.environ.get("GDAL_DISABLE_READDIR_ON_OPEN", "TRUE")
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN=listing):
        return list(_checked(map(header, paths)))


def _header(path: str, opener: Opener) -> _Header:
    try:
        with opener.open(path) as dataset:
            return _header_of(dataset, path)
    except RasterioError as error:
        raise StoreError(f"cannot open {redacted(path)}: {redacted(error, path)}") from harmless(
            error, path
        )


def _header_of(dataset: Any, path: str) -> _Header:
    colors, flags = dataset.colorinterp, dataset.mask_flag_enums
    # of these gdalbuildvrt does not look at the mask (VRTBuilder::AnalyseRaster)
    nothing_hidden = [MaskFlags.all_valid], [MaskFlags.nodata]
    has_palette = colors[0] == ColorInterp.palette
    return _Header(
        path=path,
        transform=dataset.transform,
        shape=dataset.shape,
        block=dataset.block_shapes[0],
        facts={
            "CRS": dataset.crs,
            "number of bands": dataset.count,
            "data type": _common(dataset.dtypes),
            "nodata": _common(dataset.nodatavals),
            "colour interpretation": tuple(color.name for color in colors),
            "scale": _common(dataset.scales),
            "offset": _common(dataset.offsets),
            "colour table": dataset.colormap(1) if has_palette else None,
        },
        masked=tuple(
            color == ColorInterp.alpha or mask not in nothing_hidden
            for mask, color in zip(flags, colors, strict=True)
        ),
        has_mask=flags[0] == [MaskFlags.per_dataset],
    )


def _common(values: tuple[Any, ...]) -> Any:
    """The value that all bands share, or all of them."""
    return values[0] if all(_is_same(value, values[0]) for value in values) else values


def _is_same(value: Any, other: Any) -> bool:
    """Whether two facts are equal; NaN equals NaN."""
    return bool(value == other or (isinstance(value, float | tuple) and repr(value) == repr(other)))


def _checked(headers: Iterator[_Header]) -> Iterator[_Header]:
    """The headers, up to the first that does not fit."""
    first = None
    for header in headers:
        first = first or header
        for name, expected in first.facts.items():
            if not _is_same(header.facts[name], expected):
                raise _refusal(header, first, name, header.facts[name], expected)
        _check_georeferencing(header)
        _check_grid(header, first)
        yield header


def _check_georeferencing(header: _Header) -> None:
    transform = header.transform
    if transform.is_identity:
        raise RasterError(
            f"{redacted(header.path)} has no transform, so it has no place in a mosaic; "
            "give it one, e.g. with gdal_translate -a_ullr"
        )
    if transform.b or transform.d or transform.e >= 0 or transform.a <= 0:
        command = shlex.join(["gdalwarp", redacted(header.path), "OUT.tif"])
        raise RasterError(
            f"{redacted(header.path)} is rotated or flipped (transform {tuple(transform)[:6]}), "
            f"and a mosaic is north up; turn it: {command}"
        )


def _check_grid(header: _Header, first: _Header) -> None:
    theirs, ours = header.transform, first.transform
    height, width = header.shape
    drift = max(abs(theirs.a / ours.a - 1) * width, abs(theirs.e / ours.e - 1) * height)
    if drift > _MOST_SHIFT:
        sizes = [f"{abs(of.a)!r} x {abs(of.e)!r}" for of in (theirs, ours)]
        raise _refusal(header, first, "pixel size", *sizes)
    position = _position(header, first)
    if any(abs(pixels - round(pixels)) > _MOST_SHIFT for pixels in position):
        corners = [f"({of.c!r}, {of.f!r})" for of in (theirs, ours)]
        corners[1] += f" and any number of pixels of {ours.a!r} x {-ours.e!r}"
        raise _refusal(header, first, "upper left corner", *corners)


def _position(header: _Header, first: _Header) -> tuple[float, float]:
    """(row, column) of the upper left corner, counted from that of the first input."""
    theirs, ours = header.transform, first.transform
    return (theirs.f - ours.f) / ours.e, (theirs.c - ours.c) / ours.a


# a warp changes these; the others have no command that is always right
_WARPED = ("CRS", "pixel size", "upper left corner", "data type", "nodata")


def _refusal(header: _Header, first: _Header, name: str, value: Any, expected: Any) -> RasterError:
    remedy = "make it the same, or leave it out"
    if name in _WARPED:
        remedy = _warp_command(header, first)
    if name == "CRS":
        value, expected = value or "none", expected or "none"
    return RasterError(
        f"{redacted(header.path)} differs from the first input, {redacted(first.path)}: "
        f"its {name} is {value}, expected {expected}; {remedy}"
    )


def _warp_command(header: _Header, first: _Header) -> str:
    """How to bring an input on the grid of the first."""
    grid = first.transform
    crs, their_crs = first.facts["CRS"], header.facts["CRS"]
    bounds = rasterio.transform.array_bounds(*header.shape, header.transform)
    if crs and their_crs and crs != their_crs:
        bounds = transform_bounds(their_crs, crs, *bounds)
    left, top = ~grid * (bounds[0], bounds[3])
    right, bottom = ~grid * (bounds[2], bounds[1])
    x0, y1 = grid * (math.floor(left + _MOST_SHIFT), math.floor(top + _MOST_SHIFT))
    x1, y0 = grid * (math.ceil(right - _MOST_SHIFT), math.ceil(bottom - _MOST_SHIFT))
    command = ["gdalwarp", "-tr", grid.a, abs(grid.e), "-te", x0, y0, x1, y1]
    if crs and crs != their_crs:
        command += ["-t_srs", crs]
    dtype, nodata = first.facts["data type"], first.facts["nodata"]
    if dtype != header.facts["data type"]:
        command += ["-ot", gdal_type(dtype)]
    if nodata is not None and not _is_same(nodata, header.facts["nodata"]):
        command += ["-dstnodata", nodata]
    command += [redacted(header.path), "OUT.tif"]
    return f"make it fit: {shlex.join(map(str, command))}"


# Layout


def _inputs(headers: Sequence[_Header]) -> list[_Input]:
    positions = [_position(header, headers[0]) for header in headers]
    first_row, first_col = (round(min(axis)) for axis in zip(*positions, strict=True))
    inputs = []
    for header, (row, col) in zip(headers, positions, strict=True):
        top, left = round(row) - first_row, round(col) - first_col
        rows = Interval(top, top + header.shape[0])
        area = Area(rows, Interval(left, left + header.shape[1]))
        inputs.append(_Input(Address(header.path), area, header.block, header.masked))
    return inputs


def _description(
    headers: Sequence[_Header], shape: tuple[int, int], *, has_mask: bool
) -> ET.Element:
    """The VRT that gdalbuildvrt makes of the inputs, without these."""
    first = vrt_of(headers[0].path)
    height, width = map(str, shape)
    root = ET.Element("VRTDataset", rasterXSize=width, rasterYSize=height)
    root.extend(first.findall("SRS"))
    transform = ET.SubElement(root, "GeoTransform")
    transform.text = ", ".join(f"{value:.17g}" for value in _geotransform(headers))
    for number, band in enumerate(first.findall("VRTRasterBand"), 1):
        kept = ET.SubElement(root, "VRTRasterBand", dataType=band.attrib["dataType"])
        kept.attrib["band"] = str(number)
        kept.extend(child for child in band if child.tag in _KEPT_OF_BAND)
    if has_mask:
        ET.SubElement(ET.SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
    return root


def _geotransform(headers: Sequence[_Header]) -> tuple[float, ...]:
    """The transform as gdalbuildvrt has it: pixel sizes are averages."""
    transforms = [header.transform for header in headers]
    left, top = min(of.c for of in transforms), max(of.f for of in transforms)
    x = y = 0.0
    for number, of in enumerate(transforms, 1):
        x, y = x + (of.a - x) / number, y + (of.e - y) / number
    return left, x, 0.0, top, 0.0, y


def _band(element: ET.Element) -> _Band:
    is_alpha = element.findtext("ColorInterp") == "Alpha"
    return _Band(element.attrib["dataType"], element.findtext("NoDataValue"), is_alpha)


# Chunks


def _by_block(
    inputs: Iterable[_Input], chunks: tuple[tuple[int, ...], ...]
) -> dict[tuple[int, int], list[_Input]]:
    """The inputs that touch each chunk, by its row and column of chunks."""
    height, width = chunks[0][0], chunks[1][0]
    blocks = defaultdict(list)
    for each in inputs:
        rows, cols = each.area.rows, each.area.cols
        down = range(rows.start // height, ceil_div(rows.stop, height))
        across = range(cols.start // width, ceil_div(cols.stop, width))
        for block in itertools.product(down, across):
            blocks[block].append(each)
    return blocks


def _lazy(
    like: da.Array,
    name: str,
    blocks: dict[tuple[int, int], list[_Input]],
    read: Callable[..., Array],
    layout: _Layout,
) -> da.Array:
    """An array with the chunks of ``like``, of which each is read from the inputs it touches."""
    rows, cols = map(_intervals, like.chunks[-2:])
    leading = (0,) * (like.ndim - 2)
    tasks = {}
    for (i, y), (j, x) in itertools.product(enumerate(rows), enumerate(cols)):
        key = (name, *leading, i, j)
        tasks[key] = Task(key, read, tuple(blocks.get((i, j), ())), Area(y, x), layout)
    return array_of_tasks(tasks, name, like.chunks, meta=like._meta)


def _intervals(sizes: tuple[int, ...]) -> list[Interval]:
    edges = [0, *itertools.accumulate(sizes)]
    return [Interval(*pair) for pair in itertools.pairwise(edges)]


def _read_pixels(inputs: tuple[_Input, ...], area: Area, layout: _Layout) -> Array:
    """Pixels of a chunk; one value, repeated, where there is no input."""
    if not inputs:
        shape = len(layout.bands), *area.shape
        pixel = Area(Interval(0, 1), Interval(0, 1))
        fill = _read((), pixel, layout, lambda dataset: dataset.read())
        return np.broadcast_to(fill.astype(layout.dtype), shape)
    if layout.overlap in ("min", "max"):
        return _ordered_by_value(inputs, area, layout)
    return np.asarray(_read(inputs, area, layout, lambda dataset: dataset.read()), layout.dtype)


def _read_mask(inputs: tuple[_Input, ...], area: Area, layout: _Layout) -> Array:
    """Mask of a chunk, 255 valid and 0 not."""
    if not inputs:
        return np.broadcast_to(np.uint8(0), area.shape)
    return np.asarray(_read(inputs, area, layout, lambda dataset: dataset.read_masks(1)))


def _ordered_by_value(inputs: tuple[_Input, ...], area: Area, layout: _Layout) -> Array:
    """Of each pixel the smallest, or largest, of the values that are valid."""
    if layout.bands[0].nodata is not None:
        # beside a mask, too, it is the nodata value that hides pixels, as in a VRT
        layout = layout._replace(has_mask=False)
    pixels = np.array(_read_pixels((), area, layout))
    seen = np.zeros(pixels.shape, bool)
    order = np.less if layout.overlap == "min" else np.greater
    for each in inputs:
        common = area.intersect(each.area)
        there = slice(None), *common.slices_of(area)
        values, valid = _read((each,), common, layout, _values_and_validity)
        better = valid & (order(values, pixels[there]) | ~seen[there])
        pixels[there][better] = values[better]
        seen[there] |= better
    return pixels


def _values_and_validity(dataset: Any) -> tuple[Array, Array]:
    """Pixels, and which of them are valid: alpha counts for all bands."""
    valid = dataset.read_masks() > 0
    if ColorInterp.alpha in dataset.colorinterp:
        valid[:] = valid[0]
    return dataset.read(), valid


def _read(
    inputs: tuple[_Input, ...], area: Area, layout: _Layout, read: Callable[[Any], Any]
) -> Any:
    try:
        with layout.opener.open(_window_vrt(inputs, area, layout)) as dataset:
            return read(dataset)
    except RasterioError as error:
        reason = in_words(error)
    names = [redacted(each.path) for each in inputs]
    raise StoreError(f"cannot read {' or '.join(names)}: {reason}")


# VRTs of windows


def _window_vrt(inputs: tuple[_Input, ...], area: Area, layout: _Layout) -> str:
    """A VRT of the pixels of an area."""
    height, width = area.shape
    parts = [f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">']
    # rasterio warns of a raster without place
    parts.append("<GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform>")
    for number, band in enumerate(layout.bands, 1):
        parts.append(f'<VRTRasterBand dataType="{band.type}" band="{number}">')
        if band.nodata is not None:
            parts.append(f"<NoDataValue>{band.nodata}</NoDataValue>")
        if band.is_alpha:
            parts.append("<ColorInterp>Alpha</ColorInterp>")
        parts += [_source(each, area, band, number) for each in inputs]
        parts.append("</VRTRasterBand>")
    if layout.has_mask:
        mask = _Band("Byte", None, is_alpha=False)
        parts.append('<MaskBand><VRTRasterBand dataType="Byte">')
        parts += [_source(each, area, mask, "mask,1") for each in inputs]
        parts.append("</VRTRasterBand></MaskBand>")
    return "".join([*parts, "</VRTDataset>"])


def _source(source: _Input, area: Area, band: _Band, number: int | str) -> str:
    """An input of a band, as gdalbuildvrt has it (VRTBuilder::CreateVRTNonSeparate)."""
    hidden = ""
    if band.nodata is not None:
        hidden = f"<NODATA>{band.nodata}</NODATA>"
    elif isinstance(number, str) or source.masked[number - 1]:
        hidden = "<UseMaskBand>true</UseMaskBand>"
    (height, width), block = source.area.shape, source.block
    size = f'xSize="{width}" ySize="{height}"'
    row = source.area.rows.start - area.rows.start
    col = source.area.cols.start - area.cols.start
    kind = "ComplexSource" if hidden else "SimpleSource"
    return (
        f'<{kind}><SourceFilename relativeToVRT="0">{escape(source.path)}</SourceFilename>'
        f"<SourceBand>{number}</SourceBand>"
        f'<SourceProperties RasterXSize="{width}" RasterYSize="{height}" '
        f'DataType="{band.type}" BlockXSize="{block[1]}" BlockYSize="{block[0]}"/>'
        f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="{col}" yOff="{row}" {size}/>'
        f"{hidden}</{kind}>"
    )
