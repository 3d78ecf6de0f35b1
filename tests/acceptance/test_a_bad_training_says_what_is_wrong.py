"""A training that cannot succeed says what is wrong, where, and what to do; it ends at once, its
version is never served, and the service goes on.

Every training is of one model, whose first version is good: whatever came after it, its bare name
means that one.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.caller import Caller
from tests.support.stack import EmbeddedStack, descendants
from tests.support.waiting import wait_until

MODEL = "steady"
CANARY = "canary-4f1c9d2e"
ENDS_WITHIN_S = 200.0
ROWS = [f"{n % 7},{n * 2 % 11},{('no', 'yes')[n % 2]}" for n in range(60)]
NUMBERS = [f"{n},{n * 2},{n * 3}" for n in range(60)]
QUESTION = {"record": {"a": 1, "b": 2}}
HUGE = 2_000_000_000


@dataclass(frozen=True)
class Bad:
    """A training that is accepted and fails: its code, and words of its message."""

    code: str
    says: tuple[str, ...]
    rows: tuple[str, ...] = tuple(ROWS)
    header: str = "a,b,label"
    data: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    log: tuple[str, ...] = ()


def _with(row: str, at: int = 6) -> tuple[str, ...]:
    return (*ROWS[:at], row, *ROWS[at:])


def _keras(*layers: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """A Sequential model as Keras's to_json() has it."""
    first = ("InputLayer", {"batch_shape": [None, 2], "dtype": "float32", "name": "in"})
    listed = [
        {"class_name": name, "module": "keras.layers", "registered_name": None, "config": config}
        for name, config in (first, *layers)
    ]
    config = {"name": "net", "layers": listed}
    return {
        "keras": {
            "class_name": "Sequential",
            "module": "keras",
            "registered_name": None,
            "config": config,
        }
    }


_WIDE = _keras(
    ("Dense", {"units": 1000}),
    ("RepeatVector", {"n": HUGE}),  # terabytes for a row: no machine gives them
    ("GlobalAveragePooling1D", {}),
    ("Dense", {"units": 2}),
)
_HEAVY = _keras(
    ("Dense", {"units": 1_000_000}), ("Dense", {"units": 1_000_000}), ("Dense", {"units": 2})
)
_NARROW = _keras(
    ("Embedding", {"name": "places", "input_dim": 3, "output_dim": 2}),
    ("GlobalAveragePooling1D", {}),
    ("Dense", {"units": 2}),
)
_WILD = {"loss": "mse", "optimizer": {"name": "sgd", "learning_rate": 1e30}}
_GOOD_AT_FIRST = {"name": "piecewise_constant_decay", "boundaries": [24], "values": [1e-6, 1e30]}

