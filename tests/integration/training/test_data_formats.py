"""Every format gives the rows that are in its files, with their labels."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.records.bulk import Condition
from storage.records.push_options import InputForm
from storage.records.signatures import InputSpec, build_signature
from storage.records.training import DataFormat, Preparation, Split, TextPreparation
from tests.support.bulk_files import npz, parquet
from tests.support.training_data import (
    NUMBERS,
    DataDesk,
    everything,
    idx,
    png,
    spec_of,
)
from workers.inference.decode_image import decode_image
from workers.training.data.kept_rows import KeptRows
from workers.training.ports import Part

RNG = np.random.default_rng(3)
DIGITS = RNG.integers(0, 256, (40, 4, 3)).astype(np.uint8)
DIGITS[:, 0, 0] = np.arange(40)  # tells the rows apart
LABELS = (np.arange(40) % 4).astype(np.uint8)


def check_digits(rows: KeptRows, shape: tuple[int, ...], name: str = "image") -> None:
    """Each row is one of the digits, has its label, and is there once."""
    seen: list[int] = []
    for part in Part:
        batch = everything(rows, part)
        pixels = batch.inputs[name]
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:] == shape
        which = pixels.reshape(len(pixels), -1)[:, 0]
        assert np.array_equal(pixels.reshape(-1, 4, 3), DIGITS[which])
        assert np.array_equal(batch.target, LABELS[which])
        seen += which.tolist()
    assert sorted(seen) == list(range(40))
    assert rows.prepared.rows == {Part.TRAIN: 20, Part.VALIDATION: 10, Part.TEST: 10}


@pytest.mark.parametrize("packed", [False, True])
def test_idx_with_its_labels_beside_it(desk: DataDesk, packed: bool) -> None:
    uri = desk.write("train-images-idx3-ubyte" + ".gz" * packed, idx(DIGITS, packed=packed))
    desk.write("train-labels-idx1-ubyte" + ".gz" * packed, idx(LABELS, packed=packed))
    rows = desk.prepare(spec_of(uri, label=None))
    check_digits(rows, (4, 3))
    assert rows.prepared.labels == ("0", "1", "2", "3")
    assert rows.prepared.options.input is InputForm.IMAGE
    assert rows.prepared.options.image == {"height": 4, "width": 3, "channels": 1, "scale": 1.0}
    assert {len(one["sha256"]) for one in rows.prepared.note["files"]} == {64}
    assert rows.prepared.note["file_count"] == 2


def test_idx_in_several_files_with_labels_of_any_name(desk: DataDesk) -> None:
    desk.write("a-1.bin", idx(DIGITS[:15]))
    desk.write("a-2.bin", idx(DIGITS[15:]))
    labels = desk.write("names.bin", idx(LABELS.astype(np.int32)))
    data = {"format": DataFormat.IDX, "labels_uri": labels, "shape": (4, 3, 1)}
    check_digits(desk.prepare(spec_of(desk.uri("a-*.bin"), label=None, data=data)), (4, 3, 1))


def test_npz_by_the_names_of_its_arrays(desk: DataDesk) -> None:
    uri = desk.write("digits.npz", npz(x=DIGITS, label=LABELS))
    rows = desk.prepare(spec_of(uri, data={"shape": (4, 3, 1)}))
    check_digits(rows, (4, 3, 1), "x")
    assert rows.prepared.options.input is InputForm.IMAGE


def test_npz_with_several_inputs(desk: DataDesk) -> None:
    left, right = RNG.normal(size=(2, 12, 5))
    uri = desk.write("two.npz", npz(left=left, right=right, y=np.arange(12.0)))
    rows = desk.prepare(spec_of(uri, label="y", loss=NUMBERS))
    for part in Part:
        batch = everything(rows, part)
        which = batch.target.astype(int).ravel()
        assert np.array_equal(batch.inputs["left"], left[which].astype(np.float32))
        assert np.array_equal(batch.inputs["right"], right[which].astype(np.float32))
    assert rows.prepared.options.input is InputForm.TENSOR


def test_labels_in_a_column_of_one(desk: DataDesk) -> None:
    uri = desk.write("digits.npz", npz(x=DIGITS, label=LABELS.reshape(-1, 1)))
    check_digits(desk.prepare(spec_of(uri)), (4, 3), "x")


def test_csv_of_digits_is_a_picture(desk: DataDesk) -> None:
    header = ",".join(["label", *(f"p{at}" for at in range(12))])
    lines = [
        ",".join(map(str, [label, *pixels.ravel()]))
        for label, pixels in zip(LABELS, DIGITS, strict=True)
    ]
    uri = desk.csv("digits.csv", header, lines)
    rows = desk.prepare(spec_of(uri, data={"shape": (4, 3, 1)}))
    check_digits(rows, (4, 3, 1))
    assert rows.prepared.options.input is InputForm.IMAGE
    assert rows.prepared.options.image["scale"] == 1.0


def test_csv_in_a_shape_that_holds_no_bytes_stays_numbers(desk: DataDesk) -> None:
    lines = [f"{n % 2},{n * 200},1,2,{n}" for n in range(12)]
    uri = desk.csv("grid.csv", "label,a,b,c,d", lines)
    rows = desk.prepare(spec_of(uri, data={"shape": (2, 2, 1)}))
    batch = everything(rows)
    assert batch.inputs["image"].dtype == np.float32
    assert np.array_equal(
        batch.inputs["image"][:, 0, 0, 0], 200 * batch.inputs["image"][:, 1, 1, 0]
    )


def table(n: int) -> dict[str, object]:
    return {"a": n * 0.5, "b": n, "c": "xyz"[n % 3], "label": ["no", "yes"][n % 2]}


def written(desk: DataDesk, form: str, rows: list[dict[str, object]], name: str = "rows") -> str:
    if form == "csv":
        lines = [",".join(map(str, one.values())) for one in rows]
        return desk.csv(f"{name}.csv", ",".join(rows[0]), lines)
    if form == "csv.gz":
        lines = [",".join(map(str, one.values())) for one in rows]
        text = "\n".join([",".join(rows[0]), *lines])
        return desk.write(f"{name}.csv.gz", gzip.compress(text.encode()))
    if form == "jsonl":
        return desk.write(f"{name}.jsonl", "".join(json.dumps(one) + "\n" for one in rows))
    if form == "npz":
        arrays = {key: np.array([one[key] for one in rows]) for key in rows[0]}
        return desk.write(f"{name}.npz", npz(**arrays))
    return desk.write(f"{name}.parquet", parquet({k: [r[k] for r in rows] for k in rows[0]}, 7))


FORMS = ["csv", "csv.gz", "jsonl", "parquet", "npz"]


@pytest.mark.parametrize("form", FORMS)
def test_columns_become_one_vector_in_every_format(desk: DataDesk, form: str) -> None:
    uri = written(desk, form, [table(n) for n in range(24)])
    rows = desk.prepare(spec_of(uri))
    for part in Part:
        batch = everything(rows, part)
        vector = batch.inputs["features"]
        which = vector[:, 1].astype(int)
        assert np.array_equal(vector[:, 0], which * np.float32(0.5))
        assert np.array_equal(vector[:, 2:].argmax(axis=1), which % 3)
        assert np.array_equal(batch.target, which % 2)
    prepared = rows.prepared
    assert prepared.labels == ("no", "yes")
    assert prepared.features[0].shape == (5,)
    assert prepared.options.input is InputForm.RECORD
    assert [one.name for one in prepared.options.columns] == ["a", "b", "c"]
    assert prepared.options.columns[2].categories == ("x", "y", "z")
    assert sum(one.width for one in prepared.options.columns) == 5


def test_every_format_of_the_same_rows_has_the_same_digest(desk: DataDesk) -> None:
    """Also cut into several files, and without the integers' type."""
    every = [{**table(n), "b": float(n)} for n in range(24)]
    digests = {desk.prepare(spec_of(written(desk, f, every))).prepared.digest for f in FORMS}
    written(desk, "jsonl", every[:5], "parts/1")
    written(desk, "jsonl", every[5:18], "parts/2")
    written(desk, "jsonl", every[18:], "parts/3")
    digests.add(desk.prepare(spec_of(desk.uri("parts/*.jsonl"))).prepared.digest)
    assert len(digests) == 1


