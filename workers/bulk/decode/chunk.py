"""One batch of a file's rows to the model's inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from storage.records.bulk import BulkFormat
from storage.records.errors import InvalidInput, ItemError
from storage.records.push_options import InputForm
from storage.records.signatures import Signature
from workers.bulk.decode.mapping import Said, input_columns, means_record, record_columns
from workers.bulk.decode.payloads import PayloadReader
from workers.bulk.decode.pictures import PictureReader
from workers.bulk.decode.reading import BOOLS, FLOATS, INTEGERS, Filled, Reader, closed_shape
from workers.bulk.decode.records import RecordReader
from workers.bulk.decode.tensors import TensorReader
from workers.bulk.decode.texts import TextReader
from workers.bulk.decode.verdicts import Verdicts
from workers.bulk.ports import Decoded
from workers.inference.decode_crew import DecodeCrew
from workers.inference.ports import Array, Row
from workers.inference.shapes import check_row

_OBJECTS = (BulkFormat.IMAGES, BulkFormat.URIS)


class ChunkDecoder:
    """For one model and files with these columns. Used from one thread at a time."""

    def __init__(
        self,
        signature: Signature,
        spec_columns: Mapping[str, tuple[str, ...]],
        available: Sequence[str],
        *,
        format: BulkFormat,
        crew: DecodeCrew | None = None,
        fetch_ref: Callable[[str], bytes] | None = None,
    ) -> None:
        """Raises ``InvalidInput`` when these columns cannot be the model's inputs."""
        self._signature, self._format = signature, format
        self._readers = _readers(signature, spec_columns, available, format, crew, fetch_ref)

    @property
    def columns(self) -> tuple[str, ...]:
        """Which have to be read."""
        found = [name for reader in self._readers for name in reader.columns]
        return tuple(dict.fromkeys(found))

    @property
    def numbers(self) -> tuple[str, ...]:
        """Those of them that are to hold numbers."""
        wanted = self._wanted()
        return tuple(name for name, word in wanted.items() if word in (FLOATS, INTEGERS))

    def types(self, told: Mapping[str, str]) -> dict[str, str]:
        """The types to read a file without types with, where a sample of it ``told`` these (by
        column, in Arrow's words): a row behind the sample may have a fraction."""
        return dict(told) | {
            name: _widened(told[name], word, self._format)
            for name, word in self._wanted().items()
            if name in told
        }

    def _wanted(self) -> dict[str, str]:
        return {name: word for one in self._readers for name, word in one.wanted.items()}

    def decode(self, batch: pa.RecordBatch) -> Decoded:
        """The rows as the model takes them. A wrong row is an error; ``InvalidInput`` is raised
        for a column that can hold no right one."""
        verdicts = Verdicts(batch.num_rows)
        filled: dict[str, Filled] = {}
        for reader in self._readers:
            filled.update(reader.read(batch, verdicts))
        if self._signature.varying:
            rows = self._rows(filled, verdicts)
            return Decoded(verdicts.good(), verdicts.errors(), rows=rows)
        good = verdicts.good()
        block = {
            name: array if len(good) == len(array) else array[good]
            for name, array in filled.items()
            if isinstance(array, np.ndarray)
        }
        return Decoded(good, verdicts.errors(), block=block)

    def _rows(self, filled: Mapping[str, Filled], verdicts: Verdicts) -> list[Row]:
        """A row for each that is left: their shapes differ."""
        found: list[Row] = []
        for index in verdicts.good().tolist():
            row = {name: _at(arrays, index) for name, arrays in filled.items()}
            try:
                check_row(self._signature, row, "input")
            except ItemError as error:
                verdicts.refuse(index, error.stable_code, error.message)
            else:
                found.append(row)
        return found


def _widened(told: str, word: str, format: BulkFormat) -> str:
    if word == FLOATS:
        return told.replace(INTEGERS, FLOATS)
    if word == BOOLS and (format is not BulkFormat.CSV or told != INTEGERS):
        return told  # 0 and 1 are bools only where nothing has a type
    return told if word == INTEGERS or told.startswith("list") else word


def _at(filled: Filled, index: int) -> Array:
    found = filled[index, ...] if isinstance(filled, np.ndarray) else filled[index]
    assert found is not None, "a row that is not wrong is there"
    return found


def _readers(
    signature: Signature,
    said: Said,
    available: Sequence[str],
    format: BulkFormat,
    crew: DecodeCrew | None,
    fetch_ref: Callable[[str], bytes] | None,
) -> list[Reader]:
    if format is BulkFormat.REQUESTS:
        if said:
            raise InvalidInput(
                "lines of requests have no columns: leave columns out",
                code="wrong_columns",
                field="input.columns",
            )
        return [PayloadReader(signature, "input", content=False, crew=crew, fetch_ref=fetch_ref)]
    behind_ref = signature.form in (InputForm.TENSOR, InputForm.RECORD)
    if format in _OBJECTS and not said and behind_ref:
        return [PayloadReader(signature, "data", content=True, crew=crew, fetch_ref=None)]
    if means_record(signature, said, available):
        return [RecordReader(signature, record_columns(signature, said, available), format)]
    found = input_columns(signature, said, available)
    readers: list[Reader] = []
    for spec in signature.asked:
        columns, shape = found[spec.name], closed_shape(signature, spec)
        if signature.form is InputForm.IMAGE and len(columns) == 1:
            readers.append(PictureReader(signature, shape, columns[0], format, crew))
        elif signature.form is InputForm.TEXT:
            readers.append(TextReader(spec, columns[0], format))
        else:
            readers.append(TensorReader(spec, shape, columns, format))
    return readers
