"""What every runtime promises to inference, held to the real one and to the fake."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from storage.records.keras_archive import inspect_archive
from storage.records.models import ModelFormat, ModelVersion, VersionState
from storage.records.push_options import parse_push_options
from storage.records.signatures import InputSpec, build_signature
from tests.support import models
from tests.support.fake_runtime import FakeRuntime, fake_inputs, save_fake
from workers.inference.ports import ModelBroken, Runtime, stack_rows
from workers.runtime.keras_runtime import KerasRuntime

# TensorFlow 2.21 under numpy 2: tensors do not know the keyword ``copy`` yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def version_of(
    inputs: tuple[InputSpec, ...] | None,
    *,
    rescales: bool = False,
    format: ModelFormat = ModelFormat.KERAS,
    trusted: bool = False,
    **said: object,
) -> ModelVersion:
    signature = build_signature(inputs, parse_push_options(said), rescales_itself=rescales)
    return ModelVersion(
        id="0190a0a0-0000-7000-8000-000000000001",
        tenant="default",
        name="model",
        version=1,
        state=VersionState.PENDING,
        format=format,
        digest="0" * 64,
        size_bytes=1,
        object_key="models/x",
        signature=signature.to_json(),
        trusted=trusted,
        error=None,
        created_at=0,
        loaded_at=None,
    )


@dataclass(frozen=True)
class Backend:
    """A runtime, and how the same models are saved for it."""

    make: Callable[[int], Runtime]
    save: Callable[[Path, str], tuple[Path, tuple[InputSpec, ...]]]


def _save_keras(folder: Path, model: str) -> tuple[Path, tuple[InputSpec, ...]]:
    savers = {
        "echo": models.save_echo,
        "pair": models.save_two_inputs,
        "mixing": models.save_mixing,
        "flattening": models.save_flattening,
    }
    path = savers[model](folder / f"{model}.keras")
    with path.open("rb") as file:
        return path, inspect_archive(file).inputs


def _save_fake(folder: Path, model: str) -> tuple[Path, tuple[InputSpec, ...]]:
    return save_fake(folder / f"{model}.json", model), fake_inputs(model)


@pytest.fixture(
    params=[pytest.param("keras", marks=pytest.mark.tensorflow), "fake"], scope="module"
)
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "fake":
        return Backend(lambda size: FakeRuntime(max_batch=size), _save_fake)
    return Backend(lambda size: KerasRuntime(max_batch=size, threads=2), _save_keras)


@pytest.fixture
def load(backend: Backend, tmp_path: Path):
    def load(model: str, max_batch: int = 8, **said: object):
        path, inputs = backend.save(tmp_path, model)
        return backend.make(max_batch).load(version_of(inputs, **said), path)

    return load


def test_batch_sizes_are_powers_of_two_up_to_the_most(load) -> None:
    assert load("echo", max_batch=8).batch_sizes == (1, 2, 4, 8)
    assert load("echo", max_batch=7).batch_sizes == (1, 2, 4)
    assert load("echo", max_batch=1).batch_sizes == (1,)


def test_loading_completes_the_signature(load) -> None:
    signature = load("pair").signature
    assert {(o.name, o.dtype, o.shape) for o in signature.outputs} == {
        ("both", "float32", (5,)),
        ("total", "float32", (1,)),
    }


def test_every_row_comes_out_where_it_went_in(load) -> None:
    model = load("echo")
    for size in model.batch_sizes:
        asked = np.arange(2 * size, dtype=np.float64).reshape(size, 2) + 2**50
        answers = model.forward({"id": asked})
        assert set(answers) == {"echo"}
        assert np.array_equal(answers["echo"], asked)


def test_padding_changes_no_answer(load) -> None:
    model = load("echo")
    rows = [{"id": np.array([i, i + 0.5])} for i in range(5)]
    answers = model.forward(stack_rows(rows, 8))["echo"]
    assert answers.shape == (8, 2)
    assert answers[:5].tolist() == [[i, i + 0.5] for i in range(5)]


def test_inputs_go_by_name_not_by_order(load) -> None:
    answers = load("pair").forward(
        {
            "right": np.array([[4, 5]] * 2, dtype=np.int32),
            "left": np.array([[1, 2, 3]] * 2, dtype=np.float32),
        }
    )
    assert answers["both"].tolist() == [[1, 2, 3, 4, 5]] * 2
    assert answers["total"].tolist() == [[15]] * 2


def test_it_computes_on_another_thread_than_it_was_loaded_on(load) -> None:
    model, answers = load("echo"), []
    thread = threading.Thread(
        target=lambda: answers.append(model.forward({"id": np.array([[1.0, 2.0]])}))
    )
    thread.start()
    thread.join(30)
    assert answers[0]["echo"].tolist() == [[1, 2]]


def test_a_closed_model_answers_nothing_and_closes_twice(load) -> None:
    model = load("echo")
    model.close()
    model.close()
    with pytest.raises(RuntimeError, match="closed"):
        model.forward({"id": np.zeros((1, 2))})


def test_a_damaged_artifact_is_the_models_fault(backend: Backend, tmp_path: Path) -> None:
    path, inputs = backend.save(tmp_path, "echo")
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ModelBroken):
        backend.make(4).load(version_of(inputs), path)


def test_a_missing_artifact_is_nobodys_fault(backend: Backend, tmp_path: Path) -> None:
    _, inputs = backend.save(tmp_path, "echo")
    with pytest.raises(FileNotFoundError):
        backend.make(4).load(version_of(inputs), tmp_path / "gone.keras")


def test_rows_that_depend_on_each_other_break_the_model(load) -> None:
    with pytest.raises(ModelBroken) as caught:
        load("mixing")
    assert caught.value.stable_code == "rows_not_independent"


def test_another_number_of_rows_breaks_the_model(load) -> None:
    with pytest.raises(ModelBroken) as caught:
        load("flattening")
    assert caught.value.stable_code == "wrong_batch_axis"


def test_labels_that_do_not_fit_break_the_model(load) -> None:
    with pytest.raises(ModelBroken) as caught:
        load("pair", labels=["a", "b"], label_output="both")
    assert caught.value.stable_code == "labels_mismatch"
    assert "5" in caught.value.message and "2 labels" in caught.value.message
    fitting = load("pair", labels=["a", "b", "c", "d", "e"], label_output="both")
    assert fitting.signature.label_output == "both"


def test_inputs_other_than_pushed_break_the_model(backend: Backend, tmp_path: Path) -> None:
    path, _ = backend.save(tmp_path, "echo")
    with pytest.raises(ModelBroken) as caught:
        backend.make(4).load(version_of((InputSpec("id", "float32", (3,)),)), path)
    assert caught.value.stable_code == "signature_mismatch"
