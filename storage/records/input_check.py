"""Is this input of the right form for this model? The cheap look at submit.

No numpy, no TensorFlow, no walk over the values: the form, the names, and the shape along the
first elements. Whoever sends the wrong thing learns it at once, with the field; what only a full
decode can see (a truncated picture, a NaN in row 7) fails that one item on the worker.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from storage.records.errors import InvalidInput, TooLarge
from storage.records.push_options import InputForm
from storage.records.serving_check import check_lengths
from storage.records.signatures import NUMBER_TYPES, InputSpec, Shape, Signature

MAX_ITEMS = 1024
MAX_RANK = 16
MAX_ELEMENTS = 1 << 28
FORMS = ("tensor", "inputs", "image", "text", "record", "ref")

_SPELLING = {
    InputForm.IMAGE: '{"image": base64}',
    InputForm.TEXT: '{"text": string}',
    InputForm.RECORD: '{"record": {column: value}}',
}


def check_input(
    signature: Signature | Mapping[str, object], value: object, *, field: str = "input"
) -> None:
    """Raise ``InvalidInput`` naming the field, or let it pass. Pass a ``Signature`` for many."""
    if not isinstance(signature, Signature):
        signature = Signature.from_json(signature)
    if isinstance(value, dict) and "items" in value:
        items = _only(value, "items", field)
        if not isinstance(items, list) or not items:
            raise _wrong("items must be a list of at least one input", f"{field}.items")
        if len(items) > MAX_ITEMS:
            raise TooLarge(
                f"{len(items)} items; one job takes at most {MAX_ITEMS}",
                code="too_many_items",
                field=f"{field}.items",
            )
        for index, item in enumerate(items):
            _check_item(signature, item, f"{field}.items[{index}]")
    else:
        _check_item(signature, value, field)


def refs_in(value: object, *, field: str = "input") -> Iterator[tuple[str, str]]:
    """Every ``ref`` of a checked input, with its field: who may read it is the caller's to say."""
    if isinstance(value, dict):
        if isinstance(value.get("ref"), str):
            yield f"{field}.ref", value["ref"]
        items = value.get("items")
        for index, item in enumerate(items if isinstance(items, list) else ()):
            yield from refs_in(item, field=f"{field}.items[{index}]")


def form_of(value: object, field: str) -> str:
    """Which form one item has: it holds exactly one known key."""
    if not isinstance(value, dict):
        raise _wrong(f"an input is a JSON object with one of {', '.join(FORMS)}", field)
    known: list[str] = [key for key in value if key in FORMS]
    for key in value:
        if key not in FORMS:
            raise InvalidInput(
                f"an input has no {key[:80]!r}; it holds one of {', '.join(FORMS)}, or items",
                code="unknown_field",
                field=f"{field}.{key[:80]}",
            )
    if len(known) != 1:
        raise _wrong(f"an input holds exactly one of {', '.join(FORMS)}", field)
    return known[0]


def check_form(signature: Signature, form: str, field: str) -> None:
    """Refuse a form the model cannot read."""
    if form in ("inputs", "ref"):
        return
    if form == "tensor" and len(signature.asked) > 1:
        names = ", ".join(spec.name for spec in signature.asked)
        raise _wrong(f'the model takes several tensors: {{"inputs": {{…}}}} with {names}', field)
    if form in ("tensor", signature.form.value):
        return
    wanted = _SPELLING.get(signature.form)
    spelling = f'{wanted} or {{"tensor": …}}' if wanted else '{"tensor": …} or {"inputs": {…}}'
    raise _wrong(f"the model does not take {form!r}; send {spelling}", field)


def _check_item(signature: Signature, value: object, field: str) -> None:
    form = form_of(value, field)
    assert isinstance(value, dict)
    check_form(signature, form, field)
    content = value[form]
    where = f"{field}.{form}"
    match form:
        case "tensor":
            _check_tensor(
                signature, signature.asked[0] if signature.asked else None, content, where
            )
        case "inputs":
            _check_inputs(signature, content, where)
        case "record":
            _check_record(signature, content, where)
        case _:
            _check_string(form, content, where)


def _check_string(form: str, content: object, where: str) -> None:
    if not isinstance(content, str):
        raise _wrong(f"{form} must be a string", where)
    if form != "text" and not content:
        raise _wrong(f"{form} is empty", where)
    if "\x00" in content:
        raise InvalidInput(f"{form} holds a NUL character", code="bad_text", field=where)


