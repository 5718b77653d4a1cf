"""Beginning an upload to an S3 object, so that it is known again if the answer is lost.

A call to create an upload may succeed without an answer, and must then not leave an
upload behind. So each upload is marked with the name of its write: in its metadata, and
by a first part. An upload with our mark is ours; an empty one may be anybody's, so it
is left and a warning names it.
"""

from __future__ import annotations

import contextlib
from typing import Any

from ccog.errors import StoreError
from ccog.geometry.parts import Part
from ccog.stores.base import CONTENT_TYPE, warn_and_log
from ccog.stores.body import md5
from ccog.stores.retry import BRISK
from ccog.stores.s3_client import S3Client
from ccog.stores.s3_errors import may_be_done
from ccog.stores.s3_proof import MARK_KEY, etag_of, mark_of
from ccog.stores.s3_uploads import abort_upload, first_part, put_part, uploads_here


def begin_upload(client: S3Client, write: str, unanswered: bool, mark: bool) -> str:
    """Continue the upload that an unanswered call has begun, or create one.

    ``mark``: put the first part. Where all parts must have one size, a part of another
    size cannot be put.
    """
    if unanswered and (begun := _begun_before(client, write)):
        return begun
    content: dict[str, Any] = {"ContentType": CONTENT_TYPE}
    failures: list[Exception] = []
    upload_id = None
    try:
        answer = client.call(
            "create_multipart_upload",
            _doing(client),
            BRISK,
            needs="UploadId",
            after=failures.append,
            Key=client.key,
            Metadata={**(client.extra.get("Metadata") or {}), MARK_KEY: write},
            **({} if "ContentType" in client.extra else content),
        )
        upload_id = str(answer["UploadId"])
        if mark:
            _put_mark(client, upload_id, write)
    finally:
        if unanswered or any(map(may_be_done, failures)):
            _warn_of_empty_uploads(client, upload_id)
    return upload_id


def _begun_before(client: S3Client, write: str) -> str | None:
    """The upload with the mark of this write; None if there is none."""
    mark = mark_of(write)
    part = Part(1, len(mark), md5([mark]).hex())
    with contextlib.suppress(StoreError):
        for upload in uploads_here(client):
            found = first_part(client, upload.upload_id)
            if found is not None and found._replace(tag=etag_of(found)) == part:
                return upload.upload_id
    return None


def _put_mark(client: S3Client, upload_id: str, write: str) -> None:
    """Put the mark as the part that the header will replace."""
    try:
        put_part(client, upload_id, 1, [mark_of(write)], _doing(client), BRISK)
    except BaseException:
        try:
            abort_upload(client, upload_id)
        except StoreError as error:
            warn_and_log(f"an upload to {client.url} remains: {error}; {_remedy(client)}")
        raise


def _doing(client: S3Client) -> str:
    return f"start an upload to {client.url}"


def _warn_of_empty_uploads(client: S3Client, upload_id: str | None) -> None:
    """Name the uploads that unanswered calls may have created, or somebody else."""
    try:
        others = [upload for upload in uploads_here(client) if upload.upload_id != upload_id]
        empty = [left for left in others if first_part(client, left.upload_id) is None]
    except StoreError as error:
        warn_and_log(
            f"an empty upload to {client.url} may remain, since a call was not answered: {error}"
        )
        return
    if not empty:
        return
    one, first = len(empty) == 1, min(upload.started for upload in empty)
    count = "an empty upload" if one else f"{len(empty)} empty uploads"
    warn_and_log(
        f"{count} to {client.url} {'remains' if one else 'remain'}, begun since "
        f"{first:%Y-%m-%d %H:%M:%SZ}: a call to begin was not answered. This may as well be "
        f"another writer's, so that ccog leaves it; {_remedy(client, '--all ')}"
    )


def _remedy(client: S3Client, option: str = "") -> str:
    return f"`ccog uploads abort {option}{client.url}` removes what is unfinished there"
