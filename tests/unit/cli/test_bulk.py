"""``forebay bulk``: how its words are read, and what is said of how far a job is."""

from __future__ import annotations

import pytest

from producers.cli.bulk import condition, share
from producers.cli.bulk_answers import duration, left_s, size, told
from producers.cli.exits import Failure

CONDITIONS = [
    ("split = test", ["split", "=", "test"]),
    ("split=test", ["split", "=", "test"]),
    ("n >= 3", ["n", ">=", 3]),
    ("n != -1.5", ["n", "!=", -1.5]),
    ('code = "007"', ["code", "=", "007"]),
    ("good = true", ["good", "=", True]),
    ("two words < b c", ["two words", "<", "b c"]),
    ("k in a, 2,c", ["k", "in", ["a", 2, "c"]]),
    ('k in ["a,b"]', ["k", "in", ["a,b"]]),
    ("x is_null", ["x", "is_null"]),
    ("x not_null", ["x", "not_null"]),
    ("in = 1", ["in", "=", 1]),
    ('["a=b", "=", 3]', ["a=b", "=", 3]),
]


@pytest.mark.parametrize(("text", "expected"), CONDITIONS)
def test_a_condition_is_read(text, expected):
    assert condition(text) == expected


@pytest.mark.parametrize("text", ["", "a", "a ~ b", "= 3", "a =", "[1", "is_null"])
def test_what_is_no_condition_is_wrong_usage(text):
    with pytest.raises(Failure) as caught:
        condition(text)
    assert caught.value.exit_code == 2


def test_a_share_is_a_percentage_or_a_number():
    assert (share("1%"), share("0.01"), share("0"), share("100 %".replace(" ", ""))) == (
        0.01,
        0.01,
        0,
        1,
    )
    for wrong in ("", "%", "2", "-1%", "101%", "nan", "a"):
        with pytest.raises(Failure):
            share(wrong)


def test_how_far_it_is_in_one_line():
    seen = {
        "state": "running",
        "rows_done": 1_000,
        "rows_failed": 3,
        "rows_skipped": 7,
        "rows_total": 2_020,
        "share": 0.5,
        "rows_per_s": 350.4,
        "estimated_end_at": None,
    }
    assert told(seen) == "1,010 of 2,020 rows (50 %), 350 rows/s, 3 failed"
    unknown = seen | {"rows_total": None, "state": "paused", "rows_per_s": 0.0, "rows_failed": 0}
    assert told(unknown) == "1,007 rows (50 %), paused"
    assert told({"state": "waiting"}) == "0 rows, waiting"
    uncommitted = seen | {"rows_total": None, "share": 0.0, "rows_failed": 0}
    assert told(uncommitted) == "1,007 rows, 350 rows/s"


def test_times_and_sizes_are_for_people():
    assert left_s("2026-01-01T00:00:10.500Z", 1_767_225_600.0) == 10.5
    assert left_s("2026-01-01T00:00:00.000Z", 1_867_225_600.0) == 0.0
    assert left_s(None, 0.0) is None and left_s("soon", 0.0) is None
    assert [duration(s) for s in (3.2, 150, 9000)] == ["3 s", "2 min", "2.5 h"]
    assert [size(n) for n in (12, 12_345, 3.4e9, 5e15)] == [
        "12 B",
        "12.3 kB",
        "3.4 GB",
        "5000.0 TB",
    ]


WRONG = [
    ("m", "a.csv", "--output", "folder"),
    ("m", "/nowhere/a.csv"),
    ("m", "s3://in/a", "--columns", "a", "--column", "x=b"),
    ("m", "s3://in/a", "--column", "x"),
    ("m", "s3://in/a", "--keep", "a,,b"),
    ("m", "s3://in/a", "--where", "nonsense"),
    ("m", "s3://in/a", "--max-errors", "many"),
    ("m",),
]


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage_ends_in_two_and_nothing_is_sent(forebay, service, words):
    code, out, err = forebay("bulk", *words)
    assert code == 2 and err.strip() and out == "" and service.requests == []


def test_failed_rows_alone_go_elsewhere(forebay, service):
    code, _, err = forebay("jobs", "retry", "some-job", "--output", "s3://out/x")
    assert code == 2 and "--failed-rows" in err and service.requests == []
