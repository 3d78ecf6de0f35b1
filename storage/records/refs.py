"""Addresses: what a ``ref`` may point to and where a bulk job may write, decided on text alone.

A tenant reaches its own uploaded files (``forebay://files/<id>``) and the prefixes that the
operator listed; nothing else. Spelling tricks are refused rather than understood: there is no
percent-decoding, no ``..``, no empty segment, no query, no user name. Producers refuse a ref at
submit; workers ask again before they read, so a list that got shorter counts at once. For
``file:///`` the reader must also resolve symbolic links and compare again: text cannot see them.

A bulk job's input may also name many objects: by a pattern (``*``, ``?``, ``[a-z]`` within a
segment, ``**`` for any number of them) or by a prefix that ends in ``/``.
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
_WILD = re.compile(r"[*?\[]")
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


@dataclass(frozen=True, slots=True)
class ManyRef:
    """Every object under ``folder`` that the pattern fits; all of them if there is none."""

    uri: str
    prefix: str
    folder: str  # of the address, up to the last ``/`` before the first wildcard
    begun: str  # what follows it in each name: the beginning of a segment, often empty
    pattern: str | None  # what follows ``folder``


Ref: TypeAlias = FileRef | ListedRef
InputRef: TypeAlias = FileRef | ListedRef | ManyRef


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


def check_input(text: object, prefixes: Sequence[str], *, field: str = "uri") -> InputRef:
    """What an input of a bulk job names, or ``InvalidInput`` (``ref_not_allowed``)."""
    if not isinstance(text, str) or len(text) > MAX_REF_CHARS:
        raise _refused(field)
    wild = _WILD.search(text)
    if text.startswith(FILES_PREFIX) or (wild is None and not text.endswith("/")):
        return check_ref(text, prefixes, field=field)
    literal = text[: wild.start()] if wild else text
    folder = literal[: literal.rfind("/") + 1]
    # A wildcard is spelled plainly where a letter in its place would be.
    if _is_plain(text.replace("?", "_")):
        for prefix in prefixes:
            if literal.startswith(prefix):
                pattern = text.removeprefix(folder) if wild else None
                return ManyRef(text, prefix, folder, literal.removeprefix(folder), pattern)
    raise _refused(field)


def check_output(text: object, prefixes: Sequence[str], *, field: str = "output.uri") -> ListedRef:
    """The folder that a bulk job writes into, without a ``/`` at its end, or ``InvalidInput``
    (``output_not_allowed``). It lies below a listed prefix, and no part of it begins with a dot."""
    if isinstance(text, str) and len(text) <= MAX_REF_CHARS and not _WILD.search(text):
        uri = text.removesuffix("/")
        if _is_plain(text) and "/." not in uri:
            for prefix in prefixes:
                if uri.startswith(prefix) and len(uri) > len(prefix):
                    return ListedRef(uri, prefix)
    raise InvalidInput(
        f"{field} names no place where bulk jobs may write: use a folder below a prefix that the"
        " operator listed for outputs, spelled without *, ?, [, %, # and ..",
        code="output_not_allowed",
        field=field,
    )


def overlaps(output_uri: str, input_uri: str) -> bool:
    """Whether one lies in the other: parts of an output must never become rows of its input.

    Both were checked. A pattern stands for the whole folder in which it begins.
    """
    output = output_uri.removesuffix("/") + "/"
    wild = _WILD.search(input_uri)
    if wild:
        input_uri = input_uri[: input_uri.rfind("/", 0, wild.start()) + 1]
    whole = input_uri.removesuffix("/") + "/"
    return output.startswith(whole) or whole.startswith(output)


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
