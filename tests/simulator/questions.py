"""What callers ask, and the one right answer: a function of the question and nothing else.

A question is a number whose last digit says what it does to whoever computes it.
"""

from __future__ import annotations

import orjson

INNOCENT, POISON, REFUSED, FAILING = 0, 1, 2, 3


def question(serial: int, kind: int, *, large: bool = False) -> int:
    """A number that is nobody else's."""
    return ((10**12 if large else 0) + serial) * 10 + kind


def kind_of(number: int) -> int:
    return number % 10


def read(payload: bytes) -> int:
    """The number in a job's input."""
    (number,) = orjson.loads(payload)["tensor"]
    return int(number)


def answer(number: int) -> bytes:
    """The model's."""
    return b"%d squared is %d" % (number, number * number)