def test_another_seed_or_another_row_has_another_digest(desk: DataDesk) -> None:
    every = [table(n) for n in range(24)]
    uri = written(desk, "csv", every)
    other = written(desk, "csv", [*every[:-1], {**every[-1], "a": 99.5}], "other")
    digests = {
        desk.prepare(spec_of(uri)).prepared.digest,
        desk.prepare(spec_of(uri, split=Split(0.25, 0.25, 8))).prepared.digest,
        desk.prepare(spec_of(other)).prepared.digest,
    }
    assert len(digests) == 3


def test_where_leaves_rows_out(desk: DataDesk) -> None:
    uri = written(desk, "csv", [table(n) for n in range(24)])
    rows = desk.prepare(spec_of(uri, data={"where": (Condition("b", "<", 16),)}))
    assert sum(rows.prepared.rows.values()) == 16
    assert rows.prepared.note["left_out_by_where"] == 8


def test_lists_of_numbers_are_arrays(desk: DataDesk) -> None:
    pixels = [one.ravel().tolist() for one in DIGITS]
    every = {"x": pixels, "label": LABELS.tolist()}
    uri = desk.write("lists.parquet", parquet(every, 16))
    rows = desk.prepare(spec_of(uri, data={"shape": (4, 3)}))
    batch = everything(rows)
    which = batch.inputs["x"][:, 0, 0].astype(int)
    assert np.array_equal(batch.inputs["x"], DIGITS[which].astype(np.float32))


