"""From the arguments of write_ccog and plan to a WriteJob: the recipe, from top to bottom.

Arguments -> options, store and raster -> geometry -> header and codecs -> part numbers -> WriteJob.
Then the raster is cut into chunks that suit the job. No pixel is touched here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, get_args

import numpy as np
from dask.array.core import normalize_chunks

from ccog.errors import ArgumentTypeError, OptionError, raise_together, warn_user
from ccog.gdal.codec_options import tried_codecs
from ccog.gdal.environment import options_of_tasks
from ccog.gdal.resample import may_round_otherwise
from ccog.gdal.statistics import gdal_keeps_statistics
from ccog.gdal.template import HeaderSpec, write_template
from ccog.geometry.axis_reduction import Kernel
from ccog.geometry.blocks import choose_block, choose_chunk, choose_group, fits_memory
from ccog.geometry.cog import CogGeometry
from ccog.geometry.file_order import FileLayout, FileOrder
from ccog.geometry.intervals import Size
from ccog.geometry.level_reductions import LevelReductions
from ccog.geometry.options import BLANK, CreationOptions
from ccog.geometry.part_numbers import assign_parts
from ccog.geometry.pyramid import Pyramid, level_sizes
from ccog.geometry.raster_facts import Palette, RasterFacts
from ccog.geometry.settings import settings
from ccog.geometry.source_grid import SourceGrid
from ccog.geometry.tiff_limits import check_tiles, needs_big_tiff
from ccog.geometry.tiling_scheme import ratios_of, with_zoom
from ccog.geometry.upload_groups import UploadGroups
from ccog.graph.build import LevelArrays, new_token
from ccog.graph.rechunk import Chunks, rechunked
from ccog.input.arrays import Cut
from ccog.input.given_overviews import GivenOverviews, blank_overviews, with_overviews
from ccog.input.metadata import METADATA_OPTIONS
from ccog.input.profile import (
    PROFILE_KEYS,
    as_cog_options,
    check_array,
    check_photometric,
    with_colours,
)
from ccog.input.raster import Raster, read_raster
from ccog.input.source import Source
from ccog.runtime.manifest import find_resumable, manifest_of
from ccog.stores import SingleWriterStore, Store, resolve_store
from ccog.tasks.job import WriteJob
from ccog.versions import GDAL_VERSION

# options that are not for the layout of the file
_OTHER_OPTIONS = (*METADATA_OPTIONS, "OVERWRITE", "OVERVIEW_MASKS")

# GDAL takes the statistics of the first band for those of all if it has these
_NEEDED_STATISTICS = ("MINIMUM", "MAXIMUM", "MEAN", "STDDEV")

# methods by which GDAL makes the colours of overviews, not the pixel values
_OF_COLOURS = ("average", "gauss", "rms")

# methods for complex pixels (GDALRegenerateOverviewsEx)
_OF_COMPLEX = ("nearest", "average", "mode", "rms")


class Prepared(NamedTuple):
    """The raster, and all else that is known of its file; ``overviews`` as they were given."""

    raster: Raster
    job: WriteJob
    overviews: GivenOverviews | None = None


def prepare(
    arr: Any,
    store: Any,
    *,
    mask: Any,
    creation_options: Mapping[str, Any],
    storage_options: Mapping[str, Any] | None,
    env: Mapping[str, Any],
    layout: FileLayout,
    copies: bool,
) -> Prepared:
    """Everything that can be known before a pixel is touched, and before the store is asked.

    The arguments are those of :func:`ccog.write_ccog`; ``env`` are GDAL's configuration options.
    Of arrays in memory ``copies`` are taken, or not.

    Raises
    ------
    CCOGError
        An argument is wrong, or does not fit the others.
    """
    if layout not in get_args(FileLayout):
        raise OptionError(f"layout={layout!r} is neither 'gdal' nor 'chunk'")
    env = options_of_tasks(env)
    source = arr if isinstance(arr, Source) else Source(array=arr)
    asked = _split_options(source.options, creation_options)
    target = resolve_store(store, storage_options, overwrite=asked.overwrite)

    problems: list[OptionError] = []
    of_layout = as_cog_options(asked.profile, asked.creation, problems)
    options = CreationOptions.parse(of_layout, _OTHER_OPTIONS, problems)
    cut = Cut(blocksize=options.blocksize, by_chunk=layout == "chunk", copies=copies)
    raster = read_raster(source, mask, asked.metadata, cut)
    check_array(asked.profile, raster, problems)
    raise_together(problems)

    if source.is_jpeg:
        _warn_of_lossy_copy(options, raster.count)
    raster = with_colours(asked.profile, raster)
    options = _with_kept_statistics(options, raster)
    overviews: GivenOverviews | None = asked.overviews or source.overviews
    overviews = overviews and overviews.used_by(options, raster)
    if overviews is None and options.overview_resampling == BLANK:
        sizes = _level_sizes(raster, with_zoom(options, raster.metadata.transform))[1:]
        text = options.resampling_text or BLANK
        overviews = blank_overviews(raster, sizes, text) if sizes else None
    if overviews is not None:
        raster = with_overviews(raster, overviews, cut)
    raster = raster.suited_to(options)
    options = with_zoom(options, raster.metadata.transform)

    job = _job(raster, options, cut, target, asked.profile, env)
    return Prepared(raster, job, overviews)


def continued(prepared: Prepared, arr: Any, mask: Any) -> Prepared:
    """The same for a write that continues an unfinished one, and can be continued itself.

    Raises
    ------
    ResumeError
        Another write is unfinished at the target, or the store keeps nothing.
    """
    raster, job, overviews = prepared
    manifest = manifest_of(
        (arr, mask),
        None if overviews is None else (overviews.arrays, overviews.masks),
        [_chunks_of(level) for level in raster.levels],
        job.header_spec,
        job.template,
        (job.geometry, job.parts),
        dict(job.env),
    )
    find_resumable(job.store, manifest, warns=True)
    return prepared._replace(job=replace(job, manifest=manifest))


def _chunks_of(level: Raster) -> list[Chunks]:
    arrays = level.pixels, level.mask
    return [array.chunks for array in arrays if array is not None]


# Options


class _AskedOptions(NamedTuple):
    """COG_creation_options by whom they are for: the layout of the file, the raster, the store.

    ``profile`` are those that only a profile of rasterio has.
    """

    creation: dict[str, Any]
    metadata: dict[str, Any]
    profile: dict[str, Any]
    overviews: GivenOverviews | None
    overwrite: bool


def all_options(mapping: Any, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """COG_creation_options, and the options that were given one by one."""
    if mapping is not None and not isinstance(mapping, Mapping):
        raise ArgumentTypeError(
            f"COG_creation_options is a mapping such as dict(compress='deflate'), not {mapping!r}"
        )
    mapping = mapping or {}
    names = {key.upper(): key for key in mapping if isinstance(key, str)}
    twice = [name for name in options if name.upper() in names]
    if twice:
        values = [f"{name}={options[name]!r}" for name in twice]
        others = [f"{mapping[names[name.upper()]]!r}" for name in twice]
        raise OptionError(
            f"{', '.join(values)} is given twice: COG_creation_options has {', '.join(others)}; "
            "leave one of them out"
        )
    return {**mapping, **options}


def _split_options(own: Mapping[str, Any], options: Mapping[str, Any]) -> _AskedOptions:
    """The user's options, and a source's ``own`` where the user gives none."""
    asked = {str(key).upper() for key in options}
    own = {key: value for key, value in own.items() if key.upper() not in asked}
    creation, metadata, profile = {}, {}, {}
    overwrite, overviews, masks = True, None, None
    for key, value in {**own, **options}.items():
        name = key.upper() if isinstance(key, str) else key
        # the one dtype that is asked for: NumPy has no type for such pixels
        if name in PROFILE_KEYS and str(value) != "complex_int16":
            profile[name] = value
        elif name in METADATA_OPTIONS:
            metadata[name] = value
        elif name == "OVERWRITE":
            overwrite = value
        elif name == "OVERVIEWS" and not isinstance(value, str | None):
            overviews = value
        elif name == "OVERVIEW_MASKS":
            masks = value
        else:
            creation[key] = value
    if not isinstance(overwrite, bool):
        raise OptionError(f"overwrite={overwrite!r} is neither True nor False")
    if overviews is None and masks is not None:
        raise OptionError("overview_masks belong to overviews=[array, ...], which is not given")
    given = None if overviews is None else GivenOverviews.of_user(overviews, masks)
    return _AskedOptions(creation, metadata, profile, given, overwrite)


def _warn_of_lossy_copy(options: CreationOptions, count: int) -> None:
    """Warn where GDAL would copy the compressed data of a JPEG file (GTIFF_CanCopyFromJPEG)."""
    if options.effective_compress != "JPEG" or options.quality or options.nbits:
        return
    # GDAL before 3.11 writes JPEG by pixel, whatever INTERLEAVE says
    by_pixel = options.interleave in (None, "PIXEL") or GDAL_VERSION < (3, 11)
    if by_pixel or count == 1:
        warn_user(
            "the source is a JPEG file: GDAL would copy its compressed data without loss, and ccog "
            "compresses the pixels again, with quality 75; give QUALITY=95 to lose less, or "
            "COMPRESS=DEFLATE, ZSTD or WEBP with QUALITY=100 to lose nothing"
        )


def _with_kept_statistics(options: CreationOptions, raster: Raster) -> CreationOptions:
    """STATISTICS=AUTO instead of YES where GDAL would keep those that are there, or the contrary.

    Newer versions make new ones where JPEG turns alpha into a mask.
    """
    own = raster.header.tags.get(1, {})
    if not all(f"STATISTICS_{name}" in own for name in _NEEDED_STATISTICS):
        return options
    if gdal_keeps_statistics():
        return replace(options, statistics="AUTO") if options.statistics == "YES" else options
    if options.statistics in (None, "AUTO") and raster.alpha_becomes_mask(options):
        return replace(options, statistics="YES")
    return options


# Geometry


def _job(
    raster: Raster,
    options: CreationOptions,
    cut: Cut,
    target: Store | SingleWriterStore,
    profile: Mapping[str, Any],
    env: Mapping[str, Any],
) -> WriteJob:
    """The job; before the geometry is built, GDAL says which levels are planar."""
    reductions = _reductions(raster, options, cut)
    _warn_of_doubts(reductions, options)
    pyramid, facts = reductions.pyramid, reductions.raster
    spec = HeaderSpec(
        options=options,
        metadata=raster.header,
        count=facts.count,
        dtype=facts.dtype,
        has_mask=facts.has_mask,
        overviews=pyramid.given or len(pyramid.levels) > 1,
        given_by=raster.overviews_made_by if pyramid.given else None,
        by_chunk=cut.by_chunk,
    )
    template = write_template(spec)
    check_photometric(profile, template.image)
    order = FileOrder(
        options=options,
        pyramid=pyramid,
        raster=facts,
        by_chunk=cut.by_chunk,
        planar=template.planar,
    )
    check_tiles(order)
    codecs = tried_codecs(order, template)
    full = pyramid.levels[0]
    group_size = choose_group(full.size, full.block, raster.pixel_bytes)
    groups = UploadGroups(order=order, reductions=reductions, size=group_size)
    groups, parts = assign_parts(groups, target.limits, target.url)
    geometry = CogGeometry(
        file_order=order,
        method=reductions.method,
        group_size=groups.size,
        parts_halos=pyramid.kernel.has_halos and not fits_memory(full.size, raster.pixel_bytes),
    )
    return WriteJob(
        geometry=geometry,
        store=target,
        parts=parts,
        header_spec=spec,
        template=template,
        codecs=codecs,
        big=needs_big_tiff(order),
        token=new_token(),
        env=tuple(sorted(env.items())),
    )


def _reductions(raster: Raster, options: CreationOptions, cut: Cut) -> LevelReductions:
    """Levels, tiles and blocks, and from which level each overview is computed."""
    method = _method(raster, options)
    sizes = _level_sizes(raster, options)
    if len(sizes) > 1:
        _check_resampling(raster, method)
    facts = _facts(raster, options, method)
    kernel = Kernel.of(method, raster.pixels.dtype.name, masked=facts.is_masked)
    chunks, pixel_bytes = raster.pixels.chunks, raster.pixel_bytes
    block = choose_block(chunks, options.blocksize, pixel_bytes, by_chunk=cut.by_chunk)
    if all(len(sides) == 1 for sides in chunks[1:]):
        block = cut(sizes[0], pixel_bytes)
    chunks_a_side, least_low_pixels = 1, None
    if cut.by_chunk:
        chunks_a_side = block[0] // choose_chunk(chunks, options.blocksize, pixel_bytes)[0]
    elif raster.overviews is None:
        least_low_pixels = settings().wide_block_bytes // pixel_bytes
    pyramid = Pyramid.build(
        sizes,
        options.blocksize,
        block,
        kernel,
        chunks_a_side=chunks_a_side,
        given=raster.overviews is not None,
        least_low_pixels=least_low_pixels,
    )
    return LevelReductions(pyramid, facts, method)


def _warn_of_doubts(reductions: LevelReductions, options: CreationOptions) -> None:
    """Warn of pixels that may not be GDAL's, or that nobody may want."""
    raster, full = reductions.raster, reductions.pyramid.levels[0]
    if any(may_round_otherwise(raster, flow.y, flow.x) for flow in reductions.all):
        warn_user(
            f"the raster has {full.height:,} x {full.width:,} pixels, "
            "and more than 2^33 in a level of an odd size: overview pixels beside its mask may "
            "differ by one rounding step from those of GDAL. Sides that can be halved at all "
            "large levels avoid it"
        )
    codecs = options.effective_compress, options.effective_overview_compress
    if raster.dtype == "int8" and "JPEG" in codecs:
        warn_user(
            "COMPRESS=JPEG takes int8 for bytes, as in GDAL: 255 steps lie between -1 and 0, and "
            "pixels near zero may be wrong by as much. Other compressions keep them"
        )


