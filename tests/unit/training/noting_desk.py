"""A desk that keeps everything in memory, and may say when to leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from storage.records.training_runs import TrainingProgress
from workers.training.desk import Wish
from workers.training.position import Snapshot


class NotingDesk:
    def __init__(self, wish: Callable[[], Wish] = lambda: Wish.GO) -> None:
        self._wish = wish
        self.losses: dict[int, float] = {}
        self.metrics: dict[int, Mapping[str, float]] = {}
        self.epochs: dict[int, Mapping[str, float | None]] = {}
        self.lines: list[str] = []
        self.snapshots: list[Snapshot] = []
        self.told: list[TrainingProgress] = []
        self.settled = 0
        self.keeping = False

    def wish(self) -> Wish:
        return self._wish()

    def steps(
        self, first: int, losses: Sequence[float], metrics: Mapping[str, float], expected: int
    ) -> None:
        self.losses |= dict(enumerate(losses, first))
        self.metrics[first + len(losses) - 1] = metrics

    def epoch(self, step: int, values: Mapping[str, float | None]) -> None:
        self.epochs[int(values["epoch"] or 0)] = {"step": step, **values}

    def progress(self, progress: TrainingProgress) -> None:
        self.told.append(progress)

    def say(self, text: str) -> None:
        self.lines.append(text)

    def keep(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def settle(self) -> None:
        self.settled += 1


class TickingClock:
    """Each look at it takes a while."""

    def __init__(self, tick_s: float = 0.001) -> None:
        self.now_s, self.tick_s = 100.0, tick_s

    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    def monotonic_s(self) -> float:
        self.now_s += self.tick_s
        return self.now_s
