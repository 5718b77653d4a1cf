"""The command ``ccog``: rasters and variables to Cloud Optimised GeoTIFF, and a demonstration."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NoReturn, get_args

import click
import dask
from dask.delayed import Delayed
from dask.system import CPU_COUNT
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from ccog import demo as terrain
from ccog.api import plan, write_ccog
from ccog.errors import CCOGError, MissingDependencyError, StoreError, StoreExistsError
from ccog.geometry.cog import FileLayout
from ccog.input.files import Source, open_source
from ccog.local_s3 import BUCKET, local_s3
from ccog.runtime.begin import wait_for_removal
from ccog.stores import IncompleteUpload, WriteResult, abort_incomplete, list_incomplete
from ccog.views.inspect import inspect
from ccog.views.plan import CogPlan
from ccog.views.progress import progress
from ccog.views.validate import validate

_CONNECT_SECONDS = 15

# by which batch systems, Kubernetes, `timeout` and terminals that are closed end a program; Windows has no SIGHUP
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
# of writing to a pipe whose reader has gone, and to a terminal that is closed
_NOBODY_READS = (errno.EPIPE, errno.EIO)
# exit codes of shells for programs that a signal ended
_SIGNALLED = 128

_WRITE_OPTIONS = (
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
        "--scheduler", metavar="ADDRESS", help="Run on the dask cluster at this address instead."
    ),
    click.option(
        "--storage-option",
        "storage",
        multiple=True,
        metavar="KEY=VALUE",
        help="Passed to the store.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace OUTPUT if it exists."),
    click.option("--quiet", is_flag=True, help="Show neither progress nor result."),
)


@dataclass(frozen=True)
class _Request:
    """What both commands are told about the file to write."""

    output: str
    creation: dict[str, Any]
    storage: dict[str, Any]
    layout: FileLayout
    workers: int | None
    scheduler: str | None
    quiet: bool
    resume: bool


_Command = Callable[..., None]


def _with(options: tuple[Callable[[_Command], _Command], ...]) -> Callable[[_Command], _Command]:
    """Several click decorators as one."""
    return lambda command: functools.reduce(
        lambda found, option: option(found), reversed(options), command
    )


@click.group("ccog", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ccog")
def main() -> None:
    """Write Cloud Optimised GeoTIFFs, in parallel, byte for byte as GDAL would, and look at them."""


_SOURCE_OPTIONS = (
    click.argument("source", metavar="INPUT"),
    click.argument("output"),
    click.option(
        "--chunks",
        type=click.IntRange(1),
        metavar="N",
        help="Read in chunks of N x N pixels. Default: by blocks.",
    ),
    click.option(
        "--variable", metavar="NAME", help="Variable of a Zarr or netCDF INPUT; or say INPUT:NAME."
    ),
    click.option(
        "--tags/--no-tags",
        default=False,
        help="Copy metadata tags (statistics aside). Default: no, as rio convert.",
    ),
)


_resume_option = click.option(
    "--resume",
    is_flag=True,
    help="Continue what the same command has left, and leave what can be continued.",
)


@main.command()
@_with(_SOURCE_OPTIONS)
@_with(_WRITE_OPTIONS)
@_resume_option
def create(source: str, chunks: int | None, variable: str | None, tags: bool, **given: Any) -> None:
    """Write INPUT, anything rasterio opens or a Zarr or netCDF variable, to OUTPUT, a path or s3:// URL.

    Georeferencing, nodata, mask, colour map, band descriptions, scales, offsets, units and a lossless
    compression of INPUT are kept; --co wins.
    """
    request = _request(**given)
    with _reported():
        opened = open_source(source, chunks, variable=variable, tags=tags)
        if opened.dropped_tags and not request.quiet:
            _echo(
                f"Note: {opened.dropped_tags} metadata tags are not copied; --tags copies them.",
                err=True,
            )
        started = time.perf_counter()
        result = _write(opened, request)
        _say(request, _summary(result, opened.array.nbytes, time.perf_counter() - started))


@main.command("plan")
@_with(_SOURCE_OPTIONS)
@_with(_WRITE_OPTIONS)
@click.option(
    "--sample",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Compress N blocks for a better guess at sizes and memory. Default: 0.",
)
def plan_file(
    source: str, chunks: int | None, variable: str | None, tags: bool, sample: int, **given: Any
) -> None:
    """Print what `create` with the same options would write, and what that would cost, without doing it.

    Nothing of INPUT but its header and the blocks of a sample is read, and OUTPUT is not touched. With --quiet only
    warnings are printed.
    """
    request = _request(**given)
    with _reported():
        opened = open_source(source, chunks, variable=variable, tags=tags)
        found = _planned(opened, request, sample)
        _say(request, repr(found))
        for text in found.warnings if request.quiet else ():
            _echo(f"Warning: {text}", err=True)


@main.command()
@click.argument("output", default="ccog-demo.tif")
@click.option(
    "--s3", "on_s3", is_flag=True, help="Write to an S3 server that is started here, until Ctrl-C."
)
@click.option(
    "--size",
    type=click.IntRange(1),
    default=16384,
    show_default=True,
    help="Width and height in pixels.",
)
@_with(_WRITE_OPTIONS)
@_resume_option
def demo(size: int, on_s3: bool, **given: Any) -> None:
    """Make a synthetic terrain block by block and write it to OUTPUT.

    With --s3 OUTPUT is the name of an object, and the server, SeaweedFS, has it until it is stopped.
    """
    request = _request(**given)
    with _reported(), local_s3() if on_s3 else contextlib.nullcontext() as storage:
        if storage is None:
            _write_demo(size, request)
            return
        request = replace(
            request,
            output=f"s3://{BUCKET}/{request.output}",
            storage={**storage, **request.storage},
        )
        _write_demo(size, request)
        _say(request, _how_to_read(request))
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def _how_to_read(request: _Request) -> str:
    given = " ".join(f"--storage-option {key}={value}" for key, value in request.storage.items())
    return (
        f"The server runs until Ctrl-C. In another terminal:\nccog inspect {request.output} {given}"
    )


def _write_demo(size: int, request: _Request) -> None:
    described = {
        "crs": terrain.CRS,
        "transform": terrain.TRANSFORM,
        "units": ("m",),
        "descriptions": ("elevation",),
    }
    opened = Source(
        terrain.terrain(size), options={**described, "COMPRESS": "DEFLATE", "PREDICTOR": "YES"}
    )
    started = time.perf_counter()
    result = _write(opened, request)
    seconds = time.perf_counter() - started
    pixels, raw = size * size, opened.array.nbytes
    _say(request, _summary(result, raw, seconds))
    levels = _levels(result.url, request.storage)
    _say(
        request,
        f"{size} x {size} pixels of uint16{levels}, {raw / result.size:.1f} times smaller than the pixels, "
        f"made and written at {pixels / seconds / 1e6:.1f} Mpixel/s",
    )


@main.group()
def uploads() -> None:
    """Find and remove what killed writes have left."""


_UPLOADS_OPTIONS = (
    click.argument("url"),
    click.option(
        "--storage-option",
        "storage",
        multiple=True,
        metavar="KEY=VALUE",
        help="Passed to the store.",
    ),
    click.option(
        "--older-than",
        type=float,
        default=0.0,
        metavar="HOURS",
        help="Only writes begun earlier than that.",
    ),
)


@uploads.command("list")
@_with(_UPLOADS_OPTIONS)
def list_uploads(url: str, storage: tuple[str, ...], older_than: float) -> None:
    """List the incomplete writes at URL: a file, a directory, s3://bucket or s3://bucket/prefix."""
    with _reported():
        _print_uploads(
            list_incomplete(url, _storage(storage), older_than=timedelta(hours=older_than))
        )


