"""What is learned of the data: on the rows that are trained on, and on no others."""

from __future__ import annotations

import numpy as np
import pytest

from storage.records.errors import InvalidInput
from storage.records.push_options import Column, ColumnType, Missing, ScoreKind
from storage.records.signatures import InputSpec, Signature, build_signature
from storage.records.training import (
    MissingRule,
    Named,
    Preparation,
    Scaling,
    Split,
    TextPreparation,
    TrainingSpec,
    Weights,
)
from tests.support.bulk_files import npz
from tests.support.training_data import NUMBERS, DataDesk, everything, spec_of
from workers.inference.decode_record import decode_record
from workers.training.data.kept_rows import KeptRows
from workers.training.ports import Part, Target


def scaled(rows: KeptRows, part: Part, name: str = "features") -> np.ndarray:
    scale = rows.prepared.scales[name]
    assert scale.offset.dtype == scale.factor.dtype == np.float32
    return (everything(rows, part).inputs[name] - scale.offset) * scale.factor


RNG = np.random.default_rng(5)
NUMBERED = [f"{RNG.normal(50, 9):.3f},{RNG.exponential():.4f},7,{n % 2}" for n in range(60)]


def test_standard_scaling_is_of_the_training_rows(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,same,label", NUMBERED)
    rows = desk.prepare(spec_of(uri, prepare=Preparation(scale=Scaling.STANDARD)))
    train = scaled(rows, Part.TRAIN)
    np.testing.assert_allclose(train[:, :2].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train[:, :2].std(axis=0), 1, atol=1e-5)
    assert (train[:, 2] == 0).all()
    assert rows.prepared.scales["features"].factor[2] == 1
    assert rows.prepared.note["constant_columns"] == ["same"]
    assert abs(scaled(rows, Part.TEST)[:, 0].mean()) > 1e-4, "the others are scaled by them"


def test_minmax_scaling_is_of_the_training_rows(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,same,label", NUMBERED)
    rows = desk.prepare(spec_of(uri, prepare=Preparation(scale=Scaling.MINMAX)))
    train = scaled(rows, Part.TRAIN)
    assert train[:, :2].min() == 0
    np.testing.assert_allclose(train[:, :2].max(axis=0), 1, rtol=1e-6)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 1), (2, 2, 3)])
def test_pictures_are_divided_or_scaled_by_channel(desk: DataDesk, shape: tuple[int, ...]) -> None:
    pixels = RNG.integers(0, 256, (40, *shape)).astype(np.uint8)
    uri = desk.write("x.npz", npz(x=pixels, label=np.arange(40) % 2))
    divided = desk.prepare(spec_of(uri, prepare=Preparation(scale=Scaling.DIVIDE)))
    scale = divided.prepared.scales["x"]
    assert scale.factor.shape == scale.offset.shape == ()
    assert scale.factor == np.float32(1 / 255)
    rows = desk.prepare(spec_of(uri, prepare=Preparation(scale=Scaling.STANDARD)))
    assert rows.prepared.scales["x"].factor.shape == ((3,) if shape[2:] == (3,) else ())
    train = scaled(rows, Part.TRAIN, "x")
    assert abs(train.mean()) < 1e-5
    assert abs(train.std() - 1) < 0.02


def test_categories_are_learned_and_not_scaled(desk: DataDesk) -> None:
    lines = [f"{n},{'red' if n % 3 else 'blue'},{n % 4},{n % 2}" for n in range(40)]
    uri = desk.csv("d.csv", "a,colour,size,label", lines)
    prepare = Preparation(
        categories={"colour": (), "size": ("3", "2", "1", "0")}, scale=Scaling.STANDARD
    )
    rows = desk.prepare(spec_of(uri, prepare=prepare))
    factors = rows.prepared.scales["features"].factor
    assert (factors[1:] == 1).all()
    assert factors[0] != 1
    columns = rows.prepared.options.columns
    assert columns[1].categories == ("blue", "red")
    assert columns[2].categories == (3, 2, 1, 0)
    vector = everything(rows).inputs["features"]
    which = vector[:, 0].astype(int)
    assert np.array_equal(vector[:, 1:3].argmax(axis=1) == 1, which % 3 > 0)
    assert np.array_equal(3 - vector[:, 3:].argmax(axis=1), which % 4)


