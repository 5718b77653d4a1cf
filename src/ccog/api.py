"""write_ccog: from arguments to a Delayed, readable in one screen."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, overload

import dask.array as da
import numpy as np
import rasterio

from ccog.codecs import level_codec
from ccog.encode import encode_block
from ccog.errors import ArgumentTypeError, CCOGWarning, EncodeError, OptionError, RasterError
from ccog.graph import CcogDelayed, WriteJob, build_graph, new_token
from ccog.options import CreationOptions
from ccog.parts import PartPlan
from ccog.plan import CogPlan, choose_block, needs_big_tiff
from ccog.pyramid import Kernel, Pyramid, level_sizes
from ccog.raster import METADATA_OPTIONS, Raster, read_raster
from ccog.stores import Store, resolve_store
from ccog.template import write_template


@overload
def write_ccog(
    arr: Any,
    store: Any = None,
    *,
    mask: Any = None,
    COG_creation_options: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    rasterio_env_options: Mapping[str, Any] | None = None,
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
    compute: bool = False,
) -> Any:
    """Write an array as ONE Cloud Optimised GeoTIFF, from all dask workers at once.

    Nothing is computed or written before the returned Delayed is computed, unless ``compute`` is set.

    Parameters
    ----------
    arr
        xarray DataArray (dimensions found by name, CRS, transform and nodata from rioxarray), dask array or
        NumPy array; (y, x) or (band, y, x). Booleans become uint8.
    store
        Local path, ``file://`` or ``s3://`` URL; None gives the file as bytes.
    mask
        (y, x) array of any kind and chunking: non-zero is valid. Becomes the internal mask.
    COG_creation_options
        Options of GDAL's COG driver, keys in any case, defaults GDAL's; also ``crs``, ``transform`` and
        ``nodata`` (these win over the array's own), ``update_tags``, ``descriptions``, ``offsets``, ``scales``,
        ``units`` and ``colormap`` as rasterio takes them, and ``overwrite`` (default True).
    storage_options
        As fsspec takes them for the store's protocol.
    rasterio_env_options
        GDAL configuration options, set wherever GDAL runs while the file is written.
    compute
        Write now and return what the Delayed computes to; the default is not to.

    Returns
    -------
    dask.delayed.Delayed
        Computes to ``bytes`` without a store, else to a :class:`ccog.WriteResult`.

    Raises
    ------
    ccog.CCOGError
        Anything that can be known to be wrong before a pixel is touched.
    """
    target = resolve_store(store, storage_options)
    layout, described, overwrite = _split_options(COG_creation_options)
    options = CreationOptions.parse(layout)
    with rasterio.Env(**dict(rasterio_env_options or {})):
        raster = read_raster(arr, mask, described)
        delayed = _prepare(raster, options, target, overwrite=overwrite, env=dict(rasterio_env_options or {}))
    return delayed.compute() if compute else delayed


def _split_options(given: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Layout options, metadata options (upper-case keys), and whether an existing file may be replaced."""
    if given is not None and not isinstance(given, Mapping):
        raise ArgumentTypeError(f"COG_creation_options is a mapping such as dict(compress='deflate'), not {given!r}")
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
    raster: Raster, options: CreationOptions, store: Store, *, overwrite: bool, env: dict[str, Any]
) -> CcogDelayed:
    plan = _plan(raster, options)
    described = (raster.metadata, plan.count, plan.dtype, plan.has_mask)
    template = write_template(options, *described, overviews=plan.top > 0)
    plan = replace(plan, planar=template.planar)
    nodata = raster.metadata.nodata
    full = level_codec(options, template, nodata, overview=False)
    overview = level_codec(options, template, nodata, overview=True)
    for codec in {full, overview}:
        _try_codec(codec, plan)
    row_bytes = [plan.row_bytes(k) for k, _, _ in plan.rows_in_file_order()]
    parts = PartPlan.build(row_bytes, store.limits)
    if parts is None:
        raise RasterError(
            f"{len(row_bytes)} rows of blocks do not fit the {store.limits.max_parts} parts of {store.url}; "
            "use larger chunks"
        )
    store.check(overwrite=overwrite)
    job = WriteJob(
        plan,
        store,
        parts,
        template,
        (full, overview),
        needs_big_tiff(plan),
        new_token(),
        tuple(sorted(env.items())),
    )
    pixels, mask = _on_grid(raster, plan)
    return build_graph(job, pixels, mask)


def _try_codec(codec: Any, plan: CogPlan) -> None:
    """Compress one tile now, so that what the encoder refuses is known before the work starts."""
    mask = np.ones((16, 16), np.uint8) if plan.has_mask else None
    try:
        encode_block(np.ones((plan.count, 16, 16), plan.dtype), mask, codec)
    except EncodeError as error:
        raise OptionError(str(error)) from error


def _plan(raster: Raster, options: CreationOptions) -> CogPlan:
    method = options.overview_resampling or _default_method(raster)
    dtype = raster.pixels.dtype
    if dtype.kind == "c" and method not in ("nearest", "average"):
        raise OptionError(f"overview_resampling={method} is not possible for {dtype}; use nearest or average")
    has_mask = raster.mask is not None
    kernel = Kernel.of(method, dtype.name, masked=has_mask or raster.metadata.nodata is not None)
    count = 0 if options.overviews == "NONE" else options.overview_count
    sizes = level_sizes(raster.height, raster.width, options.blocksize, count)
    block = choose_block(raster.pixels.chunks, options.blocksize, raster.count * dtype.itemsize)
    pyramid = Pyramid.build(sizes, options.blocksize, block, kernel)
    if raster.metadata.colormap is not None and method != "nearest":
        raise OptionError(f"overview_resampling={method} is not supported for a colour map; use nearest, the default")
    return CogPlan(options, pyramid, raster.count, dtype.name, has_mask, method, raster.metadata.nodata)


def _default_method(raster: Raster) -> str:
    """CUBIC, but NEAREST for palettes and complex data (cogdriver.cpp, GetResampling)."""
    return "nearest" if raster.metadata.colormap is not None or raster.pixels.dtype.kind == "c" else "cubic"


def _on_grid(raster: Raster, plan: CogPlan) -> tuple[da.Array, da.Array | None]:
    """The raster with the plan's work blocks as chunks; warns where that costs much."""
    height, width = plan.level(0).block
    chunks = (raster.count, min(height, raster.height), min(width, raster.width))
    pixels = raster.pixels.rechunk(chunks, method="tasks")
    _warn_of_rechunk(raster, pixels)
    mask = None if raster.mask is None else raster.mask.rechunk(chunks[1:], method="tasks")
    return pixels, mask


def _warn_of_rechunk(raster: Raster, pixels: da.Array) -> None:
    before, after = raster.pixels.chunks, pixels.chunks
    if all(set(_edges(b)) >= set(_edges(a)) for b, a in zip(before, after, strict=True)):
        return  # chunks are only joined
    if all(set(_edges(a)) >= set(_edges(b)) for b, a in zip(before, after, strict=True)):
        return  # chunks are only cut
    warnings.warn(
        f"chunks of {_largest(before)} (band, y, x) do not match the tiles: every block of {_largest(after)} is cut "
        "from several chunks, which then stay in memory longer and cross between workers; "
        f"chunks of {_largest(after)} are ideal",
        CCOGWarning,
        stacklevel=5,
    )


def _edges(sizes: tuple[int, ...]) -> list[int]:
    return list(itertools.accumulate(sizes))


def _largest(chunks: tuple[tuple[int, ...], ...]) -> str:
    return " x ".join(str(max(sizes)) for sizes in chunks)
