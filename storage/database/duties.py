"""What keepers got done: when each duty ran last, and when it last left nothing to do.

``/metrics`` tells from it which duty falls behind, whichever process runs it.
"""

from __future__ import annotations

from storage.database.statements import Statement
from storage.database.store import Store
from storage.records.duties import DutyNote

NOTE = Statement(
    "A duty ran. Of one that never left nothing to do, it counts since when it runs.",
    """
    INSERT INTO duties (name, every_ms, ran_at, clear_at)
    VALUES (:name, :every_ms, :now, :now)
    ON CONFLICT (name) DO UPDATE SET
        every_ms = excluded.every_ms, ran_at = excluded.ran_at,
        clear_at = CASE WHEN :clear = 1 THEN excluded.ran_at ELSE duties.clear_at END
    """,
)

NOTES = Statement(
    "When each duty ran.", "SELECT d.name, d.every_ms, d.ran_at, d.clear_at FROM duties AS d"
)


class DutyLog(Store):
    """The duties of every keeper."""

    def note(self, name: str, every_ms: int, *, clear: bool) -> None:
        """The duty has just run. ``clear``: it left nothing to do."""
        self._work.count(NOTE, name=name, every_ms=every_ms, clear=int(clear))

    def notes(self) -> list[DutyNote]:
        """The last run of each duty that ever ran."""
        return [DutyNote(*row) for row in self._work.rows(NOTES)]
