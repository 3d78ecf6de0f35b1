"""What happened in one run: the last events, and how often each fault was done."""

from __future__ import annotations

from collections import Counter, deque

KEPT = 40


class Broken(BaseException):
    """An invariant does not hold. No ``Exception``, so that no handler of the product's sees it."""


class Happenings:
    """Told by every part of a world."""

    def __init__(self, *, all_of_them: bool = False) -> None:
        self.count = 0
        self.faults: Counter[str] = Counter()
        self._lines: deque[str] = deque(maxlen=None if all_of_them else KEPT)
        self.verbose = all_of_them

    def note(self, now_ms: int, who: str, what: str) -> None:
        """One event."""
        self.count += 1
        self._lines.append(f"{now_ms / 1000:10.3f}  {who:<12} {what}")

    def fault(self, now_ms: int, who: str, kind: str, more: str = "") -> None:
        """One fault that was done on purpose."""
        self.faults[kind] += 1
        self.note(now_ms, who, f"FAULT {kind} {more}")

    @property
    def lines(self) -> list[str]:
        """The last events, oldest first."""
        return list(self._lines)
