"""``ccog create`` and ``ccog plan``: rasters or a variable to one COG."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ccog.cli.elsewhere import WriteCommand
from ccog.cli.options import (
    FILE,
    Request,
    examples,
    of_input,
    of_run,
    positive,
    together,
    with_resume_option,
    with_write_options,
)
from ccog.cli.remote import access_to_input, names_for_gdal
from ccog.cli.reporting import echo, reported

if TYPE_CHECKING:
    from ccog.input.mosaic import Overlap
    from ccog.input.source import Source

# types of pixels by the names of NumPy, and of GDAL where they differ
_DTYPES = (
    *("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float32", "float64", "complex64", "complex128"),
    *("Byte", "CInt16", "CInt32", "CFloat32", "CFloat64"),
)
_OVERLAPS: tuple[Overlap, ...] = ("last", "first", "min", "max")


def _bands(text: str) -> tuple[int, ...]:
    """Numbers of bands with commas between them."""
    return tuple(map(positive, text.split(",")))


def _some(_: click.Context, __: click.Parameter, sources: tuple[str, ...]) -> tuple[str, ...]:
    if not sources:
        raise click.UsageError("give INPUT and OUTPUT, as in: ccog create in.tif out.tif")
    return sources


_with_source_options = together(
    click.argument("sources", metavar="INPUT...", nargs=-1, type=FILE, callback=_some),
    click.argument("output", type=FILE),
    of_input(
        "--bidx -b",
        "Bands to write, in this order; may be given several times. Default: all.",
        type=_bands,
        multiple=True,
        metavar="N[,N...]",
    ),
    of_input(
        "--dtype -ot",
        "Type of pixels, as uint8 or Byte. Values are rounded and clamped, not scaled.",
        type=click.Choice(_DTYPES, case_sensitive=False),
        metavar="TYPE",
    ),
    of_input(
        "--nodata -a_nodata",
        "Nodata value instead of that of INPUT; `none` removes it. No pixel changes.",
        metavar="VALUE",
    ),
    of_input(
        "--crs -a_srs",
        "CRS instead of that of INPUT, as EPSG:32632. Nothing is reprojected.",
        metavar="CRS",
    ),
    of_input("--add-mask", "Store a mask instead of the nodata value of INPUT.", is_flag=True),
    of_input(
        "--chunks",
        "Read in chunks of N x N pixels. Default: by the blocks of INPUT.",
        type=click.IntRange(1),
        metavar="N",
    ),
    of_input(
        "--variable", "Variable of a Zarr or netCDF INPUT; or give INPUT:NAME.", metavar="NAME"
    ),
    of_input(
        "--overlap",
        "Of several INPUTs, which one is seen where they overlap.",
        type=click.Choice(_OVERLAPS, case_sensitive=False),
        default="last",
        show_default=True,
    ),
    of_input(
        "--tags/--no-tags",
        "Copy the tags of INPUT and of its bands, or drop them. Default: --tags, as GDAL.",
        default=True,
    ),
)


@click.command(
    cls=WriteCommand,
    short_help="Write rasters to one COG.",
    epilog=examples(
        "ccog create in.tif out.tif --profile deflate --co PREDICTOR=YES",
        "ccog create 'tiles/*.tif' s3://bucket/out.tif -b 3,2,1 --scheduler tcp://host:8786",
    ),
)
@_with_source_options
@with_write_options
@with_resume_option
def create(sources: Sequence[str], **options: Any) -> None:
    """Write INPUT to OUTPUT, a path or URL such as s3://bucket/name.tif.

    INPUT is anything that rasterio opens, or a variable of a Zarr or netCDF file. What GDAL keeps
    is kept: georeferencing, nodata, mask, overviews, colours, descriptions, scales, offsets, units
    and tags; --co wins over INPUT. The compression of INPUT is not kept.

    An INPUT on S3, Azure or Google Cloud Storage is read with the same --storage-option as OUTPUT
    (key, secret, token, anon, endpoint_url, account_name, ...). For other places give GDAL's own
    options with --config. A Zarr or netCDF INPUT takes every option of fsspec.

    Several INPUTs on one grid become one raster, as gdalbuildvrt makes it. INPUT may also be a
    pattern ('tiles/*.tif'), a text file with one path in each line (@list.txt) or a tile index of
    GDAL (tiles.gpkg).
    """
    with _opened(sources, options) as (source, request):
        from ccog.cli.running import written

        request.say(str(written(source, request)))


@click.command(
    "plan",
    cls=WriteCommand,
    short_help="Say what `create` would write, and its cost.",
    epilog=examples(
        "ccog plan in.tif s3://bucket/out.tif --profile zstd",
        "ccog plan in.tif out.tif --sample 8",
    ),
)
@_with_source_options
@with_write_options
@of_run(
    "--sample",
    "Compress N blocks for a better guess at sizes and memory. Default: 0.",
    type=click.IntRange(0),
    default=0,
    metavar="N",
)
def plan_file(sources: Sequence[str], sample: int, **options: Any) -> None:
    """Print what `create` with the same options would write, and what that would cost.

    Only the header of INPUT and the blocks of a sample are read, and OUTPUT is not touched. With
    --quiet only warnings are printed.
    """
    with _opened(sources, options) as (source, request):
        from ccog.cli.running import planned

        cog_plan = planned(source, request, sample)
        request.say(repr(cog_plan))
        if request.quiet:
            for text in cog_plan.warnings:
                echo(f"Warning: {text}", err=True)


_OPENING = "variable", "overlap", "tags", "add_mask"
_TRANSLATION = "dtype", "nodata", "crs"


@contextmanager
def _opened(sources: Sequence[str], options: dict[str, Any]) -> Iterator[tuple[Source, Request]]:
    """INPUT as its options want it, and what the others say of OUTPUT."""
    chunks, bidx = options.pop("chunks"), options.pop("bidx")
    opening = {name: options.pop(name) for name in _OPENING}
    translation = {name: options.pop(name) for name in _TRANSLATION}
    request = Request.parse(**options)
    sources = names_for_gdal(sources, request)
    with reported(), access_to_input(sources, request) as for_output:
        from ccog.gdal.environment import environment_options
        from ccog.input.gdal_options import gdal_options
        from ccog.input.opening import open_sources
        from ccog.input.translation import Translation

        bands = tuple(itertools.chain.from_iterable(bidx))
        changes = Translation(bands=bands, **translation)
        with gdal_options(environment_options(request.config)):
            source = open_sources(
                sources, chunks, changes=changes, storage=request.storage, **opening
            )
        yield source, for_output
