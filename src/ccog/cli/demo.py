"""``ccog demo``: a synthetic terrain, written to a file or to an S3 server of its own."""

from __future__ import annotations

import contextlib
import sys
import threading
from dataclasses import replace
from typing import Any

import click

from ccog.cli.options import (
    FILE,
    GroupedCommand,
    Request,
    examples,
    of_output,
    of_run,
    with_resume_option,
    with_write_options,
)
from ccog.cli.reporting import reported
from ccog.errors import CCOGError
from ccog.local_s3 import BUCKET, local_s3
from ccog.wording import plural

# where neither --co nor --profile says another compression
_CREATION = {"COMPRESS": "DEFLATE", "PREDICTOR": "YES"}


@click.command(
    cls=GroupedCommand,
    short_help="Write a synthetic terrain, to try ccog.",
    epilog=examples("ccog demo terrain.tif --size 4096", "ccog demo --s3 --keep"),
)
@click.argument("output", default="ccog-demo.tif", type=FILE)
@of_run(
    "--s3 on_s3",
    "Start an S3 server here and write to it. It runs until Ctrl-C, or, where the output is not a "
    "terminal, until the file is written.",
    is_flag=True,
)
@of_run("--keep", "With --s3: keep the server until Ctrl-C in any case.", is_flag=True)
@of_output(
    "--size",
    "Width and height in pixels.",
    type=click.IntRange(1),
    default=16384,
    show_default=True,
)
@with_write_options
@with_resume_option
def demo(size: int, on_s3: bool, keep: bool, **options: Any) -> None:
    """Make a synthetic terrain block by block and write it to OUTPUT, by default ccog-demo.tif.

    It is compressed by deflate with a predictor unless -p or --co says otherwise. With --s3 OUTPUT
    is the name of an object on a server (SeaweedFS) that starts here and loses it when it ends.
    """
    if keep and not on_s3:
        raise click.UsageError("--keep is for the server of --s3")
    request = Request.parse(**options)
    if on_s3 and "://" in request.output:
        raise click.UsageError(
            f"OUTPUT is {request.output}, but --s3 writes to a server of its own: give the name of "
            "an object, or leave out --s3"
        )
    if "COMPRESS" not in request.creation:
        request = replace(request, creation=_CREATION | request.creation)
    with reported():
        if on_s3:
            _write_to_local_s3(size, request, keep=keep or sys.stdout.isatty())
        else:
            _write_terrain(size, request)


def _write_to_local_s3(size: int, request: Request, *, keep: bool) -> None:
    if keep:
        request.say("Starting an S3 server, which runs until Ctrl-C.")
    with local_s3() as storage:
        url = f"s3://{BUCKET}/{request.output}"
        request = replace(request, output=url, storage={**storage, **request.storage})
        _write_terrain(size, request)
        if not keep:
            request.say("The server ends now, and the file with it; --keep keeps them.")
            return
        options = [f"--storage-option {key}={value}" for key, value in request.storage.items()]
        request.say(
            "The server runs until Ctrl-C. In another terminal:\n"
            f"ccog inspect {url} {' '.join(options)}"
        )
        try:
            threading.Event().wait()
        except KeyboardInterrupt as asked:
            # a signal that is only caught counts as lost, and would be sent again
            raise SystemExit(0) from asked


def _write_terrain(size: int, request: Request) -> None:
    from ccog import demo as terrain
    from ccog.cli.running import written
    from ccog.input.source import Source
    from ccog.views.inspect.report import inspect

    options = {
        "crs": terrain.CRS,
        "transform": terrain.TRANSFORM,
        "units": ("m",),
        "descriptions": ("elevation",),
    }
    outcome = written(Source(array=terrain.terrain(size), options=options), request)
    levels = ""
    # if it can be read from here
    with contextlib.suppress(CCOGError, OSError):
        found = inspect(outcome.url, request.storage)
        levels = f" in {plural(len(found.levels), 'level')}"
    request.say(
        f"{outcome}\n{size} x {size} pixels of uint16{levels}, "
        f"{outcome.raw / outcome.size:.1f} times smaller than the pixels, "
        f"made and written at {size * size / outcome.seconds / 1e6:.1f} Mpixel/s"
    )
