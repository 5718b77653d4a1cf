"""Writes that continue: after failures and kills, on every scheduler, with the same bytes and little done again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import s3fs
from click.testing import CliRunner

import ccog
from ccog.cli import main
from ccog.gdal.statistics import BandStatistics
from ccog.geometry.parts import Joins, Segment
from ccog.graph.build import new_token
from ccog.graph.tasks import CcogTasks
from ccog.runtime import manifest
from ccog.tasks.blocks import PartialOverview, PixelPatch
from ccog.tasks.records import dump_overviews, dump_segment, parse_overviews, parse_segment
from ccog.tasks.uploads import TileSizes, UploadedGroup, UploadedSegment
from conftest import TESTS, stored, terrain
from faults import proxied
from kills import CREATION, settle, until, write_and_kill
from kills import source as noise

SMALL: dict[str, Any] = {"blocksize": 128, "compress": "deflate", "overview_resampling": "average"}
ROWS, COLS = 24, 3

# of what fails in row FAILS on, the rows above are done but for those in flight and those up to the checkpoint
FAILS, AGAIN = 18, 4


class Source:
    """An array that logs in a file which chunks are read, in any process, and fails at a row while told to."""

    def __init__(
        self,
        folder: Path,
        side: int = 128,
        shape: tuple[int, int] = (ROWS, COLS),
        count: int = 1,
        fails: int = FAILS,
    ) -> None:
        self.log, self.broken = folder / "reads", folder / "broken"
        self.shape, self.side, self.count, self.fails = shape, side, count, fails
        self.log.touch()

    def array(self, name: str = "logged-source") -> da.Array:
        log, broken, side, count, fails = self.log, self.broken, self.side, self.count, self.fails

        def read(block_id: tuple[int, int, int]) -> np.ndarray:
            _, i, j = block_id
            if i == fails and broken.exists():
                raise RuntimeError("no pixels here")
            with log.open("a") as file:
                file.write(f"{i} {j}\n")
            return terrain((count, side, side), seed=100 * i + j)

        chunks, meta = ((count,), *((side,) * n for n in self.shape)), np.empty((0, 0, 0), "uint16")
        return da.map_blocks(read, chunks=chunks, dtype="uint16", meta=meta, name=name)

    def reads(self) -> list[tuple[int, int]]:
        """Chunks read since the last call."""
        found = [tuple(map(int, line.split())) for line in self.log.read_text().splitlines()]
        self.log.write_text("")
        return [(i, j) for i, j in found]


@pytest.fixture
def reader(tmp_path: Path) -> Source:
    return Source(tmp_path)


@pytest.fixture(params=["local", "s3"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Store and storage_options of a target at which nothing may be left at the end."""
    if request.param == "local":
        folder = tmp_path / "out"
        folder.mkdir()
        yield {"store": str(folder / "a.tif")}
        assert {path.name for path in folder.iterdir()} <= {"a.tif"}
        return
    options = request.getfixturevalue("s3_options")
    yield {"store": f"s3://test/resume/{tmp_path.name}.tif", "storage_options": options}
    assert not ccog.list_incomplete(f"s3://test/resume/{tmp_path.name}.tif", options)
    assert not records(tmp_path.name, options)


def records(name: str, options: dict[str, Any]) -> list[str]:
    filesystem = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    found = filesystem.call_s3(
        "list_objects_v2", Bucket="test", Prefix=f"resume/{name}.tif.ccog-resume/"
    )
    return [item["Key"] for item in found.get("Contents") or []]


def data_of(target: dict[str, Any]) -> bytes:
    return stored(target["store"], target.get("storage_options"))


def left(target: dict[str, Any]) -> list[ccog.IncompleteUpload]:
    return ccog.list_incomplete(target["store"], target.get("storage_options"))


def resumed(
    array: Any, target: dict[str, Any], creation: dict[str, Any] = SMALL, **kwargs: Any
) -> Any:
    return ccog.write_ccog(array, **target, COG_creation_options=creation, resume=True, **kwargs)


