"""A gate holds when its text does, and what is wrong with it is said with its place."""

from __future__ import annotations

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records.errors import InvalidInput
from storage.records.gates import MAX_GATE, Metric, decide, metrics_of, parse_gate

NAMES = ("accuracy", "recall", "auc")
ALIASES = ("prod", "next.best")
VALUES = {
    Metric(name, alias): (number + 1) / 8
    for number, (name, alias) in enumerate(
        (name, alias) for name in NAMES for alias in (None, *ALIASES)
    )
}
OPS = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}

numbers = st.integers(0, 80).map(lambda eighths: eighths / 8)  # sums of them are exact
metrics = st.sampled_from(sorted(VALUES, key=str))
sums = st.lists(
    st.tuples(st.sampled_from([1, -1]), st.one_of(numbers, metrics)), min_size=1, max_size=3
)


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[str, bool, set[Metric]]:
    """Text, whether it holds, and what it names."""
    sign = draw(st.sampled_from(sorted(OPS)))
    (left, a, some), (right, b, more) = map(written, (draw(sums), draw(sums)))
    return f"{left} {sign} {right}", OPS[sign](a, b), some | more


def written(parts: list[tuple[int, float | Metric]]) -> tuple[str, float, set[Metric]]:
    text, value = "", 0.0
    for place, (sign, one) in enumerate(parts):
        text += ("-" if sign < 0 else "") if place == 0 else (" - " if sign < 0 else "+")
        text += str(one)
        value += sign * (VALUES[one] if isinstance(one, Metric) else one)
    return text, value, {one for _, one in parts if isinstance(one, Metric)}


def joined(pair: tuple[str, tuple, tuple]) -> tuple[str, bool, set[Metric]]:
    word, (left, a, some), (right, b, more) = pair
    return f"({left}) {word} ({right})", (a and b) if word == "and" else (a or b), some | more


gates = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["and", "or"]), inner, inner).map(joined),
        inner.map(lambda one: (f"not ({one[0]})", not one[1], one[2])),
    ),
    max_leaves=6,
)


@given(gates)
def test_it_holds_when_its_text_does(told: tuple[str, bool, set[Metric]]) -> None:
    text, holds, named = told
    if not named:
        with pytest.raises(InvalidInput, match="names no metric"):
            parse_gate(text)
        return
    gate = parse_gate(text)
    assert metrics_of(gate) == named
    decision = decide(gate, VALUES)
    assert decision.holds is holds
    assert len(decision.seen) == sum(text.count(sign) for sign in (">", "<", "==", "!="))


def test_and_binds_before_or() -> None:
    gate = parse_gate("auc > 9 and auc > 9 or auc > 0")
    assert decide(gate, VALUES).holds
    assert not decide(parse_gate("auc > 9 and (auc > 9 or auc > 0)"), VALUES).holds


def test_what_was_seen_is_told_of_each_comparison() -> None:
    gate = parse_gate("accuracy >= 0.97 and recall >= @prod.recall - 0.005")
    values = {Metric("accuracy"): 0.98, Metric("recall"): 0.9, Metric("recall", "prod"): 0.91}
    decision = decide(gate, values)
    assert not decision.holds
    assert [str(one) for one in decision.seen] == [
        "accuracy >= 0.97: holds (0.98 against 0.97)",
        "recall >= @prod.recall - 0.005: does not hold (0.9 against 0.905)",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected a number, a metric, or @alias.metric at its end"),
        ("accuracy", "expected one of .* at its end"),
        ("accuracy >=", "at its end"),
        ("accuracy => 1", "'=> 1' at 10 means nothing"),
        ("accuracy >= 0.9 recall > 1", "expected 'and', 'or', or the end at 17, not 'recall'"),
        ("(accuracy >= 0.9", r"expected '\)' at its end"),
        ("accuracy >= @prod", "as in @prod.recall at 13"),
        ("accuracy >= @prod.", "'.' at 18 means nothing"),
        ("accuracy >= 0.9; drop", "'; drop' at 16 means nothing"),
        ("__import__('os') > 1", r"'os'\) > 1\" at 12 means nothing"),
        ("and > 1", "expected a number, a metric"),
        ("accuracy > 1e999", "1e999 is too large"),
        ("accuracy > 1e308 + 1e308", "1e308 is too large"),
        ("not " * 30 + "accuracy > 1", "nested more than 20 deep"),
        ("(" * 30 + "accuracy > 1" + ")" * 30, "nested more than 20 deep"),
        ("accuracy > " + "1" * MAX_GATE, "longer than 1000 characters"),
    ],
)
def test_what_is_no_gate_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        parse_gate(text)
    assert (refused.value.stable_code, refused.value.field) == ("invalid_gate", "if")


def test_a_metric_of_an_alias_needs_no_blanks() -> None:
    (metric,) = metrics_of(parse_gate("1>=@prod-eu.v2.recall-0.005"))
    assert metric == Metric("recall", "prod-eu.v2")


@pytest.mark.parametrize("text", ["1 < 2", "not 1 > 2", "(1 == 1) or 2 - 1 > 0"])
def test_a_gate_that_names_no_metric_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="names no metric") as refused:
        parse_gate(text)
    assert refused.value.stable_code == "gate_names_no_metric"
