"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import click

from ccog.cli.reporting import echo
from ccog.geometry.file_order import FileLayout

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def together(*decorators: Decorator) -> Decorator:
    """Several click decorators as one, in the order of --help."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def storage_option(text: str) -> Decorator:
    """The option --storage-option, with ``text`` as its help."""
    return click.option(
        "--storage-option", "storage", multiple=True, metavar="KEY=VALUE", help=text
    )


with_write_options = together(
    click.option(
        "--co",
        "creation",
        multiple=True,
        metavar="KEY=VALUE",
        help="Creation option of GDAL's COG driver.",
    ),
    click.option(
        "--layout",
        type=click.Choice(get_args(FileLayout)),
        default="gdal",
        show_default=True,
        help="Order of tiles: row by row as GDAL writes them, or chunk by chunk.",
    ),
    click.option(
        "--workers", type=click.IntRange(1), help="Threads to use. Default: one per core."
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Run on the dask cluster at this address instead.",
    ),
    storage_option("Passed to the store."),
    click.option("--overwrite", is_flag=True, help="Replace OUTPUT if it exists."),
    click.option("--quiet", is_flag=True, help="Show neither progress nor result."),
)

with_resume_option = click.option(
    "--resume",
    is_flag=True,
    help="Continue an unfinished write of the same command. If this one fails, leave what can be "
    "continued.",
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the options say of the file to write, and of how to write it."""

    output: str
    creation: dict[str, Any]
    storage: dict[str, Any]
    layout: FileLayout
    workers: int | None
    scheduler: str | None
    quiet: bool
    resume: bool

    @classmethod
    def parse(
        cls,
        *,
        output: str,
        creation: tuple[str, ...],
        storage: tuple[str, ...],
        layout: FileLayout,
        workers: int | None,
        scheduler: str | None,
        overwrite: bool,
        quiet: bool,
        resume: bool = False,
    ) -> Request:
        """The request from options as click hands them over.

        Raises
        ------
        click.UsageError
            A pair is not KEY=VALUE, or options contradict each other.
        """
        if workers and scheduler:
            raise click.UsageError(
                "--workers is for this machine, --scheduler for a cluster: give one"
            )
        options: dict[str, Any] = {
            key.upper(): value for key, value in _pairs(creation, "--co").items()
        }
        return cls(
            output=output,
            creation={**options, "OVERWRITE": overwrite},
            storage=storage_options(storage),
            layout=layout,
            workers=workers,
            scheduler=scheduler,
            quiet=quiet,
            resume=resume,
        )

    def say(self, text: str) -> None:
        """Print a result, unless --quiet was given."""
        if not self.quiet:
            echo(text)


def storage_options(texts: tuple[str, ...]) -> dict[str, Any]:
    """The pairs of --storage-option as fsspec takes them."""
    return {key: _json(value) for key, value in _pairs(texts, "--storage-option").items()}


def _pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint=option)
        pairs[key.strip()] = value
    return pairs


def _json(text: str) -> Any:
    """Objects, lists and booleans as JSON; all else, such as a key made of digits, stays text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text[:1] in ("{", "["):
        with contextlib.suppress(json.JSONDecodeError):
            return json.loads(text)
    return text
