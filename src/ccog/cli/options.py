"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ccog.cli.reporting import echo
from ccog.redaction import Hidden

if TYPE_CHECKING:
    from ccog.geometry.file_order import FileLayout

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]

_CODECS = ("deflate", "zstd", "lzw", "jpeg", "webp", "lerc")

#: Compressions by the names that `rio cogeo` has for them.
PROFILES = {name: name.upper() for name in _CODECS} | {"raw": "NONE"}

_LAYOUTS: tuple[FileLayout, ...] = ("gdal", "chunk")

# titles of options in --help
_OTHERS = "Other options"
_GROUPS = ("Options of INPUT", "Options of OUTPUT", "Options of the run", _OTHERS)

#: A path or URL, for which shells complete names of files.
FILE = click.Path(readable=False)


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


def _options_under(title: str) -> Callable[..., Decorator]:
    """``click.option`` for a group of --help; its names are one text."""

    def option(names: str, text: str, **attributes: Any) -> Decorator:
        return click.option(
            *names.split(), cls=_GroupedOption, group=title, help=text, **attributes
        )

    return option


of_input, of_output, of_run, other_option = map(_options_under, _GROUPS)


def examples(*lines: str) -> str:
    """The end of --help: commands as they are typed."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def positive(text: str) -> int:
    """A whole number from 1."""
    if text.strip().isdecimal() and int(text) > 0:
        return int(text)
    raise click.BadParameter(f"{text!r} is not a whole number from 1")


def _threads(text: str) -> int:
    """A number of threads, or as many as there are cores."""
    if text.upper() != "ALL_CPUS":
        return positive(text)
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def _pairs(_: click.Context, option: click.Parameter, texts: Sequence[str]) -> dict[str, Any]:
    """The KEY=VALUE of an option."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            problem = f"{text!r} is not KEY=VALUE"
            raise click.BadParameter(problem, param_hint=option.opts[0])
        pairs[key.strip()] = value
    return pairs


def _creation(ctx: click.Context, option: click.Parameter, texts: Sequence[str]) -> dict[str, Any]:
    """The pairs in upper case; of all options only SRC_MDD may have several values."""
    pairs: dict[str, Any] = {}
    for text in texts:
        for key, value in _pairs(ctx, option, [text]).items():
            name = key.upper()
            if name == "SRC_MDD":
                pairs.setdefault(name, []).append(value)
            elif pairs.setdefault(name, value) != value:
                problem = f"{name} is given twice, as {pairs[name]} and {value}; leave one out"
                raise click.BadParameter(problem, param_hint=option.opts[0])
    return pairs


def _storage(ctx: click.Context, option: click.Parameter, texts: Sequence[str]) -> dict[str, Any]:
    """The pairs as fsspec takes them."""
    pairs = _pairs(ctx, option, texts)
    return Hidden({key: _from_json(value) for key, value in pairs.items()})


def _from_json(text: str) -> Any:
    """Objects, lists and booleans as JSON; all else, a key of digits too, stays text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text[:1] in ("{", "["):
        with contextlib.suppress(json.JSONDecodeError):
            return json.loads(text)
    return text


def _configuration(
    ctx: click.Context, option: click.Parameter, texts: Sequence[str]
) -> dict[str, Any]:
    """The pairs as rasterio takes them, which wants numbers for numbers."""
    options = Hidden(_pairs(ctx, option, texts))
    options |= {key: int(value) for key, value in options.items() if value.isdecimal()}
    if isinstance(options.get("GDAL_CACHEMAX"), str):
        problem = "GDAL_CACHEMAX is a number of MB"
        raise click.BadParameter(problem, param_hint=option.opts[0])
    return options


_KEY_VALUE: dict[str, Any] = {"multiple": True, "metavar": "KEY=VALUE"}


def storage_option(text: str) -> Decorator:
    """The option --storage-option, with ``text`` as its help."""
    return of_run("--storage-option storage", text, callback=_storage, **_KEY_VALUE)


with_write_options = together(
    # a habit from gdal_translate, which --help need not show
    click.option("-of", type=click.Choice(["COG"], False), expose_value=False, hidden=True),
    of_output(
        "--profile -p --cog-profile",
        "Compression; --co wins. Default: lzw, as GDAL. raw is none.",
        type=click.Choice(list(PROFILES), case_sensitive=False),
    ),
    of_output("--blocksize", "Side of tiles in pixels. Default: 512.", type=int, metavar="N"),
    of_output(
        "--overview-resampling -r",
        "How overviews are computed. Default: cubic; nearest for palettes.",
        metavar="METHOD",
    ),
    of_output(
        "--co -co creation",
        "Creation option of GDAL's COG driver.",
        callback=_creation,
        **_KEY_VALUE,
    ),
    of_output(
        "--layout",
        "Order of tiles: row by row as GDAL writes them, or chunk by chunk.",
        type=click.Choice(_LAYOUTS, case_sensitive=False),
        default="gdal",
        show_default=True,
    ),
    of_output(
        "--overwrite",
        "Replace OUTPUT if it exists, as ccog.write_ccog does unless overwrite=False. Without it "
        "`ccog` refuses.",
        is_flag=True,
    ),
    of_run(
        "--workers --threads",
        "Threads to use. Default: one per core (ALL_CPUS).",
        type=_threads,
        metavar="N",
    ),
    of_run("--scheduler", "Run on the dask cluster at this address instead.", metavar="ADDRESS"),
    of_run(
        "--config",
        "Configuration option of GDAL, wherever it runs.",
        callback=_configuration,
        **_KEY_VALUE,
    ),
    storage_option("Passed to the store, as key, secret, token, endpoint_url or anon of S3."),
    of_run("--quiet -q", "Show neither progress nor result.", is_flag=True),
)

with_resume_option = of_run(
    "--resume",
    "Continue an unfinished write of the same command. If this one fails, leave what can be "
    "continued.",
    is_flag=True,
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
    resume: bool = False

    @classmethod
    def parse(
        cls,
        *,
        creation: dict[str, Any],
        profile: str | None,
        blocksize: int | None,
        overview_resampling: str | None,
        overwrite: bool,
        quiet: bool,
        **options: Any,
    ) -> Request:
        """The request from options of click, which may contradict each other."""
        if options["workers"] and options["scheduler"]:
            raise click.UsageError(
                "--workers is for this machine, --scheduler for a cluster: give one"
            )
        if options["output"] == "-":
            raise click.UsageError(
                "OUTPUT is -, but a COG is written in parts, not in order, "
                "and cannot go to a pipe; name a file or a URL"
            )
        named = {"BLOCKSIZE": blocksize, "OVERVIEW_RESAMPLING": overview_resampling}
        chosen: dict[str, Any] = {"COMPRESS": PROFILES[profile]} if profile else {}
        chosen |= {key: value for key, value in named.items() if value is not None}
        chosen |= creation
        chosen["OVERWRITE"] = overwrite
        # `rio --quiet`, whose plugin this may be
        rio = click.get_current_context().find_object(dict) or {}
        return cls(creation=chosen, quiet=quiet or rio.get("verbosity", 0) < 0, **options)

    def say(self, text: str) -> None:
        """Print a result, unless --quiet was given."""
        if not self.quiet:
            echo(text)
