"""How long a batch takes on its way through a worker, by stage and rows."""

from __future__ import annotations

from workers.inference.batching.line import Line, Point, fit
from workers.inference.batching.means import Duration

_NOTHING = Line(0.0, 0.0)


class Stage:
    """One stage of one version: a duration per power of two of rows, and a line through them."""

    def __init__(self) -> None:
        self._times: dict[int, Duration] = {}
        self._rows: dict[int, float] = {}  # mean rows of the batches of each power of two
        self._line: Line | None = None

    def observe(self, rows: int, seconds: float) -> None:
        """A batch of so many rows spent so long in this stage."""
        power = max(rows, 1).bit_length()
        times = self._times.setdefault(power, Duration())
        times.observe(seconds)
        mean = self._rows.get(power, float(rows))
        self._rows[power] = mean + (rows - mean) / min(times.count, 32)
        self._line = None

    @property
    def line(self) -> Line:
        """Seconds over rows."""
        if self._line is None:
            points = [
                Point(self._rows[power], times.mean_s, min(times.count, 32))
                for power, times in self._times.items()
            ]
            self._line = fit(points, 1.0) or _NOTHING
        return self._line


class Path:
    """The stages of one version, one after another."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}

    def observe(self, stage: str, rows: int, seconds: float) -> None:
        """A batch went through one of them."""
        self._stages.setdefault(stage, Stage()).observe(rows, seconds)

    @property
    def line(self) -> Line | None:
        """All stages together; None before one was measured."""
        lines = [stage.line for stage in self._stages.values()]
        if not lines:
            return None
        return Line(sum(one.fixed_s for one in lines), sum(one.per_cost_s for one in lines))
