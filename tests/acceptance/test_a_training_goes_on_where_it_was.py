"""Whoever dies, stops or is told to hold: a training goes on from its checkpoint, and what comes of
it is what an undisturbed one has, bit for bit. Cancel and pause take hold at once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.show.flights_runs import ENVIRONMENT, TwoWorkers
from tests.support.postgres import Databases
from tests.support.rabbitmq import Vhosts
from tests.support.s3 import Buckets
from tests.support.stack import EmbeddedStack, Services
from tests.support.trained import LABELS, Learned, Trainings, must_be_equal, table
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

ROWS, COLUMNS = 6_000, 8
EPOCHS, BATCH = 30, 16
STEPS = EPOCHS * 300  # fewer than a curve has points: each step is told
WORKERS = ("worker", "worker2")
FEW = 3  # steps under way when the answer to a cancel or a pause was given …
HEARD_S = 1.5  # … and what is taken until the trainer has heard: it listens twice a second


def spec_of(data: Path, **fields: Any) -> dict[str, Any]:
    """Classes by a network with dropout and Adam: chance and moments are part of where it is."""
    return {
        "data": {"uri": data.as_uri(), "label": "kind"},
        "prepare": {"scale": "standard", "labels": list(LABELS)},
        "split": {"validation": 0.1, "test": 0.1, "seed": 3},
        "network": {"recipe": "dense", "units": [64, 32], "dropout": 0.2},
        "optimizer": {"name": "adam", "learning_rate": 0.002},
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "checkpoint_every_s": 1,
        "deterministic": True,
        "seed": 5,
        **fields,
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    path.write_text(table(ROWS, COLUMNS))
    return path


@pytest.fixture(scope="module")
def pair(
    data: Path,
    tmp_path_factory: pytest.TempPathFactory,
    vhosts: Vhosts,
    databases: Databases,
    buckets: Buckets,
) -> Iterator[Trainings]:
    """Two workers on RabbitMQ, PostgreSQL and S3."""
    services = Services(vhosts, databases, buckets)
    told = {**ENVIRONMENT, "FOREBAY_REF_PREFIXES": data.parent.as_uri()}
    stack = TwoWorkers(tmp_path_factory.mktemp("pair"), services, told)
    place, client = urlsplit(services.objects_url), buckets.client()

    def read(key: str) -> bytes:
        whole = f"{place.path.strip('/')}/{key}"
        return bytes(client.get_object(Bucket=place.netloc, Key=whole)["Body"].read())

    try:
        stack.prepare()
        stack.start()
        with stack.caller() as caller:
            yield Trainings(stack, caller, read)
    finally:
        client.close()
        stack.close()


@pytest.fixture(scope="module")
def undisturbed(pair: Trainings, data: Path) -> Learned:
    learned = pair.learned(pair.submit("calm", spec_of(data)))
    assert learned.steps == list(range(1, STEPS + 1))
    assert [one["epoch"] for one in learned.curves["epochs"]] == list(range(1, EPOCHS + 1))
    assert learned.evaluation["accuracy"] > 0.8
    assert any(values.any() for values in learned.weights.values())
    return learned


@pytest.fixture
def rng() -> random.Random:
    """Chance with a printed seed."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed: {seed}")
    return random.Random(seed)


