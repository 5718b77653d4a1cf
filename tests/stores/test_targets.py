"""Whole files to every kind of target: equal to the bytes result, nothing left; and targets that are refused."""

from __future__ import annotations

import hashlib
import time
import uuid
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import dask.array as da
import fsspec
import numpy as np
import pytest
import rasterio

import ccog
import servers
from ccog import errors
from ccog.stores.s3 import S3Store
from conftest import GEO, stored, terrain
from faults import proxied

CREATION = GEO | {"blocksize": 256, "compress": "none", "overview_resampling": "average"}

#: Sides of square uint16 rasters, and what their files weigh.
SIDES = {"0.02 MB": 80, "6 MB": 1500, "60 MB": 4700, "300 MB": 10600}


def noise(block_info: Any) -> np.ndarray:
    """Pixels of one chunk, the same at each call."""
    (top, bottom), (left, right) = block_info[None]["array-location"]
    return np.random.default_rng([top, left]).integers(
        0, 60000, (bottom - top, right - left), "uint16"
    )


def noisy(side: int) -> da.Array:
    return da.map_blocks(
        noise,
        chunks=da.core.normalize_chunks(1024, (side, side)),
        dtype="uint16",
        meta=np.empty((0, 0), "uint16"),
    )


def written(array: Any, target: Any = None, options: Any = None, **more: Any) -> Any:
    """The delayed write of an array with the options of these tests, and more."""
    return ccog.write_ccog(
        array, target, COG_creation_options=CREATION | more, storage_options=options
    )


@cache
def without_a_store(size: str) -> tuple[int, str]:
    """Size and digest of the bytes result."""
    found = written(noisy(SIDES[size])).compute(scheduler="threads")
    return len(found), hashlib.sha256(found).hexdigest()