def test_a_category_that_only_others_have_is_none(desk: DataDesk) -> None:
    """One row of forty: by the seed it is trained on or not, and the vector is as wide as that."""
    lines = [f"{n},{'rare' if n == 17 else 'red' if n % 2 else 'blue'},{n % 2}" for n in range(40)]
    uri = desk.csv("d.csv", "a,c,label", lines)
    seen = set()
    for seed in range(12):
        rows = desk.prepare(spec_of(uri, split=Split(0.25, 0.25, seed)))
        train = everything(rows).inputs["features"]
        learned = bool((train[:, 0] == 17).any())
        seen.add(learned)
        assert ("rare" in rows.prepared.options.columns[1].categories) == learned
        assert rows.prepared.note.get("unseen_categories") == (None if learned else {"c": 1})
    assert seen == {True, False}


def test_missing_values_are_filled_by_what_is_trained_on(desk: DataDesk) -> None:
    holes = dict.fromkeys(range(0, 80, 5), "")
    lines = [
        f"{holes.get(n, n * n)},{holes.get(n, n * n)},{holes.get(n, n)},{holes.get(n, 'x')},{n % 2}"
        for n in range(80)
    ]
    uri = desk.csv("d.csv", "mean,median,value,word,label", lines)
    fill: dict[str, float | str] = {"mean": "mean", "median": "median", "value": -1.0, "word": "y"}
    prepare = Preparation(missing=MissingRule.FILL, fill=fill)
    rows = desk.prepare(spec_of(uri, prepare=prepare))
    train = everything(rows).inputs["features"]
    there = train[train[:, 2] >= 0]
    filled = train[train[:, 2] < 0]
    assert len(filled)
    np.testing.assert_allclose(filled[:, 0], there[:, 0].mean(), rtol=1e-6)
    assert (filled[:, 1] == np.float32(np.median(there[:, 1]))).all()
    assert (filled[:, 3:] == [0, 1]).all()
    mean, median, value, word = rows.prepared.options.columns
    assert (mean.missing, mean.fill) == (Missing.FILL, float(filled[0, 0]))
    assert (median.fill, value.fill) == (float(filled[0, 1]), -1.0)
    assert word == Column("word", ColumnType.CATEGORY, Missing.FILL, "y", ("x", "y"), one_hot=True)


def test_what_is_served_makes_the_vector_that_was_trained_on(desk: DataDesk) -> None:
    lines = [
        f"{n if n % 5 else ''},{'uv'[n % 2]},{'true' if n % 2 else 'false'},{n % 2}"
        for n in range(40)
    ]
    uri = desk.csv("d.csv", "a,c,flag,label", lines)
    prepare = Preparation(missing=MissingRule.FILL, fill={"a": "median"})
    rows = desk.prepare(spec_of(uri, prepare=prepare))
    (feature,) = rows.prepared.features
    spec = InputSpec(feature.name, feature.dtype, feature.shape)
    signature = build_signature([spec], rows.prepared.options)
    assert Signature.from_json(signature.to_json()) == signature
    known = {tuple(one) for one in everything(rows).inputs["features"].tolist()}
    for record in (
        {"a": 7.0, "c": "v", "flag": True},
        {"a": 8, "c": "u", "flag": False},
        {"a": None, "c": "u", "flag": False},
    ):
        made = decode_record(signature, record, "record")["features"]
        fill = rows.prepared.options.columns[0].fill
        a = fill if record["a"] is None else record["a"]
        want = [a, record["c"] == "u", record["c"] == "v", record["flag"]]
        assert made.tolist() == pytest.approx([float(one) for one in want])
    assert any(one[1:] == (0.0, 1.0, 1.0) for one in known)


@pytest.mark.parametrize("categories", [{}, {"size": ()}])
def test_words_that_all_become_numbers_are_numbers(
    desk: DataDesk, categories: dict[str, tuple[str, ...]]
) -> None:
    lines = [f"{n},{['small', 'large', '?'][n % 3]},{n % 2}" for n in range(60)]
    uri = desk.csv("d.csv", "n,size,label", lines)
    rules: dict[str, str | float | None] = {"small": 1, "large": 3.5, "?": None}
    prepare = Preparation(
        replace={"size": rules, "label": {"1": "one"}},
        categories=categories,
        missing=MissingRule.DROP,
    )
    rows = desk.prepare(spec_of(uri, prepare=prepare))
    column = rows.prepared.options.columns[1]
    assert rows.prepared.note["replaced_before_training"] == ["size"]
    if categories:
        assert column.categories == ("1", "3.5")
        return
    assert column == Column("size")
    vector = everything(rows).inputs["features"]
    assert np.array_equal(vector[:, 1], np.where(vector[:, 0].astype(int) % 3, 3.5, 1.0))