def fail(reader: Source, delayed: Any, scheduler: Any = "threads") -> None:
    """Compute until it fails and nothing runs any more."""
    reader.broken.touch()
    with ThreadPoolExecutor(2) as pool, pytest.raises(RuntimeError, match="no pixels here"):
        delayed.compute(scheduler=scheduler, **({"pool": pool} if scheduler == "threads" else {}))
    if not isinstance(scheduler, str):
        assert until(lambda: not any(scheduler.processing().values()))
    reader.broken.unlink()


def assert_little_again(reader: Source) -> None:
    """All that was missing is read, once, and of what was there only the last rows."""
    again = reader.reads()
    assert len(again) == len(set(again))
    rows = {i for i, _ in again}
    assert rows == set(range(min(rows), ROWS))
    assert FAILS - AGAIN <= min(rows) <= FAILS


THREADS = {"scheduler": "threads", "num_workers": 2}

#: Settings in which a raster is small, and in which it is large.
FEW = [4096, pytest.param(0, marks=pytest.mark.slow)]

CASES: dict[str, dict[str, Any]] = {
    "average": {},
    "cubic": {"overview_resampling": "cubic", "statistics": "yes"},
    "planar": {"interleave": "band", "statistics": "yes"},
    "tile": {"interleave": "tile", "overview_resampling": "bilinear"},
}


def some_mask() -> da.Array:
    return da.from_array(
        np.random.default_rng(0).random((ROWS * 128, COLS * 128)) > 0.2, chunks=256
    )


def whole_file(reader: Source, creation: dict[str, Any] = SMALL, **given: Any) -> bytes:
    """The file written in one go; its reads are forgotten."""
    delayed = ccog.write_ccog(reader.array(), COG_creation_options=creation, **given)
    data = bytes(delayed.compute(**THREADS))
    reader.reads()
    return data


@pytest.mark.parametrize("few", FEW, ids=["small", "large"])
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.tried(
    "a write that failed at three quarters is resumed ({id})", "right: little is read again"
)
def test_a_failed_write_continues(
    tmp_path: Path, change_settings: Any, few: int, masked: bool, case: str
) -> None:
    change_settings(few_blocks=few)
    reader, target = Source(tmp_path, count=2), {"store": str(tmp_path / "a.tif")}
    creation = SMALL | CASES[case]
    given = {"mask": some_mask()} if masked else {}
    if masked:
        creation.pop("statistics", None)
    expected = whole_file(reader, creation, **given)
    fail(reader, resumed(reader.array(), target, creation, **given))
    assert [upload.resumable for upload in left(target)] == [True]
    reader.reads()
    resumed(reader.array(), target, creation, **given).compute(**THREADS)
    assert data_of(target) == expected
    assert not left(target)
    assert_little_again(reader)


@pytest.mark.parametrize("few", FEW, ids=["small", "large"])
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("method", ["average", "cubic"])
def test_a_failed_write_continues_chunk_by_chunk(
    tmp_path: Path, change_settings: Any, few: int, masked: bool, method: str
) -> None:
    change_settings(few_blocks=few)
    reader, target = Source(tmp_path, count=2), {"store": str(tmp_path / "a.tif")}
    given: dict[str, Any] = {"layout": "chunk", "mask": some_mask() if masked else None}
    creation = SMALL | {"overview_resampling": method}
    expected = whole_file(reader, creation, **given)
    fail(reader, resumed(reader.array(), target, creation, **given))
    reader.reads()
    with pytest.raises(ccog.ResumeError, match="the layout was chunk, is gdal"):
        resumed(reader.array(), target, creation, **given | {"layout": "gdal"})
    resumed(reader.array(), target, creation, **given).compute(**THREADS)
    assert data_of(target) == expected
    assert not left(target)
    again = reader.reads()
    # what is uploaded together is a large share of so small a raster
    assert len(again) == len(set(again)) < ROWS * COLS


