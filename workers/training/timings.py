"""How long a training's process took until it trained, as its result tells it.

The framework is imported while the data is prepared: the two overlap, and do not add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from storage.clock import Clock


@dataclass(slots=True)
class Timings:
    """Of one process: after a death or a pause, of the one that ended the training."""

    began_at: int  # milliseconds since 1970
    import_s: float | None = None  # of the framework, from its begin to its end
    prepare_s: float | None = None  # the data: found, read, split, kept
    open_s: float | None = None  # the network is built, and put where the checkpoint says
    first_step_at: int | None = None  # when it was done

    def to_json(self) -> dict[str, Any]:
        """As the job's result has it; None for what never came."""
        first = self.first_step_at
        return {
            "began_at_ms": self.began_at,
            "import_s": _rounded(self.import_s),
            "prepare_s": _rounded(self.prepare_s),
            "open_s": _rounded(self.open_s),
            "first_step_at_ms": first,
            "first_step_s": None if first is None else (first - self.began_at) / 1000,
        }


def began_now(clock: Clock, ago_s: float) -> Timings:
    """Of a process that began so long ago."""
    return Timings(clock.now_ms() - round(ago_s * 1000))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
