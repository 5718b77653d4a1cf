"""``ccog create`` and ``ccog plan``: rasters or a variable to one Cloud Optimised GeoTIFF."""

from __future__ import annotations

from typing import Any, get_args

import click

from ccog.cli.options import (
    Request,
    together,
    with_resume_option,
    with_write_options,
)
from ccog.cli.reporting import echo, reported
from ccog.cli.running import planned, written
from ccog.input.mosaic import Overlap
from ccog.input.opening import open_sources

_with_source_options = together(
    click.argument("sources", metavar="INPUT...", nargs=-1, required=True),
    click.argument("output"),
    click.option(
        "--chunks",
        type=click.IntRange(1),
        metavar="N",
        help="Read in chunks of N x N pixels. Default: by the blocks of INPUT.",
    ),
    click.option(
        "--variable",
        metavar="NAME",
        help="Variable of a Zarr or netCDF INPUT; or give INPUT:NAME.",
    ),
    click.option(
        "--overlap",
        type=click.Choice(get_args(Overlap)),
        default="last",
        show_default=True,
        help="Of several INPUTs, which one is seen where they overlap.",
    ),
    click.option(
        "--tags/--no-tags",
        default=True,
        help="Copy the tags of INPUT and of its bands, or drop them. Default: --tags, as GDAL.",
    ),
)


@click.command()
@_with_source_options
@with_write_options
@with_resume_option
def create(
    sources: tuple[str, ...],
    chunks: int | None,
    variable: str | None,
    overlap: Overlap,
    tags: bool,
    **options: Any,
) -> None:
    """Write INPUT to OUTPUT, a path or URL such as s3://bucket/name.tif.

    INPUT is anything that rasterio opens, or a variable of a Zarr or netCDF file. All is kept that
    GDAL keeps: georeferencing, nodata, mask, overviews, colours, descriptions, scales, offsets,
    units and tags; --co wins. The compression of INPUT is not kept.

    Several INPUTs on one grid make one raster, the VRT of gdalbuildvrt. So do a pattern
    ('tiles/*.tif'), a text file with one path in each line (@list.txt) and a tile index of GDAL
    (tiles.gpkg).
    """
    request = Request.parse(**options)
    with reported():
        opened = open_sources(sources, chunks, variable=variable, tags=tags, overlap=overlap)
        request.say(str(written(opened, request)))


@click.command("plan")
@_with_source_options
@with_write_options
@click.option(
    "--sample",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Compress N blocks for a better guess at sizes and memory. Default: 0.",
)
def plan_file(
    sources: tuple[str, ...],
    chunks: int | None,
    variable: str | None,
    overlap: Overlap,
    tags: bool,
    sample: int,
    **options: Any,
) -> None:
    """Print what `create` with the same options would write, and what that would cost.

    Only the header of INPUT and the blocks of a sample are read, and OUTPUT is not touched. With
    --quiet only warnings are printed.
    """
    request = Request.parse(**options)
    with reported():
        opened = open_sources(sources, chunks, variable=variable, tags=tags, overlap=overlap)
        cog_plan = planned(opened, request, sample)
        request.say(repr(cog_plan))
        if request.quiet:
            for text in cog_plan.warnings:
                echo(f"Warning: {text}", err=True)
