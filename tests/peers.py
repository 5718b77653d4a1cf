"""Run the writer tests of other packages with ccog in the place of their writers.

usage: python tests/peers.py [NAME=FOLDER ...] [--write FILE]

The source distributions come from the package index. For those that have no tests give a clone, e.g.
rioxarray=/path/to/rioxarray. Run it before a release: a test that is wrong is a fault of ccog, or
asks for something that OutOfScopeError says here is not its business.

Each package is tried in a process of its own, where this file is a plugin of pytest (-p peers).
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_REPORT = "CCOG_PEERS_REPORT"


class Peer(NamedTuple):
    """A package, the last version whose source distribution has tests, and its tests of writing.

    ``words`` are those of pytest's -k.
    """

    name: str
    version: str
    tests: tuple[str, ...]
    words: str = ""


PEERS = (
    Peer("odc-geo", "0.4.10", ("tests/test_cog.py",), "write or with_dask"),
    Peer("rioxarray", "", ("test/integration/test_integration_rioxarray.py",)),
    Peer("rio-cogeo", "", ("tests/test_cogeo.py", "tests/test_profile.py")),
)


class OutOfScopeError(Exception):
    """What a test asks for is no business of ccog."""


# What the packages' writers do, done by ccog


def _odc_write(image: Any, target: Any = ":mem:", **options: Any) -> Any:
    import ccog

    asked = _odc_options(image, options)
    if target == ":mem:":
        return ccog.write_ccog(image, compute=True, **asked)
    ccog.write_ccog(image, target, compute=True, **asked)
    return Path(target)


def _odc_to_cog(image: Any, **options: Any) -> Any:
    return _odc_write(image, ":mem:", **options)


def _odc_save_with_dask(image: Any, target: Any = "", **options: Any) -> Any:
    import ccog

    if not target:
        raise OutOfScopeError("a graph without a target")
    if "time" in image.dims:
        # ccog refuses steps as bands, and says to name them so
        image = image.rename(time="band").drop_vars("band")
    return _Path(ccog.write_ccog(image, target, **_odc_options(image, options)), target)


class _Path:
    """A write whose result is the path, as odc-geo's is."""

    def __init__(self, written: Any, path: Any) -> None:
        self._written, self._path = written, path

    def compute(self, **kwargs: Any) -> Any:
        self._written.compute(**kwargs)
        return self._path


# how odc-geo works, which the file does not show
_ODC_WAYS = {
    "use_windowed_writes", "intermediate_compression", "tile_batching", "tile_batching_threshold",
    "merge_compressed_overviews", "client", "stats", "bigtiff", "overwrite", "aws", "azure",
}  # fmt: skip


def _odc_options(image: Any, options: dict[str, Any]) -> dict[str, Any]:
    asked = {key: value for key, value in options.items() if key not in _ODC_WAYS}
    asked = {key: value for key, value in asked.items() if not _is_unset(value)}
    if (tags := asked.pop("tags", None)) is not None:
        asked["update_tags"] = {0: tags}
    if (levels := asked.pop("overview_levels", None)) is not None:
        if levels != [2 ** (n + 1) for n in range(len(levels))]:
            raise OutOfScopeError("overviews other than halves")
        asked["overview_count"] = len(levels)
    if asked.pop("ovr_blocksize", asked.get("blocksize")) != asked.get("blocksize"):
        raise OutOfScopeError("tiles of overviews of another size")
    if asked.get("nodata") == "auto":
        asked.pop("nodata")
    if "compression" in asked:
        asked["compress"] = asked.pop("compression")
    for name in ("scales", "offsets", "units"):
        if image.attrs.get(name) is not None:
            asked.setdefault(name, image.attrs[name])
    return {key: value for key, value in asked.items() if value is not None}


def _is_unset(value: Any) -> bool:
    return type(value).__name__ == "Unset"


def _rioxarray_write(self: Any, raster_path: Any, *_: Any, **options: Any) -> Any:
    import ccog

    if options.pop("driver", None) not in (None, "GTiff", "COG"):
        raise OutOfScopeError("another driver than GTiff and COG")
    for way in ("windowed", "lock", "recalc_transform"):
        options.pop(way, None)
    array, compute = self._obj, options.pop("compute", True)
    if (dtype := options.pop("dtype", None)) is not None:
        array = array.astype(dtype)
    if (tags := options.pop("tags", None)) is not None:
        options["update_tags"] = {0: tags}
    return ccog.write_ccog(array, raster_path, compute=compute, **options)


def _rio_cogeo_translate(source: Any, dst_path: Any, dst_kwargs: Any, **options: Any) -> None:
    import rasterio

    import ccog
    from ccog.input.opening import open_sources
    from ccog.input.translation import Translation

    if options.get("web_optimized"):
        raise OutOfScopeError("reprojection")
    if not isinstance(source, str | os.PathLike) or hasattr(dst_path, "read"):
        raise OutOfScopeError("open datasets and files in memory")
    nodata, bands = options.get("nodata"), options.get("indexes") or ()
    changes = Translation(
        bands=(bands,) if isinstance(bands, int) else tuple(bands),
        dtype=options.get("dtype"),
        nodata=None if nodata is None else str(nodata),
    )
    asked = {key: value for key, value in dst_kwargs.items() if key not in ("driver", "tiled")}
    if (level := options.get("overview_level")) is not None:
        asked["overview_count"] = level
    asked["overview_resampling"] = options.get("overview_resampling", "nearest")
    with rasterio.Env(**(options.get("config") or {})):
        opened = open_sources(
            [os.fspath(source)], changes=changes, add_mask=bool(options.get("add_mask"))
        )
        ccog.write_ccog(opened, dst_path, compute=True, COG_creation_options=asked)


