"""How deep a JSON text nests, found without recursion and mostly in C.

Parsers recurse, and walking a parsed megabyte in Python is slow. Here the strings are cut away,
all but the brackets are dropped, and innermost pairs are peeled off layer by layer.
"""

from __future__ import annotations

import re

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")


def without_strings(data: bytes) -> bytes:
    """The text with every string literal cut out, so that what looks like JSON is JSON."""
    return _STRING.sub(b"", data)


def nests_deeper_than(bare: bytes, max_depth: int) -> bool:
    """Whether well-formed JSON (already ``without_strings``) has more levels than ``max_depth``.

    Of text that is not well-formed it may say anything: parse it as well.
    """
    if bare.count(b"[") + bare.count(b"{") <= max_depth:
        return False
    brackets = bare.translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(max_depth):
        if not brackets:
            return False
        peeled = brackets.replace(b"[]", b"")
        if len(peeled) == len(brackets):
            break
        brackets = peeled
    return bool(brackets)
