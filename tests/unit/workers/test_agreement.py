"""Two answers agree when a caller could do the same with either."""

from __future__ import annotations

from typing import Any

import pytest

from workers.agreement import agree, shown


def answer(*numbers: float, label: str | None = None) -> dict[str, Any]:
    told: dict[str, Any] = {"outputs": {"y": list(numbers)}}
    return (
        told if label is None else {**told, "label": label, "top": [{"label": label, "score": 0.5}]}
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (answer(1.0, label="a"), answer(9.0, label="a"), True),
        (answer(1.0, label="a"), answer(1.0, label="b"), False),
        (answer(100.0, -1.0), answer(100.09, -1.0), True),
        (answer(100.0), answer(100.2), False),
        (answer(0.0), answer(1e-7), True),
        (answer(0.0), answer(1e-4), False),
        (answer(1.0), answer(1.0, 2.0), False),
        (answer(1.0), {"outputs": {"z": [1.0]}}, False),
        ({"outputs": {"y": "a"}}, {"outputs": {"y": "a"}}, True),
        ({"outputs": {"y": True}}, {"outputs": {"y": False}}, False),
        ({"items": [answer(1.0), answer(2.0)]}, {"items": [answer(1.0), answer(2.0)]}, True),
        ({"items": [answer(1.0), answer(2.0)]}, {"items": [answer(1.0), answer(3.0)]}, False),
        ({"items": [answer(1.0)]}, {"items": [{"error": {"code": "x"}}]}, False),
        ({"items": [answer(1.0)]}, answer(1.0), False),
    ],
)
def test_answers_agree_by_label_or_else_by_number(one: Any, other: Any, same: bool) -> None:
    assert agree(one, other, 1e-3) is same
    assert agree(other, one, 1e-3) is same


def test_an_answer_is_shown_short() -> None:
    assert shown(answer(1.0, label="a")) == {"label": "a", "score": 0.5}
    assert shown(answer(*range(99))) == {"y": list(range(8))}
    assert shown({"outputs": {"y": [[1, 2], [3, 4]]}}) == {"y": [1, 2]}
    assert shown({"items": [1, 2]}) == {"items": 2}
