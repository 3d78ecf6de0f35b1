"""Which columns fill which input: what was asked for, or by name; refused at once if it cannot be.

What is refused says what to write, with the file's columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from storage.records.errors import InvalidInput
from storage.records.push_options import InputForm, Missing
from storage.records.signatures import InputSpec, Signature
from workers.bulk.decode.reading import closed_shape, listed, takes
from workers.bulk.decode.tensors import target

_LIKELY = {
    InputForm.TENSOR: ("array", "tensor", "data"),
    InputForm.RECORD: ("array", "tensor", "data"),
    InputForm.IMAGE: ("image", "data", "array"),
    InputForm.TEXT: ("text", "data"),
}
Said = Mapping[str, tuple[str, ...]]


def means_record(signature: Signature, said: Said, available: Sequence[str]) -> bool:
    """Whether columns are those of the record; else they are the tensors of the model's inputs."""
    if signature.form is not InputForm.RECORD:
        return False
    names = {column.name for column in signature.columns}
    if said:
        return not said.keys() <= set(signature.by_name) - names
    return bool(names & set(available)) or (
        not set(signature.by_name) & set(available) and (_sole(signature, available) is None)
    )


def record_columns(
    signature: Signature, said: Said, available: Sequence[str]
) -> dict[str, str | None]:
    """The file's column for each of the record's; None for one that it is said not to have."""
    names = [column.name for column in signature.columns]
    given = {"": said[""]} if "" in said else said
    if "" in given:
        if len(said) > 1:
            raise _wrong("a bare list of columns stands alone")
        _known(given[""], available)
        said = {name: (name,) if name in given[""] else () for name in names}
        for name in given[""]:
            if name not in said:
                raise _unknown_column(name, names)
    for name in said:
        if name not in names:
            raise _unknown_column(name, names)
        if len(said[name]) > 1:
            raise _wrong(f"column {name!r} is one column, and {len(said[name])} are named for it")
    found: dict[str, str | None] = {}
    for column in signature.columns:
        columns = said.get(column.name, (column.name,))
        if column.name in said:
            _known(columns, available)
        if columns and columns[0] in available:
            found[column.name] = columns[0]
        elif not columns and column.missing is not Missing.REFUSE:
            found[column.name] = None
        else:
            rule = "" if column.missing is Missing.REFUSE else "; [] where every row lacks it"
            raise InvalidInput(
                f"the model's column {column.name!r} is missing: name the file's for it"
                f' (columns: {{"{column.name}": ["…"]}}{rule}); the file has {listed(available)}',
                code="missing_column",
                field="input.columns",
            )
    return found


def input_columns(
    signature: Signature, said: Said, available: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The file's columns for each input."""
    specs = signature.by_name
    if "" in said:
        said = _bare(specs, said)
    for name in said:
        if name not in specs:
            raise InvalidInput(
                f"the model has no input {name!r}; it has {listed(list(specs))}",
                code="unknown_input",
                field="input.columns",
            )
    found = {}
    for name, spec in specs.items():
        columns = said.get(name, ())
        if name in said:
            _known(columns, available)
        elif name in available:
            columns = (name,)
        else:
            sole = _sole(signature, available)
            columns = () if sole is None else (sole,)
        if not columns:
            raise InvalidInput(
                f"input {name!r} has no column: name it (columns:"
                f' {{"{name}": ["…"]}}); the file has {listed(available)}',
                code="missing_input",
                field="input.columns",
            )
        _check_number(signature, spec, columns)
        found[name] = columns
    return found


def _bare(specs: Mapping[str, InputSpec], said: Said) -> Said:
    columns = said[""]
    if len(said) > 1:
        raise _wrong("a bare list of columns stands alone")
    if len(specs) == 1:
        return dict.fromkeys(specs, columns)
    if set(columns) != set(specs) or len(columns) != len(specs):
        raise _wrong(
            f"the model takes {listed(list(specs))}: a bare list names just these, or say the"
            ' columns by input (columns: {"input": ["…"]})'
        )
    return {name: (name,) for name in specs}


def _sole(signature: Signature, available: Sequence[str]) -> str | None:
    """The one column that can only be meant for the one input."""
    if len(signature.asked) != 1:
        return None
    likely = [name for name in _LIKELY[signature.form] if name in available]
    if likely:
        return likely[0]
    return available[0] if len(available) == 1 and signature.form is not InputForm.RECORD else None


def _check_number(signature: Signature, spec: InputSpec, columns: tuple[str, ...]) -> None:
    """Several columns are an input's numbers, one after another: so many it has to have."""
    if len(columns) == 1:
        return
    shape = closed_shape(signature, spec)
    if signature.form is InputForm.TEXT or target((len(columns),), shape) is None:
        size = "" if None in shape else f" ({math.prod(n for n in shape if n is not None)} numbers)"
        raise _wrong(f"{takes(spec, shape)}{size}, and {len(columns)} columns are named for it")


def _known(columns: Sequence[str], available: Sequence[str]) -> None:
    for name in columns:
        if name not in available:
            raise InvalidInput(
                f"there is no column {name[:200]!r}; the file has {listed(available)}",
                code="unknown_column",
                field="input.columns",
            )


def _unknown_column(name: str, names: Sequence[str]) -> InvalidInput:
    return InvalidInput(
        f"the model has no column {name[:200]!r}; it has {listed(names)}",
        code="unknown_column",
        field="input.columns",
    )


def _wrong(message: str) -> InvalidInput:
    return InvalidInput(message, code="wrong_columns", field="input.columns")
