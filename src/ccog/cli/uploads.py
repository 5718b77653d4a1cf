"""``ccog uploads list`` and ``ccog uploads abort``: what killed writes have left."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from ccog.cli.options import (
    FILE,
    GroupedCommand,
    examples,
    other_option,
    storage_option,
    together,
)
from ccog.cli.reporting import echo, reported
from ccog.errors import StoreNotFoundError
from ccog.redaction import redacted
from ccog.wording import plural

if TYPE_CHECKING:
    from ccog.stores import IncompleteUpload

_with_uploads_options = together(
    click.argument("url", type=FILE),
    storage_option("Passed to the store."),
    other_option(
        "--older-than",
        "Only writes begun earlier than this.",
        type=float,
        default=0.0,
        metavar="HOURS",
    ),
)


@click.group()
def uploads() -> None:
    """Find and remove what killed writes have left."""


@uploads.command(
    "list",
    cls=GroupedCommand,
    short_help="List unfinished writes.",
    epilog=examples("ccog uploads list .", "ccog uploads list s3://bucket/dir/"),
)
@_with_uploads_options
def list_uploads(url: str, storage: dict[str, Any], older_than: float) -> None:
    """List the incomplete writes at URL: a file, a directory, s3://bucket or s3://bucket/dir.

    Uploads that other programs have begun are marked, and records that ended writes have left.
    """
    with reported():
        for upload in _incomplete(url, storage, older_than):
            echo(_line(upload))


@uploads.command(
    "abort",
    cls=GroupedCommand,
    short_help="Remove the unfinished writes of ccog.",
    epilog=examples(
        "ccog uploads abort out.tif",
        "ccog uploads abort s3://bucket/dir/ --older-than 24 --yes",
    ),
)
@_with_uploads_options
@other_option(
    "--all others_too", "Also uploads that ccog is not known to have begun.", is_flag=True
)
@other_option("--yes -y", "Do not ask.", is_flag=True)
def abort_uploads(
    url: str, storage: dict[str, Any], older_than: float, others_too: bool, yes: bool
) -> None:
    """Remove the incomplete writes at URL that ccog has begun.

    --older-than spares those that are in progress.
    """
    with reported():
        from ccog.stores import abort_these

        incomplete = _incomplete(url, storage, older_than)
        chosen = [upload for upload in incomplete if others_too or upload.by_ccog]
        if chosen and not yes:
            echo("\n".join(map(_line, chosen)))
            question = f"Remove {plural(len(chosen), 'upload')}? (--yes does not ask)"
            click.confirm(question, abort=True)
        abort_these(chosen, url, storage)
        for upload in chosen:
            echo(f"removed {_line(upload)}")
        if not incomplete:
            echo("nothing to remove", err=True)
        if left := len(incomplete) - len(chosen):
            echo(
                f"{plural(left, 'upload')} not begun by ccog left; --all removes them too", err=True
            )


def _incomplete(url: str, options: dict[str, Any], older_than: float) -> list[IncompleteUpload]:
    """The incomplete writes; an error if there is nothing at all."""
    import fsspec

    from ccog.stores import list_incomplete

    uploads = list_incomplete(url, options, older_than=timedelta(hours=older_than))
    if uploads or older_than:
        return uploads
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    if not filesystem.exists(path):
        raise StoreNotFoundError(
            f"{redacted(url)} does not exist, and no write to it or below it is unfinished"
        )
    return uploads


def _line(upload: IncompleteUpload) -> str:
    begun = f"{upload.started:%Y-%m-%dT%H:%M:%SZ}"
    resumable = " resumable" if upload.resumable else ""
    over = " (ended, but for its records)" if upload.over else ""
    foreign = "" if upload.by_ccog else " (not known to be ccog's)"
    return f"{begun} {upload.url} {upload.upload_id}{resumable}{over}{foreign}"
