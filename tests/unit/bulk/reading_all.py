"""Everything a source gives of a range, as plain values that tests compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.bulk.ports import RowError, Source


@dataclass
class Read:
    """What the chunks of a range held together."""

    rows: dict[int, dict[str, object]] = field(default_factory=dict)  # by position
    errors: dict[int, RowError] = field(default_factory=dict)
    skipped: int = 0
    sizes: list[int] = field(default_factory=list)  # rows and errors of each chunk
    stops: list[int] = field(default_factory=list)

    @property
    def codes(self) -> dict[int, str]:
        return {position: error.code for position, error in self.errors.items()}

    def values(self, column: str) -> list[object]:
        return [row[column] for row in self.rows.values()]


def read_all(
    source: Source,
    start: int = 0,
    stop: int | None = None,
    columns: Sequence[str] | None = None,
    *,
    max_rows: int = 1000,
    max_bytes: int = 1 << 30,
    into: Read | None = None,
) -> Read:
    """Reads the range, and holds each chunk to what every source owes."""
    found = into or Read()
    stop = source.planned().stop if stop is None else stop
    columns = source.columns() if columns is None else columns
    before = start
    for chunk in source.chunks(start, stop, columns, max_rows=max_rows, max_bytes=max_bytes):
        positions = chunk.positions.tolist()
        errors = [error.position for error in chunk.errors]
        assert positions == sorted(set(positions)) and errors == sorted(set(errors))
        assert len(positions) == chunk.batch.num_rows
        assert list(chunk.batch.schema.names) == list(columns)
        for position in [*positions, *errors]:
            assert before <= position < chunk.next and start <= position < stop
            assert position not in found.rows and position not in found.errors
        assert before <= chunk.next <= stop
        assert len(positions) + len(errors) <= max_rows
        assert chunk.batch.nbytes <= max_bytes or chunk.batch.num_rows == 1
        found.rows.update(zip(positions, chunk.batch.to_pylist(), strict=True))
        found.errors.update(zip(errors, chunk.errors, strict=True))
        found.skipped += chunk.skipped
        found.sizes.append(len(positions) + len(errors))
        found.stops.append(chunk.next)
        before = chunk.next
    return found
