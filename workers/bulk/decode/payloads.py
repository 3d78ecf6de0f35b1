"""Rows that are whole inputs: JSON as a job would carry it, or what a reference would lead to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from storage.records.errors import ItemError
from storage.records.push_options import InputForm
from storage.records.signatures import Signature
from workers.bulk.decode.each import fill
from workers.bulk.decode.reading import Filled, closed_shape, column_of, refuse_null
from workers.bulk.decode.values import null_mask, plain
from workers.bulk.decode.verdicts import Verdicts
from workers.inference.decode import FetchRef, decode_input
from workers.inference.decode_crew import DecodeCrew
from workers.inference.ports import Row

_REF = b'{"ref":"here"}'


class PayloadReader:
    """``content``: a row is what stands behind a ``ref``; else it is the input, in JSON."""

    def __init__(
        self,
        signature: Signature,
        column: str,
        *,
        content: bool,
        crew: DecodeCrew | None,
        fetch_ref: FetchRef | None,
    ) -> None:
        self.columns = (column,)
        self.wanted: dict[str, str] = {}
        self._signature, self._content, self._fetch_ref = signature, content, fetch_ref
        # Only pictures are worth a thread: all else holds the interpreter's lock.
        self._crew = crew if signature.form is InputForm.IMAGE else None

    def read(self, batch: pa.RecordBatch, verdicts: Verdicts) -> Mapping[str, Filled]:
        (name,) = self.columns
        cells = plain(column_of(batch, name))
        refuse_null(verdicts, null_mask(cells), self._signature.asked[0].name, name)
        decode: Callable[[bytes], Row] = self._behind_ref if self._content else self._input

        def one(row: int) -> Row:
            cell = cells[row].as_py()
            return decode(cell.encode() if isinstance(cell, str) else cell)

        inputs = {
            spec.name: (spec, closed_shape(self._signature, spec)) for spec in self._signature.asked
        }
        return fill(inputs, range(verdicts.count), one, verdicts, self._crew)

    def _input(self, payload: bytes) -> Row:
        return self._one(payload, self._fetch_ref)

    def _behind_ref(self, data: bytes) -> Row:
        return self._one(_REF, lambda _: data)

    def _one(self, payload: bytes, fetch_ref: FetchRef | None) -> Row:
        decoded = decode_input(self._signature, payload, fetch_ref=fetch_ref)
        (row, *_) = decoded.rows
        if decoded.is_list:
            raise ItemError("items: here every line is one input", code="wrong_form")
        if isinstance(row, ItemError):
            raise row
        return row