@pytest.mark.slow
@pytest.mark.tried(
    "a write that failed on a cluster is resumed on threads, and the other way round ({id})",
    "right: little is read again",
)
def test_a_write_continues_on_another_scheduler(
    request: pytest.FixtureRequest, target: dict[str, Any], reader: Source
) -> None:
    expected = whole_file(reader)
    client = request.getfixturevalue("client")
    for first, second in ((client, "threads"), ("sync", client)):
        fail(reader, resumed(reader.array(), target), scheduler=first)
        assert [upload.resumable for upload in left(target)] == [True]
        reader.reads()
        dask.compute(resumed(reader.array(), target), scheduler=second)
        assert data_of(target) == expected
        assert not left(target)
        assert_little_again(reader)


@pytest.mark.slow
@pytest.mark.tried(
    "a write to S3 that failed is resumed, parts counted by a proxy",
    "right: no part is uploaded twice",
)
def test_no_part_is_uploaded_twice(tmp_path: Path, s3_options: dict[str, Any]) -> None:
    # rows of 12.6 MB: more than 5 MiB at an end, and a part
    reader = Source(tmp_path, side=512, shape=(16, 24), fails=12)
    creation = SMALL | {"blocksize": 512, "compress": "none"}
    with proxied(s3_options) as (proxy, options):
        target = {"store": "s3://test/resume/twice.tif", "storage_options": options}
        fail(reader, resumed(reader.array(), target, creation))
        before = len(proxy.parts)
        assert before > reader.fails
        resumed(reader.array(), target, creation).compute(**THREADS)
        assert len(proxy.parts) > before
        assert set(proxy.parts.values()) == {1}
    assert not left(target)


@pytest.mark.slow
@pytest.mark.tried(
    "a worker is killed while parts go to S3, parts counted by a proxy",
    "right: no part is uploaded twice",
    group="clusters",
)
def test_a_killed_worker_uploads_no_part_twice(s3_options: dict[str, Any]) -> None:
    from distributed import Client, LocalCluster

    with (
        proxied(s3_options) as (proxy, options),
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        write_and_kill(
            cluster, client, "s3://test/resume/worker.tif", options, 1.0, random.Random(1)
        )
        settle(client, 3)
        assert set(proxy.parts.values()) == {1}


def start(script: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *args], stderr=subprocess.PIPE, text=True
    )


KILLED = """
    import json, sys
    sys.path.insert(0, sys.argv[1])
    import ccog
    from distributed import Client
    from kills import CREATION, source
    target, address = json.loads(sys.argv[2]), sys.argv[3]
    how = {"scheduler": Client(address)} if address else {"scheduler": "threads", "num_workers": 2}
    ccog.write_ccog(source(), **target, COG_creation_options=CREATION, resume=True).compute(**how)
"""


@pytest.fixture(scope="module")
def whole() -> bytes:
    """The file of the noise, written in one go."""
    delayed = ccog.write_ccog(noise(), COG_creation_options=CREATION)
    return bytes(delayed.compute(**THREADS))


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("cluster", [False, True], ids=["threads", "cluster"])
@pytest.mark.parametrize(
    "target", ["local", pytest.param("s3", marks=pytest.mark.slow)], indirect=True
)
@pytest.mark.tried(
    "the program is killed while it writes, and the write is resumed ({id})",
    "right: the file is the same",
)
def test_a_write_continues_after_its_client_was_killed(
    request: pytest.FixtureRequest, target: dict[str, Any], cluster: bool, whole: bytes
) -> None:
    client = request.getfixturevalue("client") if cluster else None
    address = client.scheduler.address if client is not None else ""
    process = start(KILLED, str(TESTS), json.dumps(target), address)
    job = resumed(noise(), target, CREATION)
    try:
        assert until(lambda: len(kept_names(job)) > 12 or process.poll() is not None, 60)
        assert process.poll() is None, process.communicate()[1]
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    if client is not None:
        assert until(lambda: not any(client.processing().values()))
    assert [upload.resumable for upload in left(target)] == [True]
    assert len(kept_names(job)) > 12
    job.compute(**({"scheduler": client} if cluster else THREADS))
    assert data_of(target) == whole


