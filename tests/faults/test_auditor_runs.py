"""The auditor finds each kind of damage to a bulk job's outputs."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.objects.packs import PackWriter
from tests.faults.auditor.checks import audit
from tests.faults.auditor.evidence import Evidence

Row = dict[str, Any]
FILES, EACH = 2, 6
WRONG = {"1:2": "model_error"}


class Case:
    """A run of two files, each a part, one row of which has an error; to be damaged. What is in
    the parts and lines is sealed afterwards, so that only what was damaged is wrong."""

    def __init__(self) -> None:
        self.inputs: dict[str, bytes] = {}
        self.parts: list[list[Row]] = []
        self.lines = [{"row_id": one, "code": code, "message": "-"} for one, code in WRONG.items()]
        for file in range(FILES):
            numbers = [100 * file + n for n in range(EACH)]
            x = [[float(n), n / 8] for n in numbers]
            self.inputs[f"in/{file}.parquet"] = _parquet({"n": numbers, "x": x})
            rows = zip(numbers, x, strict=True)
            answers = [
                {"row_id": f"{file}:{place}", "n": n, "prediction": answer}
                for place, (n, answer) in enumerate(rows)
            ]
            self.parts.append([one for one in answers if one["row_id"] not in WRONG])
        self.end: Row = {"state": "succeeded", "error_code": None}
        self.rows: list[Row] = []
        self.manifest: Row = {"job": "run", "complete": True, "state": "succeeded"}
        self.files: dict[str, bytes] = {}
        self.result: Row = {}
        self.after: list[Callable[[Case], None]] = []  # damage to what was sealed

    def seal(self) -> None:
        parts = []
        for number, rows in enumerate(self.parts):
            name = f"part-{number:05d}-001-000000000000.parquet"
            data = self.files[name] = _parquet(
                {key: [one[key] for one in rows] for key in ("row_id", "n", "prediction")}
            )
            digest = hashlib.sha256(data).hexdigest()
            failed = sum(one["row_id"].startswith(f"{number}:") for one in self.lines)
            sums = {"rows": len(rows), "failed": failed, "size_bytes": len(data)}
            parts.append({"name": name, "sha256": digest, **sums})
        lines = b"".join(json.dumps(one).encode() + b"\n" for one in self.lines)
        self.files["errors.jsonl"] = lines
        errors = {"size_bytes": len(lines), "sha256": hashlib.sha256(lines).hexdigest()}
        sums = {key: sum(one[key] for one in parts) for key in ("rows", "failed")}
        self.manifest |= {"parts": parts, "errors": errors, **sums}
        names = {"manifest": "manifest.json", "errors": "errors.jsonl"}
        self.result |= {"names": names, **sums}
        for damage in self.after:
            damage(self)
        if "manifest.json" not in self.files:
            self.files["manifest.json"] = json.dumps(self.manifest).encode()

    def audit(self, folder: Path) -> Row:
        self.seal()
        told = {"files": sorted(self.inputs), "output": "out/run", "wrong": WRONG}
        asked = {"custom_id": "b1", "question": None, "bulk": told}
        asked["expect"] = {"states": ["succeeded", "cancelled"]}
        book = [
            {"sent": "r1", "tenant": "ayla", "key": "k", "jobs": [asked]},
            {"accepted": "r1", "tenant": "ayla", "key": "k", "ids": ["run"]},
        ]
        writer = PackWriter("pack")
        place = writer.add("run", json.dumps(self.result).encode())
        data, summary = writer.finish()
        key = "packs/result/ayla/2026-01-01/pack.pack"
        pack = {"id": "pack", "tenant": "ayla", "state": "live", "object_key": key}
        end = {
            "id": "run",
            "tenant": "ayla",
            "attempts": 0,
            "losses": 0,
            "result_pack_id": "pack",
            "result_offset_bytes": place.offset_bytes,
            "result_length_bytes": place.length_bytes,
            "result_digest": place.digest,
            **self.end,
        }
        tables: dict[str, list[Row]] = {
            "jobs": [{"id": "run", "tenant": "ayla", "custom_id": "b1"}],
            "ends": [end],
            "packs": [{**pack, "entries": summary.entries}],
            "bulk_parts": self.rows,
        }
        files = {f"objects/{key}": data}
        files |= {f"files/out/run/{name}": data for name, data in self.files.items()}
        files |= {f"files/{name}": data for name, data in self.inputs.items()}
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        (folder / "tables").mkdir()
        _write_lines(folder / "book.jsonl", book)
        for name, rows in tables.items():
            _write_lines(folder / "tables" / f"{name}.jsonl", rows)
        return audit(Evidence(folder))


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _write_lines(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_a_sound_run_is_sound(tmp_path: Path) -> None:
    found = Case().audit(tmp_path)
    assert found["findings"] == []
    assert found["accepted"] == 1


def lose_a_row(case: Case) -> None:
    del case.parts[0][3]


def lose_a_line(case: Case) -> None:
    case.lines.clear()


def give_up_an_innocent(case: Case) -> None:
    del case.parts[0][3]
    case.lines.append({"row_id": "0:3", "code": "model_error", "message": "-"})


def lose_a_part(case: Case) -> None:
    case.after.append(lambda sealed: sealed.files.pop(sealed.manifest["parts"][0]["name"]) and None)


def lose_the_manifest(case: Case) -> None:
    case.after.append(lambda sealed: sealed.result["names"].update(manifest="other.json"))


def damage_a_part(case: Case) -> None:
    case.after.append(lambda sealed: sealed.manifest["parts"][0].update(sha256="0" * 64))


def damage_the_lines(case: Case) -> None:
    case.after.append(lambda sealed: sealed.files.update({"errors.jsonl": b""}))


def say_another_sum(case: Case) -> None:
    case.after.append(lambda sealed: sealed.manifest.update(rows=1))


def be_incomplete(case: Case) -> None:
    case.manifest["complete"] = False


def lose_the_part_of_a_cancelled_run(case: Case) -> None:
    case.end = {"state": "cancelled", "error_code": None, "result_pack_id": None}
    kept = {"object_key": "gone", "size_bytes": 1, "digest": "0", "rows": 1}
    case.rows = [{"job_id": "run", **kept}]


def answer_twice(case: Case) -> None:
    case.parts[1].append(case.parts[0][0])


def answer_and_fail(case: Case) -> None:
    case.lines.append({"row_id": "0:3", "code": "model_error", "message": "-"})


def answer_otherwise(case: Case) -> None:
    case.parts[0][3]["prediction"] = [3.0, 3 / 8 + 1e-3]


def swap_two_answers(case: Case) -> None:
    first, second = case.parts[0][:2]
    first["row_id"], second["row_id"] = second["row_id"], first["row_id"]


def answer_an_unknown_row(case: Case) -> None:
    case.parts[0].append({"row_id": "7:0", "n": 1, "prediction": [1.0, 1.0]})


def answer_a_wrong_row(case: Case) -> None:
    case.lines.clear()
    case.parts[1].append({"row_id": "1:2", "n": 102, "prediction": [102.0, 102 / 8]})


def call_an_error_otherwise(case: Case) -> None:
    case.lines[0]["code"] = "poison"


def show_another_jobs_manifest(case: Case) -> None:
    case.manifest["job"] = "other"


def be_cancelled_and_complete(case: Case) -> None:
    case.end = {"state": "cancelled", "error_code": None, "result_pack_id": None}


def leave_an_object(case: Case) -> None:
    case.files["part-00000-002-000000000000.parquet"] = b"?"


DAMAGES: dict[str, list[Callable[[Case], None]]] = {
    "lost": [
        *(lose_a_row, lose_a_line, give_up_an_innocent, lose_a_part, lose_the_manifest),
        *(damage_a_part, damage_the_lines, say_another_sum, be_incomplete),
        lose_the_part_of_a_cancelled_run,
    ],
    "doubled": [answer_twice, answer_and_fail],
    "crossed": [
        *(answer_otherwise, swap_two_answers, answer_an_unknown_row, answer_a_wrong_row),
        *(call_an_error_otherwise, show_another_jobs_manifest, be_cancelled_and_complete),
    ],
    "stray": [leave_an_object],
}


@pytest.mark.parametrize(
    ("kind", "damage"),
    [(kind, damage) for kind, damages in DAMAGES.items() for damage in damages],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_damage_is_found_and_called_by_its_name(
    kind: str, damage: Callable[[Case], None], tmp_path: Path
) -> None:
    case = Case()
    damage(case)
    found = case.audit(tmp_path)
    assert found[kind] > 0, found
