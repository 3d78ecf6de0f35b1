"""Every figure of an evaluation is scikit-learn's, on the same answers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from storage.records.push_options import InputForm, ScoreKind
from storage.records.signatures import InputSpec, OutputSpec, Signature
from workers.bulk.evaluating import measuring
from workers.bulk.evaluating.measuring import Measures
from workers.bulk.evaluating.reading import Scored
from workers.bulk.evaluating.slices import Counting
from workers.bulk.evaluating.target import target_of
from workers.inference.encode import label_scores
from workers.training.scores import errors_of_numbers

SEEDS = range(40)
CLOSE = 1e-9


def model(width: int, labels: Sequence[str] = (), scores: str = "probabilities") -> Signature:
    return Signature(
        form=InputForm.TENSOR,
        inputs=(InputSpec("x", "float32", (2,)),),
        outputs=(OutputSpec("y", "float32", (width,)),),
        labels=tuple(labels),
        scores=ScoreKind(scores),
        label_output="y" if labels else None,
    )


def measured(
    signature: Signature,
    outputs: Any,
    label: pa.Array,
    slices: Mapping[str, pa.Array] | None = None,
    chunk: int = 61,
) -> tuple[Measures, dict[str, Any]]:
    """The document's part, of rows that came a few at a time."""
    slices = slices or {}
    counted = {}
    for name, column in slices.items():
        counting = Counting()
        for at in range(0, len(column), chunk):
            counting.add(column.slice(at, chunk))
        counted[name] = counting.values()
    found = Measures(target_of(signature, label.type), counted)
    for at in range(0, len(label), chunk):
        some = np.asarray(outputs)[at : at + chunk]
        rows = Scored(0, np.arange(at, at + len(some)), {}, None, None, {"y": some})
        columns = {name: column.slice(at, chunk) for name, column in slices.items()}
        found.add(rows, label.slice(at, chunk), columns)
    return found, found.told(lambda: None)


def close(found: float | None, expected: float) -> bool:
    return found is not None and abs(found - expected) <= CLOSE * max(1.0, abs(expected))


def softmax(values: Any) -> Any:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype("float32")


def some_classes(seed: int, labels: int) -> tuple[Any, Any]:
    """Truth and scores, with ties, and now and then labels that never are or never are said."""
    chance = np.random.default_rng(seed)
    rows = int(chance.integers(2, 400))
    used = chance.integers(1, labels + 1) if seed % 3 == 0 else labels
    truth = chance.integers(0, used, rows)
    raw = chance.normal(size=(rows, labels)) + 1.5 * np.eye(labels)[truth]
    if seed % 4 == 1:
        raw = np.round(raw)  # ties
    if seed % 5 == 2:
        raw[:, -1] = -50  # never said
    return truth, raw