@pytest.mark.parametrize("form", ["prefix", "pattern"])
def test_pictures_in_folders_that_are_called_as_their_label(desk: DataDesk, form: str) -> None:
    for n, (label, pixels) in enumerate(zip(LABELS, DIGITS, strict=True)):
        desk.write(f"pics/of-{label}/{n:02}.png", png(pixels))
    address = {"prefix": "pics/", "pattern": "pics/*/*.png"}[form]
    data = {"format": DataFormat.IMAGES, "shape": (4, 3, 1)}
    rows = desk.prepare(spec_of(desk.uri(address), label=None, data=data))
    check_digits(rows, (4, 3, 1))
    assert rows.prepared.labels == ("of-0", "of-1", "of-2", "of-3")
    assert desk.told[-1] == 40


def test_pictures_of_any_size_are_brought_to_the_shape(desk: DataDesk) -> None:
    for n in range(8):
        grey = np.full((10 + n, 9, 3), 30 * n, np.uint8)
        desk.write(f"pics/{'ab'[n % 2]}/{n}.png", png(grey))
    rows = desk.prepare(spec_of(desk.uri("pics/"), label=None, data={"shape": (5, 6, 3)}))
    pixels = everything(rows).inputs["image"]
    assert pixels.shape == (4, 5, 6, 3)
    assert set(np.unique(pixels)) <= {30 * n for n in range(8)}


def test_texts_become_ids_and_only_training_texts_are_learned_from(desk: DataDesk) -> None:
    words = [f"word{n} {'good' if n % 2 else 'bad'} day" for n in range(40)]
    every = [{"text": text, "id": n, "label": n % 2} for n, text in enumerate(words)]
    uri = written(desk, "jsonl", every)
    options = TextPreparation(max_tokens=1000, length=4)
    prepare = Preparation(text=options)
    rows = desk.prepare(spec_of(uri, data={"features": ("text",)}, prepare=prepare))
    prepared = rows.prepared
    (vectorizer,) = desk.vectorizers
    assert len(vectorizer.learned_from) == prepared.rows[Part.TRAIN] == 20
    assert prepared.text == options
    assert prepared.vocabulary[0] == "day"
    assert prepared.options.input is InputForm.TEXT
    assert prepared.features[0].dtype == "int32"
    train, test = everything(rows), everything(rows, Part.TEST)
    assert set(train.inputs["text"].ravel()) & {1} == set()
    assert (test.inputs["text"][:, 0] == 1).all(), "the word is in no training row"
    said = np.array([prepared.vocabulary[one - 2] for one in test.inputs["text"][:, 1]])
    assert np.array_equal(said == "good", test.target == 1)


