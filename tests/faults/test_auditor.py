"""The auditor finds each kind of damage, and knows none of our code."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.objects.packs import PackWriter
from tests.faults import auditor
from tests.faults.auditor.checks import audit
from tests.faults.auditor.evidence import Evidence

Row = dict[str, Any]
HERE = Path(auditor.__file__).parent


class Case:
    """A sound run of six jobs of two tenants, to be damaged before it is written down."""

    def __init__(self) -> None:
        self.book: list[Row] = []
        self.tables: dict[str, list[Row]] = {name: [] for name in ("jobs", "live", "ends", "packs")}
        self.objects: dict[str, bytes] = {}
        self.queues: list[Row] = []
        for tenant in ("ayla", "bora"):
            self._request(tenant)

    def _request(self, tenant: str) -> None:
        ids = [f"{tenant}-{n}" for n in range(3)]
        asked = [
            {"custom_id": f"c{n}", "question": [n, 100 * len(tenant)]} for n, _ in enumerate(ids)
        ]
        key = f"key-{tenant}"
        self.book.append({"sent": tenant, "tenant": tenant, "key": key, "jobs": asked})
        for _ in range(2):
            self.book.append({"accepted": tenant, "tenant": tenant, "key": key, "ids": ids})
        writer = PackWriter(f"pack-{tenant}")
        for one, job_id in zip(asked, ids, strict=True):
            data = json.dumps({"outputs": {"y": one["question"]}}).encode()
            place = writer.add(job_id, data)
            self.tables["jobs"].append(
                {"id": job_id, "tenant": tenant, "custom_id": one["custom_id"]}
            )
            self.tables["ends"].append(
                {
                    "id": job_id,
                    "tenant": tenant,
                    "state": "succeeded",
                    "error_code": None,
                    "attempts": 1,
                    "losses": 0,
                    "result_pack_id": place.pack_id,
                    "result_offset_bytes": place.offset_bytes,
                    "result_length_bytes": place.length_bytes,
                    "result_digest": place.digest,
                }
            )
        data, summary = writer.finish()
        object_key = f"packs/result/{tenant}/2026-01-01/pack-{tenant}.pack"
        self.objects[object_key] = data
        self.tables["packs"].append(
            {
                "id": f"pack-{tenant}",
                "tenant": tenant,
                "state": "live",
                "object_key": object_key,
                "entries": summary.entries,
            }
        )

    @property
    def ends(self) -> list[Row]:
        return self.tables["ends"]

    @property
    def packs(self) -> list[Row]:
        return self.tables["packs"]

    def audit(self, folder: Path) -> Row:
        (folder / "tables").mkdir()
        _write_lines(folder / "book.jsonl", self.book)
        for name, rows in self.tables.items():
            _write_lines(folder / "tables" / f"{name}.jsonl", rows)
        for key, data in self.objects.items():
            path = folder / "objects" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (folder / "queues.json").write_text(json.dumps(self.queues))
        return audit(Evidence(folder))


def _write_lines(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_a_sound_run_is_sound(tmp_path: Path) -> None:
    found = Case().audit(tmp_path)
    assert found["findings"] == []
    assert found["accepted"] == 6


def lose_the_end(case: Case) -> None:
    del case.ends[0]


def lose_the_job(case: Case) -> None:
    del case.tables["jobs"][0], case.ends[0]


def lose_the_pack_row(case: Case) -> None:
    del case.packs[0]
    case.objects.popitem()


def lose_the_object(case: Case) -> None:
    case.objects.popitem()


def damage_the_pack(case: Case) -> None:
    key, data = case.objects.popitem()
    case.objects[key] = data[:-60] + bytes([data[-60] ^ 1]) + data[-59:]


def cut_the_pack(case: Case) -> None:
    key, data = case.objects.popitem()
    case.objects[key] = data[:-1]


def leave_the_pack_writing(case: Case) -> None:
    case.packs[0]["state"] = "writing"


def fail_an_innocent(case: Case) -> None:
    case.ends[0] |= {"state": "failed", "error_code": "lost", "result_pack_id": None}


def succeed_without_a_result(case: Case) -> None:
    case.ends[0]["result_pack_id"] = None


def spend_too_much(case: Case) -> None:
    case.book[0]["jobs"][0]["expect"] = {"states": ["succeeded"], "most_attempts": 1}
    case.ends[0]["attempts"] = 2


def end_twice(case: Case) -> None:
    case.ends.append(dict(case.ends[0]))


def end_and_live(case: Case) -> None:
    case.tables["live"].append({"id": case.ends[0]["id"]})


def accept_twice(case: Case) -> None:
    case.book[2]["ids"] = ["other-0", "other-1", "other-2"]


def do_it_twice(case: Case) -> None:
    case.tables["jobs"].append({**case.tables["jobs"][0], "id": "again"})
    case.ends.append({**case.ends[0], "id": "again", "state": "failed", "error_code": "lost"})


def tell_twice(case: Case) -> None:
    event = {"id": "ayla-0", "type": "job.succeeded", "tenant": "ayla"}
    case.tables["events"] = [event, dict(event)]


def tell_otherwise(case: Case) -> None:
    case.tables["events"] = [{"id": "ayla-0", "type": "job.failed", "tenant": "ayla"}]


def tell_somebody_else(case: Case) -> None:
    case.tables["events"] = [{"id": "ayla-0", "type": "job.succeeded", "tenant": "bora"}]


def swap_answers(case: Case) -> None:
    names = [name for name in case.ends[0] if name.startswith("result_")]
    first, second = ({name: end[name] for name in names} for end in case.ends[:2])
    case.ends[0] |= second
    case.ends[1] |= first


def point_to_another_tenant(case: Case) -> None:
    case.ends[0]["result_pack_id"] = "pack-bora"


def pack_of_another_tenant(case: Case) -> None:
    case.packs[0]["tenant"] = "bora"


def key_of_another_tenant(case: Case) -> None:
    row = case.packs[0]
    data = case.objects.pop(row["object_key"])
    row["object_key"] = row["object_key"].replace("ayla", "bora")
    case.objects[row["object_key"]] = data


def answer_another_question(case: Case) -> None:
    case.book[0]["jobs"][0]["question"] = [77, 77]


def swap_tenants(case: Case) -> None:
    case.tables["jobs"][0]["tenant"] = "bora"


def give_one_job_to_two(case: Case) -> None:
    for line in case.book[4:]:
        line["ids"] = ["ayla-0", *line["ids"][1:]]


def know_a_stranger(case: Case) -> None:
    case.tables["jobs"].append({"id": "stranger", "tenant": "carl", "custom_id": "x"})


def stay_live(case: Case) -> None:
    case.tables["live"].append({"id": case.ends.pop(0)["id"]})


def leave_a_message(case: Case) -> None:
    case.queues.append({"name": "infer.default", "messages_ready": 1, "messages_unacknowledged": 0})


def leave_an_unacknowledged_message(case: Case) -> None:
    case.queues.append({"name": "infer.default", "messages_ready": 0, "messages_unacknowledged": 1})


def leave_an_object(case: Case) -> None:
    case.objects["packs/result/ayla/2026-01-01/unknown.pack"] = b"?"


DAMAGES: dict[str, list[Callable[[Case], None]]] = {
    "lost": [
        *(lose_the_end, lose_the_job, lose_the_pack_row, lose_the_object, damage_the_pack),
        *(cut_the_pack, leave_the_pack_writing, fail_an_innocent, succeed_without_a_result),
        spend_too_much,
    ],
    "doubled": [end_twice, end_and_live, accept_twice, do_it_twice, tell_twice],
    "crossed": [
        *(swap_answers, point_to_another_tenant, pack_of_another_tenant, key_of_another_tenant),
        *(answer_another_question, swap_tenants, give_one_job_to_two, know_a_stranger),
        *(tell_otherwise, tell_somebody_else),
    ],
    "stuck": [stay_live],
    "stray": [leave_a_message, leave_an_unacknowledged_message, leave_an_object],
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


def test_what_callers_explain_is_no_damage(tmp_path: Path) -> None:
    case = Case()
    fail_an_innocent(case)
    case.book.append({"may": "ayla-0", "states": ["failed"], "codes": ["lost"]})
    case.queues.append({"name": "forebay.dead", "messages_ready": 3, "messages_unacknowledged": 0})
    case.book.append({"explains": "forebay.dead", "messages": 3})
    case.book.append(
        {"sent": "r9", "tenant": "bora", "key": None, "jobs": [{"custom_id": "c9", "question": 1}]}
    )
    case.tables["jobs"].append({"id": "unanswered", "tenant": "bora", "custom_id": "c9"})
    assert case.audit(tmp_path)["findings"] == []


def test_the_auditor_imports_nothing_of_ours() -> None:
    for file in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module or ""]
            for name in names:
                own = name.startswith("tests.faults.auditor")
                theirs = {*sys.stdlib_module_names, "pyarrow"}
                assert own or name.partition(".")[0] in theirs, (file.name, name)


def test_packs_are_read_as_they_are_written() -> None:
    from tests.faults.auditor.packs import read

    writer = PackWriter("p")
    place = writer.add("one", b"abc")
    writer.add("two", b"")
    data, _ = writer.finish()
    found = read(data)
    assert list(found) == ["one", "two"]
    assert (found["one"].offset, found["one"].length) == (place.offset_bytes, place.length_bytes)
    assert found["one"].digest == hashlib.sha256(b"abc").hexdigest()