def _method(raster: Raster, options: CreationOptions) -> str:
    """That of the user, CUBIC, or NEAREST for palettes and complex data (GetResampling)."""
    if raster.overviews is not None:
        # no kernel makes them, but for the one of the template, which this suits always
        return "nearest"
    is_nearest = raster.metadata.colormap is not None or raster.pixels.dtype.kind == "c"
    asked = None if options.overview_resampling == BLANK else options.overview_resampling
    return asked or ("nearest" if is_nearest else "cubic")


def _level_sizes(raster: Raster, options: CreationOptions) -> tuple[Size, ...]:
    if raster.overviews is not None:
        return tuple((level.height, level.width) for level in raster.levels)
    # an array has none that could be used
    has_none = options.overviews in ("NONE", "FORCE_USE_EXISTING")
    count = 0 if has_none else options.overview_count
    ratios = ratios_of(options)
    return level_sizes(raster.height, raster.width, options.blocksize, count, ratios)


def _check_resampling(raster: Raster, method: str) -> None:
    """Refuse what GDAL cannot resample, or would resample wrongly."""
    dtype = raster.pixels.dtype
    if dtype.kind == "c" and method not in _OF_COMPLEX:
        raise OptionError(
            f"overview_resampling={method} is not possible for {dtype}; "
            f"use {', '.join(_OF_COMPLEX[:-1])} or {_OF_COMPLEX[-1]}"
        )
    if dtype == np.float16 and raster.count > 1:
        raise OptionError(
            "GDAL makes no overviews of several bands of float16; "
            "cast to float32, or overviews='none'"
        )


