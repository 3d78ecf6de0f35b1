"""``forebay demo --full``: five trainings from their specs, and what their versions answer."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.demo_service import failed
from forebay.training_data import SPECS, write_digits
from forebay.tweets import TWEETS, read_tweets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from forebay.demo import Steps
    from producers.client import Forebay

NAMES = ("cnn", "cnn-flat", "dense", "tweets", "pictures")
TRAINED_WITHIN_S, SCORED_WITHIN_S = 1_200.0, 300.0
TEXTS = ("what a wonderful day, thank you all!", "worst service ever, I am so angry")


@dataclass(frozen=True, slots=True)
class Trained:
    """What became of one spec."""

    spec: str
    version: str
    epochs: int
    seconds: float
    measured: Mapping[str, float]  # on rows that the training never saw
    picture: str

    def line(self) -> str:
        """For people."""
        told = "  ".join(f"{name} {value:.1%}" for name, value in self.measured.items())
        return f"{self.version}: {told}   {self.epochs} epochs, curves in {self.picture}"


@dataclass(frozen=True, slots=True)
class Lessons:
    """All of them, and what was asked of the versions."""

    trained: list[Trained]
    texts: Mapping[str, str]  # text → label
    pictures: int  # labelled by path
    pictures_right: int
    answers: str  # the merged file

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)

    def lines(self) -> dict[str, str]:
        """For people, beside the demo's other figures."""
        right = f"{self.pictures_right:,} of {self.pictures:,} right, in {self.answers}"
        return {one.spec: one.line() for one in self.trained} | {"pictures by path": right}


def write_data(
    folder: Path, pictures: NDArray[np.uint8], labels: NDArray[np.int64], cache: Path
) -> None:
    """Everything that the specs read, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_digits(folder, pictures, labels)
    (folder / "tweets.csv").write_bytes(read_tweets(TWEETS.read(None, cache)))


def train_all(client: Forebay, data: Path, target: Path, steps: Steps) -> Lessons:
    """One training after the other; their curves and answers are written into ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    trained = []
    for name in NAMES:
        with steps.step(f"training by {name}.yaml") as more:
            trained.append(_train(client, name, data, target))
            more.append(trained[-1].line())
    with steps.step("raw texts, labelled by the trained version") as more:
        texts = {text: _label(client, text) for text in TEXTS}
        more.append("  ".join(f"{label}: {text!r}" for text, label in texts.items()))
    with steps.step("pictures by path, labelled in bulk") as more:
        answers = target / "answers.csv"
        rows, right = _label_pictures(client, data, answers)
        more.append(f"{right:,} of {rows:,} right, all in {answers}")
    return Lessons(trained, texts, rows, right, str(answers))


def read_spec(name: str, data: Path) -> tuple[str, dict[str, Any]]:
    """(model, spec) of one of the five, reading its files from ``data``."""
    import yaml

    spec = yaml.safe_load((SPECS / f"{name}.yaml").read_text(encoding="utf-8"))
    for key in ("uri", "labels_uri"):
        if key in spec["data"]:
            ending = "/" if spec["data"][key].endswith("/") else ""
            spec["data"][key] = (data / spec["data"][key]).as_uri() + ending
    return spec.pop("model"), spec


def _train(client: Forebay, name: str, data: Path, target: Path) -> Trained:
    model, spec = read_spec(name, data)
    job = client.train(model, spec)
    job.wait(TRAINED_WITHIN_S)
    if job.state != "succeeded":
        raise failed(f"the training {name} is {job.state}", json.dumps(job.document.get("error")))
    result: Mapping[str, Any] = job.result
    picture = target / f"{name}.png"
    picture.write_bytes(job.curves_png())
    told = result["evaluation"]
    measured = {"accuracy": told["accuracy"]}
    if "positive" in told:  # of two labels
        measured["recall"] = told["positive"]["recall"]
    return Trained(
        name, result["version"], result["epochs"], result["seconds"], measured, str(picture)
    )


def _label(client: Forebay, text: str) -> str:
    answered = client.submit("tweets", text=text).wait(SCORED_WITHIN_S)
    return str(answered.result["label"])


def _label_pictures(client: Forebay, data: Path, answers: Path) -> tuple[int, int]:
    """Every picture's path with its label and score, in one file; (rows, how many are right)."""
    parts = answers.with_suffix("")
    job = client.bulk(
        "digits-pictures",
        f"{(data / 'pictures').as_uri()}/",
        format="images",
        output=parts,
        output_format="csv",
        join=True,
        overwrite=True,
    )
    job.wait(SCORED_WITHIN_S)
    if job.state != "succeeded":
        raise failed(f"the bulk job is {job.state}", json.dumps(job.document.get("error")))
    rows = right = 0
    with answers.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("picture", "label", "score"))
        for row in _parts(parts):
            uri = row["uri"]
            table.writerow((uri.removeprefix(data.as_uri() + "/"), row["label"], row["score"]))
            rows += 1
            right += Path(uri).parent.name == row["label"]
    return rows, right


def _parts(folder: Path) -> Iterator[Mapping[str, str]]:
    for part in sorted(folder.glob("part-*.csv")):
        with part.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)