def expected_of(truth: Any, scores: Any, said: Any) -> dict[str, float | None]:
    """By scikit-learn. ``scores``: float64 (rows, labels)."""
    labels = scores.shape[1]
    told: dict[str, float | None] = {"accuracy": sk.accuracy_score(truth, said)}
    macro = sk.precision_recall_fscore_support(truth, said, average="macro", zero_division=0)
    told |= dict(zip(("macro_precision", "macro_recall", "macro_f1"), macro, strict=False))
    own = macro
    if labels == 2:
        own = sk.precision_recall_fscore_support(
            truth, said, labels=[0, 1], pos_label=1, average="binary", zero_division=0
        )
    told |= dict(zip(("precision", "recall", "f1"), own, strict=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # float32 sums are 1 only about
        told["log_loss"] = sk.log_loss(truth, scores, labels=range(labels))
        if labels == 2:
            told["brier"] = sk.brier_score_loss(truth, scores[:, 1], pos_label=1)
            known = [sk.roc_auc_score(truth, scores[:, 1])] if len(set(truth)) == 2 else []
        else:
            told["brier"] = sk.brier_score_loss(truth, scores, labels=range(labels))
            each = [truth == at for at in range(labels)]
            known = [
                sk.roc_auc_score(one, scores[:, at])
                for at, one in enumerate(each)
                if 0 < one.sum() < len(one)
            ]
    told["auc"] = float(np.mean(known)) if known else None
    return told


def check(found: Mapping[str, Any], expected: Mapping[str, float | None], what: str) -> None:
    for name, value in expected.items():
        if value is None:
            assert found[name] is None, (what, name)
        else:
            assert close(found[name], value), (what, name, found[name], value)


@pytest.mark.parametrize("scores", ["probabilities", "logits"])
@pytest.mark.parametrize("labels", [2, 3, 7])
def test_classes_are_judged_as_scikit_learn_judges_them(labels: int, scores: str) -> None:
    for seed in SEEDS:
        truth, raw = some_classes(seed, labels)
        raw = raw.astype("float32") if scores == "logits" else softmax(raw)
        names = [f"l{at}" for at in range(labels)]
        signature = model(labels, names, scores)
        answered = label_scores(raw, signature.scores, labels, np.ones(len(raw), bool))
        label = pa.array([names[at] for at in truth])
        _, told = measured(signature, raw, label)
        said = answered.argmax(axis=1)
        check(told["metrics"], expected_of(truth, answered.astype("float64"), said), f"{seed=}")
        matrix = sk.confusion_matrix(truth, said, labels=range(labels))
        assert told["confusion"] == matrix.tolist(), f"{seed=}"
        by_label = sk.precision_recall_fscore_support(
            truth, said, labels=range(labels), zero_division=0
        )
        for at, one in enumerate(told["labels"]):
            assert one["label"] == names[at] and one["support"] == by_label[3][at]
            for name, values in zip(("precision", "recall", "f1"), by_label, strict=False):
                assert close(one[name], values[at]), (seed, at, name)


@pytest.mark.parametrize("scores", ["probabilities", "logits"])
def test_a_single_output_is_the_second_of_two_labels(scores: str) -> None:
    for seed in SEEDS:
        truth, raw = some_classes(seed, 2)
        single = (raw[:, 1:] - raw[:, :1]).astype("float32")
        if scores == "probabilities":
            single = (1 / (1 + np.exp(-single))).astype("float32")
        signature = model(1, ["no", "yes"], scores)
        answered = label_scores(single, signature.scores, 2, np.ones(len(raw), bool))
        second = answered[:, 1].astype("float64")
        pair = np.stack([1 - second, second], axis=1)
        label = pa.array(np.array(["no", "yes"])[truth])
        _, told = measured(signature, single, label)
        check(told["metrics"], expected_of(truth, pair, answered.argmax(axis=1)), f"{seed=}")


def test_calibration_is_by_bins_of_the_labels_that_were_said() -> None:
    for seed in SEEDS:
        truth, raw = some_classes(seed, 4)
        scores = softmax(raw).astype("float64")
        _, told = measured(model(4, "abcd"), softmax(raw), pa.array(np.array(list("abcd"))[truth]))
        sure, right = scores.max(axis=1), scores.argmax(axis=1) == truth
        ece, worst = 0.0, 0.0
        for at, told_bin in enumerate(told["calibration"]["bins"]):
            low, high = at / 15, (at + 1) / 15
            mine = (sure >= low) & ((sure < high) | (at == 14))
            assert (told_bin["from"], told_bin["to"], told_bin["rows"]) == (low, high, mine.sum())
            if mine.any():
                gap = abs(sure[mine].mean() - right[mine].mean())
                ece, worst = ece + gap * mine.mean(), max(worst, gap)
                assert close(told_bin["confidence"], sure[mine].mean())
                assert close(told_bin["accuracy"], right[mine].mean())
        assert close(told["metrics"]["ece"], ece) and close(told["metrics"]["mce"], worst), seed
        if len(truth) > 50:
            fraction, mean = sk_curve(right, sure)
            known = [one for one in told["calibration"]["bins"] if one["rows"]]
            assert np.allclose([one["accuracy"] for one in known], fraction, atol=CLOSE)
            assert np.allclose([one["confidence"] for one in known], mean, atol=CLOSE)


def sk_curve(right: Any, sure: Any) -> tuple[Any, Any]:
    from sklearn.calibration import calibration_curve

    return calibration_curve(right, sure, n_bins=15)


@pytest.mark.parametrize("width", [1, 3])
def test_numbers_are_judged_as_scikit_learn_judges_them(width: int) -> None:
    for seed in SEEDS:
        chance = np.random.default_rng(seed)
        rows = int(chance.integers(2, 500))
        truth = chance.normal(1e4 * (seed % 2), 3, (rows, width))  # far from 0 the sums are hard
        said = (truth + chance.normal(0.5, 1, (rows, width))).astype("float32")
        label = pa.array(truth[:, 0]) if width == 1 else pa.array(truth.tolist())
        _, told = measured(model(width, scores="auto"), said, label)
        given = said.astype("float64")
        expected = {
            "mse": sk.mean_squared_error(truth, given),
            "mae": sk.mean_absolute_error(truth, given),
            "rmse": np.sqrt(sk.mean_squared_error(truth, given)),
            "r2": sk.r2_score(truth, given, multioutput="variance_weighted"),
            "bias": float((given - truth).mean()),
        }
        check(told["metrics"], expected, f"{seed=}")
        assert told["labels"] == [] and told["confusion"] is told["calibration"] is None


def test_numbers_that_are_all_the_same_have_no_r2() -> None:
    for value in (2.0, 0.1):  # sums of the second have a remainder
        _, told = measured(model(1, scores="auto"), np.ones((99, 1)), pa.array([value] * 99))
        assert told["metrics"]["r2"] is None and told["intervals"].get("r2") is None
        assert told["metrics"]["mae"] == pytest.approx(abs(1.0 - value))


def test_a_number_that_never_varies_has_no_part_in_r2() -> None:
    for value in (2.0, 0.1):  # of the second scikit-learn's own sums have a remainder
        chance = np.random.default_rng(3)
        truth = np.stack([chance.normal(size=200), np.full(200, value)], axis=1)
        said = truth + chance.normal(size=truth.shape)
        _, told = measured(model(2, scores="auto"), said, pa.array(truth.tolist()))
        expected = sk.r2_score(truth[:, 0], said[:, 0])
        if value == 2.0:
            assert close(sk.r2_score(truth, said, multioutput="variance_weighted"), expected)
        assert close(told["metrics"]["r2"], expected)
        assert close(errors_of_numbers(truth, said)["r2"], expected)
        assert errors_of_numbers(truth[:, 1], said[:, 1])["r2"] is None


def test_of_very_many_labels_the_most_frequent_are_told() -> None:
    labels = [f"l{at:04}" for at in range(1_200)]
    truth = np.concatenate([np.arange(1_200), np.arange(600, 1_200)])
    scores = np.eye(1_200, dtype=np.float32)[truth]
    column = pa.array([labels[at] for at in truth])
    _, told = measured(model(1_200, labels), scores, column)
    assert [one["label"] for one in told["labels"]] == [*labels[:400], *labels[600:]]
    assert told["metrics"]["accuracy"] == 1.0


def test_each_slice_is_judged_like_a_whole() -> None:
    for seed in SEEDS:
        truth, raw = some_classes(seed, 3)
        chance = np.random.default_rng(seed)
        hours = chance.integers(0, 5, len(truth))
        places = [None if at == 3 else f"p{at}" for at in chance.integers(0, 4, len(truth))]
        label = pa.array(np.array(list("abc"))[truth])
        slices = {"hour": pa.array(hours.astype(float)), "place": pa.array(places)}
        _, told = measured(model(3, "abc"), softmax(raw), label, slices)
        answered = softmax(raw).astype("float64")
        by_hour, by_place = told["slices"]
        assert [one["value"] for one in by_hour["values"]] == [str(at) for at in sorted(set(hours))]
        assert sum(one["rows"] for one in by_place["values"]) == len(truth)
        for one in by_hour["values"]:
            mine = hours == int(one["value"])
            assert one["rows"] == mine.sum()
            expected = expected_of(truth[mine], answered[mine], answered[mine].argmax(axis=1))
            check(one["metrics"], expected, f"{seed=} {one['value']}")


def test_slices_of_numbers_are_judged_like_a_whole() -> None:
    chance = np.random.default_rng(3)
    truth, which = chance.normal(50, 2, 300), chance.integers(0, 3, 300)
    said = (truth + chance.normal(size=300)).astype("float32").reshape(-1, 1)
    _, told = measured(model(1, scores="auto"), said, pa.array(truth), {"w": pa.array(which)})
    for one in told["slices"][0]["values"]:
        mine = which == int(one["value"])
        given = said[mine, 0].astype("float64")
        assert close(one["metrics"]["r2"], sk.r2_score(truth[mine], given))
        assert close(one["metrics"]["mae"], sk.mean_absolute_error(truth[mine], given))


def test_the_most_frequent_fifty_values_are_told_apart_and_the_rest_counted() -> None:
    values = [at for at in range(60) for _ in range(at + 1)]
    rows = len(values)
    label = pa.array(["a"] * rows)
    _, told = measured(
        model(2, "ab"), np.tile([0.9, 0.1], (rows, 1)), label, {"v": pa.array(values)}
    )
    found = told["slices"][0]
    assert [one["value"] for one in found["values"]] == [str(at) for at in range(10, 60)]
    assert (found["other_values"], found["other_rows"]) == (10, sum(range(1, 11)))


def test_rows_without_a_label_or_with_a_strange_one_are_counted_and_left_out() -> None:
    label = pa.array(["a", None, "b", "zebra", " ", "a"])
    scores = np.array([[0.9, 0.1]] * 6, "float32")
    found, told = measured(model(2, "ab"), scores, label, {"v": pa.array([1, 1, 2, 3, 3, 3])})
    assert (found.rows, found.truth.unlabelled, found.truth.unknown) == (3, 2, 1)
    assert list(found.truth.unknown_values) == ["zebra"]
    assert close(told["metrics"]["accuracy"], 2 / 3)
    assert [one["rows"] for one in told["slices"][0]["values"]] == [1, 1, 1]


def test_scores_that_are_no_probabilities_say_nothing_of_calibration() -> None:
    signature = replace(model(3, scores="auto"))
    truth = np.array([0, 1, 2, 1])
    raw = np.array([[5, 1, -3], [2, 4, 1], [0, 1, 9], [3, 1, 0]], "float32")
    _, told = measured(signature, raw, pa.array(truth))
    assert told["calibration"] is None
    assert [told["metrics"][name] for name in ("log_loss", "brier", "ece", "mce")] == [None] * 4
    assert told["metrics"]["accuracy"] == 0.75
    assert told["metrics"]["auc"] is not None and [one["label"] for one in told["labels"]] == [
        *"012"
    ]


def test_too_many_scores_to_keep_cost_the_auc_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth, raw = some_classes(4, 3)
    label = pa.array(np.array(list("abc"))[truth])
    _, whole = measured(model(3, "abc"), softmax(raw), label, {"v": label})
    monkeypatch.setattr(measuring, "MOST_SCORES", 3 * len(truth) - 1)
    _, told = measured(model(3, "abc"), softmax(raw), label, {"v": label})
    assert told["metrics"].pop("auc") is None and whole["metrics"].pop("auc") is not None
    whole["intervals"].pop("auc")
    assert told["metrics"] == whole["metrics"] and told["intervals"] == whole["intervals"]


def test_nothing_that_json_cannot_hold_is_said() -> None:
    import orjson

    for labels in ("ab", "abc"):
        _, told = measured(model(len(labels), labels), np.eye(len(labels)), pa.array(list(labels)))
        assert b"NaN" not in orjson.dumps(told) and told["metrics"]["accuracy"] == 1.0


def test_a_long_look_at_the_ranks_can_be_stopped() -> None:
    class Over(Exception):
        pass

    def over() -> None:
        raise Over

    truth, raw = some_classes(7, 3)
    found, _ = measured(model(3, "abc"), softmax(raw), pa.array(np.array(list("abc"))[truth]))
    with pytest.raises(Over):
        found.told(over)


@pytest.mark.parametrize("labels", ["ab", "abc"])
def test_answers_that_are_certain_and_wrong_have_a_finite_loss(labels: str) -> None:
    truth = np.arange(12) % len(labels)
    scores = np.eye(len(labels), dtype="float32")[(truth + (np.arange(12) > 7)) % len(labels)]
    label = pa.array(np.array(list(labels))[truth])
    _, told = measured(model(len(labels), labels), scores, label)
    expected = sk.log_loss(truth, scores.astype("float64"), labels=range(len(labels)))
    assert close(told["metrics"]["log_loss"], expected) and expected > 10


def test_the_order_and_the_size_of_chunks_change_nothing() -> None:
    truth, raw = some_classes(8, 3)
    label, hours = pa.array(np.array(list("abc"))[truth]), pa.array(np.arange(len(truth)) % 4)
    whole = measured(model(3, "abc"), softmax(raw), label, {"h": hours}, chunk=10_000)[1]
    again = measured(model(3, "abc"), softmax(raw), label, {"h": hours}, chunk=3)[1]
    assert whole["confusion"] == again["confusion"]
    for name, value in whole["metrics"].items():
        assert close(again["metrics"][name], value), name
    for one, other in zip(whole["slices"][0]["values"], again["slices"][0]["values"], strict=True):
        assert one["rows"] == other["rows"]
        assert close(other["metrics"]["auc"], one["metrics"]["auc"])
