"""An S3 object, by multipart upload through s3fs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ccog.errors import (
    MissingDependencyError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StorePermissionError,
)
from ccog.parts import MIB, Buffer, Limits, Part
from ccog.stores.base import CONTENT_TYPE, WriteResult


@dataclass(frozen=True)
class S3Store:
    """The object ``key`` of ``bucket``; ``options`` are those of s3fs.S3FileSystem, kept out of the repr."""

    bucket: str
    key: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def limits(self) -> Limits:
        """Amazon S3 multipart upload limits (user guide, qfacts): 10,000 parts of 5 MiB to 5 GiB."""
        return Limits(min_part=5 * MIB, max_part=5 << 30, max_parts=10_000)

    @property
    def url(self) -> str:
        """The object's URL."""
        return f"s3://{self.bucket}/{self.key}"

    def check(self, *, overwrite: bool) -> None:
        """Refuse a missing package, and, where overwriting is not allowed, an existing object."""
        self._filesystem()
        if not overwrite:
            try:
                self._call("head_object", f"look at {self.url}")
            except StoreNotFoundError:
                return
            raise StoreExistsError(f"{self.url} exists; remove it, or allow overwriting")

    def begin(self) -> str:
        """Create the multipart upload; this is where missing buckets and permissions show."""
        extra = self.options.get("s3_additional_kwargs", {})
        kwargs = {} if "ContentType" in extra else {"ContentType": CONTENT_TYPE}
        found = self._call("create_multipart_upload", f"start an upload to {self.url}", **kwargs)
        return str(found["UploadId"])

    def put(self, session: str, number: int, buffers: list[Buffer]) -> Part:
        """Upload one part."""
        body = b"".join(buffers)
        what = f"upload part {number} of {self.url}"
        found = self._call("upload_part", what, UploadId=session, PartNumber=number, Body=body)
        return number, len(body), str(found["ETag"])

    def complete(self, session: str, parts: list[Part]) -> WriteResult:
        """Complete the upload and check the size of what is there."""
        ordered = sorted(parts)
        listed = {"Parts": [{"PartNumber": number, "ETag": tag} for number, _, tag in ordered]}
        what = f"complete the upload to {self.url}"
        done = self._call("complete_multipart_upload", what, UploadId=session, MultipartUpload=listed)
        expected = sum(size for _, size, _ in ordered)
        found = self._call("head_object", f"look at {self.url}")
        if found["ContentLength"] != expected:
            raise StoreError(f"{self.url} has {found['ContentLength']} bytes after the upload, not {expected}")
        return WriteResult(self.url, expected, str(done.get("ETag") or found.get("ETag")))

    def abort(self, session: str) -> None:
        """Abort the multipart upload; an upload that is gone already is as good."""
        try:
            self._call("abort_multipart_upload", f"abort the upload to {self.url}", UploadId=session)
        except StoreNotFoundError:
            return
        self._filesystem().invalidate_cache(f"{self.bucket}/{self.key}")

    def _filesystem(self) -> Any:
        try:
            import s3fs
        except ImportError:
            raise MissingDependencyError("writing to s3:// needs s3fs: pip install 'ccog[s3]'") from None
        return s3fs.S3FileSystem(**self.options)

    def _call(self, method: str, what: str, **kwargs: Any) -> Any:
        return _translated(lambda: self._filesystem().call_s3(method, Bucket=self.bucket, Key=self.key, **kwargs), what)


def _translated(call: Callable[[], Any], what: str) -> Any:
    """Run an S3 call; its errors become ccog's, saying what was refused."""
    try:
        return call()
    except FileNotFoundError as error:
        raise StoreNotFoundError(f"cannot {what}: the bucket or object does not exist ({error})") from error
    except PermissionError as error:
        raise StorePermissionError(f"cannot {what}: access denied with the credentials in use ({error})") from error
    except OSError as error:
        raise StoreError(f"cannot {what}: {error}") from error
    except Exception as error:
        code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
        kind = _KINDS.get(str(code), StoreError)
        raise kind(f"cannot {what}: {error}") from error


_KINDS: dict[str, type[StoreError]] = {
    "404": StoreNotFoundError,
    "NoSuchBucket": StoreNotFoundError,
    "NoSuchKey": StoreNotFoundError,
    "NoSuchUpload": StoreNotFoundError,
    "403": StorePermissionError,
    "AccessDenied": StorePermissionError,
    "InvalidAccessKeyId": StorePermissionError,
    "SignatureDoesNotMatch": StorePermissionError,
}