def test_a_word_that_no_rule_makes_a_number_is_refused(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "n,size,label", [f"{n},{'uvw'[n % 3]},{n % 2}" for n in range(60)])
    prepare = Preparation(replace={"size": {"u": 1, "v": 2}})
    with pytest.raises(InvalidInput, match=r"'w', which is no number.*categories") as caught:
        desk.prepare(spec_of(uri, prepare=prepare))
    assert caught.value.stable_code == "feature_not_number"


@pytest.mark.parametrize("fill", [0, 1.0])
def test_true_and_false_are_served_as_such_where_gaps_are_filled(
    desk: DataDesk, fill: float
) -> None:
    flags = ["true", "false", ""]
    uri = desk.csv("d.csv", "n,flag,label", [f"{n},{flags[n % 3]},{n % 2}" for n in range(60)])
    prepare = Preparation(
        missing=MissingRule.FILL, fill={"flag": fill, "n": "mean"}, scale=Scaling.STANDARD
    )
    rows = desk.prepare(spec_of(uri, prepare=prepare))
    column = rows.prepared.options.columns[1]
    assert column == Column("flag", ColumnType.BOOLEAN, Missing.FILL, bool(fill))
    assert column.fill is bool(fill)
    vector = everything(rows).inputs["features"]
    assert np.array_equal(vector[:, 1], np.array([1, 0, fill])[vector[:, 0].astype(int) % 3])
    (feature,) = rows.prepared.features
    spec = InputSpec(feature.name, feature.dtype, feature.shape)
    signature = build_signature([spec], rows.prepared.options)
    for flag, want in ((True, 1), (False, 0), (None, fill)):
        made = decode_record(signature, {"n": 5, "flag": flag}, "record")["features"]
        assert made.tolist() == [5, want]


@pytest.mark.parametrize("fill", ["mean", "median", 2, "some"])
def test_true_and_false_are_filled_with_nothing_else(desk: DataDesk, fill: float | str) -> None:
    flags = ["true", "false", ""]
    uri = desk.csv("d.csv", "n,flag,label", [f"{n},{flags[n % 3]},{n % 2}" for n in range(60)])
    prepare = Preparation(missing=MissingRule.FILL, fill={"flag": fill})
    with pytest.raises(InvalidInput, match="'flag'") as caught:
        desk.prepare(spec_of(uri, prepare=prepare))
    assert caught.value.stable_code == "bad_preparation"


def test_what_rules_made_of_true_and_false_is_served_as_numbers(desk: DataDesk) -> None:
    lines = [f"{n},{'true' if n % 3 else 'false'},{n % 2}" for n in range(60)]
    uri = desk.csv("d.csv", "n,flag,label", lines)
    rules: dict[str, str | float | None] = {"true": 3, "false": -1}
    rows = desk.prepare(spec_of(uri, prepare=Preparation(replace={"flag": rules})))
    assert rows.prepared.options.columns[1] == Column("flag")
    assert set(everything(rows).inputs["features"][:, 1]) == {3, -1}


def test_rows_that_are_there_twice_count_once(desk: DataDesk) -> None:
    lines = [f"{n % 20},{'uv'[n % 2]},{n % 2}" for n in range(60)] + ["0,u,1", "0,v,0"]
    uri = desk.csv("d.csv", "a,c,label", lines)
    once = desk.csv("once.csv", "a,c,label", [*lines[:20], *lines[60:]])
    rows = desk.prepare(spec_of(uri, prepare=Preparation(drop_duplicates=True)))
    assert sum(rows.prepared.rows.values()) == 22
    assert rows.prepared.note["dropped"] == {"duplicate": 40}
    other = desk.prepare(spec_of(once))
    for part in Part:
        mine, theirs = everything(rows, part), everything(other, part)
        assert np.array_equal(mine.inputs["features"], theirs.inputs["features"])


def test_texts_that_are_there_twice_count_once(desk: DataDesk) -> None:
    lines = [f"say {n % 15},{n % 15 % 2}" for n in range(60)]
    uri = desk.csv("d.csv", "t,label", lines)
    prepare = Preparation(text=TextPreparation(), drop_duplicates=True)
    assert sum(desk.prepare(spec_of(uri, prepare=prepare)).prepared.rows.values()) == 15


# ---- labels and weights

