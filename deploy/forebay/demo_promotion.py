"""The demo asks what its version is worth, and lets ``prod`` stand for it if that is enough; in
full a better version takes over, and a bad one returns by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.demo_service import failed
from forebay.story_data import FIRST, HELD_OUT, MODEL, MORE, WRONG, spec_of, write_story

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from forebay.demo import Steps
    from producers.client import Forebay
    from producers.client.trials import Trial

ALIAS = "prod"
GATE = "accuracy >= 0.9"
TAKES_OVER = "accuracy >= 0.8 and recall >= @prod.recall - 0.005"
WAVE = 200  # texts
DONE_WITHIN_S, RETURNED_WITHIN_S = 300.0, 120.0


@dataclass(frozen=True, slots=True)
class Promoted:
    """What an evaluation measured, and what came of it."""

    version: str
    rows: int
    accuracy: float
    interval: Sequence[float]
    ece: float  # expected calibration error
    gate: str

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)

    def line(self) -> str:
        """For people."""
        low, high = self.interval
        return (
            f"{self.version} is {ALIAS}: {self.gate} holds ({self.accuracy:.1%} of {self.rows:,},"
            f" {low:.1%} to {high:.1%}; calibration off by {self.ece:.1%})"
        )


@dataclass(frozen=True, slots=True)
class TookOver:
    """The story of three versions."""

    accuracies: Mapping[str, float]  # on texts that none of them saw
    fixed: int  # of the first's wrong answers by the second
    broken: int
    canary: Mapping[str, int]  # answers of a wave by version, while the second was tried
    returned: str  # why the third was

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)

    def line(self) -> str:
        """For people."""
        said = ", ".join(f"{name} {value:.1%}" for name, value in self.accuracies.items())
        return f"{said}; the third returned: {self.returned}"


def judge_and_promote(
    client: Forebay,
    version: str,
    folder: Path,
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
) -> Promoted:
    """Evaluate on held-out digits, and promote."""
    import numpy as np

    table = folder / "held-out.npz"
    tensors = (pictures / np.float32(255))[..., None]  # as a picture becomes one
    np.savez(table, pictures=tensors, digit=labels)
    job = client.evaluate(version, table, label="digit", columns=["pictures"])
    job.wait(DONE_WITHIN_S)
    if job.state != "succeeded":
        raise failed(f"the evaluation is {job.state}", json.dumps(job.document.get("error")))
    told = job.result
    client.models.promote(version, ALIAS, gate=GATE)
    return Promoted(
        version,
        told["rows"],
        told["metrics"]["accuracy"],
        told["intervals"]["accuracy"],
        told["metrics"]["ece"],
        GATE,
    )


def take_over(client: Forebay, folder: Path, tweets: bytes, steps: Steps) -> TookOver:
    """Three versions, each trained as a job. The folder is one that the service may read."""
    texts = write_story(folder, tweets)
    with steps.step("a first version, for whoever asks for prod") as more:
        first = _train(client, folder / FIRST)
        client.models.alias(MODEL, ALIAS, _number(first))
        more.append(first)
    with steps.step("a second, on ten times the tweets") as more:
        second = _train(client, folder / MORE)
        told = client.models.compare(
            first, second, folder / HELD_OUT, label="sentiment", slices=["size"]
        )
        accuracies = {
            first: told.first["metrics"]["accuracy"],
            second: told.second["metrics"]["accuracy"],
        }
        fixed, broken = told.against["fixed"], told.against["broken"]
        more.append(f"{fixed} answers are right now, {broken} are not any more")
    with steps.step("it answers a share, then all") as more:
        client.models.canary(second, ALIAS, share=0.2, limits={"error_share": 0.02})
        canary = _wave(client, texts)
        client.models.promote(second, ALIAS, gate=TAKES_OVER)
        more.append("  ".join(f"{name} {count}" for name, count in sorted(canary.items())))
    with steps.step("a third, on labels turned round, is tried") as more:
        third = _train(client, folder / WRONG)
        trial = client.models.canary(third, ALIAS, share=0.5, limits={"disagreement": 0.3})
        _until_it_returns(client, trial, texts)
        more.append(f"returned: {trial.reason}")
    return TookOver(accuracies, fixed, broken, canary, str(trial.reason))


def _until_it_returns(client: Forebay, trial: Trial, texts: Sequence[str]) -> None:
    deadline_s = time.monotonic() + RETURNED_WITHIN_S
    while trial.refresh().state == "running":
        if time.monotonic() > deadline_s:
            raise failed("the bad version was not returned in time", json.dumps(trial.document))
        _wave(client, texts)


def _train(client: Forebay, data: Path) -> str:
    job = client.train(MODEL, spec_of(data.as_uri()))
    job.wait(DONE_WITHIN_S)
    if job.state != "succeeded":
        raise failed(f"the training is {job.state}", json.dumps(job.document.get("error")))
    return str(job.result["version"])


def _wave(client: Forebay, texts: Sequence[str]) -> dict[str, int]:
    """How many texts each version answered."""
    group = client.submit_many(f"{MODEL}@{ALIAS}", [{"text": text} for text in texts[:WAVE]])
    group.wait(DONE_WITHIN_S)
    counts: dict[str, int] = {}
    for job in client.jobs(group=group.id):
        name = str(job.document["model"])
        counts[name] = counts.get(name, 0) + 1
    return counts


def _number(version: str) -> int:
    return int(version.rpartition(":")[2])
