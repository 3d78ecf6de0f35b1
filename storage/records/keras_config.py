"""A ``.keras`` archive's config.json: what it is built of, and which tensors it takes.

Keras builds objects from this text; here it is only read. Every object in it, at any depth, must
be on the allow-list, spelled the way Keras spells it, so that there is nothing to build that is
not a plain built-in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from storage.records.errors import InvalidInput
from storage.records.json_text import nests_deeper_than, without_strings
from storage.records.keras_allowed import ALLOWED, MODEL_CLASSES, VALUES
from storage.records.signatures import NUMBER_TYPES, InputSpec

MAX_CONFIG_DEPTH = 200
_MAX_PATH = 300  # of what a message shows

_MARKS = frozenset({"class_name", "module", "registered_name"})
_WITH_PATHS = frozenset({"vocabulary", "idf_weights"})  # a string here names a file to read


def parse_config(data: bytes) -> dict[str, object]:
    """The JSON, or ``bad_archive``. A repeated key is refused: two readers might differ on it."""
    bare = without_strings(data)
    if nests_deeper_than(bare, MAX_CONFIG_DEPTH):
        raise bad(f"config.json nests deeper than {MAX_CONFIG_DEPTH} levels")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise bad(f"config.json is not valid JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise bad("config.json does not describe a model")
    return value


def check_objects(config: dict[str, object]) -> frozenset[str]:
    """Every class the model is built of; raises ``refused_layer`` at the first not allowed."""
    if not _is_model(config):
        raise refused(
            f"the model is a {_short(config.get('class_name'))}, not a Sequential or Functional"
            " one: its code is not in the archive"
        )
    # A load for inference does not read the top level's compile_config; a nested one it does.
    top = {key: value for key, value in config.items() if key != "compile_config"}
    classes: set[str] = set()
    for path, value in _walk(top, "model"):
        if not isinstance(value, dict):
            continue
        if not _MARKS.isdisjoint(value):
            classes.add(_check_object(value, path))
        for key in _WITH_PATHS & value.keys():
            if not _is_listed(value[key]):
                raise refused(f"{path}.{key} names a file outside the archive")
    return frozenset(classes)


def inputs_of(config: dict[str, object]) -> tuple[InputSpec, ...]:
    """The tensors the model takes, in its own order, or ``unsupported_model``."""
    inner = _object(config.get("config"))
    layers = [_object(layer) for layer in _list(inner.get("layers"))]
    if not layers:
        raise bad("the model has no layers")
    if config["class_name"] == "Functional":
        named = {str(_object(layer.get("config")).get("name")): layer for layer in layers}
        return tuple(
            _input_layer(named.get(name)) for name in _input_names(inner.get("input_layers"))
        )
    first = layers[0]
    if first.get("class_name") == "InputLayer":
        return (_input_layer(first),)
    if _is_model(first):
        return inputs_of(first)
    shape = inner.get("build_input_shape")
    if not isinstance(shape, list):
        raise unsupported("the model was saved before it knew its input: add an Input layer")
    # Keras makes the missing input layer in the first layer's compute type.
    return (_spec("input", _compute_dtype(first), shape),)


def _is_model(config: Mapping[str, object]) -> bool:
    name = config.get("class_name")
    return isinstance(name, str) and name in MODEL_CLASSES


def _check_object(value: Mapping[str, object], path: str) -> str:
    name, module, registered = (value.get(k) for k in ("class_name", "module", "registered_name"))
    if not isinstance(name, str):
        raise refused(f"{path} names a module but no class")
    label = _label(name, value.get("config"), path)
    if name in VALUES:
        if module is not None or registered is not None:
            raise refused(f"{label} is a plain value, yet names a module")
        _check_value(name, value.get("config"), label)
        return name
    if not isinstance(module, str) or name not in ALLOWED.get(module, ()):
        hint = "; a Lambda layer holds code" if name == "Lambda" else ""
        raise refused(f"{label}, module {_short(module)}, is not allowed{hint}")
    if registered is not None and registered != name:
        raise refused(f"{label} is registered as {_short(registered)}: custom code is not allowed")
    if not isinstance(value.get("config"), dict):
        raise refused(f"{label} has no configuration")
    return name


def _label(name: str, config: object, path: str) -> str:
    """The object as its author knows it: by class and, where it has one, by name."""
    own = config.get("name") if isinstance(config, dict) else None
    called = f" {own[:80]!r}" if isinstance(own, str) else ""
    return f"{_short(name)}{called} (at {path})"


def _is_listed(value: object) -> bool:
    """Whether a vocabulary stands in the text itself, and is not a path to read."""
    if isinstance(value, dict):
        return value.get("class_name") in ("__numpy__", "__tensor__")
    return value is None or isinstance(value, list)


def _check_value(name: str, config: object, label: str) -> None:
    if name in ("__tensor__", "__numpy__"):
        entry = config if isinstance(config, dict) else {}
        dtype = entry.get("dtype")
        if not isinstance(dtype, str) or dtype not in {*NUMBER_TYPES, "string"}:
            raise refused(f"{label} is of type {_short(dtype)}")


def _walk(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Every object and list with its path, without recursion. Only what is open is held: a path
    for each of a million fields would take a thousand times the text's own length."""
    yield path, value
    open_values = [_inside(value, path)]
    while open_values:
        for path, value in open_values[-1]:
            yield path, value
            open_values.append(_inside(value, path))
            break
        else:
            open_values.pop()