LOSSES = {
    "sparse_categorical_crossentropy": (Target.INDEX, [[0, 1, 2], [0, 1]]),
    "categorical_crossentropy": (Target.ONE_HOT, [np.eye(3).tolist(), np.eye(2).tolist()]),
    "binary_crossentropy": (Target.BINARY, [None, [[0.0], [1.0]]]),
    "hinge": (Target.SIGNED, [(2 * np.eye(3) - 1).tolist(), [[-1.0], [1.0]]]),
    "kl_divergence": (Target.ONE_HOT, [np.eye(3).tolist(), np.eye(2).tolist()]),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("classes", [3, 2])
def test_labels_as_the_loss_takes_them(desk: DataDesk, loss: str, classes: int) -> None:
    target, wants = LOSSES[loss]
    want = wants[3 - classes]
    if want is None:
        return
    names = ["ten", "two", "zoo"]
    uri = desk.csv("d.csv", "a,label", [f"{n},{names[n % classes]}" for n in range(30)])
    rows = desk.prepare(spec_of(uri, loss=Named(loss)))
    assert rows.prepared.target is target
    assert rows.prepared.labels == tuple(names[:classes])
    batch = everything(rows)
    which = batch.inputs["features"][:, 0].astype(int) % classes
    assert np.array_equal(batch.target, np.array(want)[which])
    assert batch.target.dtype == (np.int64 if target is Target.INDEX else np.float32)
    assert np.array_equal(rows.labels_of(Part.TRAIN), which)
    assert (rows.prepared.options.scores is ScoreKind.LOGITS) == (loss == "hinge")


def test_numbers_are_learned_as_they_are(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,label", [f"{n},{n * 0.5}" for n in range(40)])
    rows = desk.prepare(spec_of(uri, loss=NUMBERS))
    batch = everything(rows)
    assert batch.target.shape == (20, 1)
    assert batch.target.dtype == np.float32
    assert np.array_equal(batch.target, batch.inputs["features"] * np.float32(0.5))
    assert rows.labels_of(Part.TEST).dtype == np.float32
    assert rows.prepared.labels == ()


def test_labels_that_are_numbers_are_in_their_order(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,label", [f"{n},{[10, 9, 2.0, -1][n % 4]}" for n in range(30)])
    assert desk.prepare(spec_of(uri)).prepared.labels == ("-1", "2", "9", "10")


def test_several_labels_may_have_one_name(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,label", [f"{n},{n % 4}" for n in range(40)])
    labels = (("0", "low"), ("1", "low"), ("2", "high"), ("3.0", "high"))
    rows = desk.prepare(spec_of(uri, prepare=Preparation(labels=labels)))
    assert rows.prepared.labels == ("low", "high")
    batch = everything(rows)
    assert np.array_equal(batch.target, batch.inputs["features"][:, 0].astype(int) % 4 >= 2)


@pytest.mark.parametrize("given", [False, True])
def test_large_numbers_are_labels_of_their_own(desk: DataDesk, given: bool) -> None:
    names = [str(2**53), str(2**53 + 1)]
    uri = desk.csv("d.csv", "a,label", [f"{n},{names[n % 2]}" for n in range(40)])
    labels = tuple(zip(names, ("even", "odd"), strict=True)) if given else ()
    rows = desk.prepare(spec_of(uri, prepare=Preparation(labels=labels)))
    assert rows.prepared.labels == (("even", "odd") if given else tuple(names))
    batch = everything(rows)
    assert np.array_equal(batch.target, batch.inputs["features"][:, 0].astype(int) % 2)


def weighted(desk: DataDesk, weights: Weights) -> tuple[KeptRows, TrainingSpec]:
    lines = [f"{n},{'abc'[n % 3]},{'no' if n % 4 else 'yes'}" for n in range(80)]
    uri = desk.csv("d.csv", "n,group,label", lines)
    spec = spec_of(uri, data={"features": ("n",)}, weights=weights)
    return desk.prepare(spec), spec


def test_balanced_classes_count_as_much_as_each_other(desk: DataDesk) -> None:
    rows, _ = weighted(desk, Weights(balanced=True))
    batch = everything(rows)
    assert batch.weights is not None
    assert batch.weights.dtype == np.float32
    sums = [batch.weights[batch.target == one].sum() for one in (0, 1)]
    assert sums == pytest.approx([20, 20])
    assert rows.prepared.weighted
    assert everything(rows, Part.VALIDATION).weights is None
    assert everything(rows, Part.TEST).weights is None


def test_a_row_counts_as_its_class_times_its_group(desk: DataDesk) -> None:
    weights = Weights(classes={"yes": 3.0}, group="group", groups={"b": 0.5})
    batch = everything(weighted(desk, weights)[0])
    which = batch.inputs["features"][:, 0].astype(int)
    want = np.where(which % 4 == 0, 3.0, 1.0) * np.where(which % 3 == 1, 0.5, 1.0)
    assert np.array_equal(batch.weights, want)


@pytest.mark.parametrize(
    ("site", "named"),
    [("berlin", "Berlin"), ("1.0", "2"), ("x,1", "x,2")],
)
def test_a_group_that_is_not_there_is_refused(desk: DataDesk, site: str, named: str) -> None:
    uri = desk.csv("d.csv", "n,site,label", [f'{n},"{site}",{n % 2}' for n in range(20)])
    spec = spec_of(uri, weights=Weights(group="site", groups={named: 3.0}))
    with pytest.raises(InvalidInput, match=f"names '{named}'.* 'site'") as caught:
        desk.prepare(spec)
    assert caught.value.stable_code == "bad_preparation"
    assert caught.value.field == "weights.group.weights"


@pytest.mark.parametrize("named", ["1", "1.0"])
def test_groups_are_called_as_labels_are(desk: DataDesk, named: str) -> None:
    lines = [f"{n},{['1.0', '2.0', '-9'][n % 3]},{n % 2}" for n in range(60)]
    uri = desk.csv("d.csv", "n,site,label", lines)
    prepare = Preparation(replace={"site": {"-9": 1}})
    weights = Weights(group="site", groups={named: 3.0})
    batch = everything(desk.prepare(spec_of(uri, weights=weights, prepare=prepare)))
    want = np.where(batch.inputs["features"][:, 0].astype(int) % 3 == 1, 1.0, 3.0)
    assert np.array_equal(batch.weights, want)


def test_a_group_may_be_an_array_of_one_number(desk: DataDesk) -> None:
    site = np.arange(20).reshape(-1, 1) % 4 // 2
    arrays = {"n": np.arange(20), "label": np.arange(20) % 2}
    weights = Weights(group="site", groups={"1": 3.0})
    batch = everything(
        desk.prepare(spec_of(desk.write("a.npz", npz(**arrays, site=site)), weights=weights))
    )
    which = batch.inputs["features"][:, 0].astype(int)
    assert np.array_equal(batch.weights, np.where(which % 4 // 2, 3.0, 1.0))
    wide = desk.write("b.npz", npz(**arrays, site=np.ones((20, 2))))
    with pytest.raises(InvalidInput, match="group 'site'") as caught:
        desk.prepare(spec_of(wide, weights=weights))
    assert caught.value.stable_code == "bad_feature"


def test_a_group_is_no_feature_unless_it_is_named(desk: DataDesk) -> None:
    lines = [f"{n},{n % 3},{n % 2}" for n in range(30)]
    uri = desk.csv("d.csv", "n,group,label", lines)
    weights = Weights(group="group", groups={"1": 2.0})
    rows = desk.prepare(spec_of(uri, weights=weights))
    assert rows.prepared.features[0].shape == (1,)
    named = spec_of(uri, weights=weights, data={"features": ("n", "group")})
    assert desk.prepare(named).prepared.features[0].shape == (2,)
    batch = everything(rows)
    assert np.array_equal(batch.weights == 2, batch.inputs["features"][:, 0].astype(int) % 3 == 1)


def test_without_weights_no_row_has_one(desk: DataDesk) -> None:
    rows, _ = weighted(desk, Weights())
    assert everything(rows).weights is None
    assert not rows.prepared.weighted


# ---- rows


@pytest.mark.parametrize("budget_bytes", [0, 1 << 20])
def test_rows_come_in_the_order_asked_for_from_memory_and_from_disk(
    desk: DataDesk, budget_bytes: int
) -> None:
    x = RNG.integers(0, 256, (200, 7, 3)).astype(np.uint8)
    uri = desk.write("x.npz", npz(x=x, label=np.arange(200) % 2, z=np.arange(200.0)))
    rows = desk.prepare(spec_of(uri), budget_bytes=budget_bytes)
    assert rows.in_memory == bool(budget_bytes)
    whole = everything(rows)
    for order in (
        RNG.permutation(100),
        np.arange(99, -1, -1),
        np.array([5, 6, 7, 7, 8, 3, 99]),
        np.array([], np.int64),
    ):
        batch = rows.take(Part.TRAIN, order)
        assert np.array_equal(batch.inputs["x"], whole.inputs["x"][order])
        assert np.array_equal(batch.inputs["features"], whole.inputs["features"][order])
        assert np.array_equal(batch.target, whole.target[order])
    with pytest.raises(IndexError):
        rows.take(Part.TRAIN, np.array([100]))
    rows.close()


def test_the_note_counts_each_class_in_each_part(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,label", [f"{n},{n % 2}" for n in range(40)])
    note = desk.prepare(spec_of(uri)).prepared.note
    assert note["classes"]["1"] == {"train": 10, "validation": 5, "test": 5}
    assert note["rows"] == {"train": 20, "validation": 10, "test": 10}
