"""The command ``ccog``; each module holds one group of its subcommands.

Help and shell completion need neither dask nor GDAL: the modules of commands import them, and what
needs them, when a command runs.
"""

from __future__ import annotations

import click

from ccog.cli.create import create, plan_file
from ccog.cli.demo import demo
from ccog.cli.look import inspect_file, validate_file
from ccog.cli.options import examples
from ccog.cli.uploads import uploads

__all__ = ["main"]


@click.group(
    "ccog",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("ccog create in.tif out.tif", "ccog create --help"),
)
@click.version_option(package_name="ccog")
def main() -> None:
    """Write Cloud Optimised GeoTIFFs in parallel, byte for byte as GDAL would, and look at them."""


for _command in (create, plan_file, demo, uploads, inspect_file, validate_file):
    main.add_command(_command)