def _inside(value: object, path: str) -> Iterator[tuple[str, object]]:
    """The objects and lists in one, each with its path."""
    if isinstance(value, dict):
        own = value.get("config")
        name = own.get("name") if isinstance(own, dict) else None
        here = f"{path}/{name}" if isinstance(name, str) and len(name) < 100 else path
        for key, inner in value.items():
            if isinstance(inner, dict | list):
                yield f"{here}.{_short(key)}"[:_MAX_PATH], inner
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict | list):
                yield path, inner


def _input_names(value: object) -> Iterator[str]:
    """Names out of ``["a", 0, 0]``, a list of such, or an object of such; Keras writes all three.

    An object's names are its keys: those are what the model is called with.
    """
    if isinstance(value, dict):
        for inner in value.values():
            yield from _input_names(inner)
    elif isinstance(value, list):
        if len(value) == 3 and isinstance(value[0], str):
            yield value[0]
        else:
            for inner in value:
                yield from _input_names(inner)


def _input_layer(layer: dict[str, object] | None) -> InputSpec:
    if layer is None or layer.get("class_name") != "InputLayer":
        raise unsupported("an input of the model is not an Input layer")
    config = _object(layer.get("config"))
    name = config.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= 255 or "\x00" in name:
        raise bad("an Input layer has no usable name")
    for trait in ("sparse", "ragged", "optional"):
        if config.get(trait):
            raise unsupported(f"input {name!r} is {trait}, which cannot be batched")
    dtype = config.get("dtype", "float32")
    if isinstance(dtype, dict):  # a dtype policy
        dtype = _object(dtype.get("config")).get("name")
    shape = config.get("batch_shape", config.get("batch_input_shape"))
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise bad(f"input {name!r} has no type or shape")
    return _spec(name, dtype, shape)


def _spec(name: str, dtype: str, shape: list[object]) -> InputSpec:
    if not shape or any(isinstance(a, bool) or not isinstance(a, int | None) for a in shape):
        raise bad(f"input {name!r} has the shape {str(shape)[:100]}")
    if shape[0] is not None:
        raise unsupported(
            f"input {name!r} has a fixed batch of {shape[0]}: build the model with shape=…, not"
            " batch_shape=…"
        )
    axes = tuple(axis for axis in shape[1:] if axis is None or isinstance(axis, int))
    if any(axis is not None and axis < 1 for axis in axes):
        raise bad(f"input {name!r} has the shape {str(shape)[:100]}")
    return InputSpec(name, dtype, axes)


def _compute_dtype(layer: dict[str, object]) -> str:
    policy = _object(_object(layer.get("config")).get("dtype"))
    name = _object(policy.get("config")).get("name", "float32")
    known = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}
    return known.get(str(name), str(name))


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated within one object")
    return found


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _short(value: object) -> str:
    return repr(value)[:80] if not isinstance(value, str) else value[:80]


def bad(message: str) -> InvalidInput:
    """The archive is damaged or no model."""
    return InvalidInput(message, code="bad_archive", field="file")


def refused(message: str) -> InvalidInput:
    """The archive holds something that is not allowed."""
    return InvalidInput(message, code="refused_layer", field="file")


def unsupported(message: str) -> InvalidInput:
    """A sound model of a kind that cannot be served."""
    return InvalidInput(message, code="unsupported_model", field="file")
