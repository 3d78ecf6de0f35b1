"""Parts of a run as workers write them, without workers; and a kit to read them with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa

from storage.objects import Objects, open_objects
from storage.records.bulk import OUTPUT, BulkFormat, NewPart, Part, PartFormat, Plan, PlannedFile
from storage.records.signatures import Signature
from tests.support.database import ManualClock
from workers.bulk.encode import ChunkEncoder
from workers.bulk.kept import notes_of
from workers.bulk.kit import Kit
from workers.bulk.names import part_name
from workers.bulk.part_files import open_part
from workers.bulk.places import Places


def kit_of(
    folder: Path, objects: Objects | None = None, stopping: Callable[[], bool] = bool
) -> Kit:
    """Its own store lies in ``folder``, outputs below ``folder/out``."""
    (folder / "out").mkdir(exist_ok=True)
    objects = objects or open_objects(f"file://{folder}/objects")
    none = cast("Any", None)
    gate = SimpleNamespace(trip=lambda trouble: None)
    return Kit(
        parts=cast("Any", SimpleNamespace(gate=gate)),
        stopping=stopping,
        database=none,
        objects=objects,
        places=Places(none, objects, [], [f"file://{folder}/out"]),
        refs=none,
        clock=ManualClock(),
        pool="default",
        spool=folder,
        retention_days=30,
    )


class Writing:
    """One run's parts, put where its plan says."""

    def __init__(
        self,
        kit: Kit,
        signature: Signature,
        kept: pa.Schema,
        *,
        form: PartFormat = PartFormat.PARQUET,
        outside: bool = False,
        files: int = 2,
    ) -> None:
        self.kit, self.signature, self.form = kit, signature, form
        extra: dict[str, object] = dict(notes_of(signature, kept, form))
        if outside:
            extra[OUTPUT] = f"file://{kit.spool}/out/"
        self._objects = open_objects(f"file://{kit.spool}/out") if outside else kit.objects
        file = PlannedFile("file:///in/0.parquet", BulkFormat.PARQUET, 1, 100, 100, digest="d")
        named = tuple(replace(file, uri=f"file:///in/{at}.parquet") for at in range(files))
        self.plan = Plan(named, tuple(kept.names), "bulk/run", 100 * files, extra)
        self._encoder = ChunkEncoder(signature, list(kept), form)
        self.parts: list[Part] = []

    def part(
        self,
        file: int,
        positions: Sequence[int],
        kept: Mapping[str, Any],
        *,
        batch_rows: int = 7,
        **outputs: Any,
    ) -> Part:
        """These rows, encoded a few at a time and put."""
        number, start = len(self.parts), int(positions[0])
        name = part_name(number, 1, start, self.form)
        path = self.kit.spool / name
        schema = self._encoder.schema
        columns = (
            pa.record_batch(
                {
                    one: pa.array(values, schema.field(at + 1).type)
                    for at, (one, values) in enumerate(kept.items())
                }
            )
            if kept
            else pa.record_batch({"gone": pa.nulls(len(positions))}).select([])
        )
        at = np.asarray(positions, np.int64)
        with open_part(path, self.form, schema) as part:
            for first in range(0, len(at), batch_rows):
                some = slice(first, first + batch_rows)
                batch = columns.slice(first, batch_rows)
                given = {one: np.asarray(values)[some] for one, values in outputs.items()}
                part.write(self._encoder.encode(file, at[some], batch, given).batch)
            written = part.close()
        self._objects.put_file(f"{self.plan.base}/{name}", path)
        path.unlink()
        new = NewPart(
            start, int(positions[-1]) + 1, len(at), 0, written.size_bytes, name, written.sha256_hex
        )
        self.parts.append(Part(number, file, 1, new, 0))
        return self.parts[-1]


class Failing:
    """A store whose every ``nth`` read gets no answer."""

    def __init__(self, objects: Objects, trouble: Callable[[], Exception], nth: int = 5) -> None:
        self._objects, self._trouble, self._nth = objects, trouble, nth
        self.reads = self.failed = 0

    def get_range(self, *args: Any, **named: Any) -> bytes:
        self.reads += 1
        if self.reads % self._nth == 0:
            self.failed += 1
            raise self._trouble()
        return self._objects.get_range(*args, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)
