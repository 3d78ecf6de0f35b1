"""Whatever a broker answers, and wherever it dies, each message is in exactly one set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage.queue.ledger import Ledger

TAGS = st.integers(0, 12)
ANSWERS = st.lists(
    st.tuples(st.sampled_from(["ack", "nack", "return"]), TAGS, st.booleans()), max_size=30
)


def names(count):
    return [f"m{tag}" for tag in range(1, count + 1)]


@given(st.integers(0, 10), st.integers(0, 10), ANSWERS)
def test_every_message_is_in_exactly_one_set(total, sent, answers):
    ids = names(total)
    ledger = Ledger(ids)
    for tag, name in enumerate(ids[:sent], start=1):
        ledger.sent(tag, name)
    for kind, tag, multiple in answers:
        if kind == "ack":
            ledger.acked(tag, multiple)
        elif kind == "nack":
            ledger.nacked(tag, multiple)
        else:
            ledger.returned(f"m{tag}")
    report = ledger.report()
    sets = [report.confirmed, report.unroutable, report.refused, report.unknown]
    assert frozenset().union(*sets) == frozenset(ids)
    assert sum(map(len, sets)) == total
    assert set(ids[sent:]) <= report.unknown  # what was not sent is never called sent
    assert ledger.answered + len(report.unknown) == total


def test_an_ack_of_many_covers_all_before_it():
    ledger = Ledger(names(4))
    for tag, name in enumerate(names(4), start=1):
        ledger.sent(tag, name)
    ledger.nacked(2, False)
    ledger.acked(3, True)
    report = ledger.report()
    assert report.confirmed == {"m1", "m3"} and report.refused == {"m2"}
    assert report.unknown == {"m4"} and ledger.open == 1


def test_a_returned_message_counts_when_its_ack_comes():
    ledger = Ledger(names(1))
    ledger.sent(1, "m1")
    ledger.returned("m1")
    assert ledger.report().unknown == {"m1"}
    ledger.acked(1, False)
    assert ledger.report().unroutable == {"m1"}


def test_answers_to_an_earlier_call_confirm_nothing():
    ledger = Ledger(["m"])
    ledger.sent(300, "m")
    ledger.acked(299, True)
    ledger.acked(5, False)
    ledger.returned("older")
    assert ledger.report().unknown == {"m"}


def test_an_answer_that_comes_twice_counts_once():
    ledger = Ledger(["m"])
    ledger.sent(1, "m")
    ledger.nacked(1, False)
    ledger.acked(1, False)
    assert ledger.report().refused == {"m"}
