"""The auditor finds each kind of damage to trainings, their versions and checkpoints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.objects.packs import PackWriter
from tests.faults.auditor.checks import audit
from tests.faults.auditor.evidence import Evidence

Row = dict[str, Any]
STEPS, EPOCHS = 12, 3
ARTIFACT, KEPT, OLD = b"weights", b"checkpoint", b"an older checkpoint"
NAMES = ("one", "two")


class Case:
    """Two trainings of a tenant that measured the same, to be damaged before they are written."""

    def __init__(self) -> None:
        self.tables: dict[str, list[Row]] = {
            name: []
            for name in ("jobs", "ends", "packs", "training_runs", "training_measures", "versions")
        }
        self.objects: dict[str, bytes] = {"models/ayla/artifact": ARTIFACT}
        self.asked: list[Row] = []
        self.ids = [f"job-{name}" for name in NAMES]
        for job_id, name in zip(self.ids, NAMES, strict=True):
            self._training(job_id, name)

    def _training(self, job_id: str, name: str) -> None:
        told = {"model": name, "steps": STEPS, "epochs": EPOCHS, "twins": "line"}
        expect = {"states": ["succeeded", "cancelled"]}
        asked = {"custom_id": name, "question": None, "training": told, "expect": expect}
        self.asked.append(asked)
        self.tables["jobs"].append({"id": job_id, "tenant": "ayla", "custom_id": name})
        writer = PackWriter(f"result-{name}")
        result = {"steps": STEPS, "epochs": EPOCHS, "version": f"{name}:1"}
        place = writer.add(job_id, json.dumps(result).encode())
        data, summary = writer.finish()
        end = {"id": job_id, "tenant": "ayla", "state": "succeeded", "error_code": None}
        place_of = {
            "result_pack_id": place.pack_id,
            "result_offset_bytes": place.offset_bytes,
            "result_length_bytes": place.length_bytes,
            "result_digest": place.digest,
        }
        self.tables["ends"].append({**end, **place_of, "attempts": 0, "losses": 0})
        self._pack(place.pack_id, data, summary.entries)
        self._pack(f"kept-{name}", KEPT, 1)
        self._pack(f"old-{name}", OLD, 1, "doomed")
        self.tables["training_runs"].append(
            {
                "job_id": job_id,
                "tenant": "ayla",
                "version_id": f"version-{name}",
                "result": json.dumps(result),
                "checkpoint_pack_id": f"kept-{name}",
                "checkpoint_key": f"packs/result/ayla/2026-01-01/kept-{name}",
                "checkpoint_digest": hashlib.sha256(KEPT).hexdigest(),
                "checkpoint_step": STEPS,
            }
        )
        self.tables["versions"].append(
            {
                "id": f"version-{name}",
                "tenant": "ayla",
                "name": name,
                "state": "ready",
                "object_key": "models/ayla/artifact",
                "digest": hashlib.sha256(ARTIFACT).hexdigest(),
            }
        )
        for epoch in range(1, EPOCHS + 1):
            steps = list(range(epoch * 4 - 3, epoch * 4 + 1))
            self._measure(job_id, "steps", {"step": steps, "loss": [1 / one for one in steps]})
            self._measure(job_id, "epoch", {"epoch": epoch, "loss": 1 / epoch}, epoch * 4)

    def _pack(self, pack_id: str, data: bytes, entries: int, state: str = "live") -> None:
        key = f"packs/result/ayla/2026-01-01/{pack_id}"
        if pack_id.startswith("result-"):
            key += ".pack"
        row = {"id": pack_id, "tenant": "ayla", "state": state, "object_key": key}
        self.tables["packs"].append({**row, "entries": entries})
        self.objects[key] = data

    def _measure(self, job_id: str, scope: str, told: Row, step: int = 0) -> None:
        at = step or told["step"][-1]
        row = {"job_id": job_id, "scope": scope, "step": at, "told": json.dumps(told)}
        self.tables["training_measures"].append(row)

    def audit(self, folder: Path) -> Row:
        for key, data in self.objects.items():
            (folder / "objects" / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / "objects" / key).write_bytes(data)
        book: list[Row] = [
            {"sent": "r1", "tenant": "ayla", "key": "k", "jobs": self.asked},
            {"accepted": "r1", "tenant": "ayla", "key": "k", "ids": self.ids},
        ]
        (folder / "tables").mkdir()
        _write_lines(folder / "book.jsonl", book)
        for name, rows in self.tables.items():
            _write_lines(folder / "tables" / f"{name}.jsonl", rows)
        return audit(Evidence(folder))


def _write_lines(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_sound_trainings_are_sound(tmp_path: Path) -> None:
    found = Case().audit(tmp_path)
    assert found["findings"] == []
    assert found["accepted"] == 2


def tell_a_step_twice(case: Case) -> None:
    case._measure("job-one", "steps", {"step": [4, 5], "loss": [0.25, 0.2]}, 5)


def tell_an_epoch_twice(case: Case) -> None:
    case._measure("job-one", "epoch", {"epoch": 2}, 9)


def leave_steps_out(case: Case) -> None:
    del case.tables["training_measures"][2]


def measure_something_else(case: Case) -> None:
    row = case.tables["training_measures"][0]
    row["told"] = json.dumps({"step": [1, 2, 3, 4], "loss": [1.0, 0.5, 0.3, 0.25]})


def train_beyond_the_end(case: Case) -> None:
    case._measure("job-one", "steps", {"step": [13], "loss": [0.1]}, 13)


def leave_the_version_waiting(case: Case) -> None:
    case.tables["versions"][0]["state"] = "training"


def break_a_good_version(case: Case) -> None:
    case.tables["versions"][0]["state"] = "broken"


def serve_what_was_cancelled(case: Case) -> None:
    case.tables["ends"][0]["state"] = "cancelled"


def reserve_twice(case: Case) -> None:
    case.tables["versions"].append({**case.tables["versions"][0], "id": "another"})


def make_it_for_another(case: Case) -> None:
    case.tables["versions"][0]["tenant"] = "bora"


def lose_the_artifact(case: Case) -> None:
    case.objects["models/ayla/artifact"] = b"other weights"


def lose_the_checkpoint(case: Case) -> None:
    del case.objects["packs/result/ayla/2026-01-01/kept-one"]


def doom_the_checkpoint(case: Case) -> None:
    case.tables["packs"][1]["state"] = "doomed"


def leave_an_old_checkpoint_behind(case: Case) -> None:
    case.tables["packs"][2]["state"] = "live"


def leave_an_object_without_a_row(case: Case) -> None:
    del case.tables["packs"][2]


def keep_the_wrong_step(case: Case) -> None:
    case.tables["training_runs"][0]["checkpoint_step"] = 8


def lose_the_run(case: Case) -> None:
    del case.tables["training_runs"][0]


def run_for_nobody(case: Case) -> None:
    case.tables["training_runs"].append({**case.tables["training_runs"][0], "job_id": "stranger"})


@pytest.mark.parametrize(
    ("damage", "kind", "says"),
    [
        (tell_a_step_twice, "doubled", "step 4 more than once"),
        (tell_an_epoch_twice, "doubled", "epoch 2 more than once"),
        (leave_steps_out, "lost", "does not tell 4 steps: 5"),
        (measure_something_else, "crossed", "something else"),
        (train_beyond_the_end, "crossed", "step 13 of 12"),
        (leave_the_version_waiting, "stuck", "version is training"),
        (break_a_good_version, "lost", "version is broken"),
        (serve_what_was_cancelled, "lost", "version is ready"),
        (reserve_twice, "doubled", "have 2 versions"),
        (make_it_for_another, "crossed", "made bora one"),
        (lose_the_artifact, "lost", "artifact"),
        (lose_the_checkpoint, "lost", "not there as its run says"),
        (doom_the_checkpoint, "lost", "no live row"),
        (leave_an_old_checkpoint_behind, "lost", "damaged"),
        (leave_an_object_without_a_row, "stray", "no row knows"),
        (keep_the_wrong_step, "lost", "is of 8"),
        (lose_the_run, "lost", "has 0 runs"),
        (run_for_nobody, "crossed", "no accepted training"),
    ],
)
def test_damage_is_found(
    tmp_path: Path, damage: Callable[[Case], None], kind: str, says: str
) -> None:
    case = Case()
    damage(case)
    found = case.audit(tmp_path)
    assert found[kind] >= 1 and any(says in one for one in found["findings"]), found