def in_the_middle(pair: Trainings, job_id: str, rng: random.Random) -> Mapping[str, Any]:
    """At any step of the middle, behind a checkpoint and steps that are in none."""
    seen = pair.wait_step(job_id, rng.randrange(STEPS // 10, STEPS // 2))
    print(f"step {seen['step']}, checkpoint of step {seen['checkpoint']['step']}")
    return seen


def went_on(pair: Trainings, job_id: str, least: int) -> None:
    """It began once, and went on behind a checkpoint that was not older than the one seen."""
    began, again = pair.resumed_at(job_id)
    assert began == 0 and least <= again < STEPS, pair.log(job_id)


def test_a_trainer_killed_at_any_step_ends_with_the_same_bits(
    pair: Trainings, undisturbed: Learned, data: Path, rng: random.Random
) -> None:
    job_id = pair.submit("killed", spec_of(data))
    seen = in_the_middle(pair, job_id, rng)
    _, pid = pair.trainer(job_id, WORKERS)
    os.kill(pid, signal.SIGKILL)
    learned = pair.learned(job_id)
    assert "SIGKILL" in "\n".join(pair.log(job_id))
    went_on(pair, job_id, seen["checkpoint"]["step"])
    must_be_equal(learned, undisturbed)


def test_a_worker_killed_with_all_it_has_is_followed_by_the_other(
    pair: Trainings, undisturbed: Learned, data: Path, rng: random.Random
) -> None:
    job_id = pair.submit("lost", spec_of(data))
    seen = in_the_middle(pair, job_id, rng)
    worker, _ = pair.trainer(job_id, WORKERS)
    pair.stack.kill(worker)
    try:
        learned = pair.learned(job_id)
    finally:
        pair.stack.start(worker)
    went_on(pair, job_id, seen["checkpoint"]["step"])
    assert learned.job["attempts"] == 0, learned.job
    must_be_equal(learned, undisturbed)


def test_a_worker_told_to_end_leaves_its_training_where_it_was(
    pair: Trainings, undisturbed: Learned, data: Path, rng: random.Random
) -> None:
    job_id = pair.submit("given", spec_of(data))
    seen = in_the_middle(pair, job_id, rng)
    worker, _ = pair.trainer(job_id, WORKERS)
    (other,) = set(WORKERS) - {worker}
    pair.stack.stop(other)  # nobody goes on yet
    pair.stack.stop(worker)
    job = pair.caller.job(job_id)
    try:
        assert (job["state"], job["attempts"]) == ("queued", 0), job
        kept = job["training"]["checkpoint"]["step"]
        assert kept == job["training"]["step"] >= seen["step"]
    finally:
        pair.stack.start(worker, other)
    learned = pair.learned(job_id)
    went_on(pair, job_id, kept)
    assert pair.resumed_at(job_id) == [0, kept] and learned.job["attempts"] == 0
    must_be_equal(learned, undisturbed)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[Trainings]:
    """``forebay up``."""
    listed = {"FOREBAY_REF_PREFIXES": data.parent.as_uri()}
    stack = EmbeddedStack(tmp_path_factory.mktemp("home"), listed)
    try:
        stack.start()
        with stack.caller() as caller:
            yield Trainings(stack, caller, lambda key: (stack.home / "objects" / key).read_bytes())
    finally:
        stack.close()


def slow_spec(data: Path) -> dict[str, Any]:
    """A step of it takes so long that it is seen whether a few are taken or many."""
    network = {"recipe": "dense", "units": [1024, 1024], "dropout": 0.2}
    return spec_of(data, network=network, batch_size=480, epochs=8)


def begun(home: Trainings, job_id: str) -> float:
    """Behind its first checkpoint; how long its steps take."""
    seen = home.wait_step(job_id, 12)
    return float(seen["trained_s"] / seen["step"])


def test_a_pause_keeps_the_very_step_and_frees_the_machine(home: Trainings, data: Path) -> None:
    calm = home.learned(home.submit("calm", slow_spec(data)))
    job_id = home.submit("held", slow_spec(data))
    step_s = begun(home, job_id)
    assert home.tell(job_id, "pause")["training"]["state"] == "paused"
    at, told_s = home.seen(job_id)["step"], time.monotonic()
    _, pid = home.trainer(job_id, ["up"])
    wait_until(lambda: not home.trainers(job_id, "up"), 30, what="the end of its process")
    print(f"{time.monotonic() - told_s:.2f} s to the end of process {pid}")
    held = home.seen(job_id)
    assert held["state"] == "paused" and held["checkpoint"]["step"] == held["step"]
    few = FEW + HEARD_S / step_s
    assert at <= held["step"] <= at + few, f"{held['step'] - at} steps of {step_s:.3f} s"
    wait_until(lambda: home.caller.job(job_id)["state"] == "queued", 10, what="its owner's leave")
    assert home.seen(job_id) == held

    home.tell(job_id, "resume")
    learned = home.learned(job_id)
    assert home.resumed_at(job_id) == [0, held["step"]]
    must_be_equal(learned, calm)


def test_a_cancel_ends_it_and_its_version(home: Trainings, data: Path) -> None:
    job_id = home.submit("cancelled", slow_spec(data))
    step_s = begun(home, job_id)
    home.tell(job_id, "cancel")
    at = home.seen(job_id)["step"]
    job = home.caller.finish(job_id, 30)
    assert job["state"] == "cancelled", job
    last = curve(home, job_id)
    assert last[-1] <= at + FEW + HEARD_S / step_s, f"steps of {step_s:.3f} s: {at}, {last[-1]}"
    assert last == list(range(1, last[-1] + 1))
    name, number = job["model"].split(":")
    assert home.caller.version(name, int(number))["state"] == "broken"
    wait_until(lambda: not home.trainers(job_id, "up"), 30, what="the end of its process")
    assert curve(home, job_id) == last, "it went on measuring"


def curve(home: Trainings, job_id: str) -> list[int]:
    found = home.caller.http.get(f"/v1/jobs/{job_id}/curves", params={"points": "100000"})
    return list(found.json()["steps"]["step"])
