"""When a job that failed on the device is tried again."""

from __future__ import annotations

_MOST_DOUBLINGS = 8


def retry_delay_ms(attempts: int, first_s: float) -> int:
    """Doubling back-off: after ``attempts`` spent before this one."""
    return int(first_s * 1000 * 2 ** min(attempts, _MOST_DOUBLINGS))