@uploads.command("abort")
@_with(_UPLOADS_OPTIONS)
def abort_uploads(url: str, storage: tuple[str, ...], older_than: float) -> None:
    """Remove the incomplete writes at URL, those in progress too unless --older-than spares them."""
    with _reported():
        _print_uploads(
            abort_incomplete(url, _storage(storage), older_than=timedelta(hours=older_than))
        )


def _print_uploads(found: list[IncompleteUpload]) -> None:
    for upload in found:
        resumable = " resumable" if upload.resumable else ""
        _echo(f"{upload.started:%Y-%m-%dT%H:%M:%SZ} {upload.url} {upload.session}{resumable}")


_look_options = click.option(
    "--storage-option",
    "storage",
    multiple=True,
    metavar="KEY=VALUE",
    help="Passed to fsspec to read URL.",
)


@main.command("inspect")
@click.argument("url")
@click.option(
    "--svg", type=click.Path(dir_okay=False), metavar="FILE", help="Save a picture of the file."
)
@_look_options
def inspect_file(url: str, svg: str | None, storage: tuple[str, ...]) -> None:
    """Show how the GeoTIFF at URL, a path or http(s):// or s3:// URL, is stored, by reading only its header."""
    with _reported():
        found = inspect(url, _storage(storage))
        _echo(repr(found))
        if svg is not None:
            found.save_svg(svg)


@main.command("validate")
@click.argument("url")
@click.option(
    "--all", "thorough", is_flag=True, help="Look at every tile and overview pixel, not at samples."
)
@_look_options
def validate_file(url: str, thorough: bool, storage: tuple[str, ...]) -> None:
    """Judge whether the file at URL is a valid COG and what it claims to be; exit code 1 where it is not."""
    with _reported():
        found = validate(url, _storage(storage), thorough=thorough)
        _echo(repr(found))
    sys.exit(0 if found.is_valid else 1)


def _request(
    output: str,
    creation: tuple[str, ...],
    storage: tuple[str, ...],
    layout: FileLayout,
    workers: int | None,
    scheduler: str | None,
    overwrite: bool,
    quiet: bool,
    resume: bool = False,
) -> _Request:
    if workers and scheduler:
        raise click.UsageError(
            "--workers is for this machine, --scheduler for a cluster: give one of them"
        )
    options: dict[str, Any] = {
        key.upper(): value for key, value in _pairs(creation, "--co").items()
    }
    creation_options = {**options, "OVERWRITE": overwrite}
    return _Request(
        output, creation_options, _storage(storage), layout, workers, scheduler, quiet, resume
    )


