"""Signatures: how a caller's input becomes tensors, and how an output is told to a person.

A signature is made at push, from what the archive declares and what the pusher said, and
completed by the first worker that loads the model (outputs, and the kind of scores). A model of a
trusted format cannot be read without its framework: its signature stays *deferred*, carrying the
options, until that load.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from storage.records.errors import InvalidInput
from storage.records.image_spec import ImageSpec, derive_image, image_from_json
from storage.records.option_values import as_integer, as_object, no_unknown_keys, refuse
from storage.records.push_options import (
    Column,
    ColumnType,
    InputForm,
    Missing,
    PushOptions,
    ScoreKind,
    column_to_json,
    parse_columns,
    parse_push_options,
)
from storage.records.serving import Serving, parse_serving, serving_to_json
from storage.records.serving_check import check_serving

NUMBER_TYPES: Mapping[str, int] = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
}
"""Element types that travel, with their size in bytes. ``string`` is taken besides them."""

DEFAULT_TOP_K = 3
_VERSION = 1

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One tensor the model takes, without the batch axis. ``None`` is an axis of any length."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One tensor the model gives, without the batch axis."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Signature:
    """See the module. ``deferred`` options wait for the load that learns the inputs.

    ``asked`` and ``varying`` are worked out once, as every item asks for them: the inputs that
    callers send (a mask is ours to fill), and those of them with axes of any length.
    """

    form: InputForm
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...] = ()
    image: ImageSpec | None = None
    columns: tuple[Column, ...] = ()
    labels: tuple[str, ...] = ()
    top_k: int = 0
    scores: ScoreKind = ScoreKind.AUTO
    label_output: str | None = None
    serving: Serving = field(default_factory=Serving)
    deferred: PushOptions | None = None
    asked: tuple[InputSpec, ...] = field(init=False, repr=False, compare=False)
    varying: tuple[InputSpec, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        masks = {pad.mask for pad in self.serving.pad.values()}
        asked = tuple(spec for spec in self.inputs if spec.name not in masks)
        image = self.image
        fixed = image is not None and image.height is not None
        varying = tuple(spec for spec in asked if None in spec.shape and not fixed)
        object.__setattr__(self, "asked", asked)
        object.__setattr__(self, "varying", varying)

    @property
    def by_name(self) -> dict[str, InputSpec]:
        """The inputs that callers send, by name."""
        return {spec.name: spec for spec in self.asked}

    @property
    def columns_are_inputs(self) -> bool:
        """Whether each column goes to the input of its name (else all form one vector)."""
        return {c.name for c in self.columns} == {spec.name for spec in self.asked}

    def to_json(self) -> dict[str, object]:
        """What is stored with the version and shown to callers."""
        out: dict[str, object] = {
            "v": _VERSION,
            "form": self.form.value,
            "inputs": [_spec_to_json(spec) for spec in self.inputs],
            "outputs": [_spec_to_json(spec) for spec in self.outputs],
        }
        if self.image:
            out["image"] = self.image.to_json()
        if self.columns:
            out["columns"] = [column_to_json(column) for column in self.columns]
        if self.labels:
            out |= {"labels": list(self.labels), "top_k": self.top_k}
            out |= {"scores": self.scores.value, "label_output": self.label_output}
        serving = serving_to_json(self.serving)
        if serving:
            out["serving"] = serving
        if self.deferred:
            out["deferred"] = self.deferred.to_json()
        return out

    @classmethod
    def from_json(cls, value: object, *, field: str = "signature") -> Signature:
        """Read what ``to_json`` wrote, strictly."""
        entry = as_object(value, field)
        known = {"v", "form", "inputs", "outputs", "image", "columns", "serving", "deferred"}
        no_unknown_keys(entry, known | {"labels", "top_k", "scores", "label_output"}, field)
        if entry.get("v") != _VERSION:
            raise refuse(f"a signature of version {entry.get('v')!r} is not known", f"{field}.v")
        labelled: dict[str, object] = {
            key: entry[key] for key in ("labels", "scores", "label_output") if key in entry
        }
        options = parse_push_options({"input": entry.get("form"), **labelled}, field=field)
        image, deferred = entry.get("image"), entry.get("deferred")
        return cls(
            form=options.input or InputForm.TENSOR,
            inputs=tuple(InputSpec(*spec) for spec in _specs(entry, "inputs", field)),
            outputs=tuple(OutputSpec(*spec) for spec in _specs(entry, "outputs", field)),
            image=image_from_json(as_object(image, f"{field}.image"), f"{field}.image")
            if image
            else None,
            columns=parse_columns(entry.get("columns"), f"{field}.columns"),
            labels=options.labels,
            top_k=as_integer(entry.get("top_k", 0), 0, 1_000, f"{field}.top_k"),
            scores=options.scores,
            label_output=options.label_output,
            serving=parse_serving(entry.get("serving"), f"{field}.serving"),
            deferred=None
            if deferred is None
            else parse_push_options(deferred, field=f"{field}.deferred"),
        )


def build_signature(
    inputs: Sequence[InputSpec] | None,
    options: PushOptions,
    *,
    rescales_itself: bool = False,
    field: str = "options",
) -> Signature:
    """The signature of a model with these inputs; ``None`` where only a load can tell them."""
    top_k = min(options.top_k or DEFAULT_TOP_K, max(len(options.labels), 2))
    base = Signature(
        form=options.input or InputForm.TENSOR,
        inputs=tuple(inputs or ()),
        labels=options.labels,
        top_k=top_k if options.labels else 0,
        scores=options.scores,
        label_output=options.label_output,
        serving=options.serving,
    )
    if inputs is None:
        return replace(base, deferred=options)
    for spec in inputs:
        _check_input(spec)
    form = options.input or _infer_form(base.asked, options)
    _check_belongs(form, options, field)
    base = replace(base, form=form)
    match form:
        case InputForm.IMAGE:
            base = replace(base, image=_image(base, options, rescales_itself, field))
        case InputForm.TEXT:
            _check_text(base.asked, f"{field}.input")
        case InputForm.RECORD:
            base = replace(base, columns=_columns(base.asked, options.columns, field))
        case InputForm.TENSOR:
            pass
    check_serving(base.serving, base.inputs, base.image, f"{field}.serving")
    return base


def label_output_of(signature: Signature) -> OutputSpec:
    """The output the labels belong to, or ``InvalidInput`` that says why there is none."""
    names = ", ".join(spec.name for spec in signature.outputs)
    if signature.label_output is not None:
        for spec in signature.outputs:
            if spec.name == signature.label_output:
                break
        else:
            raise _mismatch(f"label_output {signature.label_output!r} is none of {names}")
    elif len(signature.outputs) == 1:
        spec = signature.outputs[0]
    else:
        raise _mismatch(f"the model has several outputs ({names}): say label_output")
    width = spec.shape[0] if len(spec.shape) == 1 else None
    count = len(signature.labels)
    if width != count and not (width == 1 and count == 2) and not (spec.shape == () and count == 2):
        raise _mismatch(
            f"there are {count} labels, but output {spec.name!r} has the shape {list(spec.shape)}"
            " for one item"
        )
    return spec


def _mismatch(message: str) -> InvalidInput:
    return InvalidInput(message, code="labels_mismatch", field="options.labels")


def _check_input(spec: InputSpec) -> None:
    if spec.dtype not in NUMBER_TYPES and spec.dtype != "string":
        raise InvalidInput(
            f"input {spec.name!r} is of type {spec.dtype}, which cannot be sent",
            code="unsupported_model",
            field="file",
        )


def _infer_form(inputs: Sequence[InputSpec], options: PushOptions) -> InputForm:
    if options.image:
        return InputForm.IMAGE
    if options.columns:
        return InputForm.RECORD
    if len(inputs) == 1 and inputs[0].dtype == "string" and inputs[0].shape in ((), (1,)):
        return InputForm.TEXT
    return InputForm.TENSOR


def _check_belongs(form: InputForm, options: PushOptions, field: str) -> None:
    for name, given, owner in (
        ("image", bool(options.image), InputForm.IMAGE),
        ("columns", bool(options.columns), InputForm.RECORD),
    ):
        if given and form is not owner:
            raise refuse(f"{name} belongs to the input {owner.value!r}", f"{field}.{name}")


def _image(base: Signature, options: PushOptions, rescales: bool, field: str) -> ImageSpec:
    if len(base.asked) != 1:
        raise refuse(
            f"the model takes {len(base.asked)} tensors; a picture can fill only one",
            f"{field}.input",
        )
    spec = base.asked[0]
    if spec.dtype in ("string", "bool"):
        raise refuse(f"the model takes {spec.dtype}, not a picture", f"{field}.input")
    return derive_image(
        spec.shape,
        spec.dtype,
        options.image,
        rescales_itself=rescales,
        any_size=spec.name in options.serving.pad,
        field=f"{field}.image",
    )


def _check_text(inputs: Sequence[InputSpec], where: str) -> None:
    if len(inputs) != 1 or inputs[0].dtype != "string" or inputs[0].shape not in ((), (1,)):
        raise refuse(
            "the model does not take raw text: put a TextVectorization layer inside it, behind"
            " an Input(shape=(), dtype='string')",
            where,
        )


def _columns(
    inputs: Sequence[InputSpec], columns: tuple[Column, ...], field: str
) -> tuple[Column, ...]:
    where = f"{field}.columns"
    scalars = all(spec.shape in ((), (1,)) for spec in inputs)
    if not columns:
        if not scalars:
            raise refuse("name the columns, in the order of the model's features", where)
        return tuple(Column(spec.name, _column_type(spec.dtype)) for spec in inputs)
    if {column.name for column in columns} == {spec.name for spec in inputs} and scalars:
        return _named_columns(inputs, columns, where)
    if len(inputs) != 1:
        raise refuse(
            "the columns must be named as the model's inputs: "
            + ", ".join(spec.name for spec in inputs),
            where,
        )
    width = sum(column.width for column in columns)
    spec = inputs[0]
    if spec.shape not in ((width,), (None,)) or spec.dtype == "string":
        raise refuse(
            f"the columns make {width} numbers, but the model takes {spec.dtype} of shape"
            f" {list(spec.shape)}",
            where,
        )
    if any(column.type is ColumnType.STRING for column in columns):
        raise refuse("a string cannot be a number of a vector: give it categories", where)
    if not spec.dtype.startswith("float") and any(c.missing is Missing.NAN for c in columns):
        raise refuse(f"{spec.dtype} cannot hold NaN", where)
    return columns


def _named_columns(
    inputs: Sequence[InputSpec], columns: tuple[Column, ...], where: str
) -> tuple[Column, ...]:
    dtypes = {spec.name: spec.dtype for spec in inputs}
    for index, column in enumerate(columns):
        dtype = dtypes[column.name]
        as_words = column.type is ColumnType.STRING or (
            column.type is ColumnType.CATEGORY and dtype == "string"
        )
        if column.one_hot or (dtype == "string") != as_words:
            raise refuse(
                f"a column of type {column.type.value} cannot fill an input of {dtype}",
                f"{where}[{index}]",
            )
        if column.missing is Missing.NAN and not dtype.startswith("float"):
            raise refuse(f"{dtype} cannot hold NaN", f"{where}[{index}].missing")
    return columns


def _column_type(dtype: str) -> ColumnType:
    if dtype == "string":
        return ColumnType.STRING
    if dtype == "bool":
        return ColumnType.BOOLEAN
    return ColumnType.NUMBER if dtype.startswith("float") else ColumnType.INTEGER


def _spec_to_json(spec: InputSpec | OutputSpec) -> dict[str, object]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _specs(entry: Mapping[str, object], key: str, field: str) -> Iterable[tuple[str, str, Shape]]:
    listed = entry.get(key)
    if not isinstance(listed, list):
        raise refuse(f"{field}.{key} must be a list", f"{field}.{key}")
    for index, value in enumerate(listed):
        where = f"{field}.{key}[{index}]"
        spec = as_object(value, where)
        name, dtype, shape = spec.get("name"), spec.get("dtype"), spec.get("shape")
        if not isinstance(name, str) or not isinstance(dtype, str) or not isinstance(shape, list):
            raise refuse(f"{where} must have name, dtype and shape", where)
        if any(isinstance(a, bool) or not isinstance(a, int | None) for a in shape):
            raise refuse(f"{where}.shape must hold integers and null", where)
        yield name, dtype, tuple(shape)
