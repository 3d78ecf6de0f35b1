"""All parts of a run have the kept columns in the same types, whatever each file has."""

from __future__ import annotations

import pyarrow as pa
import pytest

from storage.records.bulk import PartFormat, Plan
from storage.records.push_options import InputForm
from storage.records.signatures import InputSpec, OutputSpec, Signature
from workers.bulk.files import COLUMNS
from workers.bulk.kept import kept_of, notes_of

SIGNATURE = Signature(
    form=InputForm.TENSOR,
    inputs=(InputSpec("x", "float32", (2,)),),
    outputs=(OutputSpec("y", "float32", (2,)),),
)
TYPES = [
    pa.int8(),
    pa.string(),
    pa.timestamp("us", "UTC"),
    pa.list_(pa.float32(), 2),
    pa.struct([("a", pa.int64())]),
    pa.null(),
    pa.decimal128(10, 2),
]


def plan_of(kept: pa.Schema) -> Plan:
    return Plan((), (), "", None, notes_of(SIGNATURE, kept, PartFormat.PARQUET))


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_types_come_back_from_a_plan_as_they_were(kind: pa.DataType) -> None:
    noted = pa.schema([pa.field("a", kind, metadata={"PARQUET:field_id": "1"}), ("b", pa.bool_())])
    assert kept_of(plan_of(noted)) == pa.schema([("a", kind), ("b", pa.bool_())])


def test_a_dictionary_has_room_for_what_other_files_hold() -> None:
    narrow = pa.dictionary(pa.int8(), pa.string())
    (field,) = kept_of(plan_of(pa.schema([("a", narrow)]))) or ()
    many = pa.array([str(n) for n in range(1_000)])
    assert many.cast(field.type).cast(pa.string()) == many


def test_the_manifest_tells_the_same_types() -> None:
    plan = plan_of(pa.schema([("a", pa.int8())]))
    assert plan.extra[COLUMNS] == [
        {"name": "row_id", "type": "string"},
        {"name": "a", "type": "int8"},
        {"name": "prediction", "type": "fixed_size_list<item: float>[2]"},
    ]


def test_a_plan_without_the_note_says_so() -> None:
    assert kept_of(Plan((), (), "", None, {})) is None
