"""Writing for real: local files, an S3 server, and failures on the way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import s3fs

import ccog
from ccog import errors
from ccog.gdal.encode import Codec, encode_block
from ccog.graph.build import new_token
from ccog.stores import resolve_store
from ccog.stores.local import LocalStore
from conftest import GEO, gdal_cog, stored, terrain

OPTIONS = GEO | {"blocksize": 256, "compress": "deflate", "overview_resampling": "cubic"}


def written(array: Any, target: Any, options: Any = None, **more: Any) -> Any:
    """The delayed write of an array with the options of these tests, and more."""
    return ccog.write_ccog(
        array, target, COG_creation_options=OPTIONS | more, storage_options=options
    )


def gdal_options() -> dict[str, Any]:
    return {k: v for k, v in OPTIONS.items() if k not in GEO}


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """About 30 MB once written."""
    return np.random.default_rng(0).integers(0, 60000, (1, 3000, 4500)).astype("uint16")


@pytest.fixture(scope="module")
def expected(pixels: np.ndarray) -> bytes:
    return gdal_cog(pixels, gdal_options())


def test_a_local_file_is_gdals_and_its_result_says_where_it_is(tmp_path: Path) -> None:
    small = terrain((1, 600, 700))
    delayed = written(da.from_array(small, chunks=256), tmp_path / "a.tif")
    assert not any(tmp_path.iterdir())
    result = delayed.compute()
    assert (tmp_path / "a.tif").read_bytes() == gdal_cog(small, gdal_options())
    assert result == ccog.WriteResult(
        str(tmp_path / "a.tif"), (tmp_path / "a.tif").stat().st_size, None
    )
    assert delayed.compute() == result, "computing twice writes twice"
    (other,) = dask.compute(delayed)
    assert other == result
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_two_files_in_one_graph_load_each_chunk_once(tmp_path: Path) -> None:
    loads = []

    def load(block: np.ndarray) -> np.ndarray:
        loads.append(1)
        return block

    source = da.from_array(terrain((1, 512, 512)), chunks=256).map_blocks(
        load, dtype="uint16", meta=np.empty((0,) * 3)
    )
    files = [written(source, tmp_path / name) for name in ("a", "b")]
    dask.compute(*files, scheduler="threads")
    assert len(loads) == 4
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_file_urls_are_local_paths(tmp_path: Path) -> None:
    target = tmp_path / "with space.tif"
    ccog.write_ccog(terrain((1, 300, 300)), target.as_uri()).compute()
    assert target.stat().st_size


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
@pytest.mark.tried(
    "a chunk fails, with the scheduler {scheduler}",
    "its error is raised, and nothing is left",
    group="processes",
)
def test_a_failing_chunk_leaves_nothing(tmp_path: Path, scheduler: str) -> None:
    def fail(block: np.ndarray, block_id: tuple[int, ...]) -> np.ndarray:
        if block_id[1:] == (2, 2):
            raise RuntimeError("no pixels here")
        return block

    source = da.from_array(terrain((1, 768, 768)), chunks=256).map_blocks(
        fail, dtype="uint16", meta=np.empty((0,) * 3)
    )
    target = tmp_path / "a.tif"
    target.write_bytes(b"before")
    with pytest.raises(RuntimeError, match="no pixels here"):
        written(source, target).compute(scheduler=scheduler)
    assert target.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_a_failing_encoder_is_an_error() -> None:
    codec = Codec(256, "float32", (("compress", "JPEG"),), (), None, sparse=False, planar=False)
    with pytest.raises(errors.EncodeError, match="JPEG"):
        encode_block(np.ones((1, 256, 256), "float32"), None, codec)


@pytest.mark.tried("a part arrives after its write was aborted", "refused")
def test_a_late_part_of_an_aborted_write_is_an_error(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "a"))
    session = store.begin(new_token())
    store.put(session, 1, [b"x"])
    store.abort(session)
    with pytest.raises(OSError, match="are gone"):
        store.put(session, 2, [b"y"])
    assert not any(tmp_path.iterdir())


def test_threads_write_to_s3(
    s3_options: dict[str, Any], pixels: np.ndarray, expected: bytes
) -> None:
    array = da.from_array(pixels, chunks=(1, 1024, 1024))
    delayed = written(array, "s3://test/t/a.tif", s3_options)
    result = delayed.compute(scheduler="threads", num_workers=2)
    assert stored("s3://test/t/a.tif", s3_options) == expected
    assert result.size == len(expected)
    # several parts
    assert re.fullmatch(r'"?[0-9a-f]{32}-[2-9]"?', result.etag)
    head = s3fs.S3FileSystem(**s3_options).call_s3("head_object", Bucket="test", Key="t/a.tif")
    assert head["ContentType"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert not ccog.list_incomplete("s3://test/t/", s3_options)
    assert "testsecret" not in repr(resolve_store("s3://test/t/a.tif", s3_options))


@pytest.mark.tried("overwrite=False where there is an object on S3", "refused before any work")
def test_s3_refuses_existing_objects_as_a_write_is_built(s3_options: dict[str, Any]) -> None:
    array = terrain((1, 300, 300))
    written(array, "s3://test/x.tif", s3_options).compute()
    with pytest.raises(errors.StoreExistsError, match="exists"):
        written(array, "s3://test/x.tif", s3_options, overwrite=False)


#: URLs of objects behind access points (also of several regions), outposts and object lambdas.
ARNS = {
    "arn:aws:s3:us-west-2:123456789012:accesspoint/here": "/",
    "arn:aws:s3:us-west-2:123456789012:accesspoint:here": "/",
    "arn:aws-us-gov:s3:us-gov-west-1:123456789012:accesspoint/here": "/",
    "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/here": "/",
    "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap": "/",
    "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01/accesspoint/here": "/",
    "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01/bucket/b1": "/",
    "arn:aws:s3-outposts:us-west-2:123456789012:outpost:op-01:bucket:b1": ":",
    "arn:aws:s3-object-lambda:us-west-2:123456789012:accesspoint/here": "/",
    "arn:aws:s3-object-lambda:us-west-2:123456789012:accesspoint:here": ":",
    "an-alias-of-one-s3alias": "/",
    "bucket": "/",
}


@pytest.mark.parametrize("key", ["d/a.tif", "dir/a b+c.tif", "dir//a:1.tif", "arn:aws/a.tif"])
@pytest.mark.parametrize(("bucket", "between"), ARNS.items())
def test_s3_urls_are_split_as_s3fs_splits_them(bucket: str, between: str, key: str) -> None:
    url = f"s3://{bucket}{between}{key}"
    store = resolve_store(url, {})
    assert (store.bucket, store.key) == s3fs.S3FileSystem(anon=True).split_path(url)[:2]
    assert (store.bucket, store.key) == (bucket, key)
    again = resolve_store(store.url, {})
    assert (again.bucket, again.key) == (bucket, key)


@pytest.mark.parametrize("bucket", ["arn:aws:s3:us-west-2:1:accesspoint/x", "arn:aws:sns:a:b:c"])
def test_other_names_of_amazon_are_refused(bucket: str) -> None:
    with pytest.raises(errors.StoreError, match="names no access point, outpost or object lambda"):
        resolve_store(f"s3://{bucket}/a.tif", {})
    with pytest.raises(errors.StoreError, match="does not name an object"):
        resolve_store("s3://arn:aws:s3:us-west-2:123456789012:accesspoint/here/", {})
