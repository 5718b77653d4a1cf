"""``ccog inspect`` and ``ccog validate``: how a GeoTIFF is stored, and whether it is a good COG."""

from __future__ import annotations

import sys

import click

from ccog.cli.options import FILE, storage_option, storage_options
from ccog.cli.reporting import echo, reported
from ccog.views.inspect import inspect
from ccog.views.validate import validate

_with_storage_option = storage_option("Passed to fsspec to read URL.")


@click.command("inspect")
@click.argument("url", type=FILE)
@click.option(
    "--svg",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Save a picture of the file.",
)
@_with_storage_option
def inspect_file(url: str, svg: str | None, storage: tuple[str, ...]) -> None:
    """Show how the GeoTIFF at URL is stored, by reading only its header.

    URL is a path, or a URL such as https://host/name.tif or s3://bucket/name.tif.
    """
    with reported():
        inspection = inspect(url, storage_options(storage))
        echo(repr(inspection))
        if svg is not None:
            inspection.save_svg(svg)


@click.command("validate")
@click.argument("url", type=FILE)
@click.option(
    "--all",
    "thorough",
    is_flag=True,
    help="Look at every tile and overview pixel, not at samples.",
)
@_with_storage_option
def validate_file(url: str, thorough: bool, storage: tuple[str, ...]) -> None:
    """Check that the file at URL is a valid COG and what it claims to be; exit code 1 if not."""
    with reported():
        validation = validate(url, storage_options(storage), thorough=thorough)
        echo(repr(validation))
    sys.exit(0 if validation.is_valid else 1)
