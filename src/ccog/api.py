"""write_ccog and plan: from arguments to a Delayed, or to what it would cost, readable in one screen."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any, Literal, get_args, overload

import dask.array as da
import numpy as np
import numpy.typing as npt
import rasterio
from dask.array.core import normalize_chunks

from ccog.errors import ArgumentTypeError, CCOGWarning, EncodeError, OptionError, RasterError
from ccog.gdal.codec_options import level_codec
from ccog.gdal.encode import encode_block
from ccog.gdal.environment import environment_options
from ccog.gdal.template import Described, write_template
from ccog.geometry.cog import (
    CogGeometry,
    FileLayout,
    check_tiles,
    choose_block,
    choose_chunk,
    choose_unit,
    needs_big_tiff,
)
from ccog.geometry.options import CreationOptions
from ccog.geometry.parts import PartPlan, fewest_parts
from ccog.geometry.pyramid import Kernel, Pyramid, level_sizes
from ccog.geometry.source_grid import SourceGrid
from ccog.geometry.tiling_scheme import check_grid
from ccog.graph.build import CcogDelayed, build_graph, new_token
from ccog.input.metadata import METADATA_OPTIONS
from ccog.input.raster import Raster, read_raster
from ccog.runtime.manifest import find_kept, manifest_of
from ccog.stores import Store, WholeStore, resolve_store, warn_of_unfinished
from ccog.tasks.uploads import WriteJob
from ccog.views.preview import CogPlan, preview

# bands in a tile that takes long to compress
_MANY_BANDS = 64

# sizes of chunks along each axis
Chunks = tuple[tuple[int, ...], ...]


@overload
def write_ccog(
    arr: Any,
    store: Any = None,
    *,
    mask: Any = None,
    COG_creation_options: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    rasterio_env_options: Mapping[str, Any] | None = None,
    layout: FileLayout = "gdal",
    resume: bool = False,
    compute: Literal[False] = False,
) -> CcogDelayed: ...
@overload
def write_ccog(
    arr: Any,
    store: Any = None,
    *,
    mask: Any = None,
    COG_creation_options: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    rasterio_env_options: Mapping[str, Any] | None = None,
    layout: FileLayout = "gdal",
    resume: bool = False,
    compute: bool,
) -> Any: ...
def write_ccog(
    arr: Any,
    store: Any = None,
    *,
    mask: Any = None,
    COG_creation_options: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    rasterio_env_options: Mapping[str, Any] | None = None,
    layout: FileLayout = "gdal",
    resume: bool = False,
    compute: bool = False,
) -> Any:
    """Write an array as ONE Cloud Optimised GeoTIFF, from all dask workers at once.

    Nothing is computed or written before the returned Delayed is computed, unless ``compute`` is set.

    Parameters
    ----------
    arr
        xarray DataArray (dimensions found by name, CRS, transform and nodata from rioxarray), dask array or
        NumPy array; (y, x) or (band, y, x). Booleans become uint8. Masked pixels (``numpy.ma``, or
        dask arrays of it) become nodata; without a nodata value their mask becomes the internal mask,
        and must be the same in all bands.
    store
        Local path, ``file://``, ``s3://``, ``az://``, ``abfs://`` or ``gs://`` URL, or any that fsspec can write
        (through one writer, with a warning); an fsspec mapping whose root is the file; None gives the file as bytes.
    mask
        (y, x) array of any kind and chunking: non-zero is valid, NaN and masked entries are not.
        Becomes the internal mask. Where ``arr`` is masked and has no nodata value, valid is what both
        call valid.
    COG_creation_options
        Options of GDAL's COG driver, keys in any case, defaults GDAL's; also ``crs``, ``transform`` and
        ``nodata`` (these win over the array's own), ``update_tags``, ``descriptions``, ``offsets``, ``scales``,
        ``units`` and ``colormap`` as rasterio takes them, and ``overwrite`` (default True).
    storage_options
        As fsspec takes them for the store's protocol.
    rasterio_env_options
        GDAL configuration options, set wherever GDAL runs while the file is written.
    layout
        Order of the tiles of a level. ``"gdal"``, the default: row by row, the bytes of GDAL's COG driver.
        ``"chunk"``: the tiles of a chunk of ``arr`` lie together, chunks along the Morton curve, no leaders and
        trailers; reading a chunk takes one request, and with overviews by average or nearest the tiles that wait to be
        uploaded hardly grow with the width of the raster.
        ``docs/layouts.md`` says which is for whom.
    resume
        Continue what an earlier call with the same arguments, this one among them, has left unfinished, and leave
        what can be continued when this one fails, is interrupted or killed. Off by default: then what is unfinished
        is removed. See "How uploads begin and end" in the documentation for what it costs.
    compute
        Write now and return what the Delayed computes to; the default is not to.

    Returns
    -------
    dask.delayed.Delayed
        Computes to ``bytes`` without a store, else to a :class:`ccog.WriteResult`.

    Raises
    ------
    ccog.ChunkError
        While it is computed: a chunk is not of the type, shape or dtype (byte order included) that
        its array declares.
    ccog.ResumeError
        What is unfinished at the target differs in array, options or version, or the target keeps nothing.
    ccog.CCOGError
        Anything else that can be known to be wrong before a pixel is touched.
    """
    env = environment_options(rasterio_env_options)
    with rasterio.Env(**env):
        raster, job = _prepare(arr, store, mask, COG_creation_options, storage_options, env, layout)
        job.store.check()
        if resume:
            job = _resumable(job, arr, mask, raster, env)
        else:
            warn_of_unfinished(job.store)
        delayed = build_graph(job, *_on_grid(raster, job.plan))
    return delayed.compute() if compute else delayed


def plan(
    arr: Any,
    store: Any = None,
    *,
    mask: Any = None,
    COG_creation_options: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    rasterio_env_options: Mapping[str, Any] | None = None,
    layout: FileLayout = "gdal",
    sample: int = 0,
) -> CogPlan:
    """Say what :func:`ccog.write_ccog` would write with the same arguments, and what that would cost.

    No pixel is computed, but for a sample, and the store is not spoken to. The time it takes does not depend on the
    number of pixels.

    Parameters
    ----------
    arr, store, mask, COG_creation_options, storage_options, rasterio_env_options, layout
        As for :func:`ccog.write_ccog`.
    sample
        How many work blocks, which mostly are chunks, to compute and compress, so that the expected size, the number
        of parts and the memory follow from these pixels; 0, the default, for usual ratios.

    Returns
    -------
    CogPlan
        Prints as tables, warnings with their remedies included; in a notebook also as a picture.

    Raises
    ------
    ccog.CCOGError
        What ``write_ccog`` would raise for these arguments without asking the store.
    """
    blocks = _blocks_to_sample(sample)
    env = environment_options(rasterio_env_options)
    with rasterio.Env(**env):
        raster, job = _prepare(arr, store, mask, COG_creation_options, storage_options, env, layout)
        chunks = raster.pixels.chunks
        mismatch = _mismatch(chunks, _fitting_chunks(chunks, job.plan.level(0).block))
        return preview(job, raster.pixels, mismatch=mismatch, sample=blocks)


def _blocks_to_sample(sample: Any) -> int:
    if isinstance(sample, bool) or not isinstance(sample, Integral) or sample < 0:
        raise OptionError(
            f"sample={sample!r} is no number of blocks to compress: 0, for none, or more"
        )
    return int(sample)


def _resumable(job: WriteJob, arr: Any, mask: Any, raster: Raster, env: dict[str, Any]) -> WriteJob:
    """The job of a write that can be resumed; refuses where something else is unfinished."""
    chunks = [found.chunks for found in (raster.pixels, raster.mask) if found is not None]
    manifest = manifest_of(
        arr, mask, chunks, job.described, job.template, (job.plan, job.parts), env
    )
    find_kept(job.store, manifest)
    return replace(job, manifest=manifest)


def _split_options(given: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Layout options, metadata options (upper-case keys), and whether an existing file may be replaced."""
    if given is not None and not isinstance(given, Mapping):
        raise ArgumentTypeError(
            f"COG_creation_options is a mapping such as dict(compress='deflate'), not {given!r}"
        )
    layout, described, overwrite = {}, {}, True
    for key, value in (given or {}).items():
        upper = key.upper() if isinstance(key, str) else key
        if upper in METADATA_OPTIONS:
            described[upper] = value
        elif upper == "OVERWRITE":
            if not isinstance(value, bool):
                raise OptionError(f"overwrite={value!r} is neither True nor False")
            overwrite = value
        else:
            layout[key] = value
    return layout, described, overwrite


def _prepare(
    arr: Any,
    store: Any,
    mask: Any,
    creation_options: Mapping[str, Any] | None,
    storage_options: Mapping[str, Any] | None,
    env: dict[str, Any],
    layout: FileLayout,
) -> tuple[Raster, WriteJob]:
    """All that is known before a pixel is touched and before the store is spoken to."""
    if layout not in get_args(FileLayout):
        raise OptionError(f"layout={layout!r} is neither 'gdal' nor 'chunk'")
    creation, described, overwrite = _split_options(creation_options)
    target = resolve_store(store, storage_options, overwrite=overwrite)
    options = CreationOptions.parse(creation)
    raster = read_raster(arr, mask, described)
    if options.tiling_scheme is not None:
        _check_grid(raster, options.blocksize)
    options.check_dtype(raster.pixels.dtype.name)
    raster = _alpha_as_mask(raster, options)
    return raster, _job(raster, options, target, env, layout)


def _job(
    raster: Raster,
    options: CreationOptions,
    store: Store | WholeStore,
    env: dict[str, Any],
    layout: FileLayout,
) -> WriteJob:
    plan = _plan(raster, options, layout)
    described = Described(
        options,
        raster.metadata,
        plan.count,
        plan.dtype,
        plan.has_mask,
        overviews=plan.top > 0,
        by_chunk=plan.by_chunk,
    )
    template = write_template(described)
    plan = replace(plan, planar=template.planar)
    check_tiles(plan)
    nodata = raster.metadata.nodata
    full = level_codec(
        options, template, plan.dtype, nodata, overview=False, by_chunk=plan.by_chunk
    )
    overview = level_codec(
        options, template, plan.dtype, nodata, overview=True, by_chunk=plan.by_chunk
    )
    for codec in {full, overview}:
        _try_codec(codec, plan)
    plan, parts = _part_plan(plan, store, compressed=options.effective_compress != "NONE")
    return WriteJob(
        plan=plan,
        store=store,
        parts=parts,
        described=described,
        template=template,
        codecs=(full, overview),
        big=needs_big_tiff(plan),
        token=new_token(),
        env=tuple(sorted(env.items())),
    )


def _check_grid(raster: Raster, blocksize: int) -> None:
    crs, transform = raster.metadata.crs, raster.metadata.transform
    epsg = None if crs is None else crs.to_epsg()
    check_grid(
        epsg,
        None if transform is None else tuple(transform)[:6],
        raster.height,
        raster.width,
        blocksize,
    )


def _alpha_as_mask(raster: Raster, options: CreationOptions) -> Raster:
    """JPEG has no alpha: one beside grey or RGB becomes the internal mask (GDALCOGCreator::Create)."""
    jpeg = options.effective_compress == "JPEG" and options.interleave in (None, "PIXEL")
    if not (jpeg and raster.metadata.has_alpha and raster.count in (2, 4)):
        return raster
    if raster.is_masked:
        raise RasterError(
            "the masked array has an alpha band, and JPEG keeps one mask: give nodata=, or fill the "
            "array (dask.array.ma.filled) and say in its alpha band what is transparent"
        )
    return Raster(
        raster.pixels[:-1],
        raster.pixels[-1],
        raster.metadata.without_last_band(),
        mask_is_alpha=True,
    )


def _part_plan(
    plan: CogGeometry, store: Store | WholeStore, *, compressed: bool
) -> tuple[CogGeometry, PartPlan]:
    """The plan, with more blocks uploaded together where the store has few part numbers, and those numbers.

    The parts hold the units whatever they compress to, or, near the store's limit, if they compress well enough.
    """
    limits, blocks = store.limits, math.prod(plan.level(0).blocks)
    while True:
        rows = plan.unit_rows
        parts = PartPlan.build(rows, limits)
        if parts is not None:
            return plan, parts
        if not plan.by_chunk or plan.unit >= blocks:
            break
        plan = replace(plan, unit=2 * plan.unit)
    largest = max(size for _, size in rows)
    if compressed and (found := PartPlan.build_for_compressed(rows, limits)):
        parts, percent = found
        warnings.warn(
            f"{store.url} takes {limits.max_parts} parts of at most {limits.max_part} bytes: what is uploaded together "
            f"must compress to {percent} % of its {largest} bytes, or the write fails when it does not",
            CCOGWarning,
            stacklevel=4,
        )
        return plan, parts
    remedy = "split the raster into several files" if plan.by_chunk else _fewer_rows(plan)
    raise RasterError(
        f"{len(plan.units)} {'runs' if plan.by_chunk else 'rows'} of blocks of up to {largest} bytes need "
        f"{fewest_parts(rows, limits)} parts, and {store.url} takes {limits.max_parts} of at most "
        f"{limits.max_part} bytes; {remedy}"
    )


def _fewer_rows(plan: CogGeometry) -> str:
    """What makes fewer rows of blocks."""
    if plan.planes(0) > 1:
        return "use interleave='pixel' or layout='chunk', which upload all bands together"
    return "use chunks with more rows"


def _try_codec(codec: Any, plan: CogGeometry) -> None:
    """Compress one tile now, so that what the encoder refuses is known before the work starts."""
    mask = np.ones((16, 16), np.uint8) if plan.has_mask else None
    # bands that are compressed apart are all alike, and what is refused of many does not depend on their tile
    count = min(plan.count, 2) if codec.planar else plan.count
    if count > _MANY_BANDS:
        codec = replace(codec, blocksize=16)
    try:
        encode_block(np.ones((count, 16, 16), plan.array_type), mask, codec)
    except EncodeError as error:
        raise OptionError(str(error)) from error


def _plan(raster: Raster, options: CreationOptions, layout: FileLayout) -> CogGeometry:
    method = options.overview_resampling or _default_method(raster)
    dtype = raster.pixels.dtype
    has_mask = raster.has_mask
    masked = has_mask or raster.metadata.nodata is not None or raster.metadata.has_alpha
    kernel = Kernel.of(method, dtype.name, masked=masked)
    count = 0 if options.overviews == "NONE" else options.overview_count
    on_scheme = options.tiling_scheme is not None
    sizes = level_sizes(raster.height, raster.width, options.blocksize, count, half_up=on_scheme)
    by_chunk, pixel_bytes = layout == "chunk", raster.count * dtype.itemsize
    block = choose_block(raster.pixels.chunks, options.blocksize, pixel_bytes)
    split = (
        block[0] // choose_chunk(raster.pixels.chunks, options.blocksize, pixel_bytes)[0]
        if by_chunk
        else 1
    )
    if dtype.kind == "c" and len(sizes) > 1 and method not in ("nearest", "average", "rms"):
        raise OptionError(
            f"overview_resampling={method} is not possible for {dtype}; use nearest, average or rms"
        )
    if dtype == np.float16 and len(sizes) > 1 and raster.count > 1:
        raise OptionError(
            "GDAL makes no overviews of several bands of float16; cast to float32, or overviews='none'"
        )
    pyramid = Pyramid.build(sizes, options.blocksize, block, kernel, split=split)
    if raster.metadata.colormap is not None and method != "nearest":
        raise OptionError(
            f"overview_resampling={method} is not supported for a colour map; use nearest, the default"
        )
    nodata, has_alpha = raster.metadata.nodata, raster.metadata.has_alpha
    return CogGeometry(
        options,
        pyramid,
        raster.count,
        raster.stored_type,
        has_mask,
        method,
        nodata,
        has_alpha,
        raster.mask_is_alpha,
        layout=layout,
        unit=choose_unit(sizes[0], block, pixel_bytes),
    )


def _default_method(raster: Raster) -> str:
    """CUBIC, but NEAREST for palettes and complex data (cogdriver.cpp, GetResampling)."""
    return (
        "nearest"
        if raster.metadata.colormap is not None or raster.pixels.dtype.kind == "c"
        else "cubic"
    )


def _on_grid(raster: Raster, plan: CogGeometry) -> tuple[da.Array, da.Array | None]:
    """The raster in chunks that make up the plan's work blocks; warns where that costs much."""
    block = plan.level(0).block
    pixels = (
        raster.pixels
        if raster.pixels.dtype == plan.array_type
        else raster.pixels.astype(plan.array_type)
    )
    fitting = _fitting_chunks(pixels.chunks, block)
    if fitting != pixels.chunks:
        pixels = pixels.rechunk(fitting, method="tasks")
        mismatch = _mismatch(raster.pixels.chunks, fitting)
        if mismatch is not None:
            warnings.warn(mismatch, CCOGWarning, stacklevel=3)
    mask = raster.mask
    if mask is not None:
        mask = mask.rechunk(_fitting_chunks(mask.chunks, block), method="tasks")
    return pixels, mask


def _fitting_chunks(chunks: Chunks, block: tuple[int, int]) -> Chunks:
    """The given chunks, (band, y, x) or (y, x), where they make up blocks; else one chunk a block, all bands in it."""
    if SourceGrid("", chunks).is_aligned(block):
        return chunks
    shape = [sum(sizes) for sizes in chunks]
    found: Chunks = normalize_chunks((*shape[:-2], *map(min, block, shape[-2:])), shape)
    return found


def _mismatch(before: Chunks, after: Chunks) -> str | None:
    """What is wrong with chunks that are rechunked; None where they are kept, or only cut."""
    if before == after or all(
        np.isin(_edges(b), _edges(a)).all() for b, a in zip(before, after, strict=True)
    ):
        return None
    return (
        f"chunks of {_largest(before)} (band, y, x) do not match the tiles: every block of {_largest(after)} is cut "
        "from several chunks, which then stay in memory longer and cross between workers; "
        f"chunks of {_largest(after)} are ideal"
    )


def _edges(sizes: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.cumsum(np.asarray(sizes, np.int64))


def _largest(chunks: Chunks) -> str:
    return " x ".join(str(max(sizes)) for sizes in chunks)
