"""What an evaluation says of the answers before it is what comparing them one by one says, on the
parts that serve models."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from storage.records.bulk import (
    BulkFormat,
    BulkInput,
    BulkOutput,
    BulkSpec,
    PartFormat,
    spec_of,
)
from storage.records.evaluations import EvaluationSpec
from storage.records.jobs import ClaimedJob, JobState
from storage.records.models import ModelVersion
from storage.records.signatures import Signature
from tests.support.bulk_files import npy, parquet
from tests.support.bulk_worker import bulk_worker, household, submit_bulk, submit_group
from tests.support.household import Household, new_id
from tests.support.linear_models import WIDTH, LinearRuntime, answers, push
from workers.bulk import planning, replaying
from workers.bulk.evaluating import reading
from workers.bulk.evaluating.comparing import compare
from workers.bulk.side import BulkSide

LABELS = ["ant", "bee", "cat"]
HUGE = 1e30  # times itself it is no number of a float32


class Desk:
    """Files, versions and jobs of one test."""

    def __init__(self, house: Household, folder: Path, bulk: BulkSide) -> None:
        self.house, self.folder, self.bulk = house, folder, bulk
        self._chance = np.random.default_rng(11)

    def rows(self, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return self._chance.normal(size=(count, WIDTH)).astype(np.float32)

    def matrix(self, outputs: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        return self._chance.normal(size=(WIDTH, outputs))

    def put(self, name: str, rows: Any, truth: Sequence[object] | None = None) -> None:
        columns: dict[str, Any] = {"x": rows}
        if truth is not None:
            columns["truth"] = list(truth)
        (self.folder / "in").mkdir(exist_ok=True)
        (self.folder / "in" / name).write_bytes(parquet(columns))

    def spec(self, pattern: str = "*.parquet", **evaluation: Any) -> Any:
        asked = EvaluationSpec(**evaluation) if evaluation else None
        given = BulkInput((f"file://{self.folder}/in/{pattern}",))
        return BulkSpec(given, BulkOutput(), max_error_share=1.0, evaluation=asked)

    def finish(self, version: ModelVersion, spec: BulkSpec) -> str:
        (job,) = self.house.wait_terminal([submit_bulk(self.house, version, spec)])
        assert job.state is JobState.SUCCEEDED, job.error
        return job.id

    def error(self, version: ModelVersion, spec: BulkSpec) -> tuple[str, str]:
        (job,) = self.house.wait_terminal([submit_bulk(self.house, version, spec)])
        assert job.state is JobState.FAILED and job.error is not None
        return job.error.code, job.error.message

    def compared(self, job_id: str) -> dict[str, Any]:
        """As the owner of the job worked it out at its end, and as it comes out again."""
        house, job = self.house, self.house.job(job_id)
        with house.database.read() as tx:
            run, parts = tx.bulk.run(job_id), tx.bulk.parts(job_id)
            payload, version = (
                tx.jobs.payload(house.tenant, job_id),
                tx.models.by_id(job.version_id),
            )
        assert run is not None and version is not None and isinstance(payload, bytes)
        claimed = ClaimedJob(job_id, job.tenant, 1, version.id, 2, 0, 1, 0, 0, 0, payload)
        told = compare(
            self.bulk._kit,
            claimed,
            spec_of(payload),
            run,
            parts,
            Signature.from_json(version.signature),
            lambda: True,
        )
        assert told is not None
        result = house.result(job)
        assert json.loads(json.dumps(told)) == result["against"]
        assert result["metrics"]["disagreement"] == told["share"]
        with house.database.read() as tx:
            kept = tx.evaluations.get(house.tenant, job_id)
        assert kept is not None and kept.document == result
        return told


@pytest.fixture(params=["embedded", "services"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    house = household(request, tmp_path)
    with bulk_worker(house, tmp_path, LinearRuntime()) as bulk:
        yield Desk(house, tmp_path, bulk)


def best(scores: Any) -> list[str]:
    return [LABELS[at] for at in scores.argmax(axis=1)]


def transitions_of(before: Sequence[str], after: Sequence[str]) -> list[dict[str, Any]]:
    pairs = Counter(pair for pair in zip(before, after, strict=True) if pair[0] != pair[1])
    ordered = sorted(pairs.items(), key=lambda one: (-one[1], one[0]))
    return [{"from": was, "to": now, "rows": rows} for (was, now), rows in ordered]


def test_two_versions_of_labels_over_the_same_files(desk: Desk) -> None:
    rows = [desk.rows(230), desk.rows(90)]
    matrices = [desk.matrix(3), desk.matrix(3)]
    rows[0][7], rows[1][3] = [HUGE, 0, 0, 0], [0, HUGE, 0, 0]  # each fails in one of the versions
    matrices[0][0, 0] = matrices[1][1, 0] = HUGE
    every = np.concatenate(rows)
    with np.errstate(all="ignore"):
        before, after = (answers(matrix, every, labelled=True) for matrix in matrices)
    both = np.isfinite(before).all(axis=1) & np.isfinite(after).all(axis=1)
    truth = [LABELS[at % 3] for at in range(len(every))]
    for file, first, last in ((0, 0, 230), (1, 230, 320)):
        desk.put(f"{file}.parquet", every[first:last], truth[first:last])
    one, other = (push(desk.house, "pets", matrix, LABELS) for matrix in matrices)
    job = desk.finish(one, desk.spec())
    told = desk.compared(desk.finish(other, desk.spec(label="truth", against=job, examples=4)))
    where = [f"0:{at}" for at in range(230)] + [f"1:{at}" for at in range(90)]
    kept = np.flatnonzero(both)
    was, now = best(before[kept]), best(after[kept])
    differ = [at for at in range(len(kept)) if was[at] != now[at]]
    assert (told["job"], told["group"], told["model"]) == (job, None, "pets:1")
    assert (told["rows"], told["missing"], told["disagreed"]) == (len(kept), 2, len(differ))
    assert len(kept) == 318 and len(differ) > 20
    assert told["share"] == len(differ) / len(kept)
    for end in told["interval"]:  # where the share would be 1.96 deviations off
        off = abs(told["share"] - end) / np.sqrt(end * (1 - end) / len(kept))
        assert off == pytest.approx(1.959963984540054)
    assert told["interval"][0] < told["share"] < told["interval"][1]
    assert told["transitions"] == transitions_of(was, now)
    sure = (before.max(axis=1) + after.max(axis=1))[kept]
    differ.sort(key=lambda at: -sure[at])
    assert [one["row_id"] for one in told["examples"]] == [where[kept[at]] for at in differ[:4]]
    assert told["differences"] is None
    assert told["fixed"] == sum(was[at] != truth[kept[at]] == now[at] for at in range(len(kept)))
    assert told["broken"] == sum(was[at] == truth[kept[at]] != now[at] for at in range(len(kept)))
    true = [truth[at] for at in kept]
    places = [LABELS.index(one) for one in true]
    assert told["metrics"]["accuracy"] == pytest.approx(accuracy_score(true, was), abs=1e-9)
    chances = before[kept].astype(np.float64)
    loss = log_loss(places, chances / chances.sum(axis=1, keepdims=True), labels=[0, 1, 2])
    assert told["metrics"]["log_loss"] == pytest.approx(loss, abs=1e-6)
    assert [one["truth"] for one in told["examples"]] == [truth[kept[at]] for at in differ[:4]]


def test_labels_are_told_as_the_model_spells_them(desk: Desk) -> None:
    labels, rows = ["1", "2", "3"], desk.rows(90)
    matrices = [desk.matrix(3), desk.matrix(3)]
    numbers = [None if at % 9 == 4 else at % 4 + 1 for at in range(90)]  # 4 is no label of theirs
    desk.put("a.parquet", rows, numbers)
    one, other = (push(desk.house, "digits", matrix, labels) for matrix in matrices)
    job = desk.finish(one, desk.spec())
    spec = desk.spec(label="truth", against=job, examples=100)
    told = desk.compared(desk.finish(other, spec))
    was, now = (
        [labels[at] for at in answers(matrix, rows, labelled=True).argmax(axis=1)]
        for matrix in matrices
    )
    true = [None if number is None else str(number) for number in numbers]
    assert told["fixed"] == sum(was[at] != true[at] == now[at] for at in range(90))
    assert told["broken"] == sum(was[at] == true[at] != now[at] for at in range(90))
    shown = {int(one["row_id"][2:]): one["truth"] for one in told["examples"]}
    assert shown == {at: true[at] for at in range(90) if was[at] != now[at]}
    known = [at for at in range(90) if true[at] in labels]
    accuracy = sum(was[at] == true[at] for at in known) / len(known)
    assert told["metrics"]["accuracy"] == pytest.approx(accuracy, abs=1e-9)


def test_numbers_that_moved_by_more_than_the_tolerance(desk: Desk) -> None:
    rows, matrix = desk.rows(300), desk.matrix(2)
    later = matrix * [1.0005, 1.0]
    later[0, 1] += 0.002
    desk.put("a.parquet", rows)
    one, other = push(desk.house, "line", matrix), push(desk.house, "line", later)
    job = desk.finish(one, desk.spec())
    told = desk.compared(desk.finish(other, desk.spec(against=job, tolerance=1e-3)))
    before, after = (
        answers(each, rows, labelled=False).astype(np.float64) for each in (matrix, later)
    )
    off = np.abs(after - before)
    least = np.maximum(np.maximum(np.abs(before), np.abs(after)), 1e-3)
    differ = (off > 1e-3 * least).any(axis=1)
    assert 20 < differ.sum() < 280
    assert (told["rows"], told["missing"]) == (300, 0)
    assert abs(told["disagreed"] - differ.sum()) <= 1  # a batch of another size may round apart
    moved = off.max(axis=1)
    expected = {"mean": moved.mean(), "p95": np.percentile(moved, 95), "max": moved.max()}
    assert told["differences"] == pytest.approx(expected, abs=1e-6)
    assert (told["transitions"], told["fixed"], told["broken"]) == ([], None, None)
    assert told["metrics"] is None


def test_the_other_sides_errors_are_those_of_the_rows_that_both_answered(desk: Desk) -> None:
    rows, matrices = desk.rows(80), [desk.matrix(1), desk.matrix(1)]
    rows[5] = [0, HUGE, 0, 0]
    matrices[1][1, 0] = HUGE  # which the later version cannot answer
    truth = desk.rows(80)[:, 0].astype(np.float64)
    desk.put("a.parquet", rows, truth.tolist())
    one, other = (push(desk.house, "line", matrix) for matrix in matrices)
    job = desk.finish(one, desk.spec())
    spec = desk.spec(label="truth", against=job, examples=1)
    told = desk.compared(desk.finish(other, spec))
    both = np.arange(80) != 5
    before = answers(matrices[0], rows[both], labelled=False)[:, 0].astype(np.float64)
    assert (told["rows"], told["missing"]) == (79, 1)
    mse = float(np.mean((before - truth[both]) ** 2))
    assert told["metrics"]["mse"] == pytest.approx(mse, rel=1e-5)
    (shown,) = told["examples"]
    assert shown["truth"] == truth[int(shown["row_id"][2:])]


def test_a_group_scored_again_is_compared_with_its_answers(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "JOBS_PER_READ", 9)
    monkeypatch.setattr(replaying, "READ_BYTES", 400)
    monkeypatch.setattr(reading, "CHUNK_ROWS", 13)
    rows, matrices = desk.rows(60), [desk.matrix(3), desk.matrix(3)]
    rows[7], rows[30] = [HUGE, 0, 0, 0], [0, HUGE, 0, 0]
    matrices[0][0, 0] = matrices[1][1, 0] = HUGE
    one, other = (push(desk.house, "pets", matrix, LABELS) for matrix in matrices)
    inputs: list[Any] = [{"tensor": row.tolist()} for row in rows]
    for at in (5, 59):
        inputs[at] = {"items": [inputs[at]]}
    group_id, ids = submit_group(desk.house, one, inputs)
    desk.house.wait_terminal(ids)
    spec = dataclasses.replace(desk.spec(against=group_id, of_group=group_id), input=BulkInput(()))
    told = desk.compared(desk.finish(other, spec))
    with np.errstate(all="ignore"):
        before, after = (answers(matrix, rows, labelled=True) for matrix in matrices)
    kept = [at for at in range(60) if at not in (5, 7, 30, 59)]
    was, now = best(before[kept]), best(after[kept])
    assert (told["job"], told["group"], told["model"]) == (None, group_id, "pets:1")
    assert (told["rows"], told["missing"]) == (56, 4)
    assert told["transitions"] == transitions_of(was, now)
    sure = {ids[at]: before[at].max() + after[at].max() for at in kept}
    differ = [ids[kept[at]] for at in range(56) if was[at] != now[at]]
    differ.sort(key=lambda job_id: -sure[job_id])
    assert [one["job"] for one in told["examples"]] == differ[:20]
    third = desk.finish(one, spec)
    later = dataclasses.replace(spec, evaluation=EvaluationSpec(of_group=group_id, against=third))
    told = desk.compared(desk.finish(other, later))  # the same group, scored in between
    assert (told["job"], told["rows"], told["missing"]) == (third, 56, 2)
    assert told["transitions"] == transitions_of(was, now)


def test_the_numbers_of_a_group_are_compared_in_the_type_of_the_model(desk: Desk) -> None:
    rows, matrix = desk.rows(40), desk.matrix(2)
    one = push(desk.house, "line", matrix)
    group_id, ids = submit_group(desk.house, one, [{"tensor": row.tolist()} for row in rows])
    desk.house.wait_terminal(ids)
    spec = desk.spec(against=group_id, of_group=group_id, tolerance=1e-5)
    told = desk.compared(desk.finish(one, dataclasses.replace(spec, input=BulkInput(()))))
    assert (told["rows"], told["disagreed"], told["missing"]) == (40, 0, 0)
    assert told["differences"]["max"] < 1e-5


def test_what_cannot_be_compared_fails_before_a_row_is_scored(desk: Desk) -> None:
    house = desk.house
    desk.put("a.parquet", desk.rows(20))
    line, pets = push(house, "line", desk.matrix(2)), push(house, "pets", desk.matrix(3), LABELS)
    job = desk.finish(line, desk.spec())
    code, says = desk.error(pets, desk.spec(against=job))
    assert code == "not_comparable" and "only one of the versions has labels" in says
    plants = push(house, "plants", desk.matrix(3), ["fern", "moss", "oak"])
    pets_job = desk.finish(pets, desk.spec())
    code, says = desk.error(plants, desk.spec(against=pets_job))
    assert code == "not_comparable" and "no label in common" in says
    (single,) = house.submit([{"tensor": [1, 2, 3, 4]}], version=line)
    house.wait_terminal([single])
    code, says = desk.error(line, desk.spec(against=single))
    assert code == "not_comparable" and "of kind inference" in says
    dry = desk.finish(line, dataclasses.replace(desk.spec(), dry_run=True))
    code, says = desk.error(line, desk.spec(against=dry))
    assert code == "not_comparable" and "dry run" in says
    failed = submit_bulk(house, line, desk.spec("b.parquet"))
    house.wait_terminal([failed])
    code, says = desk.error(line, desk.spec(against=failed))
    assert code == "not_comparable" and "failed, not succeeded" in says
    desk.put("b.parquet", desk.rows(20))
    code, says = desk.error(line, desk.spec(against=job))
    assert code == "not_comparable" and "1 files then, and 2 now" in says
    (desk.folder / "in/a.parquet").unlink()
    code, says = desk.error(line, desk.spec(against=job))
    assert code == "not_comparable" and "a.parquet" in says and "b.parquet" in says


def test_another_tenants_job_looks_like_one_that_does_not_exist(desk: Desk) -> None:
    house = desk.house
    desk.put("a.parquet", desk.rows(20))
    line = push(house, "line", desk.matrix(2))
    with house.database.begin() as tx:
        tx.tenants.ensure("bob")
    theirs, nobodys = submit_bulk(house, line, desk.spec(), tenant="bob"), new_id()
    told = {desk.error(line, desk.spec(against=one)) for one in (theirs, nobodys)}
    told = {(code, says.replace(theirs, "X").replace(nobodys, "X")) for code, says in told}
    assert len(told) == 1 and next(iter(told))[0] == "job_not_found"


def test_answers_past_their_retention_say_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    house = desk.house
    desk.put("a.parquet", desk.rows(20))
    line = push(house, "line", desk.matrix(2))
    job = desk.finish(line, desk.spec())
    with house.database.read() as tx:
        run, parts = tx.bulk.run(job), tx.bulk.parts(job)
    assert run is not None and run.plan is not None
    house.objects.delete([f"{run.plan.base}/{one.part.key}" for one in parts])
    code, says = desk.error(line, desk.spec(against=job))
    assert code == "part_gone" and f"of job {job}, to compare with, the part" in says
    monkeypatch.setattr(planning, "check_against", lambda *_: None)  # they went while it ran
    assert desk.error(line, desk.spec(against=job)) == (code, says)


def test_an_output_that_was_written_over_is_never_taken_for_the_jobs_own(desk: Desk) -> None:
    desk.put("a.parquet", desk.rows(20))
    line = push(desk.house, "line", desk.matrix(2))
    output = BulkOutput(uri=f"file://{desk.folder}/out/run", format=PartFormat.CSV, overwrite=True)
    first = desk.finish(line, dataclasses.replace(desk.spec(), output=output))
    told = desk.compared(desk.finish(line, desk.spec(against=first)))
    assert (told["rows"], told["disagreed"], told["missing"]) == (20, 0, 0)
    second = desk.finish(line, dataclasses.replace(desk.spec(), output=output))
    code, says = desk.error(line, desk.spec(against=first))
    assert code == "not_comparable" and f"written over by job {second}" in says
    (desk.folder / "out/run/manifest.json").unlink()
    code, says = desk.error(line, desk.spec(against=second))
    assert code == "part_gone" and "out/run any more" in says


def test_objects_of_a_prefix_are_compared_while_the_same_ones_lie_below_it(desk: Desk) -> None:
    rows, matrices = desk.rows(60), [desk.matrix(3), desk.matrix(3)]
    truth = [LABELS[at // 20] for at in range(60)]
    places = [f"pets/{truth[at]}/{at:02}.npy" for at in range(60)]
    for row, place in zip(rows, places, strict=True):
        path = desk.folder / "in" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(npy(row))
    given = BulkInput((f"file://{desk.folder}/in/pets/",), BulkFormat.IMAGES)
    one, other = (push(desk.house, "pets", matrix, LABELS) for matrix in matrices)
    job = desk.finish(one, dataclasses.replace(desk.spec(), input=given))
    spec = dataclasses.replace(desk.spec(against=job, examples=100), input=given)
    told = desk.compared(desk.finish(other, spec))
    was, now = (best(answers(matrix, rows, labelled=True)) for matrix in matrices)
    assert (told["rows"], told["missing"]) == (60, 0)
    assert told["transitions"] == transitions_of(was, now)
    assert told["fixed"] == sum(was[at] != truth[at] == now[at] for at in range(60))
    assert told["metrics"]["accuracy"] == pytest.approx(accuracy_score(truth, was), abs=1e-9)
    shown = {one["uri"].partition("/in/")[2]: one["truth"] for one in told["examples"]}
    assert shown == {places[at]: truth[at] for at in range(60) if was[at] != now[at]}
    (desk.folder / "in" / places[7]).rename(desk.folder / "in/pets/ant/77.npy")
    code, says = desk.error(other, spec)
    assert code == "not_comparable" and "other objects are listed" in says


def test_pictures_that_lie_in_no_folders_of_labels_can_still_be_compared(desk: Desk) -> None:
    rows, matrices = desk.rows(30), [desk.matrix(3), desk.matrix(3)]
    (desk.folder / "in/photos").mkdir(parents=True)
    for at, row in enumerate(rows):
        (desk.folder / f"in/photos/{at:02}.npy").write_bytes(npy(row))
    given = BulkInput((f"file://{desk.folder}/in/photos/",), BulkFormat.IMAGES)
    one, other = (push(desk.house, "pets", matrix, LABELS) for matrix in matrices)
    job = desk.finish(one, dataclasses.replace(desk.spec(), input=given))
    again = desk.finish(other, dataclasses.replace(desk.spec(against=job), input=given))
    result = desk.house.result(desk.house.job(again))
    was, now = (best(answers(matrix, rows, labelled=True)) for matrix in matrices)
    assert result["against"]["transitions"] == transitions_of(was, now)
    assert (result["against"]["fixed"], result["data"]["label"]) == (None, None)
    assert "accuracy" not in result["metrics"]
    code, says = desk.error(one, dataclasses.replace(desk.spec(slices=("folder",)), input=given))
    assert code == "no_labels" and "photos" in says


def test_one_hot_labels_judge_both_sides(desk: Desk) -> None:
    rows, matrices = desk.rows(40), [desk.matrix(3), desk.matrix(3)]
    places = [at % 3 for at in range(40)]
    desk.put("one.parquet", rows, [[float(at == place) for at in range(3)] for place in places])
    one, other = (push(desk.house, "pets", matrix, LABELS) for matrix in matrices)
    job = desk.finish(one, desk.spec(label="truth"))
    told = desk.compared(desk.finish(other, desk.spec(label="truth", against=job)))
    was, now = (best(answers(matrix, rows, labelled=True)) for matrix in matrices)
    truth = [LABELS[place] for place in places]
    assert told["fixed"] == sum(was[at] != truth[at] == now[at] for at in range(40))
    assert told["metrics"]["accuracy"] == pytest.approx(accuracy_score(truth, was), abs=1e-9)