def mapping_of(delayed: Any) -> CcogTasks:
    found = delayed.dask.layers[delayed.key].mapping
    assert isinstance(found, CcogTasks)
    return found


def kept_names(delayed: Any) -> frozenset[str]:
    checkpoint = mapping_of(delayed).resumed().context.checkpoint
    return frozenset() if checkpoint is None else checkpoint.names


@pytest.mark.tried("a resumed write that has finished is computed again, on {id}", "right")
def test_a_finished_write_can_be_computed_again(target: dict[str, Any], reader: Source) -> None:
    delayed = resumed(reader.array(), target)
    fail(reader, delayed)
    delayed.compute(**THREADS)
    first = data_of(target)
    reader.reads()
    delayed.compute(**THREADS)
    assert data_of(target) == first
    assert len(reader.reads()) == ROWS * COLS
    resumed(reader.array(), target).compute(**THREADS)
    assert data_of(target) == first


@pytest.mark.tried("a write fails twice and is resumed, on {id}", "right: the file is the same")
def test_a_write_continues_after_two_failures(target: dict[str, Any], reader: Source) -> None:
    for _ in range(2):
        fail(reader, resumed(reader.array(), target))
    assert len(left(target)) == 1
    resumed(reader.array(), target).compute(**THREADS)
    assert data_of(target) == whole_file(reader)


@pytest.mark.tried(
    "an unfinished resumable write is aborted and begun again, on {id}",
    "right: its records are gone",
)
def test_abort_removes_the_records(target: dict[str, Any], reader: Source) -> None:
    fail(reader, resumed(reader.array(), target))
    aborted = ccog.abort_incomplete(target["store"], target.get("storage_options"))
    assert [upload.resumable for upload in aborted] == [True]
    reader.reads()
    fail(reader, resumed(reader.array(), target))
    assert len(reader.reads()) >= (FAILS - 2) * COLS
    ccog.abort_incomplete(target["store"], target.get("storage_options"))


@pytest.mark.tried(
    "a write without resume=True where a resumable one is unfinished, on {id}",
    "right: the unfinished one is left alone",
)
def test_without_resume_an_unfinished_write_is_left_alone(
    target: dict[str, Any], reader: Source
) -> None:
    fail(reader, resumed(reader.array(), target))
    reader.reads()
    delayed = ccog.write_ccog(reader.array(), **target, COG_creation_options=SMALL)
    fail(reader, delayed)
    assert len(left(target)) == 1, "only what can be resumed"
    delayed.compute(**THREADS)
    assert [upload.resumable for upload in left(target)] == [True]
    ccog.abort_incomplete(target["store"], target.get("storage_options"))


@pytest.mark.tried(
    "a lifecycle rule ends an upload that has records",
    "right: written from the start, and the records are removed",
)
def test_records_of_an_upload_that_is_gone_are_not_used(
    s3_options: dict[str, Any], reader: Source
) -> None:
    """As after a lifecycle rule: the next write starts afresh, and what ends it removes them."""
    target = {"store": "s3://test/resume/gone.tif", "storage_options": s3_options}
    fail(reader, resumed(reader.array(), target))
    (upload,) = left(target)
    filesystem = s3fs.S3FileSystem(**s3_options, skip_instance_cache=True)
    gone = {"Bucket": "test", "Key": "resume/gone.tif", "UploadId": upload.upload_id}
    filesystem.call_s3("abort_multipart_upload", **gone)
    assert records("gone", s3_options)
    resumed(reader.array(), target).compute(**THREADS)
    assert not records("gone", s3_options)
    fail(reader, resumed(reader.array(), target))
    (upload,) = left(target)
    filesystem.call_s3("abort_multipart_upload", **gone | {"UploadId": upload.upload_id})
    assert [upload.over for upload in ccog.abort_incomplete(*target.values())] == [True]
    assert not records("gone", s3_options)


