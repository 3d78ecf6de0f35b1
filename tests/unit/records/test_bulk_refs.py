"""A bulk job's addresses: patterns and prefixes open no more than single refs; outputs stay out
of inputs."""

from __future__ import annotations

import pytest

from storage.records.errors import InvalidInput
from storage.records.refs import (
    FileRef,
    ListedRef,
    ManyRef,
    check_input,
    check_output,
    file_uri,
    overlaps,
    read_prefix,
)

PREFIXES = (read_prefix("s3://bucket/in"), read_prefix("file:///data/in/"))
ID = "0190aaaa-0000-7000-8000-000000000000"


def test_a_single_address_is_what_a_ref_would_be():
    assert check_input(file_uri(ID), ()) == FileRef(ID)
    uri = "s3://bucket/in/a b/c.parquet"
    assert check_input(uri, PREFIXES) == ListedRef(uri, "s3://bucket/in/")


@pytest.mark.parametrize(
    ("uri", "folder", "begun", "pattern"),
    [
        ("s3://bucket/in/", "s3://bucket/in/", "", None),
        ("s3://bucket/in/a/b/", "s3://bucket/in/a/b/", "", None),
        ("s3://bucket/in/day-*.csv", "s3://bucket/in/", "day-", "day-*.csv"),
        ("s3://bucket/in/a/**/?.npy", "s3://bucket/in/a/", "", "**/?.npy"),
        ("s3://bucket/in/a[0-9]/x", "s3://bucket/in/", "a", "a[0-9]/x"),
        ("s3://bucket/in/*/", "s3://bucket/in/", "", "*/"),
    ],
)
def test_a_pattern_and_a_prefix_name_many(uri, folder, begun, pattern):
    assert check_input(uri, PREFIXES) == ManyRef(uri, "s3://bucket/in/", folder, begun, pattern)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/*",
        "s3://bucket/i*/x",
        "s3://bucket/in*/x",
        "s3://*/in/x",
        "s3://bucket/",
        "s3://bucket/inner/*",
        "s3://bucket/in/../*",
        "s3://bucket/in/*/../x",
        "s3://bucket/in//*",
        "s3://bucket/in/*#x",
        "s3://bucket/in/%2a/*",
        "file:///*",
        "file:///data/in/../*",
        "file:///data/*",
        "?",
        "*",
        f"forebay://files/{ID}/*",
        "forebay://files/*",
        "forebay://files/",
        "http://host/*",
        "s3://bucket/in/" + "*" * 3000,
        "s3://bucket/in/*\n",
        None,
        ["s3://bucket/in/*"],
    ],
)
def test_no_pattern_opens_more_than_the_operator_listed(uri):
    with pytest.raises(InvalidInput) as caught:
        check_input(uri, PREFIXES, field="input.uri")
    assert caught.value.stable_code == "ref_not_allowed"
    assert caught.value.field == "input.uri"


def test_an_output_is_a_folder_below_a_listed_prefix():
    for text in ("s3://bucket/in/run 1", "s3://bucket/in/run 1/"):
        assert check_output(text, PREFIXES) == ListedRef("s3://bucket/in/run 1", "s3://bucket/in/")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/in",
        "s3://bucket/in/",
        "s3://bucket/in//",
        "s3://bucket/in/a//",
        "s3://bucket/in/a/../b",
        "s3://bucket/in/.hidden",
        "s3://bucket/in/a/.hidden/b",
        "s3://bucket/in/a*",
        "s3://bucket/in/a?b",
        "s3://bucket/in/[a]",
        "s3://bucket/other/a",
        file_uri(ID),
        "x",
        "",
        None,
        7,
    ],
)
def test_nothing_else_is_written_to(uri):
    with pytest.raises(InvalidInput) as caught:
        check_output(uri, PREFIXES)
    assert caught.value.stable_code == "output_not_allowed"
    assert caught.value.field == "output.uri"


@pytest.mark.parametrize(
    "given",
    ["s3://b/x/", "s3://b/x/*.csv", "s3://b/x/**", "s3://b/x/run*/a.csv", "s3://b/x/y/a.parquet",
     "s3://b/x/y", "s3://b/x/y/", "s3://b/x/y/z/*", "s3://b/x/[y]/a", "s3://b/*"],
)  # fmt: skip
def test_an_output_inside_its_input_or_around_it_overlaps(given):
    assert overlaps("s3://b/x/y", given) and overlaps("s3://b/x/y/", given)


@pytest.mark.parametrize(
    "given",
    ["s3://b/x/a.parquet", "s3://b/x/z/", "s3://b/x/ya/*", "s3://b/x/y.parquet", "s3://a/x/y/",
     "file:///b/x/y/", file_uri(ID)],
)  # fmt: skip
def test_an_output_beside_its_input_does_not(given):
    assert not overlaps("s3://b/x/y", given)
