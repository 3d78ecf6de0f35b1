"""A key of a spec that would do nothing for this data is refused: its writer meant something."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from storage.records.errors import InvalidInput
from storage.records.training import DataFormat, Preparation, TextPreparation, TrainingSpec, Weights
from tests.support.bulk_files import npz
from tests.support.training_data import DataDesk, idx, png, spec_of

ROWS = [f"{n},{n * 2},{'uv'[n % 2]},{['no', 'yes'][n % 2]}" for n in range(20)]
IMAGES = {"format": DataFormat.IMAGES, "shape": (4, 4, 1)}


def refused(desk: DataDesk, spec: TrainingSpec, field: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(says)) as caught:
        desk.prepare(spec)
    assert caught.value.field == field


@pytest.fixture
def table(desk: DataDesk) -> str:
    return desk.csv("d.csv", "a,b,site,label", ROWS)


@pytest.fixture
def array(desk: DataDesk) -> str:
    x = np.arange(60, dtype=np.float32).reshape(20, 3)
    return desk.write("x.npz", npz(x=x, label=np.arange(20) % 2))


@pytest.fixture
def pictures(desk: DataDesk) -> str:
    for n in range(8):
        desk.write(f"pics/{'ab'[n % 2]}/{n}.png", png(np.full((4, 4), n, np.uint8)))
    return desk.uri("pics/")


def test_a_file_of_labels_beside_a_table(desk: DataDesk, table: str) -> None:
    desk.csv("labels.csv", "label", ["1"])
    spec = spec_of(table, data={"labels_uri": desk.uri("labels.csv")})
    refused(desk, spec, "data.labels_uri", "is for idx files")


def test_a_file_of_labels_beside_pictures(desk: DataDesk, pictures: str) -> None:
    data = {"shape": (4, 4, 1), "labels_uri": desk.csv("labels.csv", "label", ["1"])}
    refused(desk, spec_of(pictures, label=None, data=data), "data.labels_uri", "pictures' folders")


def test_a_column_of_labels_of_pictures(desk: DataDesk, pictures: str) -> None:
    spec = spec_of(pictures, label="species", data=IMAGES)
    refused(desk, spec, "data.label", "the names of the folders")


def test_a_column_of_labels_of_an_idx_file(desk: DataDesk) -> None:
    uri = desk.write("t-images.idx3", idx(np.zeros((9, 4, 4), np.uint8)))
    desk.write("t-labels.idx1", idx((np.arange(9) % 2).astype(np.uint8)))
    refused(desk, spec_of(uri, label="digit"), "data.label", "their files of labels")


@pytest.mark.parametrize(
    ("prepare", "field"),
    [
        (Preparation(replace={"x": {"-999": None}}), "prepare.replace"),
        (Preparation(categories={"x": ("1", "2")}), "prepare.categories"),
    ],
)
def test_a_rule_of_columns_on_an_array(
    desk: DataDesk, array: str, prepare: Preparation, field: str
) -> None:
    refused(desk, spec_of(array, prepare=prepare), field, "'x'")


@pytest.mark.parametrize("name", ["label", "site"])
def test_categories_of_what_is_no_feature(desk: DataDesk, table: str, name: str) -> None:
    spec = spec_of(table, data={"features": ("a", "b")})
    spec = replace(spec, prepare=Preparation(categories={name: ("u", "v")}))
    refused(desk, spec, "prepare.categories", f"'{name}'")


def test_a_replacement_in_what_is_not_read(desk: DataDesk, table: str) -> None:
    spec = spec_of(table, data={"features": ("a", "b")})
    spec = replace(spec, prepare=Preparation(replace={"site": {"u": "v"}}))
    refused(desk, spec, "prepare.replace", "'site'")


def test_a_replacement_in_a_feature_the_label_and_the_group_is_none_of_these(
    desk: DataDesk, table: str
) -> None:
    rules: dict[str, dict[str, str | float | None]]
    rules = {"a": {"1": 2}, "label": {"no": "never"}, "site": {"u": "w"}}
    weights = Weights(group="site", groups={"w": 2.0})
    spec = spec_of(table, data={"features": ("a", "b")}, weights=weights)
    rows = desk.prepare(replace(spec, prepare=Preparation(replace=rules)))
    assert rows.prepared.labels == ("never", "yes")


def test_a_shape_of_texts(desk: DataDesk) -> None:
    rows = [f"word{n} and more,{['no', 'yes'][n % 2]}" for n in range(20)]
    uri = desk.csv("t.csv", "said,label", rows)
    spec = spec_of(uri, data={"shape": (20,)}, prepare=Preparation(text=TextPreparation()))
    refused(desk, spec, "data.shape", "is for numbers")
