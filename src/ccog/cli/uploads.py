"""``ccog uploads list`` and ``ccog uploads abort``: what killed writes have left."""

from __future__ import annotations

from datetime import timedelta

import click

from ccog.cli.options import FILE, storage_option, storage_options, together
from ccog.cli.reporting import echo, reported
from ccog.stores import IncompleteUpload, abort_incomplete, list_incomplete

_with_uploads_options = together(
    click.argument("url", type=FILE),
    storage_option("Passed to the store."),
    click.option(
        "--older-than",
        type=float,
        default=0.0,
        metavar="HOURS",
        help="Only writes begun earlier than this.",
    ),
)


@click.group()
def uploads() -> None:
    """Find and remove what killed writes have left."""


@uploads.command("list")
@_with_uploads_options
def list_uploads(url: str, storage: tuple[str, ...], older_than: float) -> None:
    """List the incomplete writes at URL: a file, a directory, s3://bucket or s3://bucket/prefix."""
    age = timedelta(hours=older_than)
    with reported():
        _print(list_incomplete(url, storage_options(storage), older_than=age))


@uploads.command("abort")
@_with_uploads_options
def abort_uploads(url: str, storage: tuple[str, ...], older_than: float) -> None:
    """Remove the incomplete writes at URL; --older-than spares those that are in progress."""
    age = timedelta(hours=older_than)
    with reported():
        _print(abort_incomplete(url, storage_options(storage), older_than=age))


def _print(incomplete: list[IncompleteUpload]) -> None:
    for upload in incomplete:
        begun = f"{upload.started:%Y-%m-%dT%H:%M:%SZ}"
        resumable = " resumable" if upload.resumable else ""
        echo(f"{begun} {upload.url} {upload.upload_id}{resumable}")
