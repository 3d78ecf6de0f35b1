"""The rows of a run's committed parts, in the order of its input, a bounded number at a time.

Parts are read as any input is, by ranges: of all that a run wrote there is one chunk in memory, and
what is on its way. Storage that stops answering costs a wait; the reader goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.records.bulk import OUTPUT, BulkFormat, Part, PartFormat, Plan
from storage.records.errors import InvalidInput, NotFound
from storage.records.signatures import Signature
from workers.bulk.evaluating.columns import Layout, layout_of
from workers.bulk.kept import kept_of
from workers.bulk.kit import Kit, Stopped
from workers.bulk.places import Found, Place
from workers.bulk.ports import Chunk, Positions, Source
from workers.bulk.reading.opening import open_source
from workers.inference.ports import Array

CHUNK_ROWS = 16_384
CHUNK_BYTES = 8 << 20
_FORMATS = {
    PartFormat.PARQUET: BulkFormat.PARQUET,
    PartFormat.JSONL: BulkFormat.JSONL,
    PartFormat.CSV: BulkFormat.CSV,
}


@dataclass(frozen=True, slots=True)
class Scored:
    """Some rows of one file that have a prediction."""

    file: int
    positions: Positions  # (n,), ascending
    kept: Mapping[str, pa.Array]  # by their own names, whatever the parts call them
    label: pa.Array | None  # the best label as text, where the model has labels
    score: Array | None  # its score, float32 (n,)
    outputs: Mapping[str, Array]  # (n, *shape) by name; texts and ragged ones are left out


def scored_rows(
    kit: Kit,
    plan: Plan,
    parts: Sequence[Part],
    signature: Signature,
    columns: Sequence[str],
    still: Callable[[], bool],
) -> Iterator[Scored]:
    """Every row with a prediction, by file and position. ``columns``: the kept ones that are read.

    Raises ``Stopped`` when ``still`` does not hold any more, ``NotFound`` (``part_gone``) where a
    part was taken away, ``InvalidInput``: ``unknown_column`` where one was not kept,
    ``not_comparable`` where a part does not hold what the signature says.
    """
    ordered = sorted(parts, key=lambda one: (one.file, one.part.start))
    for one in ordered:
        if one.part.key is not None:
            yield from _rows_of(kit, plan, one, signature, columns, still)


def _rows_of(
    kit: Kit,
    plan: Plan,
    part: Part,
    signature: Signature,
    columns: Sequence[str],
    still: Callable[[], bool],
) -> Iterator[Scored]:
    key = part.part.key
    assert key is not None
    form = PartFormat(key.rpartition(".")[2])
    kept = kept_of(plan)
    layout = layout_of(signature, kept if kept is not None else pa.schema([]), form, columns)
    place, ours = _place_of(kit, plan, key)
    for chunk in _chunks(kit, place, part, form, layout, still, ours=ours):
        if chunk.errors:
            raise _not_ours(key, chunk.errors[0].message)
        batch = chunk.batch
        if not batch.num_rows:
            continue
        positions = _positions(batch.column(0), part.file, key)
        try:
            label, score = layout.best(batch)
            found = Scored(
                part.file, positions, layout.kept(batch), label, score, layout.outputs(batch)
            )
        except (pa.ArrowException, ValueError) as error:
            raise _not_ours(key, error) from error
        yield found


def _chunks(
    kit: Kit,
    place: Place,
    part: Part,
    form: PartFormat,
    layout: Layout,
    still: Callable[[], bool],
    *,
    ours: bool,
) -> Iterator[Chunk]:
    """Of one part; opened again where it was when storage answers again."""
    at = 0
    stop: int | None = None
    ahead: Iterator[Chunk] | None = None

    def following() -> Chunk | None:
        nonlocal ahead, stop
        try:
            if ahead is None:
                source = _opened(place, part, form, layout)
                stop = source.planned().stop
                ahead = source.chunks(
                    at, stop, layout.read, max_rows=CHUNK_ROWS, max_bytes=CHUNK_BYTES
                )
            return next(ahead, None)
        except NotFound as error:
            raise _gone(place) from error
        except InvalidInput as error:
            raise _not_ours(place.uri, error.message) from error
        except BaseException:
            ahead = None
            raise

    while True:
        if not still():
            raise Stopped
        chunk = kit.patiently(following, still, ours=ours)
        if chunk is None:
            return
        yield chunk
        at = chunk.next
        if stop is not None and at >= stop:
            return


def _opened(place: Place, part: Part, form: PartFormat, layout: Layout) -> Source:
    found = Found(place, part.part.size_bytes, None)
    return open_source(found, _FORMATS[form], types=layout.types, fetch=_nothing)


def _gone(place: Place) -> NotFound:
    return NotFound(
        f"the part {place.uri} was erased, or its retention has passed: score the rows again",
        code="part_gone",
    )


def _place_of(kit: Kit, plan: Plan, key: str) -> tuple[Place, bool]:
    """Where a part lies, and whether that is the service's own store."""
    whole = f"{plan.base}/{key}" if plan.base else key
    named = plan.extra.get(OUTPUT)
    if named is None:
        return Place(kit.objects, whole, key), True
    folder = kit.places.output(str(named).rstrip("/") + "/" + plan.base)
    return Place(folder.objects, whole, f"{folder.uri}/{key}"), False


def _positions(ids: pa.Array, file: int, key: str) -> Positions:
    """The numbers in row ids, which begin with the file's."""
    begin = f"{file}:"
    try:
        texts = pc.binary_replace_slice(ids, 0, len(begin), "")
        found: Positions = texts.cast(pa.int64()).to_numpy()
    except pa.ArrowException as error:
        raise _not_ours(key, error) from error
    if not pc.all(pc.starts_with(ids, begin)).as_py() or (np.diff(found) <= 0).any():
        raise _not_ours(key, f"its rows are not those of file {file}, in order")
    return found


def _not_ours(key: str, why: object) -> InvalidInput:
    return InvalidInput(
        f"the part {key} does not hold what its run wrote ({str(why)[:300]}): score the rows again",
        code="not_comparable",
    )


def _nothing(uri: str) -> bytes:
    raise AssertionError("parts hold no addresses")