def _facts(raster: Raster, options: CreationOptions, method: str) -> RasterFacts:
    palette: Palette | None = None
    # GDALRegenerateOverviewsEx averages colours
    if raster.metadata.has_palette and method in _OF_COLOURS:
        palette = tuple(sorted((raster.metadata.colormap or {}).items()))
    # GDAL copies a VRT, which has a mask of 8 bits, if it computes statistics before
    is_vrt = options.statistics == "YES" and raster.mask_kind == "bits"
    return RasterFacts(
        count=raster.count,
        dtype=raster.stored_type,
        has_mask=raster.has_mask,
        nodata=raster.metadata.nodata,
        has_alpha=raster.metadata.has_alpha,
        alphas=raster.metadata.alphas,
        nodata_by_band=raster.nodata_by_band,
        nodata_values=raster.nodata_values,
        mask_kind="file" if is_vrt else raster.mask_kind,
        palette=palette,
        source_bits=raster.metadata.bits,
    )


# Chunks


def on_grid(prepared: Prepared) -> list[LevelArrays]:
    """The arrays of each level in chunks that make up its blocks; warns where that costs much."""
    mismatch = chunk_mismatch(prepared)
    if mismatch is not None:
        warn_user(mismatch)
    geometry = prepared.job.geometry
    levels = []
    for k, level in enumerate(prepared.raster.levels):
        block, mask = geometry.level(k).block, level.mask
        pixels = level.pixels.astype(geometry.raster.array_type)
        pixels = rechunked(pixels, _fitting_chunks(pixels.chunks, block))
        if mask is not None:
            mask = rechunked(mask, _fitting_chunks(mask.chunks, block))
        levels.append(LevelArrays(pixels, mask))
    return levels


