"""Five programs become specs: each trains on real data, says how good it is on rows that it never
saw, and its version answers at once."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forebay import Forebay
from tests.show import trainings
from tests.show.flights_runs import TwoWorkers
from tests.show.trainings import NoData, Training
from tests.support.fixtures import missing
from tests.support.postgres import Databases
from tests.support.rabbitmq import Vhosts
from tests.support.s3 import Buckets
from tests.support.stack import EmbeddedStack, Services, Stack

pytestmark = pytest.mark.slow
LISTS = 10
TEXTS = {"positive": "what a wonderful day, thank you all!", "negative": "worst service, so angry"}


@dataclass
class School:
    """A running Forebay that may read the folder of the data."""

    stack: Stack
    folder: Path

    def train(self, name: str) -> Training:
        return trainings.train(self.stack, self.folder / f"{name}.yaml")

    def curves(self, training: Training) -> dict[str, Any]:
        with Forebay(self.stack.url, key="") as client:
            return dict(client.job(training.job["id"]).curves())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trainings")
    try:
        trainings.write_all(folder)
    except NoData as error:
        missing(f"there is nothing to train on: {error}")
    return folder


@pytest.fixture(scope="module")
def school(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[School]:
    stack = EmbeddedStack(tmp_path_factory.mktemp("school"))
    try:
        stack.prepare()
        stack.start()
        yield School(stack, folder)
    finally:
        stack.close()


def test_a_cnn_with_pooling_learns_digits_one_hot(school: School) -> None:
    training = school.train("cnn")
    curves = school.curves(training)
    assert [one["epoch"] for one in curves["epochs"]] == list(range(1, 11))
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(curves["epochs"][0])
    assert curves["steps"]["step"] == list(range(1, 1101)) and None not in curves["steps"]["loss"]
    assert training.measured["accuracy"] >= 0.95, training.measured
    assert training.measured["rows"] == 1000
    assert training.picture.read_bytes().startswith(b"\x89PNG")


def test_a_cnn_without_pooling_learns_them_by_number(school: School) -> None:
    training = school.train("cnn-flat")
    assert len(school.curves(training)["epochs"]) == 5
    assert training.measured["accuracy"] >= 0.92, training.measured


def test_dense_layers_learn_ten_classes_and_are_judged_on_rows_they_never_saw(
    school: School,
) -> None:
    training = school.train("dense")
    assert training.measured["accuracy"] >= 0.90, training.measured
    data = training.result["data"]
    assert data["labels"] == [str(digit) for digit in range(10)]
    assert sum(map(sum, training.measured["confusion"])) == training.measured["rows"] == 750


def test_tweets_are_learned_and_served_with_raw_text_in(school: School) -> None:
    training = school.train("tweets")
    assert training.measured["accuracy"] >= 0.75, training.measured
    assert training.measured["positive"]["label"] == "positive"
    assert training.measured["positive"]["recall"] >= 0.7, training.measured
    with Forebay(school.stack.url, key="") as client:
        for label, text in TEXTS.items():
            assert client.submit("tweets", text=text).wait(60).result["label"] == label
    shown = school.stack.run("jobs", "show", training.job["id"])
    assert shown.returncode == 0
    assert all(word in shown.stdout for word in ("loss", "accuracy", "recall", "validation"))


@pytest.fixture(scope="module")
def pair(
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    vhosts: Vhosts,
    databases: Databases,
    buckets: Buckets,
) -> Iterator[School]:
    """Two workers that may read the folder."""
    listed = {"FOREBAY_REF_PREFIXES": folder.as_uri(), "FOREBAY_WORKER_TF_THREADS": "1"}
    services = Services(vhosts, databases, buckets)
    stack = TwoWorkers(tmp_path_factory.mktemp("pair"), services, listed)
    try:
        stack.prepare()
        stack.start()
        yield School(stack, folder)
    finally:
        stack.close()


def test_pictures_by_path_are_labelled_by_several_workers_in_one_readable_file(
    pair: School, tmp_path: Path
) -> None:
    spec = trainings.at_address(pair.folder, "pictures")
    training = trainings.train(pair.stack, spec)
    assert training.measured["accuracy"] >= 0.85, training.measured
    out = tmp_path / "labelled"
    uri = _lists(pair.folder)
    line = ("bulk", "digits-pictures", uri, "--format", "uris", "--output-format", "csv")
    done = pair.stack.run(*line, "--join", "--output", str(out), "--wait", "--json", deadline_s=200)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [row for part in sorted(out.glob("part-*.csv")) for row in _rows(part)]
    right = Counter(Path(row["uri"]).parent.name == row["label"] for row in rows)
    assert right.total() == 5000 and right[True] >= 0.85 * 5000
    parts = json.loads((out / "manifest.json").read_text())["parts"]
    assert len({part["name"].split("-")[1] for part in parts}) > 1, "one shard has no two workers"


def _lists(folder: Path) -> str:
    """Lists of the pictures' addresses, each a shard at least: where they lie."""
    lists = folder / "lists"
    lists.mkdir()
    pictures = sorted((folder / "pictures").glob("*/*.png"))
    for number in range(LISTS):
        lines = [f"{picture.as_uri()}\n" for picture in pictures[number::LISTS]]
        (lists / f"{number}.txt").write_text("".join(lines))
    return f"{lists.as_uri()}/*.txt"


def _rows(part: Path) -> list[dict[str, str]]:
    with part.open(newline="") as file:
        return list(csv.DictReader(file))
