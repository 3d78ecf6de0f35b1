"""The error tree: every error says what its handler needs."""

from __future__ import annotations

from storage.records import errors
from storage.records.errors import ForebayError, InvalidInput, NotFound, Unavailable


def tree(root: type[ForebayError] = ForebayError) -> list[type[ForebayError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in tree(child))]


def test_every_error_is_drawn_in_the_docstring():
    ours = [error.__name__ for error in tree() if error.__module__ == errors.__name__]
    assert errors.__doc__ is not None
    assert [name for name in ours if name not in errors.__doc__] == []


def test_codes_are_stable_names_and_each_class_has_its_own():
    codes = [error.code for error in tree() if error.__module__ == errors.__name__]
    assert len(set(codes)) == len(codes)
    assert all(code.replace("_", "").isalnum() and code.islower() for code in codes)


def test_the_callers_faults_are_4xx_and_not_worth_repeating():
    for error in tree(InvalidInput):
        assert 400 <= error.http_status < 500
        assert not error.retryable


def test_what_is_unavailable_may_be_tried_again_unless_a_person_must_act():
    for error in tree(Unavailable):
        assert error.http_status == 503
        assert error.retryable == ("misconfigured" not in error.code)


def test_an_error_may_carry_a_narrower_code_and_the_field():
    error = NotFound("no such model", code="model_not_found", field="model")
    assert (error.stable_code, error.code) == ("model_not_found", "not_found")
    assert (error.field, str(error)) == ("model", "no such model")
    assert NotFound("x").stable_code == "not_found"
