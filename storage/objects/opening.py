"""Chooses the object store by its URL: ``file:///folder`` or ``s3://bucket/prefix``."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from storage.objects.keys import check_key
from storage.objects.protocol import Objects
from storage.records.errors import InvalidInput

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def open_objects(url: str) -> Objects:
    """The store at ``url``. Nothing is contacted or created before the first verb."""
    # Only the half that is used gets imported: boto3 costs a quarter of a second.
    parts = _split(url)
    if parts.scheme == "file":
        from storage.objects.directory import DirectoryObjects

        return DirectoryObjects(folder_of(url))
    from storage.objects.s3 import S3Objects

    bucket, prefix = bucket_of(url)
    return S3Objects(bucket, prefix)


def folder_of(url: str) -> Path:
    """The absolute folder of a ``file:///…`` URL."""
    parts = _split(url)
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/") or path.strip("/") == "" or "\0" in path:
        raise _wrong("write file:///absolute/folder")
    return Path(path)


def bucket_of(url: str) -> tuple[str, str]:
    """Bucket and prefix (without slashes around it) of an ``s3://…`` URL."""
    parts = _split(url)
    if "@" in parts.netloc or ":" in parts.netloc:
        raise _wrong(
            "write s3://bucket/prefix; keys and endpoint belong into AWS_ACCESS_KEY_ID,"
            " AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL_S3"
        )
    if not _BUCKET.fullmatch(parts.netloc):
        raise _wrong("write s3://bucket/prefix with a bucket of 3 to 63 of a-z 0-9 . -")
    prefix = parts.path.strip("/")
    return parts.netloc, check_key(prefix) if prefix else ""


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _wrong("it is not a URL") from None
    if parts.scheme not in ("file", "s3"):
        raise _wrong("write s3://bucket/prefix or file:///absolute/folder")
    if parts.query or parts.fragment:
        raise _wrong("'?' and '#' have no meaning here")
    return parts


def _wrong(what_to_do: str) -> InvalidInput:
    # The URL itself stays out of the message: somebody may have put a key into it.
    return InvalidInput(f"the URL of the object store is wrong: {what_to_do}", code="bad_setting")
