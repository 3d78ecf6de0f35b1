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
from tests.support.misbehaviour import FEWER, NAN, POISON, WIDER
from workers.inference.ports import LoadedModel, ModelBroken, Row, Runtime
from workers.inference.shapes import shape_of, stack, unpad
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
    save: Callable[[Path, str], tuple[Path, tuple[InputSpec, ...] | None]]


def _save_keras(folder: Path, model: str) -> tuple[Path, tuple[InputSpec, ...] | None]:
    """What only a SavedModel can do says nothing of its inputs before it is loaded."""
    savers = {
        "echo": models.save_echo,
        "pair": models.save_two_inputs,
        "mixing": models.save_mixing,
        "flattening": models.save_flattening,
        "masked": models.save_masked,
        "careless": models.save_careless,
        "tags": models.save_tags,
        "map": models.save_map,
    }
    if model in savers:
        path = savers[model](folder / f"{model}.keras")
        with path.open("rb") as file:
            return path, inspect_archive(file).inputs
    trusted = {
        "menace": models.save_menace,
        "fickle": models.save_fickle,
        "crowded": models.save_crowded,
    }
    return trusted[model](folder / f"{model}.zip"), None


def _save_fake(folder: Path, model: str) -> tuple[Path, tuple[InputSpec, ...] | None]:
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
    loaded = []

    def load(model: str, max_batch: int = 8, **said: object):
        path, inputs = backend.save(tmp_path, model)
        if inputs is None:
            said |= {"format": ModelFormat.SAVED_MODEL, "trusted": True}
        loaded.append(backend.make(max_batch).load(version_of(inputs, **said), path))
        return loaded[-1]

    yield load
    for model in loaded:
        model.close()


def answers(model: LoadedModel, rows: list[Row], bucket: int = 4) -> dict[str, list[list]]:
    """The whole way of some rows: bucket, padding, forward, cut."""
    signature = model.signature
    batch = stack(signature, rows, shape_of(signature, rows), bucket)
    found = unpad(model, model.forward(batch), rows)
    return {name: [array.tolist() for array in output] for name, output in found.items()}


def test_batch_sizes_are_powers_of_two_up_to_the_most(load) -> None:
    assert load("echo", max_batch=8).plan.sizes == (1, 2, 4, 8)
    assert load("echo", max_batch=7).plan.sizes == (1, 2, 4)
    assert load("echo", max_batch=1).plan.sizes == (1,)


def test_the_pusher_may_name_the_batch_sizes_within_the_workers_bound(load) -> None:
    said = {"serving": {"batch_sizes": [2, 6, 100]}}
    assert load("echo", max_batch=8, **said).plan.sizes == (2, 6)
    assert load("echo", max_batch=1, **said).plan.sizes == (1,)
    assert load("echo", max_batch=64, serving={"max_batch": 4}).plan.sizes == (1, 2, 4)


def test_a_plan_tells_the_knobs_and_what_was_measured(load) -> None:
    plan = load("echo", serving={"latency_objective_ms": 20, "instances": 2}).plan
    assert (plan.serving.latency_objective_ms, plan.serving.instances) == (20, 2)
    assert plan.load_s > 0 and plan.memory_bytes >= 0


def test_a_runtime_tells_what_it_computes_on_and_how_much_it_may_hold(backend: Backend) -> None:
    runtime = backend.make(4)
    assert (runtime.device, runtime.device_kind) == ("cpu", "cpu")
    assert runtime.memory_budget_bytes() > 1 << 20


def test_loading_completes_the_signature(load) -> None:
    signature = load("pair").signature
    assert {(o.name, o.dtype, o.shape) for o in signature.outputs} == {
        ("both", "float32", (5,)),
        ("total", "float32", (1,)),
    }


def test_every_row_comes_out_where_it_went_in(load) -> None:
    model = load("echo")
    for size in model.plan.sizes:
        asked = np.arange(2 * size, dtype=np.float64).reshape(size, 2) + 2**50
        answers = model.forward({"id": asked})
        assert set(answers) == {"echo"}
        assert np.array_equal(answers["echo"], asked)


def test_padding_changes_no_answer(load) -> None:
    model = load("echo")
    rows = [{"id": np.array([i, i + 0.5])} for i in range(5)]
    assert answers(model, rows, 8)["echo"] == [[i, i + 0.5] for i in range(5)]


PAD = {"tokens": {"sizes": [4, 16], "mask": "mask"}}


def tokens(*values: int) -> Row:
    return {"tokens": np.array(values, dtype=np.int32)}


