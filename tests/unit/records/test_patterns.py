"""Patterns fit whole paths, segment by segment, and none of them takes long."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records.patterns import matcher

steady = settings(deadline=None)  # a busy machine is no failure


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("*.csv", ["a.csv", ".csv"], ["a/b.csv", "a.csv.gz", "a.csv/b"]),
        ("day-?.csv", ["day-1.csv"], ["day-12.csv", "day-.csv", "day-/.csv"]),
        ("[a-c]/*", ["a/x", "c/y z"], ["d/x", "a", "a/x/y"]),
        ("[!a]x", ["bx"], ["ax", "x"]),
        ("a[*]b", ["a*b"], ["axb"]),
        ("**/x.npy", ["x.npy", "a/x.npy", "a/b/c/x.npy"], ["ax.npy", "x.npy/a"]),
        ("a/**", ["a/b", "a/b/c", "a"], ["b/a"]),
        ("a/**/**/z*", ["a/z", "a/b/c/zz"], ["z", "a/b"]),
        ("a[b", ["a[b"], ["ab"]),
        ("a.b+(c)", ["a.b+(c)"], ["aXb+(c)"]),
    ],
)
def test_a_pattern_fits_what_a_shell_would_say(pattern, fits, does_not):
    match = matcher(pattern)
    assert [path for path in fits if not match(path)] == []
    assert [path for path in does_not if match(path)] == []


names = st.text("ab-.*?[]!", min_size=1, max_size=6)


@steady
@given(st.lists(names, min_size=1, max_size=4), st.lists(names, min_size=1, max_size=4))
def test_two_stars_stand_for_any_number_of_segments(before, after):
    whole = "/".join([*before, *after])
    assert matcher("**")(whole)
    assert matcher("**/" + "/".join("*" for _ in after))(whole)
    assert matcher("/".join("?" * len(one) for one in before) + "/**")(whole)


def test_no_pattern_takes_long():
    started = time.perf_counter()
    assert not matcher("*a" * 100 + "b")("a" * 255)
    assert not matcher("**/*a*/" * 60 + "b")("/".join(["a"] * 500))
    assert time.perf_counter() - started < 5
