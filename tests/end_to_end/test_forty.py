"""What people type in their first ten minutes, with the words that they get for it.

Each row begins in a folder of its own, with the files that ``desk`` makes. ``$S3`` stands for the ``--storage-option``s
of a server, ``$WEB`` for the address of a server of the folder, and ``$OLD`` for one that serves no byte ranges.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import s3fs
import xarray as xr
from click.testing import CliRunner
from rasterio.rio.main import main_group
from rasterio.transform import from_origin

import ccog
from ccog.cli import main
from range_server import range_server

Row = tuple[str, list[str]]

#: What is typed in Python, the type of what comes of it, and words of its text.
PYTHON: list[Row] = [
    # a whole profile, options one by one, and what is wrong with them
    ("ccog.write_ccog(arr, COG_creation_options=src.profile)", ["CcogDelayed", "COMPRESS=DEFLATE", "BLOCKSIZE=256"]),
    ("ccog.write_ccog(arr, 'a.tif', COG_creation_options=src.profile).compute()", ["WriteResult", "a.tif", "2 overviews"]),
    ("ccog.write_ccog(arr, **src.profile, zlevel=9)", ["CcogDelayed", "LEVEL=9"]),
    ("ccog.write_ccog(arr[:, :50], **src.profile)", ["OptionError", "width=600", "50 columns"]),
    ("ccog.write_ccog(arr, **src.profile | dict(driver='JP2', compress='zip', tres=3))", ["OptionError", "options cannot be used", "JP2", "'zip' is not allowed", "'TRES'"]),
    ("ccog.write_ccog(arr, 'a.tif', compress='zstd')", ["CcogDelayed", "nothing is written yet", "a.tif", "600 x 500 pixels", "COMPRESS=ZSTD"]),
    ("ccog.write_ccog(arr, 'a.tif', compress='zstd', compute=True)", ["WriteResult", "ccog.inspect(", "ccog.validate("]),
    ("dem.ccog.write('a.tif', compress='zstd')", ["WriteResult", "a.tif"]),
    ("dem.ccog.write('a.tif', COG_creation_options=dict(compress='zstd'))", ["WriteResult", "a.tif"]),
    ("ccog.write_ccog(arr, compress='zstd', COG_creation_options=dict(compress='lzw'))", ["OptionError", "given twice"]),
    ("ccog.write_ccog(arr, compres='zstd')", ["OptionError", "did you mean COMPRESS?", "DESCRIPTIONS", "UPDATE_TAGS"]),
    ("ccog.write_ccog(arr, tres=1, compres='zstd')", ["OptionError", "2 options cannot be used", "did you mean COMPRESS? Known are"]),
    ("ccog.write_ccog(arr, storage_option={})", ["OptionError", "did you mean the argument storage_options?"]),
    ("dem.ccog.plan(samples=3)", ["OptionError", "did you mean the argument sample of plan?"]),
    ("ccog.write_ccog(arr, compress='jpeg')", ["OptionError", "JPEG takes uint8, and the array is uint16", "astype"]),
    ("ccog.write_ccog(arr, compress='webp')", ["OptionError", "WEBP takes uint8"]),
    ("ccog.write_ccog(arr, compress='jxl')", ["OptionError", "missing codec for JXL. Choose another COMPRESS"]),
    ("ccog.write_ccog(arr + 0j, compress='lerc')", ["OptionError", "LERC takes integers", "complex128"]),
    ("ccog.write_ccog(arr, rasterio_env_options=dict(GDAL_TIFF_ENDIANNESS='BIG'))", ["OptionError", "GDAL_TIFF_ENDIANNESS=BIG is set", "Leave it out"]),
    ("print(ccog.write_ccog.__doc__)", ["The best chunks are squares of whole tiles", "2048 x 2048 or 4096 x 4096", "ccog.plan"]),
    # what is shown before and after
    ("print(ccog.write_ccog(arr, 'a.tif')._repr_html_())", ["nothing is written yet", "a.tif", "600 x 500", "COMPRESS=LZW"]),
    ("ccog.plan(dem, 'a.tif')", ["CogPlan", "600 x 500", "EPSG:32632", "Transform: 10, 0, 500000", "Bounds: 500000", "Nodata: 7 ", "Bands: height of ground", "Overviews: cubic", "about 490 kB"]),
    ("ccog.plan('in.tif')", ["CogPlan", "EPSG:32632", "Nodata: 7 "]),
    ("print(ccog.plan(dem)._repr_html_())", ["<svg", "EPSG:32632"]),
    ("ccog.plan(np.zeros((4096, 4096), 'uint8'))", ["CogPlan", "for 16 chunks"]),
    ("ccog.inspect('cog.tif')", ["Inspection", "EPSG:32632", "Bounds: 500000", "Nodata: 7 ", "Bands: height of ground", "overview 2"]),
    ("ccog.validate('cog.tif')", ["Validation", "cog.tif: valid"]),
    ("print(*dir(ccog))", ["inspect list_incomplete plan progress validate write_ccog"]),
]  # fmt: skip

#: What is typed in a shell, the exit code, and words of what is printed.
SHELL: list[Row] = [
    ("ccog create in.tif out.tif", ["[0]", "out.tif: 733.", " kB in"]),
    ("ccog create in.tif cog.tif", ["[1]", "cog.tif exists", "(--overwrite)"]),
    ("ccog create in.tif cog.tif --overwrite -co COMPRESS=DEFLATE --co predictor=yes", ["[0]", "cog.tif"]),
    ("ccog create in.tif out.tif -p zstd --blocksize 256 -r average --threads ALL_CPUS", ["[0]", "out.tif"]),
    ("ccog create in.tif out.tif --profile raw -q", ["[0]"]),
    ("ccog create in.tif out.tif -b 1,1,1 --dtype uint8 -p webp", ["[0]", " bytes in"]),
    ("ccog create in.tif out.tif --nodata 0 --crs EPSG:25832 --config GDAL_CACHEMAX=64", ["[0]", "out.tif"]),
    ("ccog create in.tif out.tif --add-mask", ["[0]", "out.tif"]),
    ("ccog create in.nc:depth out.tif", ["[0]", "out.tif"]),
    ("ccog create in.nc:line out.tif", ["[1]", "has 1 dimension (x)", "(y, x) or (band, y, x)"]),
    ("ccog create in.tif far.tif out.tif", ["[1]", "EPSG:32633, expected EPSG:32632", "gdalwarp"]),
    ("ccog create none.tif out.tif", ["[1]", "cannot open none.tif"]),
    ("ccog create in.tif -", ["[2]", "OUTPUT is -", "name a file or a URL"]),
    ("ccog create in.tif out.tif --compress zstd", ["[2]", "give -p zstd, or --co COMPRESS=ZSTD"]),
    ("ccog create in.tif out.tif -outsize 50% 50%", ["[2]", "gdal_translate -of VRT -outsize ... INPUT in.vrt"]),
    ("ccog create in.tif", ["[2]", "give INPUT and OUTPUT, as in: ccog create in.tif out.tif"]),
    ("ccog create in.tif out.tif -b 4", ["[1]", "in.tif: Invalid band number: 4; it has 1 band"]),
    ("ccog --help", ["[0]", "create Write rasters to one COG. ", "Examples: ccog create in.tif out.tif"]),
    ("ccog create in.tif out.tif -co COMPRES=ZSTD", ["[1]", "did you mean COMPRESS?"]),
    ("ccog create in.tif out.tif -p zip", ["[2]", "'zip' is not one of 'deflate', 'zstd'"]),
    ("ccog create in.tif out.tif --config GDAL_TIFF_ENDIANNESS=BIG", ["[1]", "GDAL_TIFF_ENDIANNESS=BIG is set", "Leave it out"]),
    ("ccog create in.tif out.tif -co TILING_SCHEME=GoogleMapsCompatible", ["[1]", "EPSG:3857", "odc.geo"]),
    ("ccog create --help", ["[0]", "Options of INPUT:", "Options of OUTPUT:", "Options of the run:", "Examples:", "unless overwrite=False"]),
    ("ccog plan in.tif s3://bucket/out.tif", ["[0]", "600 x 500", "EPSG:32632"]),
    ("ccog create -of COG in.tif out.tif -co COMPRESS=ZSTD -ot UInt16", ["[0]", "out.tif"]),
    ("ccog create in.tif out.tif --cog-profile lzw", ["[0]", "out.tif"]),
    ("ccog create in.tif out.tif --web-optimized", ["[2]", "ccog does not reproject", "TILING_SCHEME=GoogleMapsCompatible"]),
    ("rio -q ccog create in.tif out.tif", ["[0]"]),
    ("ccog create in.tif s3://test/first/out.tif --overwrite $S3", ["[0]", "s3://test/first/out.tif"]),
    ("ccog create s3://test/first/in.tif out.tif $S3", ["[0]", "out.tif"]),
    # unfinished writes
    ("ccog uploads list .", ["[0]", "killed.tif", "resumable"]),
    ("ccog uploads list nowhere", ["[1]", "nowhere does not exist"]),
    ("ccog uploads abort .", ["[1]", "killed.tif", "Remove 1 upload? (--yes does not ask) [y/N]:"]),
    ("ccog uploads abort . --yes", ["[0]", "removed ", "killed.tif"]),
    ("ccog uploads abort in.tif --yes", ["[0]", "nothing to remove"]),
    ("ccog uploads abort s3://test/theirs/ --yes $S3", ["[0]", "1 upload not begun by ccog left; --all removes them too"]),
    # the demo
    ("ccog demo --size 600", ["[0]", "ccog-demo.tif", "600 x 600 pixels of uint16"]),
    ("ccog demo s3://bucket/out.tif --s3", ["[2]", "--s3 writes to a server of its own"]),
    ("ccog demo out.tif --keep", ["[2]", "--keep is for the server of --s3"]),
    ("ccog demo --help", ["[0]", "Start an S3 server", "runs until Ctrl-C"]),
    # looking at files
    ("ccog inspect cog.tif --json", ["[0]", '"crs": "EPSG:32632"']),
    ("ccog inspect cog.tif --svg nowhere/a.svg", ["[1]", "Error: nowhere/a.svg: No such file or directory"]),
    ("ccog inspect notes.txt", ["[1]", "notes.txt is not a TIFF"]),
    ("ccog validate cog.tif", ["[0] cog.tif: valid"]),
    ("ccog validate cog.tif -v", ["[0]", "rio-cogeo", "overview pixels"]),
    ("ccog validate cog.tif --json", ["[0]", '"is_valid": true']),
    ("ccog validate cut.tif", ["[1]", "cut.tif: NOT valid"]),
    ("ccog inspect $WEB/cog.tif", ["[0]", "EPSG:32632"]),
    ("ccog validate $WEB/cog.tif", ["[0]", "cog.tif: valid"]),
    ("ccog validate $WEB/none.tif", ["[1]", "none.tif does not exist"]),
    ("ccog validate $WEB/page.html", ["[1]", "answers with a page (text/html), not a file"]),
    ("ccog inspect $OLD/cog.tif", ["[1]", "serves no byte ranges"]),
]  # fmt: skip

#: What is typed where only real processes will do: the words and exit code of all, and what is left in the folder.
PROCESSES: list[Row] = [
    ("timeout --preserve-status 4 ccog demo out.tif --size 60000; echo [$?]; ls out.tif", ["[143]", "Aborted by SIGTERM!"]),
    ("timeout -s HUP --preserve-status 4 ccog create big.vrt out.tif; echo [$?]; ls out.tif", ["[129]", "Aborted by SIGHUP!"]),
    ("ccog demo --s3 --size 300 | cat", ["s3://test/ccog-demo.tif: ", "The server ends now", "--keep keeps"]),
]  # fmt: skip


def test_they_are_forty() -> None:
    assert len(PYTHON) + len(SHELL) + len(PROCESSES) >= 40


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies in the folder before anything is typed."""
    folder = tmp_path_factory.mktemp("files")
    y, x = np.mgrid[0:500, 0:600]
    pixels, place = (y * 100 + x).astype("uint16"), from_origin(5e5, 5e6, 10, 10)
    profile = dict(driver="GTiff", dtype="uint16", width=600, height=500, count=1, nodata=7)
    profile |= dict(transform=place, tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    for name, crs in {"in.tif": 32632, "far.tif": 32633}.items():
        with rasterio.open(folder / name, "w", crs=crs, **profile) as target:
            target.write(pixels, 1)
    depth = xr.DataArray(pixels.astype("int16"), dims=("y", "x")).rio.write_crs(32632)
    variables = xr.Dataset({"depth": depth, "line": depth[0]})
    variables.to_netcdf(folder / "in.nc", engine="h5netcdf")
    cog = dem(pixels).ccog.write(folder / "cog.tif", blocksize=256)
    (folder / "cut.tif").write_bytes((folder / "cog.tif").read_bytes()[: cog.size - 99])
    (folder / "notes.txt").write_text("hello")
    (folder / "page.html").write_text("<html>please log in</html>")
    (folder / "big.vrt").write_text(
        '<VRTDataset rasterXSize="90000" rasterYSize="90000"><SRS>EPSG:32632</SRS>'
        "<GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="1">'
        "in.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    leave_unfinished(folder / "killed.tif")
    return folder


def leave_unfinished(target: Path) -> None:
    """A write that failed and can be resumed."""
    fails = da.ones((3000, 3000), chunks=1000).map_blocks(_fail, dtype=float)
    with contextlib.suppress(RuntimeError):
        ccog.write_ccog(fails, target, resume=True).compute()
    # a task that begins the upload may outlive the error
    deadline = time.monotonic() + 60
    while not any(upload.resumable for upload in ccog.list_incomplete(target)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _fail(block: np.ndarray, block_id: tuple[int, int] = (0, 0)) -> np.ndarray:
    if block_id == (2, 2):
        raise RuntimeError("which leaves an unfinished write")
    return block


def dem(pixels: np.ndarray) -> xr.DataArray:
    """A height model, as rioxarray gives it."""
    coords = {"y": 5e6 - 5 - 10 * np.arange(500), "x": 5e5 + 5 + 10 * np.arange(600)}
    data = da.from_array(pixels, chunks=256)
    attrs = {"long_name": "height of ground"}
    heights = xr.DataArray(data, coords, ("y", "x"), attrs=attrs)
    return heights.rio.write_crs(32632).rio.write_nodata(7)


@pytest.fixture
def desk(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of the files, in which things are typed."""
    folder = tmp_path / "desk"
    shutil.copytree(files, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def places(files: Path, s3_options: dict[str, Any]) -> Iterator[dict[str, str]]:
    """What ``$NAME`` stands for."""
    s3 = s3fs.S3FileSystem(**s3_options)
    s3.put(str(files / "in.tif"), "test/first/in.tif")
    theirs = {"Bucket": "test", "Key": "theirs/a.tif"}
    begun = s3.call_s3("create_multipart_upload", **theirs)["UploadId"]
    handler = partial(SimpleHTTPRequestHandler, directory=str(files))
    with range_server(files) as web, ThreadingHTTPServer(("127.0.0.1", 0), handler) as old:
        threading.Thread(target=old.serve_forever, daemon=True).start()
        pairs = s3_options.items()
        yield {
            "$S3": " ".join(f"--storage-option {key}={value}" for key, value in pairs),
            "$WEB": web.url,
            "$OLD": f"http://127.0.0.1:{old.server_port}",
        }
        old.shutdown()
    s3.call_s3("abort_multipart_upload", UploadId=begun, **theirs)


def missing(words: list[str], text: str) -> list[str]:
    """The words that a text, in one line, has not."""
    line = " ".join(text.split()) + " "
    return [word for word in words if word not in line]


@pytest.mark.parametrize(("typed", "words"), PYTHON)
def test_python(typed: str, words: list[str], desk: Path) -> None:
    said = io.StringIO()
    with rasterio.open("in.tif") as src, contextlib.redirect_stdout(said):
        arr = src.read(1)
        names = {"ccog": ccog, "np": np, "src": src, "arr": arr, "dem": dem(arr)}
        try:
            outcome = eval(typed, names)
        except Exception as error:
            outcome = error
    shown = outcome if isinstance(outcome, Exception) else repr(outcome)
    text = f"{type(outcome).__name__} {shown} {said.getvalue()}"
    assert not missing(words, text), text


@pytest.mark.parametrize(("typed", "words"), SHELL)
def test_shell(typed: str, words: list[str], desk: Path, places: dict[str, str]) -> None:
    main_group.add_command(main)
    for name, value in places.items():
        typed = typed.replace(name, value)
    program, *args = shlex.split(typed)
    command = {"ccog": main, "rio": main_group}[program]
    done = CliRunner().invoke(command, args, input="n\n")
    text = f"[{done.exit_code}] {done.output}"
    assert not missing(words, text), text
    assert not {"-q"} & set(args) or not done.output
    assert "Traceback" not in text
    # nothing is left of what fails
    failed = done.exit_code and "exists" not in text
    assert not failed or not (desk / "out.tif").exists()


def hear_hang_ups() -> None:
    """Tests may run under nohup, which is handed down."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.slow
@pytest.mark.parametrize(("typed", "words"), PROCESSES)
def test_processes(typed: str, words: list[str], desk: Path) -> None:
    before = sorted(path.name for path in desk.iterdir())
    program = desk.with_name("ccog")
    program.write_text(f"#!{sys.executable}\nfrom ccog.cli import main\nmain()\n")
    program.chmod(0o755)
    env = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    with subprocess.Popen(
        ["bash", "-c", typed], env=env, stdout=-1, stderr=-1, text=True, preexec_fn=hear_hang_ups
    ) as process:
        text = "".join(process.communicate(timeout=120))
    assert not missing(words, text), text
    assert "Traceback" not in text
    assert sorted(path.name for path in desk.iterdir()) == before


def commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield from commands(command) if isinstance(command, click.Group) else [command]


@pytest.mark.parametrize("command", [command.name for command in commands(main)])
def test_the_examples_of_help_are_commands_that_are_there(command: str) -> None:
    (found,) = (one for one in commands(main) if one.name == command)
    text = CliRunner().invoke(found, ["--help"]).output
    lines = text.partition("Examples:\n")[2].strip().splitlines()
    assert len(lines) == 2
    for line in lines:
        program, *args = shlex.split(line)
        args = args[1 + (args[0] == "uploads") :]
        # parsing alone: an unknown option is an error
        assert program == "ccog"
        found.make_context(command, args)
