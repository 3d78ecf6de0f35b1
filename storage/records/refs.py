"""Inputs by reference: what a ``ref`` may point to, decided on its text alone.

A tenant reaches its own uploaded files (``forebay://files/<id>``) and the prefixes that the
operator listed; nothing else. Spelling tricks are refused rather than understood: there is no
percent-decoding, no ``..``, no empty segment, no query, no user name. Producers refuse a ref at
submit; workers ask again before they read, so a list that got shorter counts at once. For
``file:///`` the reader must also resolve symbolic links and compare again: text cannot see them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from storage.records.errors import InvalidInput
from storage.records.ids import is_id

FILES_PREFIX = "forebay://files/"
MAX_REF_CHARS = 2048
_SPELLING = re.compile(r"(s3://[a-z0-9][a-z0-9.-]{1,62}|file://)(/[^\x00-\x1f\x7f%\\?#]*)")


@dataclass(frozen=True, slots=True)
class FileRef:
    """One of the tenant's uploaded files."""

    file_id: str


@dataclass(frozen=True, slots=True)
class ListedRef:
    """An address under a prefix that the operator listed."""

    uri: str
    prefix: str


Ref: TypeAlias = FileRef | ListedRef


def file_uri(file_id: str) -> str:
    """How a caller writes an uploaded file as a ref."""
    return FILES_PREFIX + file_id


def read_prefix(text: str) -> str:
    """An operator's prefix, ended by ``/`` so that ``s3://a/b`` does not open ``s3://a/bc``."""
    prefix = text.strip().rstrip("/") + "/"
    if prefix == "file:///" or not _is_plain(prefix):
        raise InvalidInput(
            f"{text[:200]!r} is not a prefix: write s3://bucket/path or file:///directory",
            code="invalid_prefix",
        )
    return prefix


def check_ref(text: object, prefixes: Sequence[str], *, field: str = "ref") -> Ref:
    """What ``text`` points to, or ``InvalidInput`` (``ref_not_allowed``).

    ``prefixes`` come from ``read_prefix``.
    """
    if not isinstance(text, str) or len(text) > MAX_REF_CHARS:
        raise _refused(field)
    if text.startswith(FILES_PREFIX):
        file_id = text.removeprefix(FILES_PREFIX)
        if is_id(file_id):
            return FileRef(file_id)
        raise _refused(field)
    if _is_plain(text):
        for prefix in prefixes:
            if text.startswith(prefix) and len(text) > len(prefix):
                return ListedRef(text, prefix)
    raise _refused(field)


def _is_plain(text: str) -> bool:
    """Spelled without anything that two programs could read differently."""
    match = _SPELLING.fullmatch(text)
    if match is None:
        return False
    segments = match[2][1:].split("/")
    inner = segments[:-1] if segments[-1] == "" else segments
    return all(segment not in ("", ".", "..") for segment in inner)


def _refused(field: str) -> InvalidInput:
    return InvalidInput(
        f"{field} points outside what you may read: use {FILES_PREFIX}<id> of a file you uploaded,"
        " or an address under a prefix that the operator listed, spelled without %, ?, # and ..",
        code="ref_not_allowed",
        field=field,
    )
