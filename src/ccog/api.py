"""write_ccog and plan, which users call; :mod:`ccog.prepare` has the recipe behind them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from ccog.errors import OptionError
from ccog.gdal.environment import environment_options
from ccog.geometry.file_order import FileLayout
from ccog.graph.build import CcogDelayed, build_graph
from ccog.input.gdal_options import gdal_options
from ccog.input.opening import opened
from ccog.prepare import all_options, chunk_mismatch, continued, on_grid, prepare
from ccog.redaction import addressed, hidden
from ccog.stores import warn_of_sidecars, warn_of_unfinished
from ccog.views.plan.figures import plan_job
from ccog.views.plan.report import CogPlan


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
    **options: Any,
) -> CcogDelayed | Any:
    """Write an array as ONE Cloud Optimised GeoTIFF, from all dask workers at once.

    Nothing is computed or written before the returned Delayed is computed, unless ``compute`` is
    set.

    The best chunks are squares of whole tiles with all bands, 2048 x 2048 or 4096 x 4096 pixels,
    some 10 to 200 MB: one task loads a chunk, encodes it, and passes only its overview on. Smaller
    chunks cost more scheduling than work, larger ones more memory in each thread. Chunks that cut
    tiles (1000 x 1000) or rows of pixels are joined first, which costs traffic and memory. NumPy
    arrays and arrays in one chunk are cut by ccog. :func:`ccog.plan` says what yours cost.

    Parameters
    ----------
    arr
        xarray DataArray or Dataset (dimensions found by name; CRS, transform and nodata from
        rioxarray), dask array or NumPy array; (y, x) or (band, y, x). Booleans become uint8. Values
        that xarray decoded are stored as their ``encoding`` says (type, nodata, scale and offset);
        ``arr.drop_encoding()`` writes them as they are. Masked pixels
        (``numpy.ma``, or dask arrays of it) become nodata. Without a nodata value their mask
        becomes the internal mask, and must be the same in all bands. Or the path of a file that
        rasterio opens: all is kept that GDAL's CreateCopy keeps.
    store
        Local path, ``file://``, ``s3://``, ``az://``, ``abfs://`` or ``gs://`` URL. Any other URL
        that fsspec can write is written by one worker, with a warning. An fsspec mapping whose root
        is the file. None gives the file as bytes.
    mask
        (y, x) array of any kind and chunking: non-zero is valid, NaN and masked entries are not.
        Becomes the internal mask. Where ``arr`` is masked and has no nodata value, a pixel is valid
        if both say so.
    COG_creation_options
        Options of GDAL's COG driver, with keys in any case and GDAL's defaults. Also ``crs``,
        ``transform`` and ``nodata``, which win over the array's own; ``update_tags``,
        ``descriptions``, ``offsets``, ``scales``, ``units`` and ``colormap``, as rasterio takes
        them; and ``overwrite`` (default True; `ccog create` refuses without ``--overwrite``).
        ``overviews`` may be a list of arrays like ``arr`` instead of text, level 1 first, each
        smaller than the level before: they are written, and none is computed. Where there is an
        internal mask, ``overview_masks`` is a list of theirs, unless they are masked arrays.
        A whole rasterio profile (``src.profile``) works too: what it says of the array must be
        true, and ``tiled``, ``blockxsize``, ``blockysize``, ``zlevel``, ``zstd_level`` and the like
        become options of the COG driver.
    storage_options
        As fsspec takes them for the store's protocol.
    rasterio_env_options
        GDAL configuration options. They are set wherever GDAL runs while the file is written.
        A ``GDAL_CACHEMAX`` below 100,000 is in MB, as in GDAL, and any other in bytes.
    layout
        Order of the tiles of a level. ``"gdal"``, the default: row by row, the bytes of GDAL's COG
        driver. ``"chunk"``: the tiles of a chunk of ``arr`` lie together, without leaders and
        trailers, and chunks follow the Morton curve. A chunk is then read with one request. With
        overviews by average or nearest, a wider raster hardly needs more memory.
        "Two orders of tiles" in the documentation says which one is for whom.
    resume
        Continue an unfinished write of an earlier call with the same arguments, this one included.
        If this call fails, is interrupted or killed, leave what a later call can continue. Off by
        default: then an unfinished write is removed. "How uploads begin and end" in the
        documentation says what resuming costs.
    compute
        Write now, and return the result of the Delayed. Off by default.
    **options
        The same as COG_creation_options, one by one: ``compress="zstd"``. None may be in both.

    Returns
    -------
    dask.delayed.Delayed
        Computes to ``bytes`` without a store, else to a :class:`ccog.WriteResult`.

    Raises
    ------
    ccog.ChunkError
        While it is computed: a chunk is not of the type, shape or dtype (byte order included) that
        its array declares, or has a value that its encoding cannot store.
    ccog.ResumeError
        The unfinished write at the target differs in array, options or version, or the target
        cannot keep unfinished writes.
    ccog.CCOGError
        Anything else that can be known to be wrong before a pixel is touched.
    """
    arr, store = addressed(arr), addressed(store)
    storage_options = hidden(storage_options)
    env = rasterio_env_options = environment_options(hidden(rasterio_env_options))
    with gdal_options(env):
        arr = opened(arr)
        prepared = prepare(
            arr,
            store,
            mask=mask,
            creation_options=all_options(COG_creation_options, options),
            storage_options=storage_options,
            env=env,
            layout=layout,
            copies=True,
        )
        prepared.job.store.check()
        if resume:
            prepared = continued(prepared, arr, mask)
        else:
            warn_of_unfinished(prepared.job.store)
        warn_of_sidecars(prepared.job.store)
        delayed = build_graph(prepared.job, on_grid(prepared))
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
    **options: Any,
) -> CogPlan:
    """Say what :func:`ccog.write_ccog` would write with the same arguments, and what it would cost.

    Only the pixels of a sample are computed, and the store is not asked anything. The time it takes
    does not depend on the number of pixels.

    Parameters
    ----------
    arr, store, mask, COG_creation_options, storage_options, rasterio_env_options, layout
        As for :func:`ccog.write_ccog`.
    sample
        How many blocks (mostly chunks) to compute and compress. The expected size, the number of
        parts and the memory then follow from these pixels. 0, the default, uses typical ratios.
    **options
        As for :func:`ccog.write_ccog`.

    Returns
    -------
    CogPlan
        Prints as tables, with warnings and their remedies; in a notebook also as a picture.

    Raises
    ------
    ccog.CCOGError
        The errors that ``write_ccog`` would raise for these arguments without asking the store.
    """
    blocks = _block_count(sample)
    arr, store = addressed(arr), addressed(store)
    storage_options = hidden(storage_options)
    env = rasterio_env_options = environment_options(hidden(rasterio_env_options))
    with gdal_options(env):
        arr = opened(arr)
        prepared = prepare(
            arr,
            store,
            mask=mask,
            creation_options=all_options(COG_creation_options, options),
            storage_options=storage_options,
            env=env,
            layout=layout,
            copies=False,
        )
        mismatch = chunk_mismatch(prepared)
        return plan_job(prepared.job, prepared.raster, mismatch=mismatch, sample=blocks)


def _block_count(sample: Any) -> int:
    if isinstance(sample, bool) or not isinstance(sample, Integral) or sample < 0:
        raise OptionError(
            f"sample={sample!r} is not a number of blocks to compress: give 0 for none, or more"
        )
    return int(sample)
