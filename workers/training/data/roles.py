"""Which columns become which inputs of the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from storage.records.errors import InvalidInput
from storage.records.training import DataFormat, Task, TrainingSpec
from workers.training.data.pieces import ColumnInfo, Kind
from workers.training.data.trouble import bad_rule, shape_mismatch, told, unknown_column

VECTOR, PICTURE, TEXT = "features", "image", "text"


@dataclass(frozen=True, slots=True)
class TensorRole:
    """A column that is an input of its own."""

    column: ColumnInfo
    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GridRole:
    """Columns of numbers that are put into one shape, such as the pixels of a picture."""

    columns: tuple[ColumnInfo, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VectorRole:
    """Columns that become one vector, in the order of the features."""

    columns: tuple[ColumnInfo, ...]
    categories: frozenset[str]  # those of them that hold categories
    name: str = VECTOR


@dataclass(frozen=True, slots=True)
class TextRole:
    """The column of texts."""

    column: ColumnInfo


Role = TensorRole | GridRole | VectorRole | TextRole


@dataclass(frozen=True, slots=True)
class Roles:
    """What every column is for."""

    inputs: tuple[Role, ...]
    label: ColumnInfo
    group: ColumnInfo | None

    @property
    def columns(self) -> tuple[str, ...]:
        """All that are read, each once."""
        group = () if self.group is None else (self.group.name,)
        return tuple(dict.fromkeys((*self.features, self.label.name, *group)))

    @property
    def features(self) -> tuple[str, ...]:
        """The columns of the inputs."""
        names: list[str] = []
        for role in self.inputs:
            match role:
                case TensorRole(column) | TextRole(column):
                    names.append(column.name)
                case GridRole(columns) | VectorRole(columns):
                    names += (one.name for one in columns)
        return tuple(names)


def roles_of(
    spec: TrainingSpec, columns: Sequence[ColumnInfo], form: DataFormat, where: str
) -> Roles:
    """The roles, or ``InvalidInput``: ``unknown_column``, ``label_needed``, ``text_is_numbers``,
    ``text_needs_one_column``, ``bad_feature``, ``shape_mismatch``, ``no_features``."""
    by_name = {one.name: one for one in columns}
    label = _label(spec, by_name, form, where)
    named = spec.weights.group
    if named is not None and named not in by_name:
        raise unknown_column(where, named, list(by_name), "weights.group.column")
    group = None if named is None else by_name[named]
    if group is not None and not _is_single(group):
        raise InvalidInput(
            f"the group {named!r} of {where} is not a word or a number a row",
            code="bad_feature",
            field="weights.group.column",
        )
    _check_rules(spec, by_name, where)
    features = _features(spec, by_name, label, named, where)
    if spec.prepare.text is not None:
        if spec.data.shape:
            raise shape_mismatch(
                "data.shape is for numbers, and with prepare.text texts are learned"
            )
        _check_use(spec, [], {label.name, named, *(one.name for one in features)}, where)
        return Roles((TextRole(_text(spec, features)),), label, group)
    for one in features:
        if one.kind in (Kind.OTHER, Kind.LIST):
            raise _bad_feature(one, where)
    _check_use(spec, features, {label.name, named}, where)
    tensors = [one for one in features if one.kind is Kind.TENSOR]
    plain = [one for one in features if one.kind is not Kind.TENSOR]
    inputs: list[Role] = [_tensor(spec, one, alone=len(features) == 1) for one in tensors]
    if plain:
        taken = {one.name for one in tensors}
        inputs.append(_vector(spec, plain, taken))
    return Roles(tuple(inputs), label, group)


def _bad_feature(column: ColumnInfo, where: str) -> InvalidInput:
    holds = "nothing that a network takes"
    if column.kind is Kind.LIST:
        holds = "lists, and none with a number in it in the rows that were looked at"
    return InvalidInput(
        f"column {column.name!r} of {where} holds {holds}: name the others in data.features",
        code="bad_feature",
        field="data.features",
    )


def _label(
    spec: TrainingSpec, by_name: dict[str, ColumnInfo], form: DataFormat, where: str
) -> ColumnInfo:
    name = spec.data.label
    if form in (DataFormat.IDX, DataFormat.IMAGES):
        if name not in (None, "label"):
            own = "their files of labels" if form is DataFormat.IDX else "the names of the folders"
            raise bad_rule(
                f"{form} data has its labels from {own}, and no column {told(name)}: leave"
                " data.label out",
                "data.label",
            )
        return by_name["label"]
    if name is None:
        raise InvalidInput(
            f"say in data.label which column of {where} is to be learned; it has:"
            f" {', '.join(list(by_name)[:20])}",
            code="label_needed",
            field="data.label",
        )
    if name not in by_name:
        raise unknown_column(where, name, list(by_name), "data.label")
    label = by_name[name]
    if not _is_single(label):
        what = "a number" if spec.task is Task.NUMBERS else "a word or a number"
        raise InvalidInput(
            f"the label {name!r} of {where} is not {what} a row",
            code="label_not_number" if spec.task is Task.NUMBERS else "bad_feature",
            field="data.label",
        )
    return label


def _is_single(column: ColumnInfo) -> bool:
    """Whether a row has one value in it."""
    if column.kind is Kind.TENSOR:
        return math.prod(column.shape) == 1
    return column.kind not in (Kind.OTHER, Kind.LIST)


def _check_rules(spec: TrainingSpec, by_name: dict[str, ColumnInfo], where: str) -> None:
    """Rules are about columns that are there."""
    prepare = spec.prepare
    for field, names in (
        ("prepare.categories", prepare.categories),
        ("prepare.replace", prepare.replace),
        ("prepare.missing.fill", prepare.fill),
    ):
        for name in names:
            if name not in by_name:
                raise unknown_column(where, name, list(by_name), field)


def _check_use(
    spec: TrainingSpec, columns: Sequence[ColumnInfo], words: set[str | None], where: str
) -> None:
    """A rule that would do nothing was meant for something: ``columns`` are those that become a
    vector or an array, ``words`` what rules may replace besides."""
    arrays = {one.name for one in columns if one.kind is Kind.TENSOR}
    plain = {one.name for one in columns} - arrays
    for field, names, takes in (
        ("prepare.replace", spec.prepare.replace, plain | words),
        ("prepare.categories", spec.prepare.categories, plain),
    ):
        for name in names:
            if name in arrays:
                raise bad_rule(
                    f"{told(name)} of {where} is an array, and {field} is for columns", field
                )
            if name not in takes:
                raise bad_rule(
                    f"{told(name)} of {where} is none of the features that {field} is for", field
                )


def _features(
    spec: TrainingSpec,
    by_name: dict[str, ColumnInfo],
    label: ColumnInfo,
    group: str | None,
    where: str,
) -> list[ColumnInfo]:
    for name in spec.data.features:
        if name not in by_name:
            raise unknown_column(where, name, list(by_name), "data.features")
        if name == label.name:
            raise InvalidInput(
                f"column {name!r} is both a feature and the label",
                code="bad_feature",
                field="data.features",
            )
    chosen = spec.data.features or [name for name in by_name if name not in (label.name, group)]
    if not chosen:
        raise InvalidInput(
            f"{where} has no column of numbers, words or texts but the label",
            code="no_features",
            field="data.features",
        )
    return [by_name[name] for name in dict.fromkeys(chosen)]


def _text(spec: TrainingSpec, features: Sequence[ColumnInfo]) -> ColumnInfo:
    """THE text column: the feature that is named, else the only one that holds texts."""
    texts = [one for one in features if one.kind is Kind.TEXT]
    if len(features) > 1 and not spec.data.features and len(texts) == 1:
        return texts[0]
    if len(features) != 1:
        names = ", ".join(repr(one.name) for one in features[:20])
        raise InvalidInput(
            f"a text model reads one column, and the features are {names}: name one of them in"
            " data.features",
            code="text_needs_one_column",
            field="data.features",
        )
    if not texts:
        raise InvalidInput(
            f"column {features[0].name!r} is to be the text, and holds numbers: name the column of"
            f" texts in data.features, or {_without_text(spec)}",
            code="text_is_numbers",
            field="prepare.text",
        )
    return texts[0]


def _without_text(spec: TrainingSpec) -> str:
    if spec.network.recipe == "text-average":
        return "choose another recipe than text-average"
    return "leave prepare.text out"


def _tensor(spec: TrainingSpec, column: ColumnInfo, *, alone: bool) -> TensorRole:
    shape = spec.data.shape
    if not shape:
        return TensorRole(column, column.name, column.shape)
    if not alone:
        raise shape_mismatch("data.shape is for one array of features: name it in data.features")
    if math.prod(shape) != math.prod(column.shape):
        raise shape_mismatch(
            f"{column.name!r} has rows of shape {list(column.shape)}, that is"
            f" {math.prod(column.shape)} numbers, and data.shape {list(shape)} takes"
            f" {math.prod(shape)}"
        )
    return TensorRole(column, column.name, shape)


def _vector(spec: TrainingSpec, columns: Sequence[ColumnInfo], taken: set[str]) -> Role:
    """``taken`` are the names of the arrays beside it."""
    shape = spec.data.shape
    listed = frozenset(
        one.name for one in columns if one.kind is Kind.TEXT or one.name in spec.prepare.categories
    ) - _told_as_numbers(spec)
    if len(shape) < 2 or taken:
        if shape and not listed and shape != (len(columns),):
            raise shape_mismatch(
                f"there are {len(columns)} columns of features, and data.shape is {list(shape)}"
            )
        name = VECTOR
        while name in taken:
            name += "_vector"
        return VectorRole(tuple(columns), listed, name)
    if listed:
        raise shape_mismatch(
            f"data.shape {list(shape)} takes numbers, and column {min(listed)!r} holds texts"
        )
    if math.prod(shape) != len(columns):
        raise shape_mismatch(
            f"there are {len(columns)} columns of features, and data.shape {list(shape)} takes"
            f" {math.prod(shape)}"
        )
    return GridRole(tuple(columns), shape)


def _told_as_numbers(spec: TrainingSpec) -> frozenset[str]:
    """Texts that are to be filled with a number, or are replaced by nothing but numbers, are
    numbers; a word that no rule is about is refused then."""
    numbers = {
        name
        for name, value in spec.prepare.fill.items()
        if not isinstance(value, str) or value in ("mean", "median")
    }
    for name, rules in spec.prepare.replace.items():
        made = [value for value in rules.values() if value is not None]
        if made and not any(isinstance(value, str) for value in made):
            numbers.add(name)
    return frozenset(numbers) - frozenset(spec.prepare.categories)
