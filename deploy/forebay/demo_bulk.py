"""The demo scores a file of digits in bulk: one job, each row answered once, a manifest."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.demo_service import failed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from producers.client import Forebay

TIMES = 20  # so often the held-out digits are in the file
DONE_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of the file."""

    rows: int
    failed: int
    parts: int
    correct: int
    rows_per_s: float  # from submit to the manifest
    device_s: float

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)

    def line(self) -> str:
        """For people."""
        return (
            f"{self.rows:,} rows in {self.parts} parts, {self.failed} failed,"
            f" {self.correct / max(1, self.rows):.1%} right, {self.rows_per_s:,.0f} rows/s"
        )


def score_a_file(
    client: Forebay,
    model: str,
    folder: Path,
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
) -> Scored:
    """Write the digits into a file, have it scored, and read the parts."""
    import numpy as np

    table, output = folder / "digits.npy", folder / "scored"
    tensors = (pictures / np.float32(255))[..., None]  # as a picture becomes one
    np.save(table, np.tile(tensors, (TIMES, 1, 1, 1)))
    began = time.monotonic()
    job = client.bulk(model, table, output=output, output_format="jsonl")
    job.wait(DONE_WITHIN_S)
    elapsed_s = time.monotonic() - began
    if job.state != "succeeded":
        raise failed(f"the bulk job is {job.state}", json.dumps(job.document.get("error")))
    manifest, answers = job.manifest(), {row["row_id"]: row for row in _rows(output)}
    wanted = {f"0:{position}" for position in range(TIMES * len(labels))}
    if answers.keys() != wanted or not manifest["complete"]:
        raise failed("the bulk job's parts do not hold each row once", "")
    correct = sum(
        answers[f"0:{position}"]["label"] == str(labels[position % len(labels)])
        for position in range(len(answers))
    )
    return Scored(
        rows=manifest["rows"],
        failed=manifest["failed"],
        parts=len(manifest["parts"]),
        correct=correct,
        rows_per_s=round(manifest["rows"] / elapsed_s, 1),
        device_s=manifest["timings"]["device_s"],
    )


def _rows(folder: Path) -> Iterator[Mapping[str, Any]]:
    for part in sorted(folder.glob("part-*.jsonl")):
        with part.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