TABLE = {
    "a label is missing": Bad(
        "label_missing", ("data.label", "1 row", "row 7 of", "Label them"), _with("3,4,")
    ),
    "a class has one example": Bad(
        "class_too_small", ("data.label", "'rare'", "1 example", "Add some"), _with("3,4,rare")
    ),
    "a feature is NaN": Bad(
        "feature_missing", ("column 'a'", "row 7 of", "prepare.missing: drop"), _with("nan,4,yes")
    ),
    "a label is outside the map": Bad(
        "label_unknown",
        ("prepare.labels", "'maybe'", "row 7 of", "unknown_labels: drop"),
        _with("3,4,maybe"),
        spec={"prepare": {"labels": ["yes", "no"]}},
    ),
    "a text column holds numbers": Bad(
        "text_is_numbers",
        ("'words'", "data.features"),
        tuple(f"{n * 7},{n % 2}" for n in range(60)),
        "words,label",
        spec={"network": {"recipe": "text-average"}, "loss": "binary_crossentropy"},
    ),
    "a part of the split is empty": Bad(
        "split_empty",
        ("split.validation", "0.001", "60 rows", "larger share"),
        spec={"split": {"validation": 0.001, "test": 0.2}},
    ),
    "a batch is larger than the data": Bad(
        "batch_too_large",
        ("batch_size", "500", "36 rows", "36 or less"),
        spec={"batch_size": 500, "split": {"validation": 0.2, "test": 0.2}},
    ),
    "a file is not that of its digest": Bad(
        "data_changed",
        ("data.digests", "0" * 64, "it is", "name the new digest"),
        data={"digests": "0" * 64},
    ),
    "a label has a NUL": Bad(
        "bad_label", ("data.label", r"'y\x00s'", "prepare.labels"), (*ROWS, *["1,2,y\0s"] * 9)
    ),
    "the loss is no number from the first step": Bad(
        "loss_not_a_number",
        ("in step 2 of epoch 1", "no checkpoint", "smaller learning rate"),
        tuple(NUMBERS),
        spec=_WILD,
    ),
    "the loss is no number later": Bad(
        "loss_not_a_number",
        ("of epoch 5", "the checkpoint of step 24 is kept", "smaller learning rate"),
        tuple(NUMBERS),
        spec={"loss": "mse", "optimizer": "sgd", "schedule": _GOOD_AT_FIRST, "epochs": 9},
    ),
    "a step does not fit into memory": Bad(
        "out_of_memory",
        ("batch_size", "steps of 8 rows", "4 or less", "halve_batch"),
        spec={"network": _WIDE},
    ),
    "not even a single row fits": Bad(
        "out_of_memory",
        ("not even a single row fits", "smaller network"),
        spec={"network": _WIDE, "halve_batch": True},
        log=("from step 1 on they are of 4", "of 2", "of 1"),
    ),
    "the network has no place for a value": Bad(
        "bad_network",
        ("spec.network", "is not in [0, 3)", "places"),
        spec={"network": _NARROW},
    ),
    "the weights do not fit into memory": Bad(
        "out_of_memory", ("spec.network", "weights", "smaller network"), spec={"network": _HEAVY}
    ),
}


@dataclass
class School:
    """A running Forebay with a good version 1 of the model."""

    stack: EmbeddedStack
    folder: Path
    caller: Caller

    def write(self, name: str, rows: tuple[str, ...], header: str = "a,b,label") -> str:
        path = self.folder / f"{name.replace(' ', '-')}.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return path.as_uri()

    def spec(self, uri: str, **changes: Any) -> dict[str, Any]:
        return {
            "data": {"uri": uri, "label": "label"},
            "network": {"recipe": "dense", "units": [4]},
            "loss": "sparse_categorical_crossentropy",
            "epochs": 1,
            "batch_size": 8,
            **changes,
        }

    def send(self, spec: Mapping[str, Any]) -> Any:
        body = {"kind": "training", "model": MODEL, "spec": spec}
        return self.caller.http.post("/v1/jobs", json=body)

    def submit(self, spec: Mapping[str, Any]) -> str:
        answer = self.send(spec)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def log(self, job_id: str) -> str:
        lines = self.caller.http.get(f"/v1/jobs/{job_id}/log").json()["data"]
        return "\n".join(line["text"] for line in lines)

    def meant(self) -> int:
        """The version that the bare name means."""
        job = self.caller.submit(MODEL, QUESTION)
        assert self.caller.finish(job["id"])["state"] == "succeeded"
        return int(self.caller.job(job["id"])["model"].partition(":")[2])

    def assert_ended(self, job: Mapping[str, Any], code: str, *says: str) -> None:
        """It failed with this, was not tried for ever, and its version is broken by it."""
        error = job["error"]
        assert job["state"] == "failed" and error["code"] == code, (error, self.log(job["id"]))
        for words in says:
            assert words in error["message"], error["message"]
        assert job["attempts"] <= 1
        log = self.log(job["id"])
        assert "died" not in log and code in log, log
        version = self.caller.version(MODEL, int(job["model"].partition(":")[2]))
        assert version["state"] == "broken"
        assert code in str(version["error"]) and error["message"][:100] in str(version["error"])
        refused = self.caller.http.post(
            "/v1/jobs", json={"kind": "inference", "model": job["model"], "input": QUESTION}
        )
        assert refused.status_code == 422, refused.text
        assert refused.json()["code"] == "version_broken"


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> Iterator[School]:
    folder = tmp_path_factory.mktemp("data")
    told = {
        "FOREBAY_REF_PREFIXES": folder.as_uri(),
        "FOREBAY_WORKER_TRAININGS": "2",
        "AWS_ACCESS_KEY_ID": f"{CANARY}-id",
        "AWS_SECRET_ACCESS_KEY": f"{CANARY}-secret",
    }
    stack = EmbeddedStack(tmp_path_factory.mktemp("school"), told)
    try:
        stack.prepare()
        stack.start()
        with stack.caller() as caller:
            school = School(stack, folder, caller)
            job = school.submit(school.spec(school.write("good", tuple(ROWS))))
            ended = caller.finish(job, ENDS_WITHIN_S)
            assert ended["state"] == "succeeded", (ended, stack.logs())
            yield school
    finally:
        stack.close()


