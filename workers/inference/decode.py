"""From one job's payload to rows of tensors, strictly, item by item.

What is wrong with one of several ``items`` is an error in its place; what is wrong with the whole
input, or with the only item, is raised. Trouble in reaching a ``ref`` (storage that is down) is
neither: it passes through untouched, as it blames no item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from storage.records.errors import InvalidInput, ItemError, NotFound
from storage.records.input_check import MAX_ITEMS, check_form, form_of
from storage.records.push_options import InputForm
from storage.records.signatures import Signature
from storage.strict_json import parse
from workers.inference.decode_image import MAX_PIXELS, decode_base64, decode_image
from workers.inference.decode_record import decode_record
from workers.inference.decode_tensor import decode_inputs, decode_npy, decode_tensor, text_row
from workers.inference.ports import Row
from workers.inference.shapes import check_row

FetchRef = Callable[[str], bytes]
_NPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True, slots=True)
class DecodedInput:
    """One job's rows in the caller's order. ``is_list``: it sent ``items`` and gets ``items``."""

    rows: list[Row | ItemError]
    is_list: bool


def decode_input(
    signature: Signature,
    payload: bytes,
    *,
    fetch_ref: FetchRef | None = None,
    max_pixels: int = MAX_PIXELS,
) -> DecodedInput:
    """The rows of a payload; raises ``ItemError`` when there are none to score."""
    decoder = _Decoder(signature, fetch_ref, max_pixels, _may_hold_bools(payload))
    try:
        value = parse(payload)
        if not isinstance(value, dict) or "items" not in value:
            return DecodedInput([decoder.item(value, "input")], is_list=False)
        items = value["items"]
        if not isinstance(items, list) or not items or len(value) != 1:
            raise ItemError("items must stand alone, a list of inputs", code="wrong_form")
        if len(items) > MAX_ITEMS:
            raise ItemError(f"{len(items)} items, at most {MAX_ITEMS}", code="too_many_items")
    except InvalidInput as error:
        raise as_item_error(error) from None
    return DecodedInput([decoder.item_or_error(item, i) for i, item in enumerate(items)], True)


def as_item_error(error: InvalidInput) -> ItemError:
    """The same finding, blamed on the item."""
    return ItemError(error.message, code=error.stable_code, field=error.field)


@dataclass(frozen=True, slots=True)
class _Decoder:
    signature: Signature
    fetch_ref: FetchRef | None
    max_pixels: int
    bools: bool  # whether true or false may be among the numbers

    def item_or_error(self, value: object, index: int) -> Row | ItemError:
        try:
            return self.item(value, f"input.items[{index}]")
        except ItemError as error:
            return error
        except InvalidInput as error:
            return as_item_error(error)

    def item(self, value: object, field: str) -> Row:
        row = self.row(value, field)
        if self.signature.serving.pad:
            check_row(self.signature, row, field)
        return row

    def row(self, value: object, field: str) -> Row:
        form = form_of(value, field)
        assert isinstance(value, dict)
        check_form(self.signature, form, field)
        content, where = value[form], f"{field}.{form}"
        match form:
            case "tensor":
                spec = self.signature.asked[0]
                return {spec.name: decode_tensor(spec, content, where, bools=self.bools)}
            case "inputs":
                return decode_inputs(self.signature, content, where, bools=self.bools)
            case "image":
                return self.image(decode_base64(content, where), where)
            case "text":
                return text_row(self.signature.asked[0], content, where)
            case "record":
                return decode_record(self.signature, content, where)
            case _:
                return self.ref(content, where)

    def image(self, data: bytes, where: str) -> Row:
        spec = self.signature.asked[0]
        assert self.signature.image is not None
        array = decode_image(self.signature.image, spec.dtype, data, where, self.max_pixels)
        return {spec.name: array}

    def ref(self, uri: object, where: str) -> Row:
        """What a reference holds: a picture, a text, an array of numpy's, or an input as JSON."""
        if not isinstance(uri, str):
            raise ItemError("ref must be a string", code="wrong_form", field=where)
        if self.fetch_ref is None:
            raise ItemError("references are not allowed here", code="ref_not_allowed", field=where)
        try:
            data = self.fetch_ref(uri)
        except NotFound as error:
            raise ItemError(
                f"{uri[:200]} does not exist: {error.message}", code="ref_not_found", field=where
            ) from None
        if data.startswith(_NPY_MAGIC):
            return decode_npy(self.signature, data, where)
        if self.signature.form is InputForm.IMAGE:
            return self.image(data, where)
        if self.signature.form is InputForm.TEXT:
            return text_row(self.signature.asked[0], _utf8(data, where), where)
        value = parse(data)
        if isinstance(value, dict) and "ref" in value:
            raise ItemError("a reference may not lead to another", code="wrong_form", field=where)
        return replace(self, bools=_may_hold_bools(data)).row(value, where)


def _may_hold_bools(text: bytes) -> bool:
    """Looking for the words is quicker than looking at every value."""
    return b"true" in text or b"false" in text


def _utf8(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ItemError(f"the text is not UTF-8: {error}", code="bad_text", field=where) from None