def test_no_text_stays_on_the_disk(desk: DataDesk) -> None:
    uri = written(desk, "jsonl", [{"t": f"a{n} b", "label": n % 2} for n in range(12)])
    rows = desk.prepare(spec_of(uri, prepare=Preparation(text=TextPreparation())))
    assert [path.suffix for path in (desk.folder.parent / "kept" / "0").iterdir()] == [".rows"]
    rows.close()


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(0, 24), max_size=4), st.integers(0, 5), st.booleans())
def test_how_files_are_cut_changes_nothing(
    desk: DataDesk, cuts: list[int], seed: int, stratify: bool
) -> None:
    every = [table(n) for n in range(24)]
    split = Split(0.25, 0.25, seed, stratify)
    whole = desk.prepare(spec_of(written(desk, "jsonl", every), split=split))
    folder = f"cut-{len(list(desk.folder.iterdir()))}"
    for number, (begin, end) in enumerate(pairwise([0, *sorted(cuts), 24])):
        text = "".join(json.dumps(one) + "\n" for one in every[begin:end])
        desk.write(f"{folder}/{number}.jsonl", text)
    cut = desk.prepare(spec_of(desk.uri(f"{folder}/"), split=split))
    assert cut.prepared.digest == whole.prepared.digest
    for part in Part:
        mine, theirs = everything(cut, part), everything(whole, part)
        assert np.array_equal(mine.inputs["features"], theirs.inputs["features"])
        assert np.array_equal(mine.target, theirs.target)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_version_takes_pictures_as_they_were_trained_on(desk: DataDesk, dtype: str) -> None:
    """Pixels of 0 to 255 go in as they are; those of 0 to 1 are divided first."""
    pixels = DIGITS[..., np.newaxis]
    held = pixels if dtype == "uint8" else (pixels / np.float32(255))
    rows = desk.prepare(spec_of(desk.write("x.npz", npz(x=held, label=LABELS))))
    (feature,) = rows.prepared.features
    assert feature.dtype == dtype
    signature = build_signature([InputSpec("x", "float32", feature.shape)], rows.prepared.options)
    assert signature.image is not None
    first = everything(rows).inputs["x"][0]
    sent = png(DIGITS[round(float(first[0, 0, 0]) * (255 if dtype == "float32" else 1))])
    made = decode_image(signature.image, "float32", sent, "image")
    np.testing.assert_allclose(made, first, rtol=1e-6)


@pytest.mark.parametrize(
    ("factor", "offset"),
    [(2 / 255, -1.0), (1 / 50, -2.5), (1 / 100, 0.0), (2.0, 0.0)],
    ids=["-1 to 1", "standardised", "0 to 2.5", "0 to 510"],
)
def test_pixels_that_no_file_of_a_picture_gives_are_served_as_arrays(
    desk: DataDesk, factor: float, offset: float
) -> None:
    pixels = DIGITS[..., np.newaxis] * np.float32(factor) + np.float32(offset)
    rows = desk.prepare(spec_of(desk.write("x.npz", npz(x=pixels, label=LABELS))))
    assert rows.prepared.options.input is InputForm.TENSOR
    assert not rows.prepared.options.image


def test_whole_pixels_of_any_type_are_those_of_a_picture(desk: DataDesk) -> None:
    pixels = DIGITS[..., np.newaxis].astype(np.float64)
    rows = desk.prepare(spec_of(desk.write("x.npz", npz(x=pixels, label=LABELS))))
    assert rows.prepared.options.image["scale"] == 1.0
