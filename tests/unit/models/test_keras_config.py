"""No class outside the allow-list reaches Keras, however it is smuggled in."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records.errors import InvalidInput
from storage.records.keras_config import check_objects, inputs_of, parse_config
from storage.records.signatures import InputSpec
from tests.support.archives import functional, input_layer, layer, sequential

LAMBDA = layer("Lambda", name="sneaky", function={"class_name": "__lambda__", "config": {}})


def function(module: str, name: str) -> dict[str, object]:
    return {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": "function",
    }


def refusal(config: dict[str, object]) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        check_objects(config)
    assert caught.value.stable_code == "refused_layer"
    return caught.value


def test_a_lambda_is_refused_by_its_name() -> None:
    message = refusal(sequential(input_layer(), LAMBDA)).message
    assert "Lambda 'sneaky'" in message


@pytest.mark.parametrize(
    "smuggled",
    [
        layer("TFSMLayer", name="t", filepath="/tmp/evil"),
        layer("TorchModuleWrapper", name="t"),
        layer("JaxLayer", name="t"),
        layer("FlaxLayer", name="t"),
        layer("Layer", name="t"),
        layer("Lambda", "keras.src.layers.core.lambda_layer", name="t"),
        layer("Dense", "keras.src.layers.core.dense", name="t"),
        layer("Dense", "my_package.layers", name="t"),
        layer("Dense", "keras_hub.layers", name="t"),
        layer("Popen", "subprocess", args=["sh"]),
        layer("Map", "keras.src.ops.core", name="t"),
        layer("get_file", "keras.utils", origin="https://evil"),
        layer("Sequential", "builtins", name="t"),
        {**layer("Dense", name="t"), "registered_name": "pkg>Dense"},
        {**layer("Dense", name="t"), "registered_name": "get_file"},
        {"class_name": "Dense", "config": {"name": "no module"}},
        {"class_name": "Dense", "module": None, "config": {}},
        {"module": "keras.layers", "config": {}},
        {"registered_name": "pkg>X", "config": {}},
        {"class_name": ["Dense"], "module": "keras.layers", "config": {}},
        {"class_name": "Dense", "module": ["keras.layers"], "config": {}},
        {"class_name": "Dense", "module": "keras.layers", "config": "relu"},
        {"class_name": "Dense", "module": "keras.layers", "config": None},
        {"class_name": "__lambda__", "config": {"value": "4wAAAA=="}},
        {"class_name": "__typespec__", "config": [], "spec_name": "X", "module": "m"},
        {"class_name": "__numpy__", "config": {"value": [], "dtype": "object"}},
        {"class_name": "__tensor__", "config": None},
        {"class_name": "__slice__", "module": "os", "config": {}},
        function("builtins", "relu"),
        function("keras.models", "load_model"),
        function("keras.config", "enable_unsafe_deserialization"),
        function("keras.utils", "get_file"),
        function("os", "system"),
    ],
)
def test_whatever_could_run_code_is_refused_at_any_depth(smuggled: dict[str, object]) -> None:
    refusal(sequential(input_layer(), smuggled))
    refusal(sequential(input_layer(), layer("Dense", name="d", activation=smuggled)))
    refusal(sequential(input_layer(), layer("TimeDistributed", name="t", layer=smuggled)))
    refusal(sequential(input_layer(), sequential(input_layer(), smuggled)))
    node = {"args": [[{"a": [smuggled]}]], "kwargs": {}}
    refusal(sequential(input_layer(), {**layer("Add", name="a"), "inbound_nodes": [node]}))
    refusal({**sequential(input_layer()), "build_config": {"input_shape": [smuggled]}})


@pytest.mark.parametrize("kind", ["StringLookup", "IntegerLookup", "TextVectorization"])
@pytest.mark.parametrize("key", ["vocabulary", "idf_weights"])
@pytest.mark.parametrize(
    "value", ["/etc/passwd", "gs://bucket/x", {"class_name": "__bytes__", "config": {"value": "x"}}]
)
def test_a_vocabulary_that_is_a_path_is_refused(kind: str, key: str, value: object) -> None:
    refusal(sequential(input_layer(), layer(kind, name="lookup", **{key: value})))


def test_a_vocabulary_in_the_text_is_taken() -> None:
    assert check_objects(
        sequential(input_layer(), layer("StringLookup", name="l", vocabulary=["a", "b"]))
    )


@pytest.mark.parametrize("name", ["Model", "MyModel", "CustomModel", "Dense", None, 3, []])
def test_only_sequential_and_functional_models_are_taken(name: object) -> None:
    error = refusal({**sequential(input_layer()), "class_name": name})
    assert "Sequential or Functional" in error.message


def test_how_a_model_was_compiled_matters_only_inside_another() -> None:
    own = {"optimizer": layer("Mine", "my_package"), "loss": function("my_package", "loss")}
    check_objects({**sequential(input_layer()), "compile_config": own})
    refusal(sequential(input_layer(), {**sequential(input_layer()), "compile_config": own}))
    plain = {"optimizer": layer("Adam", "keras.optimizers"), "loss": "mse", "metrics": ["mae"]}
    check_objects(sequential(input_layer(), {**sequential(input_layer()), "compile_config": plain}))


def test_reading_takes_no_more_memory_for_names_and_fields() -> None:
    deep: dict[str, object] = {f"k{number}": {} for number in range(20_000)}
    for _ in range(60):
        deep = {"config": {"name": "n" * 99, "config": deep}}
    config = sequential(input_layer()) | {"deep": deep}
    tracemalloc.start()
    try:
        check_objects(config)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 20
    deep["last"] = LAMBDA
    assert "Lambda 'sneaky' (at model/model.deep/n" in refusal(config).message


def test_what_keras_writes_passes() -> None:
    tensor = {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None, 3], "dtype": "float32", "keras_history": ["x", 0, 0]},
    }
    cut = {"class_name": "__slice__", "config": {"start": None, "stop": 2, "step": None}}
    item = {
        **layer("GetItem", "keras.src.ops.numpy", name="g"),
        "registered_name": "GetItem",
        "inbound_nodes": [{"args": [tensor, [cut]], "kwargs": {}}],
    }
    dense = layer(
        "Dense",
        name="d",
        dtype=layer("DTypePolicy", "keras", name="float32"),
        kernel_initializer=layer("GlorotUniform", "keras.initializers", seed=None),
        kernel_regularizer=layer("L2", "keras.regularizers", l2=0.1),
        kernel_constraint=layer("MaxNorm", "keras.constraints"),
    )
    assert "GetItem" in check_objects(sequential(input_layer(), item, dense))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "does not describe"),
        (b'"x"', "does not describe"),
        (b"\xff{}", "not valid JSON"),
        (b'{"class_name": "Sequential", "class_name": "Lambda"}', "repeated"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "deeper"),
        (b"[" * 100_000, "deeper"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "not valid JSON"),
    ],
)
def test_a_configuration_is_parsed_strictly(text: bytes, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_config(text)
    assert caught.value.stable_code == "bad_archive"
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("input_layers", "names"),
    [
        (["a", 0, 0], ["a"]),
        ([["a", 0, 0]], ["a"]),
        ([["b", 0, 0], ["a", 0, 0]], ["b", "a"]),
        ({"a": ["a", 0, 0], "b": ["b", 0, 0]}, ["a", "b"]),
        ([{"a": ["a", 0, 0]}, ["b", 0, 0]], ["a", "b"]),
    ],
)
def test_the_inputs_of_a_functional_model(input_layers: object, names: list[str]) -> None:
    config = functional(
        [input_layer("a", [None, 2]), input_layer("b", [None], "string")], input_layers
    )
    known = {"a": InputSpec("a", "float32", (2,)), "b": InputSpec("b", "string", ())}
    assert list(inputs_of(config)) == [known[name] for name in names]


def test_the_inputs_of_a_sequential_model() -> None:
    assert inputs_of(sequential(input_layer("i", [None, None, 3], "int32"))) == (
        InputSpec("i", "int32", (None, 3)),
    )
    inner = functional([input_layer("image", [None, 8, 8, 3])], ["image", 0, 0])
    assert inputs_of(sequential(inner, layer("Dense", name="d"))) == (
        InputSpec("image", "float32", (8, 8, 3)),
    )
    half = layer("DTypePolicy", "keras", name="mixed_float16")
    late = sequential(layer("Dense", name="d", dtype=half))
    late["config"]["build_input_shape"] = [None, 5]
    assert inputs_of(late) == (InputSpec("input", "float16", (5,)),)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        (sequential(), "bad_archive"),
        (sequential(layer("Dense", name="d")), "unsupported_model"),
        (sequential(input_layer("x", [8, 4])), "unsupported_model"),
        (sequential(input_layer("x", [None, 4], ragged=True)), "unsupported_model"),
        (sequential(input_layer("x", [None, 4], sparse=True)), "unsupported_model"),
        (sequential(input_layer("x", [])), "bad_archive"),
        (sequential(input_layer("x", "abc")), "bad_archive"),
        (sequential(input_layer("x", [None, -1])), "bad_archive"),
        (sequential(input_layer("x", [None, "4"])), "bad_archive"),
        (sequential(input_layer("", [None, 4])), "bad_archive"),
        (sequential(input_layer("x", [None, 4], 7)), "bad_archive"),
        (functional([input_layer("a")], ["b", 0, 0]), "unsupported_model"),
    ],
)
def test_inputs_that_cannot_be_served_are_refused(config: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        inputs_of(json.loads(json.dumps(config)))
    assert caught.value.stable_code == code


MODEL = functional(
    [input_layer("a", [None, 2]), layer("Dense", name="d", dtype=layer("DTypePolicy", "keras"))],
    {"a": ["a", 0, 0]},
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["class_name", "module", "config", "name", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def places(value: object, path: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, child in inner:
        found.append((*path, key))
        if isinstance(child, dict | list):
            found += places(child, (*path, key))
    return found


@given(st.sampled_from(places(MODEL)), anything)
@settings(max_examples=400, deadline=None)
def test_any_other_value_anywhere_is_taken_or_refused_never_a_crash(path, value) -> None:
    config = json.loads(json.dumps(MODEL))
    spot = config
    for key in path[:-1]:
        spot = spot[key]
    spot[path[-1]] = value
    try:
        check_objects(config)
        inputs_of(config)
    except InvalidInput:
        pass