def _replace(places: list[tuple[str, str, Callable[..., Any]]]) -> None:
    """Put functions of ccog where a package has its own: (module or class, name, function)."""
    import importlib

    for owner, name, function in places:
        module, _, inside = owner.partition(":")
        target = importlib.import_module(module)
        setattr(getattr(target, inside) if inside else target, name, _counted(function))


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; a test that calls it is one of writing, and is skipped where out of scope."""

    def called(*args: Any, **kwargs: Any) -> Any:
        _CALLED.append(function.__name__)
        try:
            return function(*args, **kwargs)
        except OutOfScopeError as reason:
            pytest.skip(str(reason))

    return called


_CALLED: list[str] = []

_WRITERS: dict[str, list[tuple[str, str, Callable[..., Any]]]] = {
    "odc-geo": [
        ("odc.geo.cog", "write_cog", _odc_write),
        ("odc.geo.cog", "to_cog", _odc_to_cog),
        ("odc.geo.cog", "save_cog_with_dask", _odc_save_with_dask),
        (
            "odc.geo._xr_interop:ODCExtensionDa",
            "write_cog",
            lambda s, *a, **k: _odc_write(s._xx, *a, **k),
        ),
        ("odc.geo._xr_interop:ODCExtensionDa", "to_cog", lambda s, **k: _odc_to_cog(s._xx, **k)),
    ],
    "rioxarray": [
        ("rioxarray.raster_array:RasterArray", "to_raster", _rioxarray_write),
        ("rioxarray.raster_dataset:RasterDataset", "to_raster", _rioxarray_write),
    ],
    "rio-cogeo": [
        ("rio_cogeo.cogeo", "cog_translate", _rio_cogeo_translate),
        ("rio_cogeo", "cog_translate", _rio_cogeo_translate),
    ],
}


# The plugin


def pytest_configure(config: pytest.Config) -> None:
    if _REPORT in os.environ:
        _replace(_WRITERS[os.environ[_REPORT].partition(":")[0]])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, None]:
    if call.when == "setup":
        _CALLED.clear()
    made = yield
    report = made.get_result()
    if call.when != "call" or not _CALLED or _REPORT not in os.environ:
        return
    text = str(call.excinfo.value) if call.excinfo else ""
    # what a test needs and this machine lacks says nothing of ccog
    lacks = call.excinfo is not None and call.excinfo.errisinstance(ModuleNotFoundError)
    outcome = "skipped" if lacks else report.outcome
    row = {"test": item.nodeid, "outcome": outcome, "text": text.strip().split("\n")[0]}
    with Path(os.environ[_REPORT].partition(":")[2]).open("a") as lines:
        lines.write(json.dumps(row) + "\n")


# The table


def fetched(peer: Peer, folder: Path) -> Path | None:
    """The unpacked source distribution; None where it has no tests."""
    wanted = f"{peer.name}=={peer.version}" if peer.version else peer.name
    command = [sys.executable, "-m", "pip", "download", "--no-binary", ":all:", "--no-deps"]
    subprocess.run([*command, "-q", "-d", str(folder), wanted], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked if all((unpacked / test).exists() for test in peer.tests) else None


def tried(peer: Peer, folder: Path) -> list[dict[str, str]]:
    """The tests of a package that write, and what came of each."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as report:
        here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {_REPORT: f"{peer.name}:{report.name}", "PYTHONPATH": here}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "peers", "-p", "no:cacheprovider"]
        subprocess.run(
            [*command, "-o", "addopts=", "-k", peer.words, *peer.tests],
            cwd=folder,
            env=environment,
            check=False,
        )
        return [json.loads(line) for line in Path(report.name).read_text().splitlines()]


def rows_of(peer: Peer, results: list[dict[str, str]]) -> list[str]:
    """The lines of the table: how many are right, and why the others are not."""
    counts = collections.Counter(result["outcome"] for result in results)
    version = f" {peer.version}" if peer.version else ""
    totals = (counts["passed"], counts["failed"], counts["skipped"])
    lines = [f"| {peer.name}{version} | {' | '.join(map(str, totals))} | |"]
    for result in results:
        if result["outcome"] != "passed":
            test, text = result["test"].partition("::")[2], result["text"].replace("|", "\\|")
            lines.append(f"| | | | | `{test}`: {text[:160]} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("clones", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    clones = dict(text.split("=", 1) for text in arguments.clones)
    lines = ["| package | right | wrong | out of scope | why |", "|---|---|---|---|---|"]
    for peer in PEERS:
        with tempfile.TemporaryDirectory() as folder:
            found = Path(clones[peer.name]) if peer.name in clones else fetched(peer, Path(folder))
            if found is None:
                reason = "its source distribution has no tests; give a clone"
                lines.append(f"| {peer.name} | | | | {reason} |")
                continue
            lines += rows_of(peer, tried(peer, found))
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.write is not None:
        command = "python tests/peers.py --write docs/tables/peers.md"
        arguments.write.write_text(f"Written by `{command}`.\n\n{text}")


if __name__ == "__main__":
    main()