@pytest.fixture
def scheduler(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("client") if request.param == "processes" else "threads"


def digest(url: str, options: dict[str, Any]) -> tuple[int, str]:
    """Size and digest of an object, read in pieces."""
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    filesystem.invalidate_cache()
    found, size = hashlib.sha256(), filesystem.info(path)["size"]
    for start in range(0, size, 32 << 20):
        found.update(filesystem.cat_file(path, start=start, end=min(start + (32 << 20), size)))
    return size, found.hexdigest()


SERVERS = {"s3_options": "s3", "juicefs_options": "s3", "moto_options": "s3", "azure_options": "az",
           "gcs_options": "gs"}  # fmt: skip

#: Each size but the largest goes to each server from threads and from processes.
WRITES = list(product([*SIDES][:-1], SERVERS, ["threads", "processes"]))
LARGEST = [("300 MB", "s3_options", "threads"), ("300 MB", "juicefs_options", "processes")]
WRITES += [pytest.param(*write, marks=pytest.mark.slow) for write in LARGEST]


@pytest.mark.filterwarnings("ignore:Sending large graph")
@pytest.mark.parametrize(("size", "server", "scheduler"), WRITES, indirect=["scheduler"])
def test_every_server_gets_the_bytes_that_are_written_without_a_store(
    size: str, server: str, request: pytest.FixtureRequest, scheduler: Any
) -> None:
    protocol, pixels, expected = SERVERS[server], noisy(SIDES[size]), without_a_store(size)
    options = request.getfixturevalue(server)
    url = f"{protocol}://test/whole/{uuid.uuid4().hex}.tif"
    result = written(pixels, url, options).compute(scheduler=scheduler)
    assert (result.url, result.size) == (url, expected[0])
    assert digest(url, options) == expected
    if protocol != "az":
        assert not ccog.list_incomplete(f"{protocol}://test/whole/", options)
    if server != "juicefs_options":  # the gateway goes by the key's extension
        assert (
            content_type(url, options) == "image/tiff; application=geotiff; profile=cloud-optimized"
        )
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    filesystem.rm_file(path)


def content_type(url: str, options: dict[str, Any]) -> str:
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    info = filesystem.info(path)
    settings = info.get("content_settings") or {}
    return str(info.get("ContentType") or info.get("contentType") or settings["content_type"])


def test_gdal_reads_what_was_written(s3_options: dict[str, Any]) -> None:
    array = terrain((2, 700, 600))
    written(array, "s3://test/gdal/a.tif", s3_options).compute()
    env = {"AWS_S3_ENDPOINT": s3_options["endpoint_url"].removeprefix("http://"), "AWS_HTTPS": "NO",
           "AWS_VIRTUAL_HOSTING": "FALSE", "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif"}  # fmt: skip
    session = rasterio.session.AWSSession(
        aws_access_key_id=s3_options["key"],
        aws_secret_access_key=s3_options["secret"],
        region_name="us-east-1",
    )
    with rasterio.Env(session, **env), rasterio.open("/vsis3/test/gdal/a.tif") as found:
        assert np.array_equal(found.read(), array)
        assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_a_mapping_of_fsspec_stands_for_its_root(
    s3_options: dict[str, Any], tmp_path: Path
) -> None:
    array = terrain((1, 300, 300))
    expected = written(array).compute()
    for url, options in (
        ("s3://test/map.tif", s3_options),
        (str(tmp_path / "a b%.tif"), {}),
        ("memory://map.tif", {}),
    ):
        result = written(array, fsspec.get_mapper(url, **options)).compute()
        assert result.size == len(expected)
        assert stored(url, options) == expected


def test_the_memory_file_system_is_written_without_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    array = terrain((1, 300, 300))
    for _ in range(2):
        written(array, "memory://a/b.tif").compute()
    filesystem = fsspec.filesystem("memory")
    assert filesystem.cat("a/b.tif") == written(array).compute()
    assert filesystem.ls("a", detail=False) == ["/a/b.tif"]
    assert not [warning for warning in recwarn if issubclass(warning.category, ccog.CCOGWarning)]
    with pytest.raises(errors.StoreExistsError, match=r"memory://a/b\.tif exists"):
        ccog.write_ccog(array, "memory://a/b.tif", COG_creation_options={"overwrite": False})


def test_any_other_file_system_through_one_writer(tmp_path: Path) -> None:
    array = terrain((1, 300, 300))
    options = {"fs": fsspec.filesystem("file"), "path": str(tmp_path)}
    with pytest.warns(ccog.CCOGWarning, match="dir:// has no parallel uploads"):
        delayed = written(array, "dir://a.tif", options)
    assert not any(tmp_path.iterdir())
    for _ in range(2):
        delayed.compute()
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    assert (tmp_path / "a.tif").read_bytes() == written(array).compute()


@pytest.mark.slow
@pytest.mark.parametrize("compress", ["none", "deflate"])
def test_parts_are_equally_long_where_the_server_wants_it(
    s3_options: dict[str, Any], compress: str
) -> None:
    array = da.from_array(
        np.random.default_rng(0).integers(0, 60000, (4000, 5000)).astype("uint16"), chunks=1024
    )
    with proxied(s3_options | {"fixed_upload_size": True}) as (proxy, options):
        written(array, "s3://test/equal.tif", options, compress=compress).compute()
        sizes = sorted(proxy.part_sizes, reverse=True)
    assert len(sizes) > 2
    assert len(set(sizes[:-1])) == 1
    assert stored("s3://test/equal.tif", s3_options) == written(array, compress=compress).compute()


def test_options_of_s3fs_are_used(s3_options: dict[str, Any]) -> None:
    options = s3_options | {
        "s3_additional_kwargs": {"ContentType": "image/tiff", "Metadata": {"by": "us"}}
    }
    ccog.write_ccog(terrain((1, 300, 300)), "s3://test/own.tif", storage_options=options).compute()
    store = S3Store("test", "own.tif", s3_options)
    head = store._client.call("head_object", "look", Key="own.tif")
    assert head["Metadata"].pop("ccog-write")
    assert (head["ContentType"], head["Metadata"]) == ("image/tiff", {"by": "us"})


@pytest.mark.parametrize("resume", [False, True])
def test_an_access_list_is_sent_where_s3_wants_it_and_only_there(
    s3_options: dict[str, Any], resume: bool
) -> None:
    acl = "bucket-owner-full-control"
    with proxied(s3_options | {"s3_additional_kwargs": {"ACL": acl}}) as (proxy, options):
        url = f"s3://test/acl-{resume}.tif"
        writer = ccog.write_ccog(
            noisy(2500), url, storage_options=options, resume=resume, **CREATION
        )
        writer.compute()
    sent = {call for call, value in proxy.acls if value == acl}
    others = {call for call, value in proxy.acls if value is None}
    # records of a write that may be continued are small objects of their own
    assert sent == ({"create", "put"} if resume else {"create"})
    assert {"mark", "part", "complete", "head"} <= others
    assert not sent & others


def untouched() -> da.Array:
    def touched(*_: Any) -> Any:
        raise AssertionError("a pixel was touched")

    source = da.zeros((2048, 2048), chunks=1024, dtype="uint16")
    return source.map_blocks(touched, dtype="uint16", meta=np.empty((0, 0), "uint16"))


#: Credentials that may read, and not write.
READER = {"key": servers.READER_KEY, "secret": servers.READER_SECRET}
NO_KEY = {"key": None, "secret": None}
NOBODY_THERE = {"endpoint_url": "http://127.0.0.1:9"}
WRONG_KEY = "access denied to the access key in storage_options"


@pytest.mark.parametrize(
    ("bucket", "change", "kind", "says"),
    [
        ("absent", {}, errors.StoreNotFoundError, r"start an upload to s3://absent/a.tif: .*bucket"),
        ("test", {"secret": "wrong"}, errors.StorePermissionError, WRONG_KEY),
        ("test", {"key": "wrong"}, errors.StorePermissionError, WRONG_KEY),
        ("test", READER, errors.StorePermissionError, "s3://test/a"),
        ("test", NO_KEY | {"anon": True}, errors.StorePermissionError, "anonymous"),
        ("test", NO_KEY | {"profile": "absent"}, errors.StorePermissionError, "credentials"),
        # waits as long as users would
        pytest.param("test", NOBODY_THERE, errors.StoreError, "no answer from the server", marks=pytest.mark.slow),
    ],
    ids=["no such bucket", "a wrong secret", "a wrong key", "keys that may only read", "no keys", "no such profile",
         "no server"],
)  # fmt: skip
@pytest.mark.tried("a write to S3: {id}", "refused before any pixel is computed")
def test_refused_by_s3_before_any_work(
    s3_options: dict[str, Any],
    bucket: str,
    change: dict[str, Any],
    kind: type[Exception],
    says: str,
) -> None:
    options = s3_options | change
    started = time.monotonic()
    with pytest.raises(kind, match=says) as caught:
        ccog.write_ccog(untouched(), f"s3://{bucket}/a.tif", storage_options=options).compute()
    assert time.monotonic() - started < 20
    assert "secret" not in str(caught.value).replace("storage_options", "")


@pytest.mark.tried(
    "Azure: a missing container, a wrong key",
    "refused before any pixel is computed; the key is not shown",
)
def test_azure_refuses_before_any_work(azure_options: dict[str, Any]) -> None:
    with pytest.raises(errors.StoreNotFoundError, match="container"):
        ccog.write_ccog(untouched(), "az://absent/a.tif", storage_options=azure_options).compute()
    port = int(azure_options["connection_string"].split(":")[-1].split("/")[0])
    wrong = servers.azure_options(port, "d3Jvbmc=")
    with pytest.raises(errors.StorePermissionError, match="access denied") as caught:
        ccog.write_ccog(untouched(), "az://test/a.tif", storage_options=wrong).compute()
    assert "d3Jvbmc" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("az://container", "az://container/path"),
        ("abfs://container/", "name a blob"),
        ("gs://bucket", "gs://bucket/path"),
        ("memory://", "does not name a file"),
        ("http://host/a.tif", "can only be read"),
        ("nonsense://host/a.tif", "nonsense"),
    ],
)
@pytest.mark.tried("{url} as target", "refused, with what to give", group="arguments")
def test_urls_that_cannot_be_written_are_refused(url: str, says: str) -> None:
    with pytest.raises(errors.StoreError, match=says):
        ccog.write_ccog(untouched(), url)


@pytest.mark.tried(
    "more rows of blocks than S3 takes parts", "refused, with both numbers", group="arguments"
)
def test_a_raster_that_cannot_fit_is_refused_with_numbers() -> None:
    source = da.zeros((8_000_000, 2048), chunks=(512, 2048), dtype="uint8")
    with pytest.raises(
        errors.RasterError,
        match=r"rows of blocks of up to \d+ bytes need \d+ parts.* takes 10000 of",
    ):
        ccog.write_ccog(source, "s3://bucket/a.tif", COG_creation_options={"overviews": "none"})
