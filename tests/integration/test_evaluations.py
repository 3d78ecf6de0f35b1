"""An evaluation's document is what scikit-learn says of the answers that callers get, wherever the
labels lie, and whoever ends the job."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sk

from storage.objects import Objects
from storage.records.bulk import BulkFormat, BulkInput, BulkOutput, BulkSpec, Condition, PartFormat
from storage.records.evaluations import Evaluation, EvaluationSpec
from storage.records.jobs import Job, JobState
from storage.records.models import ModelVersion
from storage.records.push_options import ScoreKind, parse_push_options
from storage.records.signatures import InputSpec, OutputSpec, Signature, build_signature
from tests.support.bulk_files import csv_lines, json_lines, npy, npz, parquet
from tests.support.bulk_worker import bulk_worker, household, submit_bulk
from tests.support.household import Household
from tests.support.late_store import LateStore
from tests.support.linear_models import WIDTH, LinearRuntime, answers, push
from workers.bulk import finishing
from workers.bulk.evaluating import document, reading
from workers.bulk.kit import Stopped
from workers.inference.ports import Array, LoadedModel, Plan

LABELS = ["ant", "bee", "cat"]
CLOSE = 1e-9


@dataclass
class Desk:
    """Files, versions and jobs of one test."""

    house: Household
    folder: Path
    chance: Any = field(default_factory=lambda: np.random.default_rng(11))

    def rows(self, count: int) -> Any:
        return self.chance.normal(size=(count, WIDTH)).astype(np.float32)

    def matrix(self, outputs: int) -> Any:
        return self.chance.normal(size=(WIDTH, outputs))

    def write(self, name: str, data: bytes) -> str:
        path = self.folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return f"file://{path}"

    def spec(
        self,
        *uris: str,
        form: BulkFormat | None = None,
        columns: Mapping[str, tuple[str, ...]] | None = None,
        where: Sequence[Condition] = (),
        parts: PartFormat = PartFormat.PARQUET,
        to: str | None = None,
        **evaluation: Any,
    ) -> BulkSpec:
        given = BulkInput(uris, form, columns or {}, tuple(where))
        place = None if to is None else f"file://{self.folder}/out/{to}"
        output = BulkOutput(uri=place, format=parts)
        asked = EvaluationSpec(**evaluation)
        return BulkSpec(given, output, max_error_share=1.0, evaluation=asked)

    def submit(self, version: ModelVersion, spec: BulkSpec) -> str:
        return submit_bulk(self.house, version, spec)

    def evaluated(self, version: ModelVersion, spec: BulkSpec) -> dict[str, Any]:
        """The document, which is the result and what is kept with the version."""
        return self.finished(self.submit(version, spec))[1]

    def finished(self, job_id: str) -> tuple[Job, dict[str, Any]]:
        (job,) = self.house.wait_terminal([job_id])
        assert job.state is JobState.SUCCEEDED, job.error
        result = dict(self.house.result(job))
        kept = self.kept(job_id)
        assert kept is not None and dict(kept.document) == result
        assert dict(kept.metrics) == result["metrics"] and kept.rows == result["rows"]
        assert kept.data_digest == result["data"]["digest"]
        assert f"{kept.model_name}:{kept.version}" == result["model"]
        return job, result

    def kept(self, job_id: str) -> Evaluation | None:
        with self.house.database.read() as tx:
            return tx.evaluations.get(self.house.tenant, job_id)

    def error(self, version: ModelVersion, spec: BulkSpec) -> tuple[str, str]:
        job_id = self.submit(version, spec)
        (job,) = self.house.wait_terminal([job_id])
        assert job.state is JobState.FAILED and job.error is not None
        assert self.kept(job_id) is None
        return job.error.code, job.error.message


@pytest.fixture(params=["embedded", "services"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "in").mkdir()
    house = household(request, tmp_path)
    with bulk_worker(house, tmp_path, LinearRuntime()):
        yield Desk(house, tmp_path)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Desk]:
    """Without services, where they make no difference."""
    (tmp_path / "in").mkdir()
    house = Household.on_sqlite(tmp_path)
    with bulk_worker(house, tmp_path, LinearRuntime()):
        yield Desk(house, tmp_path)


def check(told: Mapping[str, Any], truth: Sequence[int], scores: Any) -> None:
    """The figures of classes, by scikit-learn. ``scores``: (rows, labels)."""
    said = scores.argmax(axis=1)
    found, every = told["metrics"], range(scores.shape[1])
    each = np.stack([np.asarray(truth) == at for at in every], axis=1)
    expected = {
        "accuracy": sk.accuracy_score(truth, said),
        "f1": sk.f1_score(truth, said, average="macro", zero_division=0),
        "macro_recall": sk.recall_score(truth, said, average="macro", zero_division=0),
        "macro_precision": sk.precision_score(truth, said, average="macro", zero_division=0),
        "auc": np.mean([sk.roc_auc_score(each[:, at], scores[:, at]) for at in every]),
        "brier": np.mean(((each - scores.astype("float64")) ** 2).sum(axis=1)),
        "log_loss": -np.mean(np.log(scores.astype("float64")[np.arange(len(truth)), truth])),
    }
    for name, value in expected.items():
        assert abs(found[name] - value) < CLOSE, (name, found[name], value)
        low, high = told["intervals"][name]
        assert low < found[name] < high
    assert told["confusion"] == sk.confusion_matrix(truth, said, labels=every).tolist()


def tables(desk: Desk, sizes: Sequence[int]) -> tuple[str, Any, Any, Any]:
    """Parquet files of inputs, labels and hours: their address, and what is in them."""
    rows = desk.rows(sum(sizes))
    truth, hours = np.arange(sum(sizes)) % 3, np.arange(sum(sizes)) % 5
    at = 0
    for number, size in enumerate(sizes):
        some = slice(at, at + size)
        columns: dict[str, Any] = {
            "x": rows[some],
            "label": [LABELS[one] for one in truth[some]],
            "hour": hours[some].astype(float).tolist(),
        }
        desk.write(f"t/{number}.parquet", parquet(columns))
        at += size
    return f"file://{desk.folder}/in/t/*.parquet", rows, truth, hours


def test_several_files_and_shards_make_one_document(desk: Desk) -> None:
    uri, rows, truth, hours = tables(desk, (450, 70, 130))
    matrix = desk.matrix(3)
    version = push(desk.house, "m", matrix, LABELS)
    job_id = desk.submit(version, desk.spec(uri, label="label", slices=("hour",)))
    _, told = desk.finished(job_id)
    scores = answers(matrix, rows, labelled=True)
    assert (told["task"], told["rows"], told["failed"], told["unlabelled"]) == (
        "classes",
        650,
        0,
        0,
    )
    assert told["data"]["files"] == 3 and told["data"]["label"] == "label"
    assert told["metrics"]["rows"] == 650 and told["metrics"]["failed_share"] == 0
    check(told, truth.tolist(), scores)
    (by_hour,) = told["slices"]
    assert [one["value"] for one in by_hour["values"]] == [*"01234"]
    for at, one in enumerate(by_hour["values"]):
        mine = hours == at
        said = scores[mine].argmax(axis=1)
        assert one["rows"] == mine.sum()
        assert abs(one["metrics"]["accuracy"] - sk.accuracy_score(truth[mine], said)) < CLOSE
    assert [one["label"] for one in told["labels"]] == LABELS and told["against"] is None
    assert told["parts"] >= 3 and told["names"]["manifest"].startswith("manifest")


@pytest.mark.parametrize("form", list(PartFormat))
def test_the_parts_may_be_of_any_format_and_lie_anywhere(alone: Desk, form: PartFormat) -> None:
    uri, rows, truth, _ = tables(alone, (200, 60))
    matrix = alone.matrix(3)
    version = push(alone.house, "m", matrix, LABELS)
    spec = alone.spec(uri, label="label", slices=("hour",), parts=form, to="there")
    check(alone.evaluated(version, spec), truth.tolist(), answers(matrix, rows, labelled=True))


def test_labels_of_a_csv_and_of_json_lines_are_read_with_a_where(alone: Desk) -> None:
    rows, truth = alone.rows(300), np.arange(300) % 3
    matrix = alone.matrix(3)
    version = push(alone.house, "digits", matrix, ["0", "1", "2"])
    names = ("a", "b", "c", "d")
    told = [[*map(float, row), at, at % 2] for row, at in zip(rows, truth.tolist(), strict=True)]
    table = b"\n".join(csv_lines((*names, "digit", "odd"), told)) + b"\n"
    dicts = [dict(zip((*names, "digit", "odd"), row, strict=True)) for row in told]
    lines = b"\n".join(json_lines(dicts)) + b"\n"
    mine = truth % 2 == 1
    for uri in (alone.write("rows.csv", table), alone.write("rows.jsonl", lines)):
        spec = alone.spec(
            uri, columns={"x": names}, where=[Condition("odd", "=", 1)], label="digit"
        )
        found = alone.evaluated(version, spec)
        scores = answers(matrix, rows[mine], labelled=True)
        assert (found["rows"], found["skipped"]) == (mine.sum(), 300 - mine.sum())
        said = scores.argmax(axis=1)
        assert abs(found["metrics"]["accuracy"] - sk.accuracy_score(truth[mine], said)) < CLOSE
        assert found["data"]["where"] == [["odd", "=", 1]]


def test_labels_of_an_npz_are_another_array(alone: Desk) -> None:
    rows, truth = alone.rows(210), np.arange(210) % 3
    matrix = alone.matrix(3)
    uri = alone.write(
        "rows.npz", npz(x=rows, y=truth.reshape(-1, 1), part=(truth % 2).reshape(-1, 1))
    )
    hot = alone.write("hot.npz", npz(x=rows, y=np.eye(3)[truth]))
    labelled = push(alone.house, "labelled", matrix, ["0", "1", "2"])
    scores = answers(matrix, rows, labelled=True)
    for where, slices in ((uri, ("part",)), (hot, ())):
        told = alone.evaluated(labelled, alone.spec(where, label="y", slices=slices))
        check(told, truth.tolist(), scores)


def test_numbers_are_held_against_numbers(alone: Desk) -> None:
    rows, matrix = alone.rows(240), alone.matrix(2)
    version = push(alone.house, "two", matrix)
    said = answers(matrix, rows, labelled=False).astype("float64")
    truth = said + alone.chance.normal(0.3, 1, said.shape)
    uri = alone.write("rows.npz", npz(x=rows, y=truth))
    told = alone.evaluated(version, alone.spec(uri, label="y"))
    assert told["task"] == "numbers" and told["rows"] == 240
    expected = sk.r2_score(truth, said, multioutput="variance_weighted")
    assert abs(told["metrics"]["r2"] - expected) < CLOSE
    assert abs(told["metrics"]["mae"] - sk.mean_absolute_error(truth, said)) < CLOSE
    assert abs(told["metrics"]["bias"] - float((said - truth).mean())) < CLOSE


class Pixels(LinearRuntime):
    """Answers how red, green and blue a picture is."""

    def load(self, version: ModelVersion, artifact: Path) -> LoadedModel:
        return _Pixels(version)


class _Pixels:
    def __init__(self, version: ModelVersion) -> None:
        self.version_id = version.id
        self.signature = Signature.from_json(version.signature)
        self.plan = Plan((1, 8, 64), self.signature.serving)

    def forward(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        sums = inputs["x"].mean(axis=(1, 2)) + np.float32(0.01)
        return {"y": (sums / sums.sum(axis=1, keepdims=True)).astype(np.float32)}

    def close(self) -> None:
        pass


def test_pictures_are_labelled_by_their_folders(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    house = Household.on_sqlite(tmp_path)
    options = parse_push_options({"input": "image", "labels": ["red", "green", "blue"]})
    made = build_signature([InputSpec("x", "float32", (4, 4, 3))], options)
    like = replace(
        made,
        outputs=(OutputSpec("y", "float32", (3,)),),
        scores=ScoreKind.PROBABILITIES,
        label_output="y",
    )
    with bulk_worker(house, tmp_path, Pixels()):
        desk = Desk(house, tmp_path)
        version = house.push("pixels", like=like)
        for label, color in {"red": (255, 0, 0), "green": (0, 255, 0), "mauve": (9, 9, 9)}.items():
            for number in range(4):
                data = io.BytesIO()
                # One of the red ones is green.
                shown = (0, 255, 0) if (label, number) == ("red", 2) else color
                Image.new("RGB", (4, 4), shown).save(data, "PNG")
                desk.write(f"p/{label}/{number}.png", data.getvalue())
        desk.write("p/red/no.png", b"no picture")
        uri = f"file://{tmp_path}/in/p/"
        told = desk.evaluated(version, desk.spec(uri, form=BulkFormat.IMAGES))
        assert (told["rows"], told["failed"], told["unknown_labels"]) == (8, 1, 4)
        assert told["unknown_label_values"] == ["mauve"] and told["data"]["label"] == "folder"
        assert told["metrics"]["accuracy"] == 7 / 8
        assert abs(told["metrics"]["failed_share"] - 1 / 13) < CLOSE
        named = desk.spec(uri, form=BulkFormat.IMAGES, label="folder", slices=("folder",))
        sliced = desk.evaluated(version, named)
        assert sliced["data"]["digest"] == told["data"]["digest"]
        values = {one["value"]: one["rows"] for one in sliced["slices"][0]["values"]}
        assert values == {"green": 4, "mauve": 0, "red": 4}


@pytest.mark.parametrize("place", ["measuring", "/manifest", "packs/result"])
def test_an_owner_that_dies_half_way_leaves_one_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "in").mkdir()
    house = Household.on_sqlite(tmp_path)
    if place == "measuring":
        monkeypatch.setattr(reading, "CHUNK_ROWS", 16)
        monkeypatch.setattr(document, "scored_rows", dies_once(reading.scored_rows))
    else:
        late = LateStore(house.objects, house.database, {place: 1})
        house.objects = cast("Objects", late)
    desk = Desk(house, tmp_path)
    uri, rows, truth, _ = tables(desk, (300, 90))
    matrix = desk.matrix(3)
    with bulk_worker(house, tmp_path, LinearRuntime()):
        version = push(house, "m", matrix, LABELS)
        job, told = desk.finished(desk.submit(version, desk.spec(uri, label="label")))
    assert job.epoch == 2
    check(told, truth.tolist(), answers(matrix, rows, labelled=True))
    with house.database.read() as tx:
        assert len(tx.evaluations.of_version(version.id)) == 1


def dies_once(read: Any) -> Any:
    left = [3]

    def some(*args: Any) -> Iterator[Any]:
        for rows in read(*args):
            left[0] -= 1
            if left[0] == 0:
                raise Stopped
            yield rows

    return some


def test_a_commit_that_comes_too_late_records_nothing(
    alone: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is cancelled while it is measured: no evaluation is kept."""
    uri, *_ = tables(alone, (60,))
    version = push(alone.house, "m", alone.matrix(3), LABELS)
    whole, seen = finishing.Evaluated.document, []

    def cancelled(self: Any, compare: Any) -> Any:
        with alone.house.database.begin() as tx:
            tx.jobs.request_cancel(alone.house.tenant, self.job.id)
        seen.append(self.job.id)
        return whole(self, compare)

    monkeypatch.setattr(finishing.Evaluated, "document", cancelled)
    job_id = alone.submit(version, alone.spec(uri, label="label"))
    (job,) = alone.house.wait_terminal([job_id])
    assert job.state is JobState.CANCELLED and seen
    assert alone.kept(job_id) is None