def _check_inputs(signature: Signature, content: object, where: str) -> None:
    if not isinstance(content, dict) or not content:
        raise _wrong("inputs must be an object of tensors by name", where)
    if not signature.inputs:
        return
    specs = signature.by_name
    for name, tensor in content.items():
        if name not in specs:
            raise InvalidInput(
                f"the model has no input {name[:80]!r}; it has {', '.join(specs)}",
                code="unknown_input",
                field=f"{where}.{name[:80]}",
            )
        _check_tensor(signature, specs[name], tensor, f"{where}.{name}")
    for name in specs:
        if name not in content:
            raise InvalidInput(f"input {name!r} is missing", code="missing_input", field=where)


def _check_record(signature: Signature, content: object, where: str) -> None:
    if not isinstance(content, dict):
        raise _wrong("record must be an object of values by column", where)
    if not signature.columns:
        return
    names = {column.name for column in signature.columns}
    for key in content:
        if key not in names:
            raise InvalidInput(
                f"the model has no column {key[:80]!r}",
                code="unknown_column",
                field=f"{where}.{key[:80]}",
            )


def _check_tensor(
    signature: Signature, spec: InputSpec | None, content: object, where: str
) -> None:
    if isinstance(content, dict):
        _, shape = check_binary_tensor(content, where)
    else:
        shape = _apparent_shape(content)
    if spec is not None:
        check_shape(spec, shape, where)
        if spec.name in signature.serving.pad:
            check_lengths(spec, signature.serving.pad[spec.name], shape, where)


def check_shape(spec: InputSpec, shape: tuple[int, ...], where: str) -> None:
    """Refuse a tensor whose shape is not the model's."""
    if len(shape) == len(spec.shape) and all(
        want is None or want == got for want, got in zip(spec.shape, shape, strict=True)
    ):
        return
    hint = ""
    if len(shape) == len(spec.shape) + 1:
        hint = '; send one item without a batch axis, or several as {"items": […]}'
    raise InvalidInput(
        f"the tensor has the shape {list(shape)}, the model's input {spec.name!r} takes"
        f" {shape_text(spec.shape)}{hint}",
        code="wrong_shape",
        field=where,
    )


def check_binary_tensor(content: Mapping[str, object], where: str) -> tuple[str, tuple[int, ...]]:
    """The dtype and shape of ``{dtype, shape, b64}``, its length checked before any decoding."""
    if set(content) != {"dtype", "shape", "b64"}:
        raise _wrong("a binary tensor has exactly dtype, shape and b64", where)
    dtype, shape, b64 = content["dtype"], content["shape"], content["b64"]
    if not isinstance(dtype, str) or dtype not in NUMBER_TYPES:
        raise InvalidInput(
            f"dtype must be one of {', '.join(NUMBER_TYPES)}",
            code="wrong_dtype",
            field=f"{where}.dtype",
        )
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise _wrong(f"shape must be a list of at most {MAX_RANK} lengths", f"{where}.shape")
    if any(isinstance(a, bool) or not isinstance(a, int) or a < 0 for a in shape):
        raise _wrong("shape must hold lengths of 0 and more", f"{where}.shape")
    if not isinstance(b64, str):
        raise _wrong("b64 must be a string", f"{where}.b64")
    elements = math.prod(shape)
    need = elements * NUMBER_TYPES[dtype]
    if elements > MAX_ELEMENTS or len(b64) != (need + 2) // 3 * 4:
        raise InvalidInput(
            f"{dtype} of shape {shape} needs {need} bytes, which is {(need + 2) // 3 * 4}"
            f" characters of base64; there are {len(b64)}",
            code="wrong_size",
            field=f"{where}.b64",
        )
    return dtype, tuple(shape)


def shape_text(shape: Shape) -> str:
    """A shape as people read it; ``?`` is any length."""
    return "[" + ", ".join("?" if axis is None else str(axis) for axis in shape) + "]"


def _apparent_shape(content: object) -> tuple[int, ...]:
    """The shape along the first elements; a ragged rest is found when it is decoded."""
    shape: list[int] = []
    while isinstance(content, list) and len(shape) <= MAX_RANK:
        shape.append(len(content))
        content = content[0] if content else None
    return tuple(shape)


def _only(value: Mapping[str, object], key: str, field: str) -> object:
    for other in value:
        if other != key:
            raise InvalidInput(
                f"{key} stands alone; {other[:80]!r} beside it would be ignored",
                code="unknown_field",
                field=f"{field}.{other[:80]}",
            )
    return value[key]


def _wrong(message: str, field: str) -> InvalidInput:
    return InvalidInput(message, code="wrong_form", field=field)
