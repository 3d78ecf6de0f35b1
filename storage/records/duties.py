"""What is known of a keeper's duty from outside."""

from __future__ import annotations

from dataclasses import dataclass

from storage.records.jobs import Millis


@dataclass(frozen=True, slots=True)
class DutyNote:
    """When a duty ran last, in any keeper."""

    name: str
    every_ms: int  # how soon it is noted again as long as it is well
    ran_at: Millis
    clear_at: Millis  # when it last left nothing to do; if it never did, when it first ran

    def lag_ms(self, now: Millis) -> int:
        """How long it has had something left to do, or has not run, beyond its pace."""
        return max(0, now - self.clear_at - self.every_ms)