def test_items_of_different_lengths_share_a_pass_behind_a_mask(load) -> None:
    model = load("masked", serving={"pad": PAD})
    rows = [tokens(1, 2, 3), tokens(7), tokens(2, 4, 4, 2)]
    assert shape_of(model.signature, rows) == "4"
    assert answers(model, rows)["mean"] == [[2], [7], [3]]
    assert answers(model, [tokens(*range(11))], 1)["mean"] == [[5]]


def test_a_model_that_minds_padding_is_refused_if_its_pusher_declares_it(load) -> None:
    with pytest.raises(ModelBroken) as caught:
        load("careless", serving={"pad": {"tokens": {"sizes": [4, 16]}}})
    assert caught.value.stable_code == "padding_changes_answers"
    assert answers(load("careless"), [tokens(1, 2, 6)] * 2)["mean"] == [[3], [3]]


def test_answers_for_each_token_are_cut_back_to_their_items(load) -> None:
    model = load("tags", serving={"pad": {"tokens": {"sizes": [4]}}})
    assert model.signature.outputs[0].shape == (None, 2)
    found = answers(model, [tokens(5), tokens(1, 2, 3)])["tags"]
    assert found == [[[5, 10]], [[1, 2], [2, 4], [3, 6]]]


def test_pictures_of_different_sizes_share_a_pass_and_are_cut_back(load) -> None:
    model = load("map", serving={"pad": {"pixels": {"sizes": [4, 8], "mask": "mask"}}})
    chance = np.random.default_rng(3)
    pictures = [chance.random((h, w, 1)).astype(np.float32) for h, w in ((2, 3), (4, 1), (3, 3))]
    rows = [{"pixels": picture} for picture in pictures]
    assert shape_of(model.signature, rows) == "4x4"
    found = answers(model, rows)
    for picture, twice, bright in zip(pictures, found["map"], found["bright"], strict=True):
        assert np.allclose(twice, 2 * picture, atol=1e-6)
        assert np.allclose(bright, picture.mean(), atol=1e-6)


def test_a_size_for_which_memory_does_not_suffice_is_not_offered(load) -> None:
    model = load("crowded", max_batch=16)
    assert model.plan.sizes == (1, 2)
    assert model.forward({"x": np.ones((2, 2), dtype=np.float32)})["y"].tolist() == [[1, 1]] * 2


def test_a_size_that_gives_another_number_of_rows_breaks_the_model(load) -> None:
    with pytest.raises(ModelBroken) as caught:
        load("fickle", max_batch=16)
    assert caught.value.stable_code == "wrong_batch_axis"
    assert load("fickle", max_batch=4).plan.sizes == (1, 2, 4)


def test_a_model_that_misbehaves_for_some_rows_answers_for_the_others(load) -> None:
    model = load("menace")

    def told(value: float) -> np.ndarray:
        return model.forward({"x": np.array([[value, 1], [2, 3]], dtype=np.float32)})["y"]

    assert told(0).tolist() == [[0, 1], [2, 3]]
    assert np.isnan(told(NAN)[0, 0]) and told(NAN)[1].tolist() == [2, 3]
    assert told(FEWER).shape == (1, 2)
    assert told(WIDER).shape == (2, 4)
    with pytest.raises(Exception, match="poison"):
        told(POISON)
    assert told(5).tolist() == [[5, 1], [2, 3]]


def test_several_threads_may_compute_at_once(load) -> None:
    model, wrong = load("echo"), []

    def work(mine: int) -> None:
        for turn in range(50):
            asked = np.full((4, 2), 1000.0 * mine + turn)
            if not np.array_equal(model.forward({"id": asked})["echo"], asked):
                wrong.append((mine, turn))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_inputs_go_by_name_not_by_order(load) -> None:
    found = load("pair").forward(
        {
            "right": np.array([[4, 5]] * 2, dtype=np.int32),
            "left": np.array([[1, 2, 3]] * 2, dtype=np.float32),
        }
    )
    assert found["both"].tolist() == [[1, 2, 3, 4, 5]] * 2
    assert found["total"].tolist() == [[15]] * 2


def test_it_computes_on_another_thread_than_it_was_loaded_on(load) -> None:
    model, found = load("echo"), []
    thread = threading.Thread(
        target=lambda: found.append(model.forward({"id": np.array([[1.0, 2.0]])}))
    )
    thread.start()
    thread.join(30)
    assert found[0]["echo"].tolist() == [[1, 2]]


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
