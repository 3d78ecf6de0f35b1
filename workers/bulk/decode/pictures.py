"""Encoded pictures to a model's pixels, on the decode crew's threads."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from storage.records.bulk import BulkFormat
from storage.records.signatures import Shape, Signature
from workers.bulk.decode.each import fill
from workers.bulk.decode.reading import Filled, column_of, refuse_null
from workers.bulk.decode.tensors import TensorReader
from workers.bulk.decode.values import Kind, is_text_or_bytes, plain, values_of
from workers.bulk.decode.verdicts import Verdicts
from workers.inference.decode_crew import DecodeCrew
from workers.inference.decode_image import decode_base64, decode_image
from workers.inference.decode_tensor import decode_npy
from workers.inference.ports import Row

_NPY_MAGIC = b"\x93NUMPY"


class PictureReader:
    """Bytes are a picture, text is one in base64, and numbers are the tensor itself."""

    def __init__(
        self,
        signature: Signature,
        shape: Shape,
        column: str,
        format: BulkFormat,
        crew: DecodeCrew | None,
    ) -> None:
        self.columns = (column,)
        self.wanted: dict[str, str] = {}
        self._signature, self._shape, self._crew = signature, shape, crew
        self._spec = signature.asked[0]
        self._tensor = TensorReader(self._spec, shape, self.columns, format)

    def read(self, batch: pa.RecordBatch, verdicts: Verdicts) -> Mapping[str, Filled]:
        (name,) = self.columns
        array = plain(column_of(batch, name))
        if types.is_struct(array.type) and array.type.get_field_index("bytes") >= 0:
            array = plain(pc.struct_field(array, "bytes"))
        if not is_text_or_bytes(array.type):
            return {self._spec.name: self._tensor.whole(column_of(batch, name), verdicts)}
        values = values_of(array)
        refuse_null(verdicts, values.null, self._spec.name, name)
        cells, where = values.arrow, f"column {name!r}"

        def decode(row: int) -> Row:
            data = cells[row].as_py()
            if values.kind is Kind.TEXT:
                data = decode_base64(data, where)
            return self._picture(data, where)

        return fill(
            {self._spec.name: (self._spec, self._shape)},
            range(verdicts.count),
            decode,
            verdicts,
            self._crew,
        )

    def _picture(self, data: bytes, where: str) -> Row:
        if data.startswith(_NPY_MAGIC):
            return decode_npy(self._signature, data, where)
        assert self._signature.image is not None
        array = decode_image(self._signature.image, self._spec.dtype, data, where)
        return {self._spec.name: array}
