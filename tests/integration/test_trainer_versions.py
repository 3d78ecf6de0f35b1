"""What a trainer makes can be served by raw text, and trained on: with its own words."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from storage.clock import SystemClock
from storage.database import Database
from storage.objects import Objects, open_objects
from storage.records.models import ModelVersion, VersionState
from storage.records.training import (
    DataFormat,
    Named,
    Network,
    Preparation,
    Split,
    TextPreparation,
    TrainingData,
    TrainingSpec,
    payload_of,
)
from storage.records.training_runs import TrainingRun
from tests.support.database import claim, open_session
from tests.support.training import submit_training
from workers.bulk.places import Places
from workers.inference.artifacts import Artifacts
from workers.runtime.keras_runtime import KerasRuntime
from workers.runtime.learning.opening import open_learning
from workers.training.data.prepare import prepare
from workers.training.exits import TrainerExit
from workers.training.trainer import run
from workers.training.trainer_parts import Framework, TrainerParts

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

GOOD, BAD = ("fine", "lovely", "great"), ("awful", "poor", "dull")


@dataclass(frozen=True)
class Shop:
    """A database, a store and a file of texts."""

    database: Database
    objects: Objects
    folder: Path

    def train(
        self, spec: TrainingSpec, ends: TrainerExit = TrainerExit.FINISHED
    ) -> tuple[TrainingRun, ModelVersion]:
        job_id = submit_training(self.database, payload=payload_of(spec))
        session_id = open_session(self.database, lease_ttl_ms=10**9)
        (job,) = claim(self.database, session_id, [job_id])
        learning = open_learning("cpu", None, False, spec.seed)
        framework = Framework(
            learning.open_learner, learning.vectorizer_of, learning.vectorizer_of_version
        )
        spool = self.folder / f"spool-{job_id}"
        spool.mkdir()
        parts = TrainerParts(
            database=self.database,
            objects=self.objects,
            places=Places(self.database, self.objects, (f"file://{self.folder}/data/",), ()),
            prepare=prepare,
            import_framework=lambda _: lambda: framework,
            clock=SystemClock(),
            spool=spool,
            cache_dir=self.folder / "cache",
            retention_days=30,
            stop=threading.Event(),
        )
        code = run(parts, job_id, session_id, job.epoch)
        with self.database.read() as tx:
            made = tx.training.run(job_id)
            assert made is not None
            version = tx.models.by_id(made.version_id)
        assert code == ends and version is not None, made.error
        return made, version


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    (tmp_path / "data").mkdir()
    with (tmp_path / "data/texts.jsonl").open("w") as file:
        for number in range(240):
            words, mood = ((GOOD, "happy"), (BAD, "sad"))[number % 2]
            text = f"This is {words[number % 3]}, number {number % 7}!"
            file.write(json.dumps({"text": text, "mood": mood}) + "\n")
    with closing(Database.open(f"sqlite:///{tmp_path / 'forebay.db'}")) as database:
        database.migrate()
        yield Shop(database, open_objects(f"file://{tmp_path / 'objects'}"), tmp_path)


def spec_of(shop: Shop, **fields: Any) -> TrainingSpec:
    spec = TrainingSpec(
        data=TrainingData(
            uris=(f"file://{shop.folder}/data/texts.jsonl",),
            format=DataFormat.JSONL,
            features=("text",),
            label="mood",
        ),
        network=Network(recipe="text-average", arguments={"embedding": 16, "units": [8]}),
        loss=Named("binary_crossentropy"),
        prepare=Preparation(text=TextPreparation(max_tokens=50, length=8)),
        split=Split(validation=0.1, test=0.2),
        optimizer=Named("adam", {"learning_rate": 0.02}),
        metrics=("accuracy", "recall"),
        epochs=8,
        batch_size=16,
    )
    return replace(spec, **fields)


def test_texts_are_learned_served_raw_and_learned_on_with_the_same_words(shop: Shop) -> None:
    made, version = shop.train(spec_of(shop))
    evaluation = (made.result or {})["evaluation"]
    assert evaluation["accuracy"] > 0.9 and evaluation["positive"]["label"] == "sad"
    assert evaluation["metrics"]["recall"] == pytest.approx(evaluation["positive"]["recall"])
    assert evaluation["metrics"]["accuracy"] == pytest.approx(evaluation["accuracy"])
    assert version.state is VersionState.PENDING and version.signature["form"] == "text"
    assert version.signature["labels"] == ["happy", "sad"]

    runtime = KerasRuntime("cpu")
    runtime.start()
    model = runtime.load(version, Artifacts(shop.objects, shop.folder / "cache").fetch(version))
    assert model.signature.labels == ("happy", "sad")
    model.close()

    network = Network(version=f"digits:{version.version}", version_id=version.id, frozen_layers=1)
    again, second = shop.train(spec_of(shop, network=network, epochs=2))
    assert (again.result or {})["evaluation"]["accuracy"] > 0.9
    assert (second.origin or {})["parents"] == ["digits:1"]
    assert second.version == 2 and second.digest != version.digest
    assert second.signature == version.signature

    swapped = Preparation(
        text=TextPreparation(max_tokens=50, length=8),
        labels=(("sad", "sad"), ("happy", "happy")),
    )
    refused, _ = shop.train(spec_of(shop, network=network, prepare=swapped), TrainerExit.FAILED)
    assert refused.error is not None and refused.error.code == "version_mismatch"
    assert refused.error.message.startswith("spec.prepare.labels: label 1 of digits:1 is 'happy'")
