"""The README's section on training: its example is a good spec, and it explains every field."""

from __future__ import annotations

import json
import re
from pathlib import Path

from producers.cli.spec_file import read_spec_file
from producers.requests import read_one
from producers.shapes import Either, Fields
from producers.training_networks import ARGUMENTS, DEFAULTS
from producers.training_requests import spec_from
from producers.training_shapes import SPEC
from storage.records.training import RECIPES

README = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
SECTION = README.partition("\n## Training\n")[2].partition("\n## ")[0]


def fields_of(shape, path=()):
    """The path to every field of the spec that has no fields itself."""
    if isinstance(shape, Either):
        shape = shape.fields
    if not isinstance(shape, Fields):
        yield path
        return
    for name, inner in shape._all.items():
        yield from fields_of(inner, (*path, name))


def test_every_field_is_explained():
    rows = [line for line in SECTION.splitlines() if line.startswith("| `")]
    for path in fields_of(SPEC):
        spelled = [".".join(path), path[-1]]
        top = [row for row in rows if path[0] in row.split("|")[1]]
        assert any(f"{name}{end}" in row for name in spelled for end in "`:." for row in top), path


def test_every_recipe_is_explained_with_its_defaults():
    (row,) = [line for line in SECTION.splitlines() if line.startswith("| `network.recipe`")]
    for name in RECIPES:
        told = row.partition(f"`{name}`:")[2]
        assert told, name
        for argument in ARGUMENTS[name]:
            assert f"`{argument}`" in told.partition("`linear`:")[0] or name == "linear", argument
        assert set(ARGUMENTS[name]) == set(DEFAULTS[name])


def test_the_example_is_a_good_spec():
    (text,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    told = read_spec_file("digits.yaml", text).told
    assert told.pop("model") == "digits"
    told["data"]["uri"] = "s3://in/digits.csv"
    spec = spec_from(told)
    assert (spec.data.shape, spec.optimizer.arguments) == ((28, 28, 1), {"learning_rate": 0.001})


def test_the_request_is_a_good_one():
    (body,) = re.findall(r"-d '(\{.*?\})'", SECTION, re.DOTALL)
    assert read_one(json.loads(body)).training.network.frozen_layers == 2