def test_two_versions_on_the_same_data_agree_on_its_digest_and_other_data_differ(
    alone: Desk,
) -> None:
    uri, *_ = tables(alone, (60, 40))
    first = push(alone.house, "m", alone.matrix(3), LABELS)
    second = push(alone.house, "n", alone.matrix(3), LABELS)

    def digest(version: ModelVersion, *uris: str, **asked: Any) -> str:
        spec = alone.spec(*uris, **{"label": "label", **asked})
        return str(alone.evaluated(version, spec)["data"]["digest"])

    same = digest(first, uri)
    assert digest(second, uri) == digest(first, uri, slices=("hour",)) == same
    one_file = uri.replace("*", "0")
    others = {
        digest(first, one_file),
        digest(first, uri, where=[Condition("hour", "<", 3)]),
        digest(first, uri, where=[Condition("hour", "<", 4)]),
        digest(push(alone.house, "h", alone.matrix(5), [*"01234"]), uri, label="hour"),
    }
    assert len(others) == 4 and same not in others


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ({"label": "lable"}, "unknown_column", "evaluation.label names 'lable'"),
        (
            {"label": "label", "slices": ("hour", "place")},
            "unknown_column",
            "evaluation.slices[1] names 'place'",
        ),
        ({}, "no_labels", "no label is named"),
        ({"label": "nothing"}, "no_labels", "of 60 rows that were answered 60 have nothing"),
        ({"label": "hour"}, "no_labels", "no label for (0, 1, 2, 3, 4)"),
    ],
)
def test_data_that_says_nothing_of_the_answers_fails_the_job_by_name(
    alone: Desk, asked: dict[str, Any], code: str, words: str
) -> None:
    rows = alone.rows(60)
    columns: dict[str, Any] = {
        "x": rows,
        "label": ["ant"] * 60,
        "hour": [at % 5 for at in range(60)],
        "nothing": [" "] * 60,
    }
    uri = alone.write("t.parquet", parquet(columns))
    version = push(alone.house, "m", alone.matrix(3), LABELS)
    found, says = alone.error(version, alone.spec(uri, **asked))
    assert found == code and words in says


def test_arrays_and_requests_hold_no_label(alone: Desk) -> None:
    version = push(alone.house, "m", alone.matrix(3), LABELS)
    uri = alone.write("rows.npy", npy(alone.rows(5)))
    assert alone.error(version, alone.spec(uri))[0] == "no_labels"
    line = b'{"custom_id": "a", "body": {"input": {"tensor": [0, 0, 0, 0]}}}\n'
    uri = alone.write("rows.jsonl", line)
    spec = alone.spec(uri, form=BulkFormat.REQUESTS, label="label")
    assert alone.error(version, spec)[0] == "no_labels"


def test_lists_of_another_length_than_the_answers_are_found_before_scoring(alone: Desk) -> None:
    version = push(alone.house, "two", alone.matrix(2))
    uri = alone.write("rows.npz", npz(x=alone.rows(9), y=np.zeros((9, 3))))
    code, says = alone.error(version, alone.spec(uri, label="y"))
    assert code == "labels_mismatch" and "lists of 3 numbers" in says
