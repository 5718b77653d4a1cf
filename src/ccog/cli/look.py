"""``ccog inspect`` and ``ccog validate``: how a file is stored, and if it is a good COG."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import click

from ccog.cli.options import (
    FILE,
    Decorator,
    GroupedCommand,
    examples,
    other_option,
    storage_option,
)
from ccog.cli.reporting import echo, reported


def _json_option(name: str) -> Decorator:
    """The option --json, which prints the fields of a class of ccog."""
    return other_option("--json as_json", f"Print JSON with the fields of {name}.", is_flag=True)


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
@other_option(
    "--svg", "Save a picture of the file.", type=click.Path(dir_okay=False), metavar="FILE"
)
@_json_option("ccog.Inspection")
@_with_storage_option
def inspect_file(url: str, svg: str | None, as_json: bool, storage: dict[str, Any]) -> None:
    """Show how the GeoTIFF at URL is stored, by reading only its header.

    URL is a path, or a URL such as https://host/name.tif or s3://bucket/name.tif.
    """
    with reported():
        from ccog.views.inspect.report import inspect

        inspection = inspect(url, storage)
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
@other_option(
    "--all thorough", "Look at every tile and overview pixel, not at samples.", is_flag=True
)
@_json_option("ccog.Validation")
@other_option("--verbose -v", "Print every check, also of a good file.", is_flag=True)
@_with_storage_option
def validate_file(
    url: str, thorough: bool, as_json: bool, verbose: bool, storage: dict[str, Any]
) -> None:
    """Check that the file at URL is a valid COG and what it claims to be; exit code 1 if not.

    One line is printed for a good file, and all checks for another one.
    """
    with reported():
        from ccog.views.validate.checks import validate

        validation = validate(url, storage, thorough=thorough)
        is_good = all(check.outcome in ("ok", "skipped") for check in validation.checks)
        if as_json:
            echo(_json(validation, is_valid=validation.is_valid))
        elif is_good and not verbose:
            echo(f"{validation.url}: valid")
        else:
            echo(repr(validation))
    sys.exit(0 if validation.is_valid else 1)


def _json(view: Any, **more: Any) -> str:
    """The fields of a view but its picture; infinite numbers, which JSON has not, are null."""
    fields = dataclasses.asdict(view) | more
    fields.pop("drawing", None)
    text = json.dumps(fields, default=str)
    return json.dumps(json.loads(text, parse_constant=lambda _: None), indent=2)