@pytest.mark.tried(
    "of two runs of one resumable write, the second finishes while the first is in the middle",
    "right; the slower run ends at once with a clear error, and leaves no record",
)
def test_the_slower_of_two_runs_of_one_write_leaves_nothing(target: dict[str, Any]) -> None:
    done: list[int] = []

    def write(hurries: bool) -> Any:
        def read(block_id: tuple[int, int, int]) -> np.ndarray:
            _, i, j = block_id
            if not hurries and (i, j) == (ROWS // 2, 0):
                write(hurries=True).compute(scheduler="sync")
            if not hurries:
                done.append(i)
            return terrain((1, 128, 128), seed=100 * i + j)

        chunks, meta = ((1,), (128,) * ROWS, (128,) * COLS), np.empty((0, 0, 0), "uint16")
        array = da.map_blocks(read, chunks=chunks, dtype="uint16", meta=meta, name="two-runs")
        return resumed(array, target)

    with pytest.raises(ccog.errors.StoreNotFoundError):
        write(hurries=False).compute(scheduler="sync")
    assert max(done) < ROWS - 4
    array = np.concatenate(
        [
            np.concatenate([terrain((1, 128, 128), seed=100 * i + j) for j in range(COLS)], 2)
            for i in range(ROWS)
        ],
        1,
    )
    expected = ccog.write_ccog(array, COG_creation_options=SMALL).compute()
    assert data_of(target) == expected
    assert not left(target)


@pytest.mark.tried(
    "a resumable write is built where a write that was not resumable was killed",
    "warned: names the time, and the command that removes it",
)
def test_what_cannot_be_continued_is_named(target: dict[str, Any], reader: Source) -> None:
    store = ccog.stores.resolve_store(target["store"], target.get("storage_options"))
    session = store.begin(new_token())
    with pytest.warns(ccog.CCOGWarning, match=f"An unfinished write to {target['store']}, begun"):
        delayed = resumed(reader.array(), target)
    delayed.compute(**THREADS)
    assert [upload.upload_id for upload in left(target)] == [session]
    store.abort(session)


@pytest.mark.tried("an unfinished upload ends between the call and computing", "right: begun again")
def test_an_upload_that_ends_before_computing_is_begun_again(
    tmp_path: Path, reader: Source
) -> None:
    target = {"store": str(tmp_path / "a.tif")}
    delayed = resumed(reader.array(), target)
    fail(reader, delayed)
    tasks = mapping_of(delayed).resumed()
    ccog.abort_incomplete(target["store"])
    with pytest.raises(ccog.ResumeError, match="ended meanwhile; start again"):
        tasks[tasks.job.key("begin")]()
    delayed.compute(**THREADS)


@pytest.mark.tried(
    "resume=True where another write is unfinished: other options, array, mask, chunks, metadata, version",
    "refused: each difference is named",
)
def test_another_write_is_refused(
    tmp_path: Path, reader: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = {"store": str(tmp_path / "a.tif")}
    mask = np.ones((ROWS * 128, COLS * 128), bool)
    fail(reader, resumed(reader.array(), target, mask=mask))

    def refused(says: str, array: da.Array | None = None, **given: Any) -> None:
        array = reader.array() if array is None else array
        with pytest.raises(ccog.ResumeError, match=says):
            resumed(array, target, **{"mask": mask, **given})

    options = r"COMPRESS was DEFLATE, is ZSTD.*uploads abort .*a\.tif.*resume=False"
    refused(options, creation=SMALL | {"compress": "zstd"})
    refused(r"the array differs \(dask names an array.*name=", reader.array("other"))
    refused("the mask differs", mask=~mask)
    refused("the mask differs", mask=None)
    refused("the array differs, the chunks differ", reader.array().rechunk((1, 256, 256)))
    env = {"GDAL_X": 1, "GS_SECRET_ACCESS_KEY": "s"}
    unknown = r"the environment differs \(GDAL_X was not given, is given\)"
    refused(unknown, rasterio_env_options=env)
    refused(r"another one: the metadata differs\.", creation=SMALL | {"units": "m"})
    monkeypatch.setattr(manifest, "version", lambda _: "9.9")
    refused(rf"version of ccog was {version('ccog')}, is 9\.9\.")
    ccog.write_ccog(reader.array("other"), **target, COG_creation_options=SMALL).compute(**THREADS)


@pytest.mark.tried(
    "A resumable write with a secret among GDAL's options, and its continuation with another value",
    "refused: the record and the message name the option, and hold no value",
)
def test_values_of_the_environment_are_neither_kept_nor_shown(
    tmp_path: Path, reader: Source
) -> None:
    target = {"store": str(tmp_path / "a.tif")}
    then = {"SOME_PASSWORD": "earliersecret", "GDAL_HTTP_USERPWD": "user:accesssecret"}
    fail(reader, resumed(reader.array(), target, rasterio_env_options=then))
    kept = [path.read_bytes() for path in tmp_path.glob(".*.parts/*/*")]
    assert any(b"SOME_PASSWORD" in data for data in kept)
    assert not any(
        secret in data for data in kept for secret in (b"earliersecret", b"accesssecret")
    )
    now = then | {"SOME_PASSWORD": "latersecret"}
    with pytest.raises(
        ccog.ResumeError, match=r"the environment differs \(SOME_PASSWORD had"
    ) as raised:
        resumed(reader.array(), target, rasterio_env_options=now)
    assert "secret" not in str(raised.value)
    # a secret that says how to reach data may be another one each time
    renewed = then | {"GDAL_HTTP_USERPWD": "user:renewed"}
    resumed(reader.array(), target, rasterio_env_options=renewed).compute(**THREADS)


def test_arrays_in_memory_are_known_by_their_values(tmp_path: Path) -> None:
    xr = pytest.importorskip("xarray")
    pixels = terrain((1, 700, 500))
    for wrap in (np.copy, lambda a: xr.DataArray(a.copy(), dims=("band", "y", "x"))):
        store = str(tmp_path / "a.tif")
        job = mapping_of(resumed(wrap(pixels), {"store": store})).job
        job.store.save_checkpoint(
            job.store.begin(new_token()), "manifest.json", job.manifest.encode()
        )
        assert mapping_of(resumed(wrap(pixels), {"store": store})).job.manifest == job.manifest
        pixels[0, 350, 250] += 1
        with pytest.raises(ccog.ResumeError, match="the array differs"):
            resumed(wrap(pixels), {"store": store})
        ccog.abort_incomplete(store)


@pytest.mark.parametrize(
    ("store", "options"),
    [(None, None), ("memory://a.tif", None), ("s3://test/a.tif", {"fixed_upload_size": True}),
     ("az://test/a.tif", {"account_name": "a", "anon": True})],
)  # fmt: skip
@pytest.mark.tried(
    "resume=True to {store} with storage_options={options}",
    "refused, with the targets that can",
    group="arguments",
)
def test_targets_without_checkpoints_refuse_to_resume(store: Any, options: Any) -> None:
    with pytest.raises(
        ccog.ResumeError, match=r"resume=True is not possible for .*local file systems"
    ):
        ccog.write_ccog(np.ones((300, 300), "uint8"), store, storage_options=options, resume=True)


@pytest.mark.tried("a write to Google Cloud Storage fails and is resumed", "right")
def test_a_write_to_google_cloud_storage_continues(
    gcs_options: dict[str, Any], reader: Source
) -> None:
    target = {"store": "gs://test/resume/a.tif", "storage_options": gcs_options}
    fail(reader, resumed(reader.array(), target))
    assert [upload.resumable for upload in left(target)] == [True]
    reader.reads()
    resumed(reader.array(), target).compute(**THREADS)
    assert not left(target)
    assert_little_again(reader)


@pytest.mark.slow
@pytest.mark.tried("`ccog create --resume` is killed, and run again", "right: it continues")
def test_the_command_line_continues_a_killed_write(tmp_path: Path) -> None:
    target = str(tmp_path / "a.tif")
    run = "from ccog.cli import main; main()"
    options = ["demo", target, "--size=4096", "--co=BLOCKSIZE=256", "--workers=1"]
    options += ["--resume", "--quiet"]
    process = subprocess.Popen([sys.executable, "-c", run, *options])
    try:
        assert until(
            lambda: any("pieces-" in name or "row-" in name for name in parts_of(tmp_path))
        )
    finally:
        process.kill()
        process.wait()
    listed = CliRunner().invoke(main, ["uploads", "list", target])
    assert listed.output.strip().endswith(" resumable")
    refused = CliRunner().invoke(main, [*options, "--co=COMPRESS=ZSTD"])
    assert refused.exit_code == 1
    assert "COMPRESS was DEFLATE, is ZSTD" in refused.output
    assert CliRunner().invoke(main, options).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    plain = [option for option in options if option != "--resume"]
    plain[1] = str(tmp_path / "b.tif")
    assert CliRunner().invoke(main, plain).exit_code == 0
    assert Path(target).read_bytes() == (tmp_path / "b.tif").read_bytes()


def parts_of(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".*.parts/*/*")]


def test_sources_of_the_command_line_have_stable_names(tmp_path: Path) -> None:
    xr = pytest.importorskip("xarray")
    path = tmp_path / "a.nc"
    names = []
    for value in (1, 1, 2):
        if len(names) != 1:
            xr.Dataset({"a": (("y", "x"), np.full((300, 300), value, "uint8"))}).to_netcdf(
                path, engine="h5netcdf"
            )
        command = f"from ccog.input.opening import open_source; print(open_source({str(path)!r}).array.data.name)"
        names.append(
            subprocess.run([sys.executable, "-c", command], check=True, capture_output=True).stdout
        )
    assert names[0] == names[1] != names[2]


def test_segments_survive_their_records() -> None:
    sums = (1 << 80, -(1 << 70))
    exact = BandStatistics(count=3, nodata=1, low=-1.5, high=2.0, mean=0.1, spread=1e-17, sums=sums)
    statistics = (exact, BandStatistics())
    sizes = np.arange(6, dtype="uint32").reshape(2, 3)
    segment = Segment([b"ab", b"", b"c"], [(3, 7, "tag")], [])
    for mask, bands in ((None, None), (sizes[:1], statistics)):
        group = UploadedGroup(1, TileSizes(sizes, mask), bands)
        data = dump_segment(UploadedSegment(segment, Joins(2, 5), [group]))
        (head, parts, tail), joins, (again,) = parse_segment(data)
        assert (b"".join(head), parts, tail, joins) == (b"abc", [(3, 7, "tag")], [], (2, 5))
        assert again.level == 1
        assert again.sizes.image.dtype == sizes.dtype
        assert np.array_equal(again.sizes.image, sizes)
        assert (again.sizes.mask is None) == (mask is None)
        assert again.statistics == bands


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex64"])
def test_partial_overviews_survive_their_records(dtype: str) -> None:
    pixels = terrain((2, 7, 9), dtype)
    mask = np.full((7, 9), 255, "uint8")
    overviews = [
        PartialOverview([PixelPatch((7, 9), (0, 2), None, None)], []),
        PartialOverview([PixelPatch((0, 7), (2, 11), pixels, mask)], []),
        PartialOverview([], [PixelPatch((1, 8), (0, 9), pixels[:0], None)]),
    ]
    again = parse_overviews(dump_overviews(overviews))
    for new, old in zip(again, overviews, strict=True):
        assert (len(new.reduced), len(new.halos)) == (len(old.reduced), len(old.halos))
        for patch, was in zip(new.reduced + new.halos, old.reduced + old.halos, strict=True):
            assert (patch.rows, patch.cols) == (was.rows, was.cols)
            assert (patch.pixels is None) == (was.pixels is None)
            assert was.pixels is None or patch.pixels.dtype == was.pixels.dtype
            assert np.array_equal(patch.pixels, was.pixels)
            assert (patch.mask is None) == (was.mask is None)
