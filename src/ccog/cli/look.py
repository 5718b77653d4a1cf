"""``ccog inspect`` and ``ccog validate``: how a GeoTIFF is stored, and whether it is a good COG."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from typing import Any

import click

from ccog.cli.options import (
    FILE,
    Decorator,
    GroupedCommand,
    examples,
    storage_option,
    storage_options,
)
from ccog.cli.reporting import echo, reported


def _json_option(name: str) -> Decorator:
    """The option --json, which prints the fields of a class of ccog."""
    text = f"Print JSON with the fields of {name}."
    return click.option("--json", "as_json", is_flag=True, help=text)


_with_storage_option = storage_option("Passed to fsspec to read URL.")


@click.command(
    "inspect",
    cls=GroupedCommand,
    short_help="Show how a GeoTIFF is stored.",
    epilog=examples(
        "ccog inspect out.tif --svg out.svg",
        "ccog inspect s3://bucket/out.tif --storage-option anon=true",
    ),
)
@click.argument("url", type=FILE)
@click.option(
    "--svg",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Save a picture of the file.",
)
@_json_option("ccog.Inspection")
@_with_storage_option
def inspect_file(url: str, svg: str | None, as_json: bool, storage: tuple[str, ...]) -> None:
    """Show how the GeoTIFF at URL is stored, by reading only its header.

    URL is a path, or a URL such as https://host/name.tif or s3://bucket/name.tif.
    """
    with reported():
        from ccog.views.inspect import inspect

        inspection = inspect(url, storage_options(storage))
        echo(_json(inspection) if as_json else repr(inspection))
        if svg is not None:
            inspection.save_svg(svg)


@click.command(
    "validate",
    cls=GroupedCommand,
    short_help="Check that a file is a valid COG.",
    epilog=examples("ccog validate out.tif", "ccog validate https://host/out.tif --all -v"),
)
@click.argument("url", type=FILE)
@click.option(
    "--all",
    "thorough",
    is_flag=True,
    help="Look at every tile and overview pixel, not at samples.",
)
@_json_option("ccog.Validation")
@click.option("--verbose", "-v", is_flag=True, help="Print every check, also of a good file.")
@_with_storage_option
def validate_file(
    url: str, thorough: bool, as_json: bool, verbose: bool, storage: tuple[str, ...]
) -> None:
    """Check that the file at URL is a valid COG and what it claims to be; exit code 1 if not.

    One line is printed for a good file, and all checks for another one.
    """
    with reported():
        from ccog.views.validate import validate

        validation = validate(url, storage_options(storage), thorough=thorough)
        is_good = all(check.outcome in ("ok", "skipped") for check in validation.checks)
        if as_json:
            echo(_json(validation, is_valid=validation.is_valid))
        elif is_good and not verbose:
            echo(f"{validation.url}: valid")
        else:
            echo(repr(validation))
    sys.exit(0 if validation.is_valid else 1)


def _json(view: Any, **more: Any) -> str:
    """The fields of a view; what is drawn has no place in JSON."""
    return json.dumps(_plain(view) | more, indent=2, default=str)


def _plain(value: Any) -> Any:
    """Dictionaries, lists and numbers that JSON has: infinite ones become null."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.name != "drawing"]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
