"""JSON from outside, read strictly: the one parser of the API and of the workers.

orjson already refuses NaN and Infinity, numbers that overflow a double, lone surrogates, invalid
UTF-8, comments and trailing commas (each has a test). Three things it lets pass are handled here:
integers beyond 64 bits, which it silently rounds to floats; nesting up to 1,024 levels, which
breaks recursive code further down; and whatever its own limits are called in its messages.
A repeated key keeps its last value, as in every common parser.
"""

from __future__ import annotations

import re

import orjson

from storage.records.errors import InvalidInput
from storage.records.json_text import nests_deeper_than, without_strings

_LONG_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}(?![0-9.eE])")
_SHAPES = bytes(
    ord("0") if chr(byte).isdecimal() else ord("." if chr(byte) in ".eE+" else " ")
    for byte in range(128)
) + bytes([ord(" ")] * 128)
_SHORT_BYTES, _FEW = 256, 16
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1


def parse(data: bytes, *, max_depth: int = 64) -> object:
    """The value, or ``InvalidInput``: ``invalid_json``, ``too_deep``, ``number_out_of_range``."""
    try:
        value: object = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _refusal(str(error), max_depth) from None
    if len(data) > _SHORT_BYTES and _is_small(value, max_depth):
        return value
    bare = without_strings(data) if b'"' in data else data
    if nests_deeper_than(bare, max_depth):
        raise _too_deep(max_depth)
    _check_integers(bare)
    return value


def _is_small(value: object, max_depth: int) -> bool:
    """Whether a look at the value tells that all is well: a picture's megabyte in one string.

    Fewer containers than levels cannot nest too deep. A float is no answer: it may have been an
    integer that was rounded.
    """
    open_values, containers = [value], 0
    while open_values:
        one = open_values.pop()
        if isinstance(one, float):
            return False
        if isinstance(one, (dict, list)):
            containers += 1
            if containers > max_depth or len(one) > _FEW or containers > _FEW:
                return False
            open_values.extend(one.values() if isinstance(one, dict) else one)
    return True


def _check_integers(bare: bytes) -> None:
    """Refuse integers that a double cannot hold and orjson rounded."""
    # Finding a long run that no point precedes is ten times as fast as the expression.
    if b" " + b"0" * 19 not in b" " + bare.translate(_SHAPES):
        return
    for match in _LONG_INTEGER.finditer(bare):
        digits = match.group()
        # Thousands of digits are refused by their number: int() would raise on them.
        if len(digits) > 21 or not _MIN_INTEGER <= int(digits) <= _MAX_INTEGER:
            raise InvalidInput(
                f"the integer {digits[:24].decode()}{'…' if len(digits) > 24 else ''} does not"
                " fit in 64 bits",
                code="number_out_of_range",
            )


def _refusal(message: str, max_depth: int) -> InvalidInput:
    if "depth limit" in message or "ecursion" in message:
        return _too_deep(max_depth)
    if "infinity" in message:
        return InvalidInput(
            f"a number is too large for a double: {message}", code="number_out_of_range"
        )
    return InvalidInput(f"not valid JSON: {message}", code="invalid_json")


def _too_deep(max_depth: int) -> InvalidInput:
    return InvalidInput(f"the JSON nests deeper than {max_depth} levels", code="too_deep")
