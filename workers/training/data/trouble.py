"""What can be wrong with a training's data, as the errors that end its job."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from storage.records.errors import InvalidInput

_SHOWN = 20
_CHARS = 80
_CUTS = {";": "", "\t": ", or call the file .tsv", "|": ""}


def told(value: object) -> str:
    """A value of the data as a message shows it."""
    text = repr(value)
    return text if len(text) <= _CHARS else text[: _CHARS - 1] + "…"


def nearest(name: str, names: Iterable[str]) -> str:
    """What was probably meant, as the end of a sentence; empty if nothing is near."""
    near = difflib.get_close_matches(name, [str(one) for one in names], n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown_column(where: str, name: str, names: Sequence[str], field: str) -> InvalidInput:
    """A column that was asked for is not there."""
    if len(names) == 1 and (cut := next((one for one in _CUTS if one in names[0]), None)):
        return InvalidInput(
            f"{where} has no column {told(name)}: its only column is {told(names[0])}, whose parts"
            f" seem to be separated by {cut!r}. Separate them by commas{_CUTS[cut]}",
            code="unknown_column",
            field=field,
        )
    has = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
    return InvalidInput(
        f"{where} has no column {told(name)}{nearest(name, names)}; it has: {has or 'none'}",
        code="unknown_column",
        field=field,
    )


def data_changed(uri: str, wanted: str | None, found: str | None) -> InvalidInput:
    """The file is not the one that the spec was written for, or not the one that was begun."""
    if wanted is None:
        why = "was changed while it was read: submit the training again"
    elif found is None:
        why = f"is not among the files any more; the spec has its digest {wanted}"
    else:
        why = (
            f"was changed: the spec has its digest {wanted}, and it is {found} now. Put the old"
            " file back, or name the new digest"
        )
    return InvalidInput(f"{uri} {why}", code="data_changed", field="data.digests")


def data_empty(uris: Sequence[str], dropped: int, *, chosen: bool = False) -> InvalidInput:
    """There is no row to learn from. ``chosen``: by conditions."""
    more = f" and {len(uris) - 3} more" if len(uris) > 3 else ""
    but = f"; {dropped} were dropped" if dropped else ""
    but += ": data.where may choose none" if chosen else ""
    return InvalidInput(
        f"there is no row to learn from in {', '.join(uris[:3])}{more}{but}",
        code="data_empty",
        field="data.uri",
    )


def bad_file(uri: str, why: object) -> InvalidInput:
    """It is not what its format says, or not all there."""
    return InvalidInput(f"{uri} cannot be read: {str(why)[:300]}", code="bad_file")


def shape_mismatch(message: str) -> InvalidInput:
    """The rows' numbers do not go into ``data.shape``."""
    return InvalidInput(message, code="shape_mismatch", field="data.shape")


def bad_rule(message: str, field: str) -> InvalidInput:
    """A rule of ``prepare`` or ``weights`` does not fit the data."""
    return InvalidInput(message, code="bad_preparation", field=field)