@pytest.fixture(scope="module")
def ended(school: School) -> dict[str, dict[str, Any]]:
    """All of them, trained at once, a few at a time."""
    sent = {}
    for name, bad in TABLE.items():
        uri = school.write(name, bad.rows, bad.header)
        spec = school.spec(uri, **bad.spec)
        if "digests" in bad.data:
            spec["data"]["digests"] = {uri: bad.data["digests"]}
        sent[name] = school.submit(spec)
    return {name: school.caller.finish(job, ENDS_WITHIN_S) for name, job in sent.items()}


@pytest.mark.parametrize("name", TABLE)
def test_it_ends_with_what_is_wrong_where_and_what_to_do(
    school: School, ended: dict[str, dict[str, Any]], name: str
) -> None:
    bad, job = TABLE[name], ended[name]
    school.assert_ended(job, bad.code, *bad.says)
    log = school.log(job["id"])
    for words in bad.log:
        assert words in log, log


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(
    school: School, ended: dict[str, dict[str, Any]]
) -> None:
    training = ended["the loss is no number later"]["training"]
    assert training["checkpoint"]["step"] == 24
    assert training["epoch"] == 4


def test_the_bare_name_still_means_the_version_before(
    school: School, ended: dict[str, dict[str, Any]]
) -> None:
    assert school.meant() == 1


