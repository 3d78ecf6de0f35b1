"""Found on ``PYTHONPATH`` by a process whose clock is to be wrong: by ``FOREBAY_FAULTS_CLOCK_S``.

The time of day is shifted in every way that Python code asks for it; the monotonic clock is not,
as it is not when a machine's clock is set wrong.
"""

import datetime
import os
import time

SHIFT_S = float(os.environ.get("FOREBAY_FAULTS_CLOCK_S", "0"))
_time, _time_ns, _real = time.time, time.time_ns, datetime.datetime


class _AnyDatetime(type):
    """What the C library makes is a datetime, too."""

    def __instancecheck__(cls, one):
        return isinstance(one, _real)


class _Shifted(_real, metaclass=_AnyDatetime):
    @classmethod
    def now(cls, tz=None):
        return _real.now(tz) + datetime.timedelta(seconds=SHIFT_S)

    @classmethod
    def utcnow(cls):
        return _real.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=SHIFT_S)


if SHIFT_S:
    time.time = lambda: _time() + SHIFT_S
    time.time_ns = lambda: _time_ns() + int(SHIFT_S * 1e9)
    datetime.datetime = _Shifted
