"""How keys are spelled: the same rule for every store, so that moving between them is a copy.

A key is one to 1,024 bytes of UTF-8 in segments parted by ``/``. A segment has 1 to 255 bytes,
holds no control character and no backslash, and does not start with a dot. That one rule keeps
``..``, hidden files and the directory store's own staging folder out of reach.
"""

from __future__ import annotations

import re

from storage.records.errors import InvalidInput

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255
_SEGMENT = re.compile(r"[^./\\\x00-\x1f\x7f-\x9f][^/\\\x00-\x1f\x7f-\x9f]*")


def check_key(key: str) -> str:
    """The key, or ``InvalidInput`` (``invalid_key``) that says what is wrong with it."""
    try:
        length_bytes = len(key.encode())
    except UnicodeEncodeError:
        raise _wrong(key, "it is not valid text") from None
    if not 1 <= length_bytes <= MAX_KEY_BYTES:
        raise _wrong(key, f"it has {length_bytes} bytes, and 1 to {MAX_KEY_BYTES} are allowed")
    for segment in key.split("/"):
        _check_segment(key, segment)
    return key


def check_prefix(prefix: str) -> str:
    """The beginning of keys to list, or ``InvalidInput`` (``invalid_key``)."""
    folders, _, begun = prefix.rpartition("/")
    if folders:
        check_key(folders)
    elif prefix.startswith("/"):
        raise _wrong(prefix, "it starts with '/'")
    if begun:
        check_key(begun)
    return prefix


def is_key(key: str) -> bool:
    """Whether an object could have this name."""
    try:
        check_key(key)
    except InvalidInput:
        return False
    return True


def object_key(*segments: str) -> str:
    """The key of these segments; none of them may hold a ``/``."""
    for segment in segments:
        if "/" in segment:
            raise _wrong(segment, "a part of a key must not hold '/'")
    return check_key("/".join(segments))


def artifact_key(tenant: str, digest: str) -> str:
    """Where a version's artifact lies, pushed or trained: by its SHA-256 hex, so that whoever
    finds it there has it there."""
    return object_key("models", tenant, digest[:2], digest)


def _check_segment(key: str, segment: str) -> None:
    if not segment:
        raise _wrong(key, "it starts or ends with '/', or holds '//'")
    if segment[0] == ".":
        raise _wrong(key, "a part of it starts with '.'")
    if not _SEGMENT.fullmatch(segment):
        raise _wrong(key, "it holds a control character or a backslash")
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        raise _wrong(key, f"a part of it is longer than {MAX_SEGMENT_BYTES} bytes")


def _wrong(key: str, why: str) -> InvalidInput:
    return InvalidInput(f"{ascii(key)[:120]} cannot name an object: {why}", code="invalid_key")