LAMBDA = _keras(("Lambda", {"name": "mine", "function": "x"}), ("Dense", {"units": 2}))
REFUSED: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "a layer that holds code": ({"network": LAMBDA}, "refused_layer", ("network.keras", "Lambda")),
    "a key": ({"epoch": 3}, "unknown_field", ("spec.epoch", "'epochs'")),
    "a key of the data": ({"data": {"lable": "y"}}, "unknown_field", ("data.lable", "'label'")),
    "a key of the network": (
        {"network": {"recipe": "dense", "unit": [3]}},
        "unknown_field",
        ("spec.network.unit", "'units'"),
    ),
    "a key of the texts": (
        {"prepare": {"text": {"lenght": 3}}},
        "unknown_field",
        ("spec.prepare.text.lenght", "'length'"),
    ),
    "a key of a group's weights": (
        {"weights": {"group": {"colum": "a", "weights": {"x": 1}}}},
        "unknown_field",
        ("spec.weights.group.colum", "'column'"),
    ),
    "a metric": ({"metrics": ["acuracy"]}, "unknown_metric", ("metrics[0]", "'accuracy'")),
    "a rate below zero": (
        {"optimizer": {"name": "sgd", "learning_rate": -1}},
        "out_of_range",
        ("spec.optimizer.learning_rate", "more than 0"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_shows_in_the_spec_alone_is_refused_at_submit(school: School, name: str) -> None:
    changes, code, says = REFUSED[name]
    spec = school.spec((school.folder / "good.csv").as_uri())
    spec = {**spec, **changes, "data": {**spec["data"], **changes.get("data", {})}}
    answer = school.send(spec)
    assert answer.status_code == 400, answer.text
    problem = answer.json()
    assert problem["code"] == code and problem["field"].startswith("spec.")
    for words in says:
        assert words in problem["detail"], problem


def test_a_file_that_changed_between_a_kill_and_the_resume(school: School) -> None:
    uri = school.write("changing", tuple(ROWS * 20))
    spec = school.spec(uri, epochs=100_000, checkpoint_every_s=1)
    job = school.submit(spec)
    wait_until(
        lambda: school.caller.job(job)["training"].get("checkpoint"), ENDS_WITHIN_S, what="one kept"
    )
    school.write("changing", tuple(reversed(ROWS * 20)))
    (trainer,) = [pid for pid in descendants(school.stack.pid("up")) if job in _words(pid)]
    os.kill(trainer, signal.SIGKILL)
    ended = school.caller.finish(job, ENDS_WITHIN_S)
    error = ended["error"]
    assert ended["state"] == "failed" and error["code"] == "data_changed", error
    assert "submit" in error["message"] and uri in error["message"], error
    assert school.log(job).count("died") == 1
    assert school.meant() == 1


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def _file(tmp_path: Path, **changes: Any) -> Path:
    spec = {
        "model": MODEL,
        "data": {"uri": "rows.csv", "label": "label"},
        "network": {"recipe": "dense", "units": [4]},
        "loss": "sparse_categorical_crossentropy",
        "epochs": 1,
        **changes,
    }
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def test_the_command_names_the_line_of_the_spec_and_the_file(
    school: School, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,label", *_with("3,4,")]) + "\n")
    done = school.stack.run("train", str(_file(tmp_path)), "--wait", deadline_s=ENDS_WITHIN_S)
    assert done.returncode == 1, done.stderr
    assert "label_missing: spec.data.label:" in done.stderr and "row 7 of" in done.stderr
    assert "spec.yaml, line 4" in done.stderr and " is rows.csv" in done.stderr, done.stderr


def test_the_command_refuses_what_is_no_spec(school: School, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,label", *ROWS]) + "\n")
    done = school.stack.run("train", str(_file(tmp_path, epoch=3)))
    assert done.returncode == 2 and "did you mean 'epochs'?" in done.stderr, done.stderr
    assert "spec.yaml, line 11" in done.stderr, done.stderr
    down = {"FOREBAY_API_URL": "http://127.0.0.1:1"}
    done = school.stack.run("train", str(_file(tmp_path)), environment=down)
    assert done.returncode == 4 and "is it running?" in done.stderr, done.stderr


def test_nothing_that_is_told_or_logged_has_a_key_in_it(
    school: School, ended: dict[str, dict[str, Any]]
) -> None:
    told = [school.stack.logs()]
    for job in school.caller.jobs(kind="training"):
        told += [repr(school.caller.job(job["id"])), school.log(job["id"])]
        told.append(repr(school.caller.version(MODEL, int(job["model"].partition(":")[2]))))
    assert len(told) > 3 * len(TABLE)
    assert not [text for text in told if CANARY in text]


def test_after_all_of_them_a_good_training_is_served(
    school: School, ended: dict[str, dict[str, Any]]
) -> None:
    uri = school.write("good", tuple(ROWS))
    spec = school.spec(uri)
    digest = hashlib.sha256((school.folder / "good.csv").read_bytes()).hexdigest()
    spec["data"]["digests"] = {uri: digest}
    job = school.caller.finish(school.submit(spec), ENDS_WITHIN_S)
    assert job["state"] == "succeeded", job
    made = int(job["model"].partition(":")[2])
    assert made > len(TABLE) and school.meant() == made
