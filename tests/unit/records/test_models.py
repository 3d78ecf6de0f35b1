"""References to models as callers write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records.errors import InvalidInput
from storage.records.models import ModelRef, check_name, parse_model_ref

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)


@given(names, names, st.integers(1, 999_999_999))
def test_what_is_written_is_read_back(name, alias, version):
    for ref in (ModelRef(name), ModelRef(name, alias=alias), ModelRef(name, version=version)):
        assert parse_model_ref(str(ref)) == ref


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "invalid_name"),
        ("Digits", "invalid_name"),
        ("-x", "invalid_name"),
        ("a" * 64, "invalid_name"),
        ("a/b", "invalid_name"),
        ("a\x00", "invalid_name"),
        ("a\n", "invalid_name"),
        ("a@", "invalid_name"),
        ("a@B", "invalid_name"),
        ("a@b@c", "invalid_name"),
        ("a:", "invalid_version"),
        ("a:0", "invalid_version"),
        ("a:-1", "invalid_version"),
        ("a:01", "invalid_version"),
        ("a:1.0", "invalid_version"),
        ("a:9999999999", "invalid_version"),
        ("a:1@b", "invalid_name"),
    ],
)
def test_what_is_no_reference_is_refused_with_its_field(text, code):
    with pytest.raises(InvalidInput) as refused:
        parse_model_ref(text, field="jobs[3].model")
    assert (refused.value.stable_code, refused.value.field) == (code, "jobs[3].model")


def test_a_refusal_does_not_repeat_an_endless_text():
    with pytest.raises(InvalidInput) as refused:
        check_name("A" * 10_000, field="model")
    assert len(refused.value.message) < 300
