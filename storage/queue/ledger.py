"""The bookkeeping of confirms: pure, and the reason why no message's fate is ever guessed.

A broker answers per channel, by number and out of step: an ack may cover many (``multiple``);
a message that no queue takes is returned *and then acked*. What is still open when the
connection goes is unknown, and stays unknown: a later connection counts from one again.
"""

from __future__ import annotations

from collections.abc import Iterable

from storage.queue.messages import PublishReport


class Ledger:
    """One call's messages. Every id given at the start ends up in exactly one set."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._unsettled = set(ids)
        self._open: dict[int, str] = {}  # delivery tag → id, ascending: that is how they are sent
        self._returned: set[str] = set()
        self._confirmed: set[str] = set()
        self._refused: set[str] = set()
        self._unroutable: set[str] = set()

    @property
    def open(self) -> int:
        """How many were sent and not answered."""
        return len(self._open)

    @property
    def answered(self) -> int:
        """How many were answered; it grows as long as the broker lives."""
        return len(self._confirmed) + len(self._refused) + len(self._unroutable)

    def sent(self, tag: int, message_id: str) -> None:
        """About to be written under this tag. Before the write: a torn write is still open."""
        self._open[tag] = message_id

    def returned(self, message_id: str) -> None:
        """No queue took it. The ack that follows says so for good."""
        self._returned.add(message_id)

    def acked(self, tag: int, multiple: bool) -> None:
        for message_id in self._take(tag, multiple):
            if message_id in self._returned:
                self._unroutable.add(message_id)
            else:
                self._confirmed.add(message_id)

    def nacked(self, tag: int, multiple: bool) -> None:
        self._refused.update(self._take(tag, multiple))

    def report(self, trouble: str | None = None, retry_after_s: float = 0.0) -> PublishReport:
        return PublishReport(
            confirmed=frozenset(self._confirmed),
            unroutable=frozenset(self._unroutable),
            refused=frozenset(self._refused),
            unknown=frozenset(self._unsettled),
            trouble=trouble,
            retry_after_s=retry_after_s,
        )

    def _take(self, tag: int, multiple: bool) -> list[str]:
        """The ids that an answer speaks of. Tags that are not open say nothing about us."""
        if multiple:
            tags = []
            for one in self._open:
                if one > tag:
                    break
                tags.append(one)
        else:
            tags = [tag] if tag in self._open else []
        ids = [self._open.pop(one) for one in tags]
        self._unsettled.difference_update(ids)
        return ids
