"""Records of an unfinished write that are damaged or hostile: their work is done again, and a warning says so."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_resume import SMALL, THREADS, Source, data_of, fail, left, mapping_of, resumed

import ccog
from ccog.stores.resolve import resolve_store
from hostile import peak_mb

STATISTICS = SMALL | {"statistics": "yes"}


def closed(body: bytes) -> bytes:
    """A record whose digest is right, whatever it says."""
    return b"ccog" + hashlib.sha256(body).digest() + body


def packed(about: Any, arrays: list[Any], body: bytes = b"") -> bytes:
    text = json.dumps({"about": about, "arrays": arrays}).encode()
    return struct.pack("<Q", len(text)) + text + body


def old(_: bytes) -> bytes:
    """A record as NumPy writes it, of an object that unpickling would make."""
    file = io.BytesIO()
    np.savez(file, about=np.array([print], dtype=object))
    return file.getvalue()


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


EMPTY = [["head", "|u1", [0]], ["tail", "|u1", [0]]]
HUGE = packed([], [["head", "<u8", [1 << 60]]])
DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a flipped bit in rows": ("row-", flipped),
    "a flipped bit in merges": ("merge-", flipped),
    "a flipped bit in pixels": ("pieces-", flipped),
    "cut off": ("row-", lambda data: data[: len(data) // 2]),
    "empty": ("pieces-", lambda _: b""),
    "noise": ("merge-", lambda data: np.random.default_rng(0).bytes(len(data))),
    "longer": ("pieces-", lambda data: data + bytes(1 << 20)),
    "a pickle": ("row-", old),
    "nothing in it": ("merge-", lambda _: closed(b"")),
    "a list that is nested": (
        "row-",
        lambda _: closed(struct.pack("<Q", 200_000) + b"[" * 200_000),
    ),
    "an array of 8 EiB": ("merge-", lambda _: closed(HUGE)),
    "the same, compressed": ("pieces-", lambda _: closed(zlib.compress(HUGE))),
    "an array of -1": ("row-", lambda _: closed(packed([], [["head", "<u8", [-1]]]))),
    "an array of objects": (
        "merge-",
        lambda _: closed(packed([], [["head", "|O", [1]]], bytes(8))),
    ),
    "text for a number": (
        "row-",
        lambda _: closed(packed({"parts": [["2", 3, ""]], "joins": [2, 2], "rows": []}, EMPTY)),
    ),
}


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Path, bytes]:
    """A source, a folder with an unfinished write of it to a.tif, and the file that is to come of it."""
    reader, folder = (
        Source(tmp_path_factory.mktemp("source")),
        tmp_path_factory.mktemp("unfinished"),
    )
    expected = ccog.write_ccog(reader.array(), COG_creation_options=STATISTICS).compute(**THREADS)
    fail(reader, resumed(reader.array(), {"store": str(folder / "a.tif")}, STATISTICS))
    reader.reads()
    return reader, folder, expected


@pytest.fixture
def target(unfinished: tuple[Source, Path, bytes], tmp_path: Path) -> dict[str, Any]:
    """A copy of the unfinished write."""
    shutil.copytree(unfinished[1], tmp_path / "out")
    return {"store": str(tmp_path / "out" / "a.tif")}


def damage(target: dict[str, Any], change: Callable[[bytes], bytes], which: str) -> list[str]:
    """Change the records whose names begin so, and return these."""
    store: Any = resolve_store(target["store"], target.get("storage_options"))
    (upload,) = left(target)
    names = sorted(
        name for name in store.checkpoint_names(upload.upload_id) if name.startswith(which)
    )
    for name in names:
        store.save_checkpoint(
            upload.upload_id, name, change(store.load_checkpoint(upload.upload_id, name))
        )
    assert names
    return names


def warned(call: Callable[[], Any]) -> str:
    """The one warning of a call."""
    with pytest.warns(ccog.CCOGWarning) as found:
        call()
    (one,) = [warning for warning in found if issubclass(warning.category, ccog.CCOGWarning)]
    return str(one.message)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.tried(
    "a record to resume from is {how}",
    "warned by name; the work is done again, and the file is right",
)
def test_what_a_damaged_record_stands_for_is_done_again(
    unfinished: tuple[Source, Path, bytes], target: dict[str, Any], how: str
) -> None:
    reader, _, expected = unfinished
    which, change = DAMAGES[how]
    names = damage(target, change, which)
    before = peak_mb()
    says = warned(lambda: resumed(reader.array(), target, STATISTICS).compute(**THREADS))
    assert peak_mb() - before < 200
    assert any(name in says for name in names)
    assert "cannot be read, and their work is done again" in says
    assert data_of(target) == expected
    assert not left(target)


@pytest.mark.tried(
    "resuming with one damaged record of many", "warned by name; little is done again"
)
def test_the_other_records_are_used(
    unfinished: tuple[Source, Path, bytes], target: dict[str, Any]
) -> None:
    reader, _, expected = unfinished
    tasks = mapping_of(resumed(reader.array(), target, STATISTICS)).resumed()
    used = [name for name in tasks.loads().values() if name.startswith("row-")]
    (name,) = damage(target, flipped, min(used))
    reader.reads()
    says = warned(lambda: resumed(reader.array(), target, STATISTICS).compute(**THREADS))
    assert says.endswith(
        f"done again: {name} (ValueError: its bytes are not those that were written)"
    )
    assert data_of(target) == expected
    assert len(reader.reads()) < reader.shape[0] * reader.shape[1] * 2 / 3


@pytest.mark.tried(
    "a record that a task finds changed after it was looked at",
    "refused, and the next call continues",
)
def test_a_record_that_changes_while_the_write_continues_is_not_used(
    unfinished: tuple[Source, Path, bytes], target: dict[str, Any]
) -> None:
    reader, _, expected = unfinished
    delayed = resumed(reader.array(), target, STATISTICS)
    tasks = mapping_of(delayed).resumed()
    key, name = next(iter(tasks.loads().items()))
    damage(target, flipped, name)
    task = tasks[key]
    with pytest.raises(ccog.ResumeError, match=rf"{name} .*has changed since .*call again"):
        task({key: None for key in task.dependencies})
    assert name in warned(lambda: delayed.compute(**THREADS))
    assert data_of(target) == expected


@pytest.mark.tried("a zlib bomb of 512 MiB among the records", "warned, within 200 MB of memory")
def test_a_zlib_bomb_is_refused_before_it_fills_the_memory(
    unfinished: tuple[Source, Path, bytes], target: dict[str, Any]
) -> None:
    reader, _, expected = unfinished
    compressor = zlib.compressobj(1)
    body = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(512)) + compressor.flush()
    damage(target, lambda _: closed(body), "pieces-")
    before = peak_mb()
    assert "pieces-" in warned(
        lambda: resumed(reader.array(), target, STATISTICS).compute(**THREADS)
    )
    assert peak_mb() - before < 200
    assert data_of(target) == expected


@pytest.mark.tried(
    "a record that claims other tiles than the geometry has", "warned; the file is right"
)
def test_a_record_of_another_row_is_not_believed(
    unfinished: tuple[Source, Path, bytes], target: dict[str, Any]
) -> None:
    reader, _, expected = unfinished
    store: Any = resolve_store(target["store"], None)
    (upload,) = left(target)
    names = sorted(
        name for name in store.checkpoint_names(upload.upload_id) if re.match("row-|merge-", name)
    )
    records = {name: store.load_checkpoint(upload.upload_id, name) for name in names}
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        store.save_checkpoint(upload.upload_id, name, records[other])
    assert "does not fit the geometry" in warned(
        lambda: resumed(reader.array(), target, STATISTICS).compute(**THREADS)
    )
    assert data_of(target) == expected


@pytest.mark.tried("resuming from S3 with damaged records", "warned by name; the file is right")
def test_damaged_records_on_s3(s3_options: dict[str, Any], tmp_path: Path) -> None:
    reader, target = (
        Source(tmp_path),
        {"store": "s3://test/damaged/a.tif", "storage_options": s3_options},
    )
    expected = ccog.write_ccog(reader.array(), COG_creation_options=SMALL).compute(**THREADS)
    fail(reader, resumed(reader.array(), target))
    changes = iter(
        [DAMAGES[how][1] for how in ("a flipped bit in rows", "empty", "cut off", "noise")] * 1000
    )
    damage(target, lambda data: next(changes)(data), "merge-")
    damage(target, lambda data: next(changes)(data), "row-")
    says = warned(lambda: resumed(reader.array(), target).compute(**THREADS))
    assert "work is done again" in says
    assert data_of(target) == expected
    assert not left(target)


MANIFESTS: dict[str, bytes] = {
    "noise": b"\xff\xfe{",
    "empty": b"",
    "a list": b"[]",
    "nested": b"[" * 100_000,
    "huge": b'{"a": "' + b"a" * (17 << 20) + b'"}',
}


@pytest.mark.parametrize("how", MANIFESTS)
@pytest.mark.tried("the manifest of an unfinished write is {how}", "warned; written from the start")
def test_a_manifest_that_cannot_be_read_is_not_continued(
    unfinished: tuple[Source, Path, bytes], target: dict[str, Any], how: str
) -> None:
    reader, _, expected = unfinished
    damage(target, lambda _: MANIFESTS[how], "manifest.json")
    with pytest.warns(ccog.CCOGWarning) as found:
        resumed(reader.array(), target, STATISTICS).compute(**THREADS)
    says = [str(one.message) for one in found if issubclass(one.category, ccog.CCOGWarning)]
    assert all("cannot be continued, since its manifest.json cannot be read" in one for one in says)
    assert all("ccog uploads abort" in one for one in says)
    assert data_of(target) == expected
    assert len(left(target)) == 1
    assert len(ccog.abort_incomplete(target["store"])) == 1
