"""Objects in an S3 bucket, by boto3. Endpoint, region and keys come from boto3's own ``AWS_*``.

What boto3 does that costs or harms here is turned off: the second checksum of every body (ours
is in the pack, and the signature covers the body already), the pause for ``100 Continue`` before
a small body (a round trip each), and the user-agent that is put together anew for each request.
One client is shared by all threads and made on first use, because importing boto3 is slow.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from storage.objects.keys import check_key, check_prefix, is_key
from storage.objects.protocol import ObjectInfo, exercise
from storage.objects.s3_client import make_client
from storage.objects.s3_direct import DirectPuts, Sent
from storage.objects.s3_etags import Etags, md5_of, md5_of_file
from storage.objects.s3_trouble import (
    ASK_AGAIN,
    TAKEN,
    code_of,
    explain,
    is_transport,
    missing_bucket,
    was_repeated,
)
from storage.records.errors import (
    Conflict,
    NotFound,
    ObjectCorrupt,
    ObjectsUnavailable,
    TooLarge,
)

MAX_PUT_BYTES = 5 << 30  # S3's own limit for one put
DELETE_AT_ONCE = 1000  # S3's own limit for one delete request
READ_TRIES = 3
ASK_AGAIN_TRIES = 6
FIRST_PAUSE_S = 0.05
MAX_DOUBTFUL = 4096
_COPY_BYTES = 1 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Body:
    """What is put, as far as it takes to know it again."""

    same: Callable[[], bool]  # whether the object's bytes are these
    md5: Callable[[], str]


class S3Objects:
    """The bucket, below ``prefix``. ``sleep`` is a seam for tests."""

    def __init__(
        self, bucket: str, prefix: str = "", *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._bucket, self._sleep = bucket, sleep
        self._prefix = f"{prefix}/" if prefix else ""
        self._lock = threading.Lock()
        self._clients: dict[bool, Any] = {}
        self._direct = DirectPuts()
        self._etags = Etags()
        # Puts of ours whose answer never came: they may have arrived, see ``_create``.
        self._doubtful: OrderedDict[str, None] = OrderedDict()

    def put(self, key: str, data: bytes) -> None:
        client, at = self._client(), self._at(key)
        body = _Body(
            same=lambda: self.size(key) == len(data) and self.get(key) == data,
            md5=lambda: md5_of(data),
        )
        sent, etag = self._direct.put(at["Key"], data)
        if sent is Sent.CREATED:
            self._created(key, etag, body)
            return

        def call() -> str:
            answer = client.put_object(**at, Body=data, IfNoneMatch="*")
            self._direct.learn(at["Key"])
            return str(answer.get("ETag", ""))

        self._create(key, call, body, doubtful=sent is Sent.UNKNOWN)

    def put_file(self, key: str, path: Path) -> None:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_PUT_BYTES:
            raise TooLarge(f"{size_bytes} bytes; an object has at most {MAX_PUT_BYTES}")
        client = self._client(large=True)

        def call() -> str:
            with path.open("rb") as file:
                answer = client.put_object(**self._at(key), Body=file, IfNoneMatch="*")
                return str(answer.get("ETag", ""))

        body = _Body(
            same=lambda: self.size(key) == size_bytes and self._holds(key, path),
            md5=lambda: md5_of_file(path),
        )
        self._create(key, call, body)

    def get(self, key: str) -> bytes:
        return self._read(key, lambda answer: bytes(answer["Body"].read()))

    def get_range(
        self, key: str, offset_bytes: int, length_bytes: int, *, etag: str | None = None
    ) -> bytes:
        if offset_bytes < 0 or length_bytes < 0:
            raise ValueError(f"a range of {length_bytes} bytes from {offset_bytes}")
        if length_bytes == 0:  # HTTP cannot ask for nothing
            info = self.info(key)
            _require(key, info.etag, etag)
            if offset_bytes > info.size_bytes:
                raise ObjectCorrupt(f"{key} has {info.size_bytes} bytes: none from {offset_bytes}")
            return b""

        def take(answer: Any) -> bytes:
            _require(key, _etag(answer), etag)
            return bytes(answer["Body"].read())

        span = f"bytes={offset_bytes}-{offset_bytes + length_bytes - 1}"
        try:
            data = self._read(key, take, Range=span)
        except ObjectCorrupt:
            if etag is not None:  # it ends before the range: was it another one then?
                _require(key, self.info(key).etag, etag)
            raise
        if len(data) != length_bytes:
            raise ObjectCorrupt(
                f"{key} gave {len(data)} bytes: there are not {length_bytes} from {offset_bytes}"
            )
        return data

    def get_to_file(self, key: str, path: Path) -> None:
        partial = path.with_name(f".{secrets.token_hex(8)}.part")

        def save(answer: Any) -> None:
            with partial.open("wb") as file:
                for part in answer["Body"].iter_chunks(_COPY_BYTES):
                    file.write(part)

        try:
            self._read(key, save, large=True)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def size(self, key: str) -> int:
        return self.info(key).size_bytes

    def info(self, key: str) -> ObjectInfo:
        at, client = self._at(key), self._client()
        try:
            with self._explained(key):
                answer = client.head_object(**at)
        except NotFound:
            self._require_bucket()  # a HEAD has no body to say which of the two is missing
            raise
        return ObjectInfo(key, int(answer["ContentLength"]), _etag(answer))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._pages(self._prefix + check_prefix(prefix))

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except NotFound:
            return False
        return True

    def delete(self, keys: Sequence[str]) -> None:
        names = [self._prefix + check_key(key) for key in keys]
        client = self._client()
        for start in range(0, len(names), DELETE_AT_ONCE):
            wanted = [{"Key": name} for name in names[start : start + DELETE_AT_ONCE]]
            with self._explained(names[start]):
                answer = client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": wanted, "Quiet": True}
                )
            left = [e for e in answer.get("Errors", ()) if e.get("Code") != "NoSuchKey"]
            if left:
                raise ObjectsUnavailable(
                    f"{self._where()} did not delete {len(left)} of {len(wanted)} objects"
                    f" ({left[0].get('Code')}): try again, or let these keys delete objects"
                )

    def probe(self) -> None:
        # Asked first: some servers make a missing bucket at the first put.
        self._require_bucket()
        exercise(self, self._where())

    def close(self) -> None:
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()
        self._direct.close()

    # ---- the pieces

    def _pages(self, prefix: str) -> Iterator[ObjectInfo]:
        client, asked = self._client(), {"Bucket": self._bucket, "Prefix": prefix}
        while True:
            with self._explained(prefix):
                page = client.list_objects_v2(**asked)
            for one in page.get("Contents", ()):
                key = one["Key"].removeprefix(self._prefix)
                if is_key(key):
                    yield ObjectInfo(key, int(one["Size"]), _etag(one))
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _client(self, *, large: bool = False) -> Any:
        """The shared client; ``large`` ones wait longer, and ask before they send a body."""
        client = self._clients.get(large)
        if client is None:
            with self._lock:
                client = self._clients.get(large)
                if client is None:
                    client, session = make_client(large=large)
                    if not large:
                        self._direct.attend(client, session)
                    self._clients[large] = client
        return client

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}

    def _where(self) -> str:
        return f"the bucket {self._bucket} at {self._client().meta.endpoint_url}"

    @contextlib.contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            ours = explain(self._where(), key, error)
            if ours is None:
                raise
            raise ours from error

    def _require_bucket(self) -> None:
        try:
            with self._explained(""):
                self._client().head_bucket(Bucket=self._bucket)
        except NotFound:
            raise missing_bucket(self._where()) from None

    def _create(
        self,
        key: str,
        call: Callable[[], str],
        body: _Body,
        *,
        doubtful: bool = False,
    ) -> None:
        """A create-only put that does not mistake its own earlier arrival for somebody else's.

        A put may arrive while its answer is lost. Whoever repeats it (boto3 inside one call, or
        the caller after ``ObjectsUnavailable``) is told that the object exists. Only in that
        case the bytes decide: the same ones are success. ``call`` returns the ETag.
        """
        with self._lock:
            doubtful = doubtful or key in self._doubtful
        pause_s = FIRST_PAUSE_S
        for remaining in reversed(range(ASK_AGAIN_TRIES)):
            try:
                etag = call()
            except Exception as error:
                doubtful = doubtful or was_repeated(error)
                code = code_of(error)
                if code in ASK_AGAIN and remaining:
                    self._sleep(pause_s)
                    pause_s *= 2
                    continue
                if code in TAKEN:
                    if doubtful:
                        self._doubt(key)  # should the comparison fail, the caller asks again
                        if body.same():
                            break
                    self._settle(key)
                    raise Conflict(
                        f"there already is an object {key}", code="object_exists"
                    ) from error
                with self._explained(key):
                    if doubtful or not code:  # no answer at all
                        self._doubt(key)
                    raise
            else:
                self._created(key, etag, body)
                return
        self._settle(key)

    def _created(self, key: str, etag: str, body: _Body) -> None:
        """It is there; are these the bytes? What was changed on its way is taken back, so that
        the caller may put it again."""
        if not self._etags.agree(etag, body.md5):
            self._doubt(key)  # should the comparison fail, the caller asks again
            if not body.same():
                self._settle(key)
                self.delete([key])
                raise ObjectsUnavailable(
                    f"{self._where()} stored other bytes than were sent to it; they are deleted:"
                    " look after the way there"
                )
            self._etags.were_wrong()
        self._settle(key)

    def _doubt(self, key: str) -> None:
        with self._lock:
            self._doubtful[key] = None
            while len(self._doubtful) > MAX_DOUBTFUL:
                self._doubtful.popitem(last=False)

    def _settle(self, key: str) -> None:
        if self._doubtful:
            with self._lock:
                self._doubtful.pop(key, None)

    def _read(self, key: str, take: Callable[[Any], T], *, large: bool = False, **asked: str) -> T:
        """One get with its body. boto3 repeats a request, but not a body that breaks off."""
        at, client = self._at(key), self._client(large=large)
        for remaining in reversed(range(READ_TRIES)):
            with self._explained(key):
                answer = client.get_object(**at, **asked)
                try:
                    with contextlib.closing(answer["Body"]):
                        return take(answer)
                except Exception as error:
                    if not (remaining and is_transport(error)):
                        raise
        raise AssertionError("unreachable")

    def _holds(self, key: str, path: Path) -> bool:
        """Whether the object's bytes are the file's."""

        def compare(answer: Any) -> bool:
            with path.open("rb") as file:
                for part in answer["Body"].iter_chunks(_COPY_BYTES):
                    if file.read(len(part)) != part:
                        return False
                return not file.read(1)

        return self._read(key, compare, large=True)


def _require(key: str, etag: str | None, wanted: str | None) -> None:
    if wanted is not None and etag != wanted:
        raise Conflict(f"{key} has another content by now", code="object_changed")


def _etag(answer: Any) -> str | None:
    return str(answer.get("ETag") or "").strip('"') or None
