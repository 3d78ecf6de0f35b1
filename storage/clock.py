"""Where time and chance enter a process. Only composition roots and loops hold these.

The time written into SQL rows is the database's own (see ``storage.database``): one clock
for every worker, so a host whose clock is wrong by an hour does no harm.
"""

from __future__ import annotations

import secrets
import time
from typing import Protocol


class Clock(Protocol):
    """Wall and monotonic time."""

    def now_ms(self) -> int:
        """Wall time, milliseconds since 1970."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never run backwards; only differences mean something."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()


def random_bits(count: int = 80) -> int:
    """Unpredictable bits for ids and keys."""
    return secrets.randbits(count)
