"""Writing for real: local files, an S3 server, threads and processes, and failures on the way."""

from __future__ import annotations

import pickle
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
from ccog.stores import Store, resolve_store
from ccog.stores.local import LocalStore
from conftest import GEO, gdal_cog, stored, terrain

OPTIONS = GEO | {"blocksize": 256, "compress": "deflate", "overview_resampling": "cubic"}


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
    delayed = ccog.write_ccog(
        da.from_array(small, chunks=256), tmp_path / "a.tif", COG_creation_options=OPTIONS
    )
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
    files = [
        ccog.write_ccog(source, tmp_path / name, COG_creation_options=OPTIONS)
        for name in ("a", "b")
    ]
    dask.compute(*files, scheduler="threads")
    assert len(loads) == 4
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_file_urls_are_local_paths(tmp_path: Path) -> None:
    target = tmp_path / "with space.tif"
    ccog.write_ccog(terrain((1, 300, 300)), target.as_uri()).compute()
    assert target.stat().st_size


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
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
        ccog.write_ccog(source, target, COG_creation_options=OPTIONS).compute(scheduler=scheduler)
    assert target.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_a_failing_encoder_is_an_error() -> None:
    codec = Codec(256, "float32", (("compress", "JPEG"),), (), None, sparse=False, planar=False)
    with pytest.raises(errors.EncodeError, match="JPEG"):
        encode_block(np.ones((1, 256, 256), "float32"), None, codec)


def test_parts_may_come_in_any_order_and_twice(tmp_path: Path) -> None:
    store: Store = pickle.loads(pickle.dumps(LocalStore(str(tmp_path / "a"))))
    session = store.begin(new_token())
    parts = [store.put(session, number, [bytes([number]), b"x"]) for number in (7, 2, 9)]
    parts[0] = store.put(session, 7, [b"new"])
    with pytest.warns(ccog.CCOGWarning, match="put twice, with different bytes"):
        assert store.complete(session, parts).size == 7
    assert (tmp_path / "a").read_bytes() == b"\x02xnew\x09x"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_late_part_of_an_aborted_write_is_an_error(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "a"))
    session = store.begin(new_token())
    store.put(session, 1, [b"x"])
    store.abort(session)
    with pytest.raises(OSError, match="are gone"):
        store.put(session, 2, [b"y"])
    assert not any(tmp_path.iterdir())


def uploads(options: dict[str, Any]) -> list[Any]:
    found = (
        s3fs.S3FileSystem(**options).call_s3("list_multipart_uploads", Bucket="test").get("Uploads")
    )
    return list(found or [])


def test_threads_write_to_s3(
    s3_options: dict[str, Any], pixels: np.ndarray, expected: bytes
) -> None:
    array = da.from_array(pixels, chunks=(1, 1024, 1024))
    delayed = ccog.write_ccog(
        array, "s3://test/t/a.tif", COG_creation_options=OPTIONS, storage_options=s3_options
    )
    result = delayed.compute(scheduler="threads", num_workers=2)
    assert stored("s3://test/t/a.tif", s3_options) == expected
    assert result.size == len(expected)
    # several parts
    assert re.fullmatch(r'"?[0-9a-f]{32}-[2-9]"?', result.etag)
    head = s3fs.S3FileSystem(**s3_options).call_s3("head_object", Bucket="test", Key="t/a.tif")
    assert head["ContentType"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert not uploads(s3_options)
    assert "testsecret" not in repr(resolve_store("s3://test/t/a.tif", s3_options))


def test_worker_processes_write_to_s3(
    client: Any, s3_options: dict[str, Any], pixels: np.ndarray, expected: bytes
) -> None:
    array = da.from_array(pixels, chunks=(1, 1024, 1024))
    delayed = ccog.write_ccog(
        array, "s3://test/p/a.tif", COG_creation_options=OPTIONS, storage_options=s3_options
    )
    assert client.compute(delayed).result().size == len(expected)
    assert stored("s3://test/p/a.tif", s3_options) == expected
    assert not uploads(s3_options)


def test_a_small_object_is_one_part(s3_options: dict[str, Any]) -> None:
    small = terrain((1, 300, 300))
    ccog.write_ccog(
        small, "s3://test/s.tif", COG_creation_options=OPTIONS, storage_options=s3_options
    ).compute()
    assert stored("s3://test/s.tif", s3_options) == gdal_cog(small, gdal_options())


def test_a_write_to_s3_that_fails_leaves_no_upload(s3_options: dict[str, Any]) -> None:
    def fail(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("no pixels here")

    source = da.zeros((1, 600, 600), chunks=256, dtype="uint8").map_blocks(
        fail, dtype="uint8", meta=np.empty((0,) * 3)
    )
    with pytest.raises(RuntimeError, match="no pixels here"):
        ccog.write_ccog(source, "s3://test/f.tif", storage_options=s3_options).compute()
    assert not uploads(s3_options)


def test_s3_refuses_wrong_keys_and_existing_objects(s3_options: dict[str, Any]) -> None:
    wrong = s3_options | {"secret": "wrong"}
    delayed = ccog.write_ccog(terrain((1, 300, 300)), "s3://test/x.tif", storage_options=wrong)
    with pytest.raises(errors.StorePermissionError, match="access denied"):
        delayed.compute()
    ccog.write_ccog(terrain((1, 300, 300)), "s3://test/x.tif", storage_options=s3_options).compute()
    with pytest.raises(errors.StoreExistsError, match="exists"):
        ccog.write_ccog(
            terrain((1, 300, 300)),
            "s3://test/x.tif",
            COG_creation_options={"overwrite": False},
            storage_options=s3_options,
        )
