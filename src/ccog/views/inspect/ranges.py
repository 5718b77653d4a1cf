"""Byte ranges of a file wherever it lies: a local path, a URL, or bytes in memory."""

from __future__ import annotations

import io
import itertools
import os
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from ccog.errors import (
    ArgumentTypeError,
    MissingDependencyError,
    RasterError,
    StoreError,
    StoreNotFoundError,
    StorePermissionError,
)
from ccog.redaction import Address, Hidden, addressed, harmless, hidden, redacted
from ccog.tiff.directories import Range

# GDAL reads headers in small pieces: so much is fetched at once
_GDAL_READS = 64 << 10

# types of what is shown to people
_PAGES = ("text/html", "application/xhtml+xml")


@dataclass
class RangeReader:
    """A file of ``size`` bytes that is read by ranges; counts requests and bytes."""

    # Linux reads at most 2 GiB in one call
    largest_request: ClassVar[int] = 1 << 30

    url: str
    size: int
    requests: int = field(default=0, init=False)
    bytes_read: int = field(default=0, init=False)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` up to ``stop``, cut at the end of the file."""
        return self.read_many([(start, stop)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """Several ranges, fetched side by side where the store can."""
        cuts: list[list[Range]] = []
        for start, stop in ranges:
            stop, most = min(stop, self.size), self.largest_request
            starts = range(max(0, start), stop, most)
            cuts.append([(at, min(stop, at + most)) for at in starts])
        requests = list(itertools.chain.from_iterable(cuts))
        self.requests += len(requests)
        self.bytes_read += sum(stop - start for start, stop in requests)
        answers = iter(self._fetch(requests))
        # of one answer, join makes no copy
        return [b"".join(itertools.islice(answers, len(cut))) for cut in cuts]

    def for_gdal(self) -> AbstractContextManager[Any]:
        """What ``rasterio.open`` takes to open the same file, one dataset at a time."""
        raise NotImplementedError

    def _fetch(self, ranges: list[Range]) -> list[bytes]:
        raise NotImplementedError


@dataclass
class _LocalReader(RangeReader):
    descriptor: int

    def _fetch(self, ranges: list[Range]) -> list[bytes]:
        with _translated(self.url):
            return [os.pread(self.descriptor, stop - start, start) for start, stop in ranges]

    @contextmanager
    def for_gdal(self) -> Iterator[Any]:
        yield self.url


@dataclass
class _MemoryReader(RangeReader):
    data: bytes

    def _fetch(self, ranges: list[Range]) -> list[bytes]:
        return [self.data[start:stop] for start, stop in ranges]

    @contextmanager
    def for_gdal(self) -> Iterator[Any]:
        from rasterio.io import MemoryFile

        with MemoryFile(self.data) as file:
            yield file.name


@dataclass
class _RemoteReader(RangeReader):
    # parts of large headers travel side by side
    largest_request: ClassVar[int] = 16 << 20

    filesystem: Any
    path: str

    def _fetch(self, ranges: list[Range]) -> list[bytes]:
        paths = [self.path] * len(ranges)
        starts, stops = [start for start, _ in ranges], [stop for _, stop in ranges]
        with _translated(self.url, Exception):
            answers: list[bytes] = self.filesystem.cat_ranges(
                paths, starts, stops, on_error="raise"
            )
        for (start, stop), answer in zip(ranges, answers, strict=True):
            asked, got = stop - start, len(answer)
            found = f"the server answers {got} bytes where {asked} were asked for"
            if got > asked:
                raise StoreError(
                    f"cannot read {self.url}: {found}, so it serves no byte ranges; "
                    "copy the file to this machine, or to a server that does"
                )
            if got < asked:
                raise StoreError(
                    f"cannot read {self.url}: {found} and the file has {self.size}; "
                    "try again, the file or the connection may have changed"
                )
        return answers

    @contextmanager
    def for_gdal(self) -> Iterator[Any]:
        # what fsspec can read, GDAL can, with the same storage options
        file = _OpenedByGdal(self)
        try:
            yield file
        finally:
            if file.error is not None:
                # GDAL has made another error of it, or a finding about the file
                raise file.error


class _OpenedByGdal:
    """What ``rasterio.open`` takes for a file of fsspec, and opens for GDAL to read by ranges.

    Of a Python file with ``read`` rasterio would read all first.
    """

    def __init__(self, reader: RangeReader) -> None:
        self.error: StoreError | None = None
        # rasterio keeps what opens a file by its directory
        self.path = f"{uuid.uuid4().hex}/raster.tif"
        self._reader = reader

    @property
    def fs(self) -> _OpenedByGdal:
        return self

    def open(self, path: str, mode: str = "rb", **_: Any) -> io.BufferedReader:
        """The file; others, which GDAL looks for beside it, are not there."""
        if path != self.path:
            raise FileNotFoundError(path)
        return io.BufferedReader(_RangeFile(self._reader, self), _GDAL_READS)


class _RangeFile(io.RawIOBase):
    """The bytes of a reader as a Python file; it ends at an error, which is kept."""

    def __init__(self, reader: RangeReader, kept: _OpenedByGdal) -> None:
        self._reader = reader
        self._kept = kept
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._position, self._reader.size)[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._reader.read(self._position, self._position + len(buffer))
        except StoreError as error:
            self._kept.error = self._kept.error or error
            return 0
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@contextmanager
def open_ranges(
    url: Any, storage_options: Mapping[str, Any] | None = None
) -> Iterator[RangeReader]:
    """A reader for a path, a URL of any protocol of fsspec, or the bytes of a file."""
    url, storage_options = addressed(url), hidden(storage_options)
    try:
        with _opened(url, Hidden(storage_options or {})) as reader:
            yield reader
    except MemoryError as error:
        name = redacted(url) if isinstance(url, str | os.PathLike) else "the file"
        raise RasterError(f"there is not enough memory to look at {name}") from error


def _opened(url: Any, options: dict[str, Any]) -> AbstractContextManager[RangeReader]:
    if isinstance(url, bytes | bytearray | memoryview):
        data = bytes(url)
        return nullcontext(_MemoryReader("bytes in memory", len(data), data))
    if not isinstance(url, str | os.PathLike):
        raise ArgumentTypeError(f"{type(url).__name__} is not a path, URL or bytes of a file")
    text = os.fspath(url)
    if "://" not in text:
        return _open_local(text)
    if urlsplit(text).scheme in ("file", "local"):
        return _open_local(unquote(urlsplit(text).path))
    return nullcontext(_open_remote(text, options))


@contextmanager
def _open_local(path: str) -> Iterator[RangeReader]:
    with _translated(path, (OSError, ValueError)):
        # before opening: that would wait for a pipe's other end, and wake up a device
        _check_regular(path, os.stat(path))
        file = Path(path).open("rb")  # noqa: SIM115  # closed below; its use raises other errors
    with file:
        with _translated(path):
            status = os.fstat(file.fileno())
            _check_regular(path, status)
        yield _LocalReader(path, status.st_size, file.fileno())


def _check_regular(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path} is not a regular file; give the path of a GeoTIFF")


def _open_remote(url: str, options: dict[str, Any]) -> RangeReader:
    import fsspec

    protocol, shown = urlsplit(url).scheme, redacted(url)
    try:
        filesystem, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        # fsspec says which package to install
        message = f"cannot read {protocol}://: {error}"
        raise MissingDependencyError(message) from harmless(error, options)
    except ValueError as error:
        reason = redacted(error, options, url)
        raise StoreError(f"cannot read {shown}: {reason}") from harmless(error, options, url)
    path = Address(path)
    with _translated(shown, Exception):
        info = filesystem.info(path)
    size = info.get("size")
    if info.get("mimetype") in _PAGES:
        raise StoreError(
            f"cannot read {shown}: the server answers with a page ({info['mimetype']}), "
            "not a file; it may want a login, or the address is that of a page about the file"
        )
    if size is None:
        raise StoreError(
            f"cannot read {shown}: the server does not tell its size, so it serves no byte ranges"
        )
    return _RemoteReader(shown, int(size), filesystem, path)


def _not_found(url: str, cause: BaseException | None) -> StoreError:
    """The error for a file that is not there, as fsspec says whatever a web server answers."""
    status = getattr(cause, "status", 0)
    is_of_server = type(cause).__module__.startswith("aiohttp") or isinstance(cause, TimeoutError)
    if not is_of_server or status in (404, 410):
        return StoreNotFoundError(f"{url} does not exist")
    if not status:
        reason = redacted(cause) if isinstance(cause, OSError) else type(cause).__name__
        return StoreError(f"cannot read {url}: {reason}; check the address and the network")
    answer = f"the server answers {status} {getattr(cause, 'message', '')}".rstrip()
    kind = StorePermissionError if status in (401, 403) else StoreError
    return kind(f"cannot read {url}: {answer}")


@contextmanager
def _translated(
    url: str, kind: type[Exception] | tuple[type[Exception], ...] = OSError
) -> Iterator[None]:
    """Errors as ccog's; those of remote stores' libraries have no common base."""
    try:
        yield
    except StoreError:
        raise
    except FileNotFoundError as error:
        raise _not_found(url, error.__cause__) from harmless(error)
    except PermissionError as error:
        problem = f"{url} may not be read: {redacted(error)}"
        raise StorePermissionError(problem) from harmless(error)
    except kind as error:
        raise StoreError(f"cannot read {url}: {redacted(error)}") from harmless(error)
