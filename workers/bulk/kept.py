"""The columns that go along with the predictions, in the types that all parts of a run have.

They are those of the first rows that planning sees: files of one input may differ in them, and the
parts of one output must not.
"""

from __future__ import annotations

import base64

import pyarrow as pa

from storage.records.bulk import PartFormat, Plan
from storage.records.signatures import Signature
from workers.bulk.encode import ChunkEncoder, column_types
from workers.bulk.files import COLUMNS

_KEPT = "kept"  # of a plan's notes: an Arrow schema


def notes_of(signature: Signature, kept: pa.Schema, form: PartFormat) -> dict[str, object]:
    """What a plan notes of its output's columns."""
    plain = pa.schema([pa.field(one.name, _wide(one.type)) for one in kept])
    told = column_types(ChunkEncoder(signature, plain, form).schema)
    return {COLUMNS: told, _KEPT: base64.b64encode(plain.serialize()).decode()}


def kept_of(plan: Plan) -> pa.Schema | None:
    """The kept columns with their types; None of a plan that was made before they were noted."""
    noted = plan.extra.get(_KEPT)
    if noted is None:
        return None
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(str(noted))))


def _wide(kind: pa.DataType) -> pa.DataType:
    """A dictionary that has room for the other files' values as well."""
    return pa.dictionary(pa.int32(), kind.value_type) if pa.types.is_dictionary(kind) else kind
