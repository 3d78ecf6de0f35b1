"""What becomes of a delivery is decided by the answer alone, and by the time."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from storage.records.webhooks import (
    JITTER,
    MAX_AGE_MS,
    MAX_ATTEMPTS,
    MAX_RETRY_AFTER_MS,
    RETRY_AFTER_MS,
    AttemptResult,
)
from workers.webhooks.verdict import Answer, Undelivered, Verdict, judge, retry_after_ms

NOW = 1_800_000_000_000


def verdict(outcome: Answer | Undelivered, **fields) -> Verdict:
    return judge(outcome, **{"attempts": 1, "age_ms": 0, "now": NOW, "jitter": 0.0} | fields)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int):
    assert verdict(Answer(status)) == Verdict(AttemptResult.DELIVERED, status)


@pytest.mark.parametrize("attempts", [1, MAX_ATTEMPTS])
def test_2xx_is_delivered_however_late(attempts: int):
    late = verdict(Answer(200), attempts=attempts, age_ms=MAX_AGE_MS + 1)
    assert late.result is AttemptResult.DELIVERED


def test_410_is_gone_and_never_tried_again():
    assert verdict(Answer(410)).result is AttemptResult.GONE


@pytest.mark.parametrize("status", [101, 301, 302, 303, 307, 308, 400, 401, 404, 409, 422, 500])
def test_anything_else_is_tried_again_by_the_schedule(status: int):
    for attempts, pause_ms in enumerate(RETRY_AFTER_MS, 1):
        found = verdict(Answer(status, "86400"), attempts=attempts)
        assert (found.result, found.retry_in_ms) == (AttemptResult.RETRY, pause_ms)
        assert found.status == status and str(status) in (found.error or "")
    assert verdict(Answer(status), attempts=MAX_ATTEMPTS).result is AttemptResult.GIVEN_UP


def test_redirects_say_that_they_are_not_followed():
    assert "not followed" in (verdict(Answer(302)).error or "")


def test_no_answer_is_tried_again_and_says_why():
    found = verdict(Undelivered("no answer within 15 s"))
    assert found == Verdict(AttemptResult.RETRY, None, "no answer within 15 s", 5_000)


def test_what_is_too_old_is_given_up():
    found = verdict(Undelivered("no"), age_ms=MAX_AGE_MS + 1)
    assert (found.result, found.error) == (AttemptResult.GIVEN_UP, "no")


def test_jitter_is_added():
    assert verdict(Answer(500), jitter=1.0).retry_in_ms == int(5_000 * (1 + JITTER))


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_where_it_means_something(status: int):
    assert verdict(Answer(status, "120")).retry_in_ms == 120_000
    date = formatdate((NOW + 90_000) / 1000, usegmt=True)
    assert verdict(Answer(status, date)).retry_in_ms == 90_000
    assert verdict(Answer(status, "1")).retry_in_ms == 5_000  # never sooner than the schedule
    assert verdict(Answer(status, None)).retry_in_ms == 5_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        (None, 0),
        ("", 0),
        ("0", 0),
        (" 7 ", 7_000),
        ("999999999999", MAX_RETRY_AFTER_MS),
        ("9" * 5_000, 0),
        ("-5", 0),
        ("1.5", 0),
        ("1e9", 0),
        ("٣", 0),
        ("soon", 0),
        ("Sun, 99 Nov 2099 99:99:99 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_MS),
        ("Fri, 31 Dec 99999 23:59:59 GMT", 0),
        ("Fri, 15 Jan 2027 08:00:10 GMT", 10_000),
        ("Fri, 15 Jan 2027 09:00:10 +0100", 10_000),
        ("\x00", 0),
    ],
)
def test_whatever_a_receiver_writes_there_is_a_bounded_pause(text: str | None, ms: int):
    assert retry_after_ms(text, NOW) == ms
