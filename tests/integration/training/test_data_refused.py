"""Data that nothing can be learned from: what is wrong, where, and what to do."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.records.bulk import Condition
from storage.records.errors import InvalidInput, NotFound
from storage.records.training import (
    DataFormat,
    MissingRule,
    Named,
    Network,
    Preparation,
    Split,
    TextPreparation,
    TrainingSpec,
    Weights,
)
from tests.support.bulk_files import npz, parquet
from tests.support.training_data import (
    NUMBERS,
    DataDesk,
    everything,
    idx,
    png,
    spec_of,
)
from workers.bulk.kit import Stopped
from workers.training.data.kept_rows import KeptRows
from workers.training.ports import Part

ROWS = [f"{n},{n * 2},{['no', 'yes'][n % 2]}" for n in range(20)]


def refused(desk: DataDesk, spec: TrainingSpec, code: str, *says: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        desk.prepare(spec)
    error = caught.value
    assert error.stable_code == code, error.message
    for text in says:
        assert text in error.message, error.message
    return error


def changed(rows: list[str], at: int, row: str) -> list[str]:
    return [*rows[:at], row, *rows[at + 1 :]]


def total(rows: KeptRows) -> int:
    return sum(rows.prepared.rows.values())


@pytest.mark.parametrize("value", ["", "NaN", "inf", "1e39"])
def test_a_feature_that_is_no_number_names_column_row_and_count(desk: DataDesk, value: str) -> None:
    rows = changed(changed(ROWS, 4, f"4,{value},no"), 9, f"9,{value},yes")
    uri = desk.csv("d.csv", "a,b,label", rows)
    says = ("column 'b'", "2 rows", "row 5 of", uri)
    error = refused(desk, spec_of(uri), "feature_missing", *says)
    assert error.field == "prepare.missing"


def test_such_rows_are_dropped_and_counted_if_asked_for(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", changed(ROWS, 4, "4,,no"))
    rows = desk.prepare(spec_of(uri, prepare=Preparation(missing=MissingRule.DROP)))
    assert total(rows) == 19
    assert rows.prepared.note["dropped"] == {"missing": 1}


def test_a_missing_value_in_a_parquet_or_an_array(desk: DataDesk) -> None:
    x = np.ones((20, 3), np.float32)
    x[7, 1] = np.nan
    uri = desk.write("x.npz", npz(x=x, label=np.arange(20) % 2))
    refused(desk, spec_of(uri), "feature_missing", "column 'x'", "1 row;", "row 8 of")
    columns = {"a": [None if n == 3 else n for n in range(20)], "label": [n % 2 for n in range(20)]}
    uri = desk.write("x.parquet", parquet(columns, 4))
    refused(desk, spec_of(uri), "feature_missing", "column 'a'", "row 4 of")


def test_a_word_in_a_column_of_numbers(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", changed(ROWS, 11, "11,many,yes"))
    refused(desk, spec_of(uri), "bad_row", "1 row", "row 12", "'many'", "column 'b'")


def test_a_line_that_is_no_row(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", changed(ROWS, 2, "2,4"))
    refused(desk, spec_of(uri), "bad_row", "row 3 of", "2 fields and the header 3")
    rows = desk.prepare(spec_of(uri, prepare=Preparation(missing=MissingRule.DROP)))
    assert rows.prepared.note["dropped"] == {"bad_row": 1}


@pytest.mark.parametrize("label", ["", "  "])
def test_a_missing_label(desk: DataDesk, label: str) -> None:
    uri = desk.csv("d.csv", "a,b,label", changed(ROWS, 6, f"6,12,{label}"))
    refused(desk, spec_of(uri), "label_missing", "1 row;", "row 7 of", uri, "'label'")


def test_a_missing_label_among_numbers(desk: DataDesk) -> None:
    rows = [f"{n},{'NA' if n == 3 else n % 3}" for n in range(20)]
    uri = desk.csv("d.csv", "a,label", rows)
    refused(desk, spec_of(uri), "label_missing", "row 4 of")
    refused(desk, spec_of(uri, loss=NUMBERS), "label_missing", "row 4 of")


def test_a_label_outside_the_map(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", changed(ROWS, 6, "6,12,maybe"))
    prepare = Preparation(labels=(("yes", "Yes"), ("no", "No")))
    refused(desk, spec_of(uri, prepare=prepare), "label_unknown", "'maybe'", "row 7 of", "1 row;")
    rows = desk.prepare(spec_of(uri, prepare=replace(prepare, drop_unknown_labels=True)))
    assert rows.prepared.labels == ("Yes", "No")
    assert rows.prepared.note["dropped"] == {"label_unknown": 1}


def test_rows_that_are_dropped_by_their_label_may_hold_anything(desk: DataDesk) -> None:
    rows = changed(changed(ROWS, 6, "6,,maybe"), 9, "?,2,maybe")
    uri = desk.csv("d.csv", "a,b,label", rows)
    rules: dict[str, dict[str, str | float | None]] = {"a": {"!": 0}}  # it is read as text then
    prepare = Preparation(
        labels=(("yes", "Yes"), ("no", "No")), drop_unknown_labels=True, replace=rules
    )
    prepared = desk.prepare(spec_of(uri, prepare=prepare)).prepared
    assert prepared.note["dropped"] == {"label_unknown": 2}
    missing = replace(prepare, missing=MissingRule.DROP)
    prepared = desk.prepare(spec_of(uri, prepare=missing)).prepared
    assert prepared.note["dropped"] == {"label_unknown": 2}


def test_a_class_with_one_example(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", changed(ROWS, 6, "6,12,maybe"))
    for stratify in (True, False):
        spec = spec_of(uri, split=Split(0.2, 0.2, 1, stratify))
        refused(desk, spec, "class_too_small", "'maybe'", "1 example:")


def test_a_label_with_a_nul_is_refused_before_anything_is_trained(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", [*ROWS, "1,2,y\0s", "1,3,y\0s"])
    refused(desk, spec_of(uri), "bad_label", r"'y\x00s'", "prepare.labels")


@pytest.mark.parametrize("cut", [";", "\t"])
def test_fields_that_no_comma_separates(desk: DataDesk, cut: str) -> None:
    rows = [row.replace(",", cut) for row in ROWS]
    uri = desk.csv("d.csv", cut.join(("a", "b", "label")), rows)
    refused(desk, spec_of(uri), "unknown_column", f"separated by {cut!r}", "commas")


def test_a_file_whose_name_says_nothing_is_told_of_in_the_specs_words(desk: DataDesk) -> None:
    error = refused(desk, spec_of(desk.write("d.bin", b"x")), "unknown_format", "idx, npz, csv")
    assert error.field == "data.format"


def test_a_condition_that_no_row_fits(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", ROWS)
    spec = spec_of(uri, data={"where": (Condition("a", ">", 1000),)})
    refused(desk, spec, "data_empty", "data.where")


def test_a_text_recipe_on_numbers_says_to_take_another_one(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,label", [f"{n},{n % 2}" for n in range(20)])
    spec = spec_of(uri, prepare=Preparation(text=TextPreparation()))
    spec = replace(spec, network=Network("text-average"))
    refused(desk, spec, "text_is_numbers", "another recipe")


def test_a_class_of_the_map_without_examples(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", ROWS)
    prepare = Preparation(labels=(("yes", "yes"), ("no", "no"), ("x", "other")))
    refused(desk, spec_of(uri, prepare=prepare), "class_too_small", "'other'", "0 examples")


def test_one_class_alone(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,label", [f"{n},no" for n in range(9)])
    refused(desk, spec_of(uri), "one_class", "'no'")


def test_a_loss_for_two_classes_with_three(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,label", [f"{n},{n % 3}" for n in range(9)])
    spec = spec_of(uri, loss=Named("binary_crossentropy"))
    refused(desk, spec, "not_two_classes", "binary_crossentropy", "has 3")


def test_more_classes_than_anybody_tells_apart(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,label", [f"{n},{n * 1.5}" for n in range(10_100)])
    refused(desk, spec_of(uri), "too_many_classes", "10000", "mean_squared_error")


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_text_column_of_numbers(desk: DataDesk, form: str) -> None:
    every = [{"words": n * 7, "label": n % 2} for n in range(20)]
    if form == "csv":
        lines = [",".join(map(str, one.values())) for one in every]
        uri = desk.csv("d.csv", "words,label", lines)
    elif form == "jsonl":
        told = [{**one, "words": str(one["words"])} for one in every]
        uri = desk.write("d.jsonl", "".join(json.dumps(one) + "\n" for one in told))
    else:
        uri = desk.write("d.parquet", parquet({k: [r[k] for r in every] for k in every[0]}))
    spec = spec_of(uri, prepare=Preparation(text=TextPreparation()))
    refused(desk, spec, "text_is_numbers", "'words'", "prepare.text")


def test_a_text_model_of_several_columns(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "title,body,label", [f"x{n},y{n},{n % 2}" for n in range(9)])
    spec = spec_of(uri, prepare=Preparation(text=TextPreparation()))
    refused(desk, spec, "text_needs_one_column", "'title', 'body'")


@pytest.mark.parametrize(
    ("split", "part", "rows"),
    [
        (Split(0.01, 0.2, 1), "validation", 20),
        (Split(0.2, 0.01, 1), "test", 20),
        (Split(0.5, 0.5, 1, stratify=False), "train", 20),
    ],
)
def test_an_empty_part_of_the_split(desk: DataDesk, split: Split, part: str, rows: int) -> None:
    uri = desk.csv("d.csv", "a,b,label", ROWS)
    refused(desk, spec_of(uri, split=split), "split_empty", f"the {part} part", f"{rows} rows")


def test_a_batch_larger_than_the_rows_that_are_trained_on(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", ROWS)
    refused(desk, spec_of(uri, batch_size=11), "batch_too_large", "11", "10 rows")
    desk.prepare(spec_of(uri, batch_size=10))


@pytest.mark.parametrize("content", ["", "a,b,label\n", "a,b,label"])
def test_no_rows_at_all(desk: DataDesk, content: str) -> None:
    uri = desk.write("d.csv", content)
    refused(desk, spec_of(uri), "data_empty", uri)


def test_no_rows_left(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,label", [",x"] * 9)
    spec = spec_of(uri, prepare=Preparation(missing=MissingRule.DROP))
    refused(desk, spec, "data_empty", "9 were dropped")


@pytest.mark.parametrize(
    ("data", "meant"),
    [
        ({"features": ("heigth",)}, "data.features"),
        ({"label": "labl"}, "data.label"),
    ],
)
def test_an_unknown_column_and_the_one_that_was_meant(
    desk: DataDesk, data: dict[str, object], meant: str
) -> None:
    uri = desk.csv("d.csv", "height,label", [f"{n},{n % 2}" for n in range(9)])
    error = refused(desk, spec_of(uri, data=data), "unknown_column", "did you mean", "height")
    assert error.field == meant


def test_rules_about_columns_that_are_not_there(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "height,label", [f"{n},{n % 2}" for n in range(9)])
    for prepare in (
        Preparation(categories={"heihgt": ()}),
        Preparation(replace={"heihgt": {"1": 2}}),
        Preparation(missing=MissingRule.FILL, fill={"heihgt": 1.0}),
    ):
        refused(desk, spec_of(uri, prepare=prepare), "unknown_column", "did you mean 'height'?")
    weights = Weights(group="gruop", groups={"a": 2.0})
    refused(desk, spec_of(uri, weights=weights), "unknown_column", "'gruop'")


def test_a_file_that_lacks_a_column_of_the_first(desk: DataDesk) -> None:
    desk.csv("1.csv", "a,b,label", ROWS)
    uri = desk.csv("2.csv", "a,label", ["1,no"])
    refused(desk, spec_of(desk.uri("*.csv")), "unknown_column", uri, "'b'")


def test_no_label_is_named(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", ROWS)
    refused(desk, spec_of(uri, label=None), "label_needed", "a, b, label")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_label_that_is_to_be_a_number(desk: DataDesk, form: str) -> None:
    values = ["many" if n == 5 else n for n in range(20)]
    if form == "csv":
        uri = desk.csv("d.csv", "a,label", [f"{n},{v}" for n, v in enumerate(values)])
    else:
        lines = [json.dumps({"a": n, "label": v}) + "\n" for n, v in enumerate(values)]
        uri = desk.write("d.jsonl", "".join(lines))
    refused(desk, spec_of(uri, loss=NUMBERS), "label_not_number", "many", "row 6 of")


def test_a_category_that_is_none_of_those_given(desk: DataDesk) -> None:
    rows = [f"{'uvw'[n % 3]},{n % 2}" for n in range(20)]
    uri = desk.csv("d.csv", "c,label", rows)
    prepare = Preparation(categories={"c": ("u", "v")})
    refused(desk, spec_of(uri, prepare=prepare), "category_unknown", "'w'", "6 rows", "row 3 of")


def test_a_column_of_all_different_words_is_no_category(desk: DataDesk) -> None:
    for rows in (10_100, 210):
        uri = desk.csv(f"{rows}.csv", "c,label", [f"id{n},{n % 2}" for n in range(rows)])
        refused(desk, spec_of(uri), "too_many_categories", "'c'", "prepare.text")
    desk.prepare(spec_of(uri, prepare=Preparation(categories={"c": ()})))


def test_fill_values_that_do_not_fit(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,c,label", [f"{n},{'uv'[n % 2]},{n % 2}" for n in range(20)])
    for fill in ({"c": "mean"}, {"a": "few"}):
        prepare = Preparation(missing=MissingRule.FILL, fill=fill, categories={"c": ()})
        missing = desk.csv("m.csv", "a,c,label", [",u,1", *(f"{n},v,0" for n in range(9))])
        refused(desk, spec_of(missing if "a" in fill else uri, prepare=prepare), "bad_preparation")


def test_weights_of_labels_that_are_not_there(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", ROWS)
    weights = Weights(classes={"yess": 2.0})
    refused(desk, spec_of(uri, weights=weights), "bad_preparation", "did you mean 'yes'?")


def test_numbers_that_do_not_go_into_the_shape(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", ROWS)
    refused(desk, spec_of(uri, data={"shape": (28, 28, 1)}), "shape_mismatch", "2 columns", "784")
    uri = desk.write("x.npz", npz(x=np.zeros((9, 5)), label=np.arange(9) % 2))
    refused(desk, spec_of(uri, data={"shape": (2, 2)}), "shape_mismatch", "5 numbers", "takes 4")


# ---- files


@pytest.mark.parametrize("kind", ["etag", "sha256"])
def test_a_file_that_changed_since_its_digest_was_taken(desk: DataDesk, kind: str) -> None:
    uri = desk.csv("d.csv", "a,b,label", ROWS)
    digests = {uri: "0" * 64 if kind == "sha256" else "an-old-etag"}
    error = refused(desk, spec_of(uri, data={"digests": digests}), "data_changed", uri)
    assert digests[uri] in error.message
    assert "it is" in error.message


def test_a_file_that_is_the_one_of_the_digest(desk: DataDesk) -> None:
    import hashlib

    uri = desk.csv("d.csv", "a,b,label", ROWS)
    (file,) = desk.prepare(spec_of(uri)).prepared.note["files"]
    sha256 = hashlib.sha256((desk.folder / "d.csv").read_bytes()).hexdigest()
    for digest in (file["etag"], sha256, sha256.upper()):
        rows = desk.prepare(spec_of(uri, data={"digests": {uri: digest}}))
        assert total(rows) == 20
    assert file["size_bytes"] == (desk.folder / "d.csv").stat().st_size


def test_a_file_of_a_digest_that_is_gone(desk: DataDesk) -> None:
    desk.csv("1.csv", "a,b,label", ROWS)
    digests = {desk.uri("2.csv"): "x"}
    spec = spec_of(desk.uri("*.csv"), data={"digests": digests})
    refused(desk, spec, "data_changed", "2.csv", "not among the files")


@pytest.mark.parametrize("form", ["csv", "npz", "idx"])
def test_a_file_that_changes_while_it_is_read(desk: DataDesk, form: str) -> None:
    data: dict[str, object] = {}
    x = np.zeros((40_000, 60), np.uint8)
    labels = (np.arange(40_000) % 2).astype(np.uint8)
    if form == "csv":
        uri = desk.csv("d.csv", "a,b,label", ROWS * 200_000)
    elif form == "npz":
        uri = desk.write("d.npz", npz(x=x.astype(np.float64), label=labels))
    else:
        uri = desk.write("d-images.idx3", idx(np.zeros((400_000, 6, 10), np.uint8)))
        data = {"labels_uri": desk.write("d-labels.idx1", idx(np.tile(labels, 10)))}
    path = Path(uri.removeprefix("file://"))

    def change() -> bool:
        if desk.told and path.stat().st_mtime_ns != 1:
            os.utime(path, ns=(1, 1))
        return True

    with pytest.raises(InvalidInput) as caught:
        desk.prepare(spec_of(uri, data=data), change)
    assert caught.value.stable_code == "data_changed"
    assert "while it was read" in caught.value.message
    assert uri in caught.value.message


def test_a_file_that_is_not_there(desk: DataDesk) -> None:
    with pytest.raises(NotFound) as caught:
        desk.prepare(spec_of(desk.uri("none.csv")))
    assert caught.value.stable_code == "input_not_found"
    assert caught.value.field == "data.uri"


def test_files_of_two_kinds(desk: DataDesk) -> None:
    desk.csv("d.csv", "a,label", ["1,2"])
    desk.write("d.npz", npz(a=np.zeros(3)))
    refused(desk, spec_of(desk.uri("d.*")), "mixed_formats", "csv and npz")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\0\0\x08", "cut off"),
        (b"PK\3\4 and more of it", "magic number"),
        (idx(np.zeros((9, 4, 4), np.uint8))[:-1], "cut off: 1 bytes"),
        (idx(np.zeros((9, 4, 4), np.uint8)) + b"x", "more in it"),
        (idx(np.zeros((9, 4, 4), np.uint8), packed=True)[:-9], "gzip is cut off"),
        (idx(np.zeros(9, np.uint8)), "labels, not pictures"),
        (idx(np.zeros((8, 4, 4), np.uint8)), "1 labels more"),
        (idx(np.zeros((10, 4, 4), np.uint8)), "fewer labels"),
    ],
    # The content is no name: a gzip's has the second it was made at in it.
    ids=["head", "magic", "a byte less", "a byte more", "gzip", "labels", "fewer", "more"],
)
def test_a_broken_idx_file(desk: DataDesk, content: bytes, says: str) -> None:
    uri = desk.write("t-images.idx3", content)
    desk.write("t-labels.idx1", idx((np.arange(9) % 2).astype(np.uint8)))
    refused(desk, spec_of(uri, label=None), "bad_file", says)


def test_idx_without_labels(desk: DataDesk) -> None:
    uri = desk.write("t-images.idx3", idx(np.zeros((9, 4, 4), np.uint8)))
    refused(desk, spec_of(uri, label=None), "label_needed", "t-labels.idx1", "data.labels_uri")


@pytest.fixture
def pictures(desk: DataDesk) -> DataDesk:
    for n in range(8):
        desk.write(f"pics/{'ab'[n % 2]}/{n}.png", png(np.full((4, 4), n, np.uint8)))
    return desk


IMAGES = {"format": DataFormat.IMAGES, "shape": (4, 4, 1)}


def test_a_broken_picture_is_named_or_dropped(pictures: DataDesk) -> None:
    uri = pictures.write("pics/a/broken.png", b"\x89PNG no")
    spec = spec_of(pictures.uri("pics/"), label=None, data=IMAGES)
    refused(pictures, spec, "bad_picture", uri, "1 picture")
    spec = replace(spec, prepare=Preparation(missing=MissingRule.DROP))
    rows = pictures.prepare(spec)
    assert total(rows) == 8
    assert rows.prepared.note["dropped"] == {"bad_row": 1}


def test_a_picture_in_no_folder(pictures: DataDesk) -> None:
    uri = pictures.write("pics/x.png", png(np.zeros((4, 4), np.uint8)))
    spec = spec_of(pictures.uri("pics/"), label=None, data=IMAGES)
    refused(pictures, spec, "label_missing", uri)


def test_pictures_without_a_shape(pictures: DataDesk) -> None:
    spec = spec_of(pictures.uri("pics/"), label=None)
    refused(pictures, spec, "shape_mismatch", "[height, width, channels]")


def test_a_picture_of_an_unknown_label_is_named(pictures: DataDesk) -> None:
    prepare = Preparation(labels=(("a", "A"), ("c", "C")))
    spec = spec_of(pictures.uri("pics/"), label=None, data=IMAGES, prepare=prepare)
    refused(pictures, spec, "label_unknown", "pics/b/1.png", "'b'", "4 rows")


def test_preparing_stops_when_nobody_wants_it_any_more(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", ROWS)
    with pytest.raises(Stopped):
        desk.prepare(spec_of(uri), lambda: False)


def test_preparing_stops_while_texts_are_cut(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "t,label", [f"say {n},{n % 2}" for n in range(20)])
    spec = spec_of(uri, prepare=Preparation(text=TextPreparation()))
    with pytest.raises(Stopped):
        desk.prepare(spec, lambda: not desk.told)


def test_nothing_stays_open_after_a_refusal(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", changed(ROWS, 2, ",,"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    refused(desk, spec_of(uri), "feature_missing")
    refused(desk, spec_of(uri, batch_size=99), "feature_missing")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_numbers_are_replaced_before_they_are_missing(desk: DataDesk) -> None:
    uri = desk.csv("d.csv", "a,b,label", changed(ROWS, 2, "?,-999,no"))
    rules: dict[str, dict[str, str | float | None]] = {"a": {"?": 5}, "b": {"-999": None}}
    refused(
        desk, spec_of(uri, prepare=Preparation(replace=rules)), "feature_missing", "'b'", "row 3"
    )
    rules["b"] = {"-999": 1.0}
    rows = desk.prepare(spec_of(uri, prepare=Preparation(replace=rules)))
    found = np.concatenate([everything(rows, part).inputs["features"] for part in Part])
    assert [5.0, 1.0] in found.tolist()
    refused(
        desk,
        spec_of(uri, prepare=Preparation(replace={"a": {"1": "x"}})),
        "feature_not_number",
        "column 'a'",
    )