def chunk_mismatch(prepared: Prepared) -> str | None:
    """Why the array's chunks are costly to rechunk; None where they are kept, or only cut."""
    chunks = prepared.raster.pixels.chunks
    fitting = _fitting_chunks(chunks, prepared.job.geometry.level(0).block)
    if all(map(_holds_edges, fitting, chunks)):
        return None
    ideal = _largest(fitting)
    return (
        f"chunks of {_largest(chunks)} (band, y, x) do not match the tiles: "
        f"every block of {ideal} is cut from several chunks, "
        "which then stay in memory longer and cross between workers; "
        f"chunks of {ideal} are ideal"
    )


def _fitting_chunks(chunks: Chunks, block: Size) -> Chunks:
    """The chunks, (band, y, x) or (y, x), if they make up blocks; else one chunk for each block."""
    if SourceGrid("", chunks).is_aligned(block):
        return chunks
    shape = [sum(sizes) for sizes in chunks]
    sides = map(min, block, shape[-2:])
    fitting: Chunks = normalize_chunks((*shape[:-2], *sides), shape)
    return fitting


def _holds_edges(new: tuple[int, ...], old: tuple[int, ...]) -> bool:
    """Whether chunks along an axis still begin wherever they began before."""
    old_edges, new_edges = np.cumsum(old, dtype=np.int64), np.cumsum(new, dtype=np.int64)
    return bool(np.isin(old_edges, new_edges).all())


def _largest(chunks: Chunks) -> str:
    return " x ".join(str(max(sizes)) for sizes in chunks)
