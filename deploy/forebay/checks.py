"""One line of ``forebay doctor``: a part, whether it works, and what to do if not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from storage.records.errors import ForebayError


@dataclass(frozen=True, slots=True)
class Finding:
    """``ok`` is None for what is worth knowing but no fault (nothing runs yet)."""

    part: str
    ok: bool | None
    says: str
    advice: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"part": self.part, "ok": self.ok, "says": self.says, "advice": self.advice}


class Ailing(Exception):
    """Raised by a check: what is wrong, and what to do."""

    def __init__(self, says: str, advice: str) -> None:
        super().__init__(says)
        self.says, self.advice = says, advice


@dataclass(frozen=True, slots=True)
class Check:
    """``look`` says in a few words what it found, or raises."""

    part: str
    look: Callable[[], str]
    advice: str  # when it raises without advice of its own
    fatal: bool = True


def examine(checks: Sequence[Check]) -> list[Finding]:
    """Run every check, side by side: several parts that do not answer cost one's time-out."""
    with ThreadPoolExecutor(max_workers=max(1, len(checks))) as pool:
        return list(pool.map(_run, checks))


def _run(check: Check) -> Finding:
    bad = False if check.fatal else None
    try:
        return Finding(check.part, True, check.look())
    except Ailing as error:
        return Finding(check.part, bad, error.says, error.advice)
    except ForebayError as error:
        return Finding(check.part, bad, error.message, check.advice)
    except Exception as error:  # whatever a driver raises: the doctor must go on
        # The type alone: a driver's message may repeat an address with its password.
        return Finding(check.part, bad, f"it fails with {type(error).__name__}", check.advice)
