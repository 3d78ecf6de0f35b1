"""What the store says it has stored: an ETag is the MD5 of the bytes, nearly everywhere.

A body that was changed on its way would otherwise be found out when it is read, and by then
nobody has the right one any more: not every server checks the digest that the signature covers,
and over https there is none. Where the bytes are encrypted with a key of their own (SSE-KMS) an
ETag is something else; then the first put tells, by reading its object back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

_MD5 = re.compile(r"[0-9a-f]{32}")


class Etags:
    """One store's. Thread-safe."""

    def __init__(self) -> None:
        self._are_md5: bool | None = None  # None until one has told

    def agree(self, etag: str, md5: Callable[[], str]) -> bool:
        """Whether there is no reason to doubt that the bytes with this MD5 were stored."""
        tag = etag.strip('"').lower()
        if self._are_md5 is False or not _MD5.fullmatch(tag):
            return True
        if tag != md5():
            return False
        self._are_md5 = True
        return True

    def were_wrong(self) -> None:
        """The bytes were stored after all."""
        if self._are_md5 is None:
            self._are_md5 = False


def md5_of(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def md5_of_file(path: Path) -> str:
    """The same of a file that need not fit into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
