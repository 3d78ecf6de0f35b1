"""What only the real runtime can show: real layers, real formats, real refusals."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import orjson
import pytest

from storage.records.errors import ItemError
from storage.records.keras_allowed import ALLOWED
from storage.records.keras_archive import inspect_archive
from storage.records.models import ModelFormat
from storage.records.push_options import ScoreKind
from storage.records.signatures import Signature
from tests.contracts.test_runtime import version_of
from tests.support import models
from workers.inference.decode import decode_input
from workers.inference.encode import encode_rows
from workers.inference.ports import Array, LoadedModel, ModelBroken
from workers.inference.shapes import shape_of, stack, unpad
from workers.runtime import completing
from workers.runtime.keras_runtime import KerasRuntime

pytestmark = [
    pytest.mark.tensorflow,
    # TensorFlow 2.21 under numpy 2: tensors do not know the keyword ``copy`` yet.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def load(path: Path, max_batch: int = 8, **said: object) -> LoadedModel:
    with path.open("rb") as file:
        report = inspect_archive(file)
    version = version_of(report.inputs, rescales=report.rescales_itself, **said)
    return KerasRuntime(max_batch=max_batch).load(version, path)


def answers(model: LoadedModel, *values: object, batch_size: int = 4) -> list[dict]:
    """The whole way of some inputs: decode, batch, forward, encode."""
    rows = [decode_input(model.signature, orjson.dumps(value)).rows[0] for value in values]
    shape = shape_of(model.signature, rows)
    outputs = model.forward(stack(model.signature, rows, shape, batch_size))
    cut = unpad(model, outputs, rows)
    return [orjson.loads(row) for row in encode_rows(model.signature, cut, len(rows))]


def test_padding_words_do_not_change_the_score_of_a_text(tmp_path: Path) -> None:
    model = load(models.save_text(tmp_path / "text.keras"))
    texts = [{"text": text} for text in ("good", "good bad", "Awful, fine! good", "unheard")]
    scores = [answer["outputs"]["score"][0] for answer in answers(model, *texts, batch_size=8)]
    assert scores == pytest.approx([1, 1 / 2, 2 / 3, 0])
    alone = answers(model, {"text": "good bad"}, batch_size=1)[0]
    assert alone["outputs"]["score"][0] == pytest.approx(1 / 2)


def test_a_text_without_words_has_no_mean_and_fails_alone(tmp_path: Path) -> None:
    model = load(models.save_text(tmp_path / "text.keras"))
    outputs = model.forward({"text": np.array(["good", ""], dtype=object)})
    good, empty = encode_rows(model.signature, outputs, 2)
    assert isinstance(good, bytes)
    assert isinstance(empty, ItemError) and empty.stable_code == "non_finite_output"


def test_a_record_is_normalised_by_the_model_and_its_logits_become_scores(tmp_path: Path) -> None:
    columns = ["a", "b", {"name": "c", "missing": {"fill": 30}}]
    model = load(models.save_tabular(tmp_path / "t.keras"), columns=columns, labels=["no", "yes"])
    assert model.signature.scores is ScoreKind.LOGITS
    (answer,) = answers(model, {"record": {"a": 12, "b": 20}})
    assert answer["outputs"]["logits"] == pytest.approx([1, -1])
    assert answer["label"] == "no"
    assert answer["top"][0]["score"] == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-5)


def test_the_digits_model_learns_and_is_served(tmp_path: Path) -> None:
    from workers.runtime.digits import LABELS, train

    chance = np.random.default_rng(5)
    labels = chance.integers(0, 10, 600)
    images = chance.random((600, 28, 28)) * 60
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 4, 4:24] = 255  # a bar whose height is the digit
    told: list[int] = []
    path = tmp_path / "digits.keras"
    accuracy = train(
        images, labels, path, epochs=3, seed=1, on_epoch=lambda epoch, _: told.append(epoch)
    )
    assert accuracy > 0.9 and told == [1, 2, 3]
    model = load(path, input="image", labels=list(LABELS))
    assert model.signature.scores is ScoreKind.PROBABILITIES
    given = [{"tensor": (image[:, :, None] / 255).tolist()} for image in images[:8]]
    got = [int(a["label"]) for a in answers(model, *given, batch_size=8)]
    assert np.mean(np.array(got) == labels[:8]) > 0.8


def test_code_in_the_archive_is_refused_by_the_runtime_as_well(tmp_path: Path) -> None:
    path = models.save_lambda(tmp_path / "lambda.keras")
    with pytest.raises(ModelBroken) as caught:
        KerasRuntime(max_batch=2).load(version_of(None), path)
    assert caught.value.stable_code == "refused_layer"


def test_h5_is_loaded_only_when_trusted(tmp_path: Path) -> None:
    import keras

    model = keras.saving.load_model(models.save_digits(tmp_path / "d.keras"), compile=False)
    path = tmp_path / "d.h5"
    model.save(path)
    with pytest.raises(ModelBroken) as caught:
        KerasRuntime(max_batch=2).load(version_of(None, format=ModelFormat.H5), path)
    assert caught.value.stable_code == "untrusted_format"
    version = version_of(None, format=ModelFormat.H5, trusted=True, input="image")
    loaded = KerasRuntime(max_batch=2).load(version, path)
    assert loaded.signature.deferred is None
    assert loaded.signature.image is not None and loaded.signature.image.height == 28
    assert Signature.from_json(loaded.signature.to_json()) == loaded.signature


def test_a_saved_model_is_loaded_when_trusted(tmp_path: Path) -> None:
    import keras

    model = keras.saving.load_model(models.save_two_inputs(tmp_path / "p.keras"), compile=False)
    model.export(tmp_path / "saved", verbose=False)
    path = tmp_path / "saved.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (tmp_path / "saved").rglob("*"):
            archive.write(file, Path("inside") / file.relative_to(tmp_path / "saved"))
    version = version_of(None, format=ModelFormat.SAVED_MODEL, trusted=True)
    loaded = KerasRuntime(max_batch=2).load(version, path)
    assert {spec.name for spec in loaded.signature.inputs} == {"left", "right"}
    (answer,) = answers(loaded, {"inputs": {"left": [1, 2, 3], "right": [4, 5]}}, batch_size=1)
    assert answer["outputs"]["total"] == [15]
    loaded.close()


def test_an_archive_that_leads_outside_is_refused_even_when_trusted(tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../evil", "x")
    version = version_of(None, format=ModelFormat.SAVED_MODEL, trusted=True)
    with pytest.raises(ModelBroken):
        KerasRuntime(max_batch=2).load(version, path)
    assert not (tmp_path / "evil").exists()


def test_a_model_that_refuses_made_up_words_is_not_called_broken(tmp_path: Path) -> None:
    import keras

    lookup = keras.layers.StringLookup(vocabulary=["red", "blue"], num_oov_indices=0, name="index")
    path = tmp_path / "strict.keras"
    keras.Sequential([keras.Input((1,), dtype="string", name="colour"), lookup]).save(path)
    model = load(path, max_batch=2)
    assert [spec.name for spec in model.signature.outputs] == ["index"]
    (answer,) = answers(model, {"tensor": ["blue"]}, batch_size=1)
    assert answer["outputs"]["index"] == [1]


def test_memory_stays_flat_over_many_batches(tmp_path: Path) -> None:
    model = load(models.save_echo(tmp_path / "echo.keras"))
    batch = {"id": np.zeros((8, 2))}
    for _ in range(500):
        model.forward(batch)
    before = _resident_bytes()
    for _ in range(5_000):
        model.forward(batch)
    assert _resident_bytes() - before < 8 << 20


def test_tensorflow_is_imported_only_when_a_runtime_starts() -> None:
    code = (
        "import sys; import workers.runtime.keras_runtime, workers.runtime.digits;"
        "import workers.inference.decode, storage.records.keras_archive;"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


def test_every_allowed_class_is_one_that_keras_has() -> None:
    import importlib

    for module, names in ALLOWED.items():
        have = vars(importlib.import_module(module))
        missing = {name for name in names if name not in have} - {"Functional"}
        assert not missing, f"{module}: {missing}"


def test_no_allowed_class_is_known_to_hold_code() -> None:
    """What Keras itself guards with its safe mode must not be on the list."""
    import importlib

    sources: dict[str, dict[str, str]] = {}
    for module, names in ALLOWED.items():
        have = vars(importlib.import_module(module))
        for name in names & have.keys():
            file = sys.modules[have[name].__module__].__file__ or ""
            if file not in sources:
                sources[file] = _classes_of(Path(file))
            body = sources[file][have[name].__name__]
            assert "in_safe_mode" not in body and "_raise_for_lambda" not in body, name
    assert len(sources) > 100


def _classes_of(file: Path) -> dict[str, str]:
    text = file.read_text()
    lines = text.splitlines()
    return {
        node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno])
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef)
    }


def test_a_model_that_masks_by_a_value_is_padded_with_it(tmp_path: Path) -> None:
    path = models.save_mask_zero(tmp_path / "m.keras")
    model = load(path, serving={"pad": {"tokens": {"sizes": [4, 32]}}})
    given = [{"tensor": tokens} for tokens in ([3], [2, 4, 9], [7, 5])]
    assert [a["outputs"]["mean"] for a in answers(model, *given)] == [[3], [5], [6]]
    with pytest.raises(ModelBroken) as caught:
        load(path, serving={"pad": {"tokens": {"sizes": [4, 32], "value": 1}}})
    assert caught.value.stable_code == "padding_changes_answers"


def digits_like(inputs: np.ndarray, path: Path, **serving: object) -> dict[str, np.ndarray]:
    model = load(path, max_batch=4, serving=serving)
    return model.forward({model.signature.inputs[0].name: inputs})


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_answers_nearly_the_same_in_the_same_types(
    tmp_path: Path, precision: str
) -> None:
    path = models.save_digits(tmp_path / "d.keras")
    rows = np.random.default_rng(2).random((4, 28, 28, 1)).astype(np.float32)
    native, lowered = digits_like(rows, path), digits_like(rows, path, precision=precision)
    assert native["digit"].dtype == lowered["digit"].dtype == np.float32
    difference = np.abs(native["digit"] - lowered["digit"]).max()
    assert 0 < difference < 0.02, "it does compute in another precision, and answers alike"


def test_a_model_whose_answers_need_all_their_digits_is_refused_in_half_precision(
    tmp_path: Path,
) -> None:
    import keras

    inner = keras.layers.Rescaling(100_000.0)  # over what a float16 can hold, for a moment
    asked = keras.Input((2,), name="x")
    large = keras.layers.Dense(2, kernel_initializer=keras.initializers.Identity())(inner(asked))
    keras.Model(asked, keras.layers.Rescaling(1e-5, name="y")(large)).save(tmp_path / "m.keras")
    with pytest.raises(ModelBroken) as caught:
        load(tmp_path / "m.keras", serving={"precision": "float16"})
    assert caught.value.stable_code == "precision_changes_answers"


def test_a_saved_models_precision_is_fixed(tmp_path: Path) -> None:
    path = models.save_fickle(tmp_path / "s.zip")
    said = {"format": ModelFormat.SAVED_MODEL, "trusted": True}
    version = version_of(None, serving={"precision": "float16"}, **said)
    with pytest.raises(ModelBroken) as caught:
        KerasRuntime(max_batch=2).load(version, path)
    assert caught.value.stable_code == "precision_unsupported"


def test_a_compiled_model_answers_the_same_for_every_size(tmp_path: Path) -> None:
    path = models.save_digits(tmp_path / "d.keras")
    rows = np.random.default_rng(2).random((4, 28, 28, 1)).astype(np.float32)
    native = digits_like(rows, path)["digit"]
    compiled = load(path, max_batch=4, serving={"xla": True})
    name = compiled.signature.inputs[0].name
    for size in compiled.plan.sizes:
        answer = compiled.forward({name: rows[:size]})["digit"]
        assert np.allclose(answer, native[:size], atol=1e-5)


def test_what_xla_cannot_compile_is_refused_with_it(tmp_path: Path) -> None:
    import keras

    asked = keras.Input((2,), dtype="int32", name="x")
    named = keras.layers.StringLookup(vocabulary=["a", "b"], invert=True, name="y")
    keras.Model(asked, named(asked)).save(tmp_path / "m.keras")
    with pytest.raises(ModelBroken) as caught:
        load(tmp_path / "m.keras", serving={"xla": True})
    assert caught.value.stable_code == "xla_unsupported"


def test_measured_memory_holds_the_weights_and_the_largest_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    wide = keras.layers.Dense(1_000_000, use_bias=False)
    sums = keras.layers.Dense(1, use_bias=False, name="y")
    keras.Sequential([keras.Input((2,)), wide, sums]).save(tmp_path / "m.keras")
    with monkeypatch.context() as patched:
        patched.setattr(completing, "_FROZEN_SHARE", 0.0)
        plan = load(tmp_path / "m.keras", max_batch=16).plan
    assert 12_000_000 <= plan.memory_bytes < 40_000_000
    assert 16 * 4_000_000 <= plan.pass_bytes < 3 * 16 * 4_000_000
    frozen = load(tmp_path / "m.keras", max_batch=16).plan
    assert 7 * 12_000_000 <= frozen.memory_bytes < 12 * 12_000_000, "its copies count as well"


class TestFrozen:
    """Weights made constants: the same answers, sooner."""

    @pytest.fixture(params=["frozen", "variables"])
    def kind(self, request, monkeypatch) -> str:
        if request.param == "variables":
            monkeypatch.setattr(completing, "_FROZEN_SHARE", 0.0)
        return request.param

    def test_every_kind_of_layer_answers_as_keras_does(self, tmp_path: Path, kind: str) -> None:
        keras = _keras()
        layers, chance = keras.layers, np.random.default_rng(7)
        pictures = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()]
        pictures += [layers.DepthwiseConv2D(3), layers.BatchNormalization()]
        pictures += [layers.GlobalAveragePooling2D(), layers.Dropout(0.5), layers.Dense(3)]
        words = [layers.Embedding(20, 8, mask_zero=True), layers.LSTM(5), layers.Dense(2)]
        gated = [layers.Embedding(20, 8), layers.Bidirectional(layers.GRU(4)), layers.Dense(2)]
        for given, row in (
            ([keras.Input((12, 12, 3)), *pictures], chance.random((12, 12, 3))),
            ([keras.Input((9,), dtype="int32"), *words], chance.integers(0, 20, 9)),
            ([keras.Input((9,), dtype="int32"), *gated], chance.integers(0, 20, 9)),
        ):
            model = keras.Sequential(given)
            for weight in model.weights:  # moving averages other than 0 and 1 among them
                weight.assign(np.abs(chance.normal(0.6, 0.2, weight.shape)))
            model.save(tmp_path / "m.keras")
            loaded = load(tmp_path / "m.keras")
            assert (loaded._graph.model is None) == (kind == "frozen")
            (spec,) = loaded.signature.inputs
            batch = np.stack([row, row[::-1], row[::-1], row]).astype(spec.dtype)
            (ours,) = loaded.forward({spec.name: batch}).values()
            np.testing.assert_allclose(ours, model(batch, training=False), rtol=1e-4, atol=1e-5)

    def test_a_vocabulary_stays_with_the_model_that_needs_it(self, tmp_path: Path) -> None:
        loaded = load(models.save_text(tmp_path / "text.keras"))
        assert loaded._graph.call.captured_inputs
        assert loaded._graph.model is not None

    def test_what_would_answer_otherwise_keeps_its_variables(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keras = _keras()
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(tmp_path / "m.keras")
        true = completing.alike
        said = iter([False])

        def doubtful(left: Array, right: Array, tolerance: float = 1e-2) -> bool:
            if tolerance == completing._FROZEN_TOLERANCE:
                return next(said)
            return true(left, right, tolerance)

        monkeypatch.setattr(completing, "alike", doubtful)
        loaded = load(tmp_path / "m.keras")
        assert next(said, None) is None, "nobody asked"
        assert loaded._graph.model is not None and loaded._graph.call.variables
        assert loaded.plan.memory_bytes < 100_000


def _keras():
    import keras

    return keras
