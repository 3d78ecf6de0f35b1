"""A job's error has its place in its message: the spec's field, the files."""

from __future__ import annotations

import pytest

from storage.records.errors import InvalidInput
from workers.training.telling import with_files, with_place


@pytest.mark.parametrize(
    ("field", "message", "told"),
    [
        (None, "it is cut off", "it is cut off"),
        ("data.label", "it is missing", "spec.data.label: it is missing"),
        ("spec.optimizer", "no such", "spec.optimizer: no such"),
        ("spec.batch_size", "spec.batch_size is 3", "spec.batch_size is 3"),
    ],
)
def test_an_error_names_its_field_once(field: str | None, message: str, told: str) -> None:
    assert with_place(InvalidInput(message, field=field)) == told


def _files(**etags: str) -> dict[str, object]:
    return {"files": [{"uri": f"s3://in/{name}", "etag": tag} for name, tag in etags.items()]}


def test_changed_files_are_named() -> None:
    error = InvalidInput("the data is not what it was", code="data_changed")
    told = with_files(error, _files(a="1", b="2", c="3"), _files(a="1", b="9", d="4"))
    assert told.message.endswith("Changed: s3://in/b, s3://in/c, s3://in/d")
    assert told.stable_code == "data_changed"
    many = {f"f{n}": "1" for n in range(9)}
    assert with_files(error, _files(**many), {}).message.endswith("and 6 more")


def test_what_is_not_known_is_not_said() -> None:
    error = InvalidInput("the data is not what it was", code="data_changed")
    assert with_files(error, None, _files(a="1")) is error
    assert with_files(error, _files(a="1"), _files(a="1")) is error
    other = InvalidInput("no", code="checkpoint_mismatch")
    assert with_files(other, _files(a="1"), _files(a="2")) is other
