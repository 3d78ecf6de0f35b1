"""What was measured of one version's forward passes, by shape bucket and rows."""

from __future__ import annotations

from collections.abc import Iterator

from workers.inference.batching.line import Line, Point, fit, guessed
from workers.inference.batching.means import Duration

MOST_SHAPES = 256  # of a version; a model that takes any length would have no end of them
_MOST_WEIGHT = 32
_GUESSED_TAIL = 1.5  # p95 over mean, before it is known of any bucket


class Shape:
    """One shape bucket's passes."""

    def __init__(self) -> None:
        self.row_cost = 1.0
        self.priced = False
        self.times: dict[int, Duration] = {}
        self.began: set[int] = set()  # buckets whose first sample was thrown away
        self.changed: set[int] = set()  # buckets measured since they were last written down
        self.line: Line | None = None

    @property
    def largest(self) -> int:
        """Rows of the largest pass that ran, its first and thrown away one included."""
        return max(self.began | self.times.keys(), default=0)

    def points(self) -> list[Point]:
        return [
            Point(bucket * self.row_cost, times.mean_s, min(times.count, _MOST_WEIGHT))
            for bucket, times in self.times.items()
        ]

    def between(self, bucket: int, seconds: float) -> float:
        """An estimate held between the measured sizes around it: more rows take no less time."""
        least = max((t.mean_s for b, t in self.times.items() if b < bucket), default=0.0)
        most = min((t.mean_s for b, t in self.times.items() if b > bucket), default=seconds)
        return min(max(seconds, least), max(most, least))


class Passes:
    """One version's shapes. A shape that never ran borrows the line of those that did.

    Only so many are kept: the one that ran longest ago makes room, and is one that never ran.
    """

    def __init__(self) -> None:
        self._shapes: dict[str, Shape] = {}  # the one that ran longest ago first
        self._line: Line | None = None
        self._largest_cost = 0.0  # of a pass of a shape that made room

    def observe(self, shape: str, bucket: int, seconds: float) -> None:
        """A pass took this long. The first of a bucket may have compiled: it is thrown away."""
        known = self._shape(shape)
        self._shapes[shape] = self._shapes.pop(shape)  # the last one to run
        times = known.times.get(bucket)
        if times is None:
            if bucket not in known.began:
                known.began.add(bucket)
                return
            times = known.times[bucket] = Duration()
        times.observe(seconds)
        known.changed.add(bucket)
        self._forget_lines(known)

    def ran(self, shape: str, bucket: int) -> bool:
        """Whether such a pass is known to have run here or before."""
        known = self._shapes.get(shape)
        return known is not None and (bucket in known.began or bucket in known.times)

    def restore(self, shape: str, bucket: int, times: Duration) -> None:
        """Go on from what an earlier process measured, unless this one has measured by itself."""
        known = self._shape(shape)
        if bucket not in known.times:
            known.times[bucket] = times
            self._forget_lines(known)

    def price(self, shape: str, row_cost: float) -> None:
        """A row of this shape costs so much."""
        known = self._shape(shape)
        if row_cost > 0 and (not known.priced or known.row_cost != row_cost):
            known.row_cost, known.priced = row_cost, True
            self._forget_lines(known)

    def row_cost(self, shape: str) -> float:
        known = self._shapes.get(shape)
        return known.row_cost if known is not None else 1.0

    def tried_rows(self, shape: str) -> float:
        """Rows of this shape that cost as much as the largest pass that ran in any."""
        mine = self._shapes.get(shape)
        row_cost = mine.row_cost if mine is not None else 1.0
        ran = [one.largest * one.row_cost for one in self._shapes.values()]
        return max(
            max([self._largest_cost, *ran]) / row_cost, mine.largest if mine is not None else 0
        )

    def estimate_s(self, shape: str, bucket: int, cost: float | None) -> float:
        """Expected seconds of one pass."""
        known = self._shapes.get(shape)
        if known is None:
            dearest = max((one.row_cost for one in self._shapes.values()), default=1.0)
            return self._of_version(dearest).at(bucket * dearest if cost is None else cost)
        times = known.times.get(bucket)
        if times is not None:
            return times.mean_s
        asked = bucket * known.row_cost if cost is None else cost
        return known.between(bucket, self._of_shape(known).at(asked))

    def p95_s(self, shape: str, bucket: int, cost: float | None) -> float:
        """What nineteen of twenty passes stay within."""
        known = self._shapes.get(shape)
        times = known.times.get(bucket) if known is not None else None
        if times is not None:
            return times.p95_s
        seen = [t for one in self._shapes.values() for t in one.times.values() if t.mean_s > 0]
        tail = max((t.p95_s / t.mean_s for t in seen), default=_GUESSED_TAIL)
        return self.estimate_s(shape, bucket, cost) * max(tail, 1.0)

    def changed(self) -> Iterator[tuple[str, int, Duration]]:
        """(shape, bucket, what is known of it), of what was measured since the last call."""
        for name, known in self._shapes.items():
            buckets, known.changed = known.changed, set()
            for bucket in sorted(buckets):
                yield name, bucket, known.times[bucket]

    def _shape(self, shape: str) -> Shape:
        known = self._shapes.get(shape)
        if known is None:
            while len(self._shapes) >= MOST_SHAPES:
                gone = self._shapes.pop(next(iter(self._shapes)))
                self._largest_cost = max(self._largest_cost, gone.largest * gone.row_cost)
                self._line = None
            known = self._shapes[shape] = Shape()
        return known

    def _forget_lines(self, shape: Shape) -> None:
        shape.line = None
        for other in self._shapes.values():
            if len(other.times) < 2:
                other.line = None
        self._line = None

    def _of_shape(self, known: Shape) -> Line:
        """Its own line when two sizes were measured; else the version's, through what there is."""
        if known.line is None:
            if len(known.times) >= 2:
                known.line = fit(known.points(), known.row_cost)
            else:
                known.line = self._of_version(known.row_cost)
                for bucket, times in known.times.items():
                    scale = times.mean_s / known.line.at(bucket * known.row_cost)
                    known.line = Line(known.line.fixed_s * scale, known.line.per_cost_s * scale)
        return known.line or guessed(known.row_cost)

    def _of_version(self, row_cost: float) -> Line:
        if self._line is None:
            seen = [shape for shape in self._shapes.values() if shape.times]
            comparable = [shape for shape in seen if shape.priced] or seen
            self._line = fit([point for shape in comparable for point in shape.points()], row_cost)
        return self._line or guessed(row_cost)
