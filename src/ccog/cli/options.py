"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ccog.cli.reporting import echo

if TYPE_CHECKING:
    from ccog.geometry.file_order import FileLayout

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


#: Named sets of creation options, as `rio cogeo` has them.
PROFILES = {
    name: {"COMPRESS": name.upper()} for name in ("deflate", "zstd", "lzw", "jpeg", "webp", "lerc")
}
PROFILES["raw"] = {"COMPRESS": "NONE"}

_LAYOUTS: tuple[FileLayout, ...] = ("gdal", "chunk")

# titles of options in --help
_OTHERS = "Other options"
_GROUPS = ("Options of INPUT", "Options of OUTPUT", "Options of the run", _OTHERS)


class _GroupedOption(click.Option):
    """An option with the title under which --help shows it."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose --help has its options by groups, and examples as they stand."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups, each with its options in the order of the command."""
        groups: dict[str, list[tuple[str, str]]] = {title: [] for title in _GROUPS}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                groups[getattr(param, "group", _OTHERS)].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def together(*decorators: Decorator) -> Decorator:
    """Several click decorators as one, in the order of --help."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def _group(title: str) -> Callable[..., Decorator]:
    """``click.option`` whose options stand under a title in --help."""
    return partial(click.option, cls=_GroupedOption, group=title)


of_input, of_output, of_run = map(_group, _GROUPS[:3])


def examples(*lines: str) -> str:
    """The end of --help: commands as they are typed."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


#: A path or URL, for which shells complete names of files.
FILE = click.Path(readable=False)


def storage_option(text: str) -> Decorator:
    """The option --storage-option, with ``text`` as its help."""
    return of_run("--storage-option", "storage", multiple=True, metavar="KEY=VALUE", help=text)


def _threads(text: str) -> int:
    """A number of threads, or as many as there are cores."""
    if text.upper() != "ALL_CPUS":
        return positive(text)
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def positive(text: str) -> int:
    """A whole number from 1.

    Raises
    ------
    click.BadParameter
        It is something else.
    """
    if text.strip().isdecimal() and int(text) > 0:
        return int(text)
    raise click.BadParameter(f"{text!r} is not a whole number from 1")


with_write_options = together(
    # a habit from gdal_translate, which --help need not show
    click.option("-of", type=click.Choice(["COG"], False), expose_value=False, hidden=True),
    of_output(
        "--profile",
        "-p",
        "--cog-profile",
        type=click.Choice(list(PROFILES)),
        help="Compression; --co wins. Default: lzw, as GDAL. raw is none.",
    ),
    of_output("--blocksize", type=int, metavar="N", help="Side of tiles in pixels. Default: 512."),
    of_output(
        "--overview-resampling",
        "-r",
        metavar="METHOD",
        help="How overviews are computed. Default: cubic; nearest for palettes.",
    ),
    of_output(
        "--co",
        "-co",
        "creation",
        multiple=True,
        metavar="KEY=VALUE",
        help="Creation option of GDAL's COG driver.",
    ),
    of_output(
        "--layout",
        type=click.Choice(_LAYOUTS),
        default="gdal",
        show_default=True,
        help="Order of tiles: row by row as GDAL writes them, or chunk by chunk.",
    ),
    of_output(
        "--overwrite",
        is_flag=True,
        help="Replace OUTPUT if it exists, as ccog.write_ccog does unless overwrite=False. Without "
        "it `ccog` refuses.",
    ),
    of_run(
        "--workers",
        "--threads",
        type=_threads,
        metavar="N",
        help="Threads to use. Default: one per core (ALL_CPUS).",
    ),
    of_run(
        "--scheduler",
        metavar="ADDRESS",
        help="Run on the dask cluster at this address instead.",
    ),
    of_run(
        "--config",
        multiple=True,
        metavar="KEY=VALUE",
        help="Configuration option of GDAL, wherever it runs.",
    ),
    storage_option("Passed to the store, as key, secret, token, endpoint_url or anon of S3."),
    of_run("--quiet", "-q", is_flag=True, help="Show neither progress nor result."),
)

with_resume_option = of_run(
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
    config: dict[str, Any]
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
        profile: str | None,
        blocksize: int | None,
        overview_resampling: str | None,
        storage: tuple[str, ...],
        config: tuple[str, ...],
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
        if output == "-":
            raise click.UsageError(
                "OUTPUT is -, but a COG is written in parts, not in order, and cannot go to a "
                "pipe; name a file or a URL"
            )
        named = {"BLOCKSIZE": blocksize, "OVERVIEW_RESAMPLING": overview_resampling}
        options: dict[str, Any] = dict(PROFILES[profile]) if profile else {}
        options |= {key: value for key, value in named.items() if value is not None}
        options |= {key.upper(): value for key, value in _pairs(creation, "--co").items()}
        return cls(
            output=output,
            creation={**options, "OVERWRITE": overwrite},
            storage=storage_options(storage),
            config=_configuration(config),
            layout=layout,
            workers=workers,
            scheduler=scheduler,
            quiet=quiet or _rio_is_quiet(),
            resume=resume,
        )

    def say(self, text: str) -> None:
        """Print a result, unless --quiet was given."""
        if not self.quiet:
            echo(text)


def _rio_is_quiet() -> bool:
    """Whether this runs as a plugin of ``rio --quiet``."""
    shared = click.get_current_context().find_object(dict)
    return shared is not None and shared.get("verbosity", 0) < 0


def storage_options(texts: tuple[str, ...]) -> dict[str, Any]:
    """The pairs of --storage-option as fsspec takes them."""
    return {key: _json(value) for key, value in _pairs(texts, "--storage-option").items()}


def _configuration(texts: tuple[str, ...]) -> dict[str, Any]:
    """The pairs of --config as rasterio takes them, which wants numbers for numbers."""
    options: dict[str, Any] = dict(_pairs(texts, "--config"))
    options |= {key: int(value) for key, value in options.items() if value.isdecimal()}
    if isinstance(options.get("GDAL_CACHEMAX"), str):
        raise click.BadParameter("GDAL_CACHEMAX is a number of MB", param_hint="--config")
    return options


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
