"""What can be wrong with a whole file, as the errors that end a run."""

from __future__ import annotations

from collections.abc import Sequence

from storage.records.errors import InvalidInput

_SHOWN = 20


def bad_file(uri: str, why: object) -> InvalidInput:
    """It is not what its format says, or not all there."""
    return InvalidInput(f"{uri} cannot be read: {str(why)[:300]}", code="bad_file")


def file_changed(uri: str) -> InvalidInput:
    """Other bytes lie there now: its row ids would name other rows."""
    return InvalidInput(
        f"{uri} was changed since this run was planned: submit it again", code="file_changed"
    )


def unknown_column(uri: str, name: str, columns: Sequence[str]) -> InvalidInput:
    """A column that was asked for is not there."""
    has = ", ".join(columns[:_SHOWN]) + (" …" if len(columns) > _SHOWN else "")
    return InvalidInput(
        f"{uri} has no column {name[:200]!r}; it has: {has or 'none'}", code="unknown_column"
    )