def _storage(given: tuple[str, ...]) -> dict[str, Any]:
    return {key: _json(value) for key, value in _pairs(given, "--storage-option").items()}


def _pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint=option)
        pairs[key.strip()] = value
    return pairs


def _json(text: str) -> Any:
    """Objects, lists and booleans as JSON; anything else, such as a key made of digits, stays text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text[:1] in ("{", "["):
        with contextlib.suppress(json.JSONDecodeError):
            return json.loads(text)
    return text


class _EndedError(KeyboardInterrupt):
    """A signal asks the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that nothing is left of what is being written.

    Those that are ignored, as SIGHUP is under nohup, stay so. After the first, and after Ctrl-C, others do not
    disturb the clean-up; only another Ctrl-C does.
    """
    usual = {number: signal.SIG_DFL for number in _ENDING} | {
        signal.SIGINT: signal.default_int_handler
    }
    if threading.current_thread() is not threading.main_thread():
        usual = {}
    before = {
        number: handler for number, handler in usual.items() if signal.getsignal(number) == handler
    }

    def end(number: int, _: Any) -> NoReturn:
        for other in before.keys() - {signal.SIGINT}:
            signal.signal(other, signal.SIG_IGN)
        raise _EndedError(number)

    try:
        for number in before:
            signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Errors as one line and exit code 1, warnings as one line, signals as 128 and their number (Ctrl-C: 130)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        warnings.showwarning = _show_warning
        try:
            with _ended_by_signals():
                yield
        except StoreExistsError as error:
            _fail(f"{error} (--overwrite)")
        except (CCOGError, RasterioError, OSError) as error:
            _fail(str(error) or type(error).__name__)
        except KeyboardInterrupt as error:
            number = getattr(error, "number", signal.SIGINT)
            by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
            _echo(f"Aborted{by}!", err=True)
            sys.exit(_SIGNALLED + number)


def _echo(text: str, *, err: bool = False) -> None:
    """Print a line, unless nobody reads: who closes a pipe, as `head` does, or a terminal changes no result."""
    try:
        click.echo(text, err=err)
    except OSError as error:
        if error.errno not in _NOBODY_READS:
            raise
        # what is still in the buffer goes nowhere when the interpreter ends
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), (sys.stderr if err else sys.stdout).fileno())


def _fail(message: str) -> NoReturn:
    raise click.ClickException(" ".join(message.split())) from None


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _echo(f"Warning: {' '.join(str(message).split())}", err=True)


def _write(source: Source, request: _Request) -> WriteResult:
    run = _on_threads if request.scheduler is None else _on_cluster
    return run(
        lambda: write_ccog(
            source.array, request.output, resume=request.resume, **_arguments(source, request)
        ),
        request,
    )


def _planned(source: Source, request: _Request, sample: int) -> CogPlan:
    """The plan for the threads that would write."""
    threads = dask.config.set(num_workers=request.workers or CPU_COUNT)
    with threads if request.scheduler is None else _connect(request.scheduler):
        return plan(source.array, request.output, sample=sample, **_arguments(source, request))


def _arguments(source: Source, request: _Request) -> dict[str, Any]:
    """Of write_ccog, besides the array and the store."""
    options = {**{key.upper(): value for key, value in source.options.items()}, **request.creation}
    return {
        "mask": source.mask,
        "COG_creation_options": options,
        "storage_options": request.storage or None,
        "layout": request.layout,
    }


def _on_threads(build: Callable[[], Delayed], request: _Request) -> WriteResult:
    workers = request.workers or CPU_COUNT
    # leaving the pool waits for what still runs
    with (
        ThreadPoolExecutor(workers) as pool,
        dask.config.set(num_workers=workers),
        _watched(request),
    ):
        result: WriteResult = build().compute(scheduler="threads", pool=pool)
        return result


def _watched(request: _Request, client: Any = None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if request.quiet else progress(client)


def _on_cluster(build: Callable[[], Delayed], request: _Request) -> WriteResult:
    client = _connect(str(request.scheduler))
    with client, _watched(request, client):
        future = client.compute(build())
        try:
            result: WriteResult = future.result()
            return result
        except BaseException:
            future.release()  # not cancel: the scheduler stumbles over a key that its dependent's cancelling released
            wait_for_removal(str(future.key), client)
            raise


def _connect(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError(
            "--scheduler needs distributed: pip install distributed"
        ) from error
    try:
        return Client(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise StoreError(f"no dask scheduler answers at {address}: {error}") from error


def _summary(result: WriteResult, raw: int, seconds: float) -> str:
    return f"{result.url}: {result.size / 1e6:.2f} MB in {seconds:.2f} s ({raw / seconds / 1e6:.1f} MB/s of pixels)"


def _levels(url: str, storage: dict[str, Any]) -> str:
    """How many resolutions the file has, where it can be read from here."""
    with contextlib.suppress(CCOGError, OSError):
        return f" in {len(inspect(url, storage).levels)} levels"
    return ""


def _say(request: _Request, line: str) -> None:
    if not request.quiet:
        _echo(line)
