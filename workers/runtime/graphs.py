"""From an artifact to one traced function: tensors in the signature's order to named outputs.

One trace with a batch axis of any length serves every batch size: measured, it is as fast as one
trace per size and loads eight times sooner. With XLA the same trace is compiled once more for
each size that comes.
"""

from __future__ import annotations

import math
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.records.keras_archive import inspect_archive
from storage.records.models import ModelFormat, ModelVersion
from storage.records.signatures import InputSpec, OutputSpec, Shape
from workers.inference.ports import ModelBroken
from workers.runtime.framework import Framework

MAX_SAVED_MODEL_BYTES = 16 << 30
FROZEN_COPIES = 8  # of the weights, in graphs and kernels: measured with 100 MB of them


@dataclass(slots=True)
class Graph:
    """A model that can be called. ``keeps`` and ``home`` live until ``close``."""

    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]  # as far as the trace knows their shapes
    call: Any  # tensors in the inputs' order to named ones; traced, but for a SavedModel's
    activations: dict[str, str] = field(default_factory=dict)  # output name → last activation
    rescales_itself: bool = False
    model: Any = None  # Keras' own, where it is one
    weights_bytes: int = 0
    keeps: list[Any] = field(default_factory=list)
    home: tempfile.TemporaryDirectory[str] | None = None

    def compile(self, framework: Framework) -> None:
        """Let XLA compile it, for each shape at its first call."""
        tf = framework.tf
        plain = self.call
        specs = [tf.TensorSpec((None, *spec.shape), spec.dtype) for spec in self.inputs]
        function = tf.function(
            lambda *values: plain(*values), input_signature=specs, jit_compile=True
        )
        self.keeps.append(plain)
        self.call = function.get_concrete_function()

    def retrace(self, framework: Framework, *, frozen: bool = False) -> None:
        """Trace the model anew, after its layers were changed; outputs keep their types."""
        dtypes = {spec.name: spec.dtype for spec in self.outputs}
        self.call = _function(framework, self.model, dtypes, frozen=frozen)

    def freeze(self, framework: Framework) -> Callable[[], None]:
        """Make the weights constants of the trace; gives what makes them variables again.

        Variables are read anew in each pass, constants TensorFlow works into the graph: a batch
        normalisation disappears into the convolution before it. It keeps several copies of them.
        """
        before, weights_bytes = self.call, self.weights_bytes

        def thaw() -> None:
            self.call, self.weights_bytes = before, weights_bytes

        self.retrace(framework, frozen=True)
        self.weights_bytes *= FROZEN_COPIES
        return thaw

    def forget_variables(self) -> None:
        """Let the frozen model go, unless its trace needs something else of it (vocabularies)."""
        if not self.call.captured_inputs:
            self.model = None

    def close(self) -> None:
        """Remove what was unpacked for it."""
        if self.home is not None:
            self.home.cleanup()


def open_graph(framework: Framework, version: ModelVersion, artifact: Path) -> Graph:
    """Load the artifact by its format. Nothing but a checked ``.keras`` without ``trusted``."""
    if version.format is ModelFormat.SAVED_MODEL:
        _only_trusted(version)
        return _open_saved_model(framework, artifact)
    if version.format is ModelFormat.H5:
        _only_trusted(version)
    elif not version.trusted:
        # Looked at before the push as well; that look may be older than today's rules.
        with artifact.open("rb") as file:
            inspect_archive(file)
    model = framework.keras.saving.load_model(
        artifact, compile=False, safe_mode=not version.trusted
    )
    return _keras_graph(framework, model)


def _only_trusted(version: ModelVersion) -> None:
    if not version.trusted:
        raise ModelBroken(
            f"the format {version.format.value} can hold code and was not pushed as trusted",
            code="untrusted_format",
        )


def _keras_graph(framework: Framework, model: Any) -> Graph:
    tensors = list(model.inputs or ())
    if not tensors:
        raise ModelBroken("the model does not know its input: add an Input layer")
    function = _function(framework, model, {})
    return Graph(
        inputs=tuple(_input(t.name, t.dtype, list(t.shape)) for t in tensors),
        outputs=_outputs(function.structured_outputs),
        call=function,
        activations=_activations(model),
        rescales_itself=any(
            type(layer).__name__ in ("Rescaling", "Normalization")
            for layer in model._flatten_layers()
        ),
        model=model,
        weights_bytes=_bytes_of(framework, model.weights),
    )


def _function(
    framework: Framework, model: Any, dtypes: dict[str, str], *, frozen: bool = False
) -> Any:
    """The model traced; ``dtypes`` names outputs that shall have another type than they have.
    ``frozen``: with its weights as constants of the graph."""
    tf, keras = framework
    tensors = list(model.inputs)
    names = [tensor.name for tensor in tensors]
    # A Sequential model takes its one tensor as it is, others the structure they were built with.
    structure = None if isinstance(model, keras.Sequential) else model.input

    def forward(*values: Any) -> dict[str, Any]:
        named = dict(zip(names, values, strict=True))
        given = (
            values[0]
            if structure is None
            else keras.tree.map_structure(lambda tensor: named[tensor.name], structure)
        )
        result = frozen_call(given) if frozen else model(given, training=False)
        outputs = _named_outputs(framework, model, result)
        return {name: tf.cast(o, dtypes.get(name, o.dtype)) for name, o in outputs.items()}

    both = (model.trainable_variables, model.non_trainable_variables) if frozen else ()
    values_now = [[variable.numpy() for variable in variables] for variables in both]

    def frozen_call(given: Any) -> Any:
        weights, others = ([tf.constant(value) for value in some] for some in values_now)
        result, _ = model.stateless_call(weights, others, given, training=False)
        return result

    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tensors]
    return tf.function(forward, input_signature=specs).get_concrete_function()


def _bytes_of(framework: Framework, variables: Any) -> int:
    """What these variables take; a table of strings has no such size."""
    total = 0
    for variable in variables:
        size = getattr(framework.tf.as_dtype(variable.dtype), "size", 0)
        total += int(size or 0) * math.prod(variable.shape)
    return total


def _input(name: str, dtype: str, shape: list[int | None]) -> InputSpec:
    if not shape or shape[0] is not None:
        raise ModelBroken(f"input {name!r} has the fixed shape {shape}: no batches fit")
    return InputSpec(name, dtype, tuple(shape[1:]))


def _outputs(traced: dict[str, Any]) -> tuple[OutputSpec, ...]:
    """The traced outputs, bfloat16 as the float32 it is turned into."""
    return tuple(
        OutputSpec(name, spec.dtype.name.replace("bfloat16", "float32"), _row_shape(name, spec))
        for name, spec in traced.items()
    )


def _row_shape(name: str, spec: Any) -> Shape:
    if spec.shape.rank is None:
        raise ModelBroken(f"output {name!r} has no known rank")
    return tuple(spec.shape.as_list()[1:])


def _named_outputs(framework: Framework, model: Any, result: Any) -> dict[str, Any]:
    """Outputs by the name a caller can recognise: the key, else the layer's name."""
    flat = framework.keras.tree.flatten_with_path(result)
    names = _output_names(model, len(flat))
    named: dict[str, Any] = {}
    for (path, tensor), name in zip(flat, names, strict=True):
        if isinstance(result, dict):
            name = ".".join(map(str, path))
        named[_unused(name, named)] = _plain(framework, tensor)
    return named


def _output_names(model: Any, count: int) -> list[str]:
    names = getattr(model, "output_names", None)
    if not names and getattr(model, "layers", None):
        names = [model.layers[-1].name]
    if names and len(names) == count:
        return list(names)
    return [f"output_{index}" for index in range(count)]


def _unused(name: str, taken: dict[str, Any]) -> str:
    numbered, count = name, 1
    while numbered in taken:
        count += 1
        numbered = f"{name}_{count}"
    return numbered


def _plain(framework: Framework, tensor: Any) -> Any:
    tf = framework.tf
    if not isinstance(tensor, tf.Tensor):
        raise ModelBroken(f"an output is a {type(tensor).__name__}, not a plain tensor")
    if tensor.shape.rank == 0:
        raise ModelBroken("an output has no batch axis", code="wrong_batch_axis")
    if tensor.dtype.is_complex:
        raise ModelBroken("an output holds complex numbers, which JSON has not")
    return tf.cast(tensor, tf.float32) if tensor.dtype == tf.bfloat16 else tensor


def _activations(model: Any) -> dict[str, str]:
    """The last activation of each output, where its layer tells: softmax, sigmoid, linear …"""
    layers = {layer.name: layer for layer in getattr(model, "layers", ())}
    found: dict[str, str] = {}
    for name in _output_names(model, len(model.outputs or ())):
        layer = layers.get(name)
        while getattr(layer, "layers", None):  # a model as the last layer
            layer = layer.layers[-1]  # type: ignore[union-attr]
        activation = getattr(getattr(layer, "activation", None), "__name__", None)
        if activation is None and type(layer).__name__ in ("Softmax", "Sigmoid"):
            activation = type(layer).__name__.lower()
        if activation is not None:
            found[name] = activation
    return found


def _open_saved_model(framework: Framework, artifact: Path) -> Graph:
    """The ``serving_default`` of a zipped SavedModel directory; its operator vouched for it."""
    home = tempfile.TemporaryDirectory(prefix="forebay-saved-model-")
    try:
        graph = _serving_default(framework, _unpack(artifact, Path(home.name)))
    except BaseException:
        home.cleanup()
        raise
    graph.home = home
    return graph


def _serving_default(framework: Framework, root: Path) -> Graph:
    tf = framework.tf
    loaded = tf.saved_model.load(str(root))
    function = loaded.signatures.get("serving_default")
    if function is None:
        raise ModelBroken("the SavedModel has no signature 'serving_default'")
    specs = function.structured_input_signature[1]
    inputs = []
    for name, spec in specs.items():
        if spec.shape.rank is None:
            raise ModelBroken(f"input {name!r} of the SavedModel has no known rank")
        inputs.append(_input(name, spec.dtype.name, spec.shape.as_list()))

    def call(*values: Any) -> dict[str, Any]:
        result = function(**{s.name: v for s, v in zip(inputs, values, strict=True)})
        return {name: _plain(framework, tensor) for name, tensor in result.items()}

    outputs = _outputs(function.structured_outputs)
    weights_bytes = _bytes_of(framework, getattr(loaded, "variables", ()))
    return Graph(tuple(inputs), outputs, call, weights_bytes=weights_bytes, keeps=[loaded])


def _unpack(artifact: Path, into: Path) -> Path:
    """Unzip within bounds, never outside ``into``; the directory that holds saved_model.pb."""
    try:
        with zipfile.ZipFile(artifact) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > MAX_SAVED_MODEL_BYTES:
                raise ModelBroken("the archive unpacks to too much", code="archive_bomb")
            for entry in entries:
                path = into / entry.filename
                if not path.resolve().is_relative_to(into.resolve()) or stat.S_ISLNK(
                    entry.external_attr >> 16
                ):
                    raise ModelBroken(f"entry {entry.filename[:80]!r} leads out of the archive")
                if entry.is_dir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise ModelBroken(f"not a zip of a SavedModel: {error}", code="not_an_archive") from None
    found = sorted(into.glob("saved_model.pb")) + sorted(into.glob("*/saved_model.pb"))
    if len(found) != 1:
        raise ModelBroken("the archive does not hold one saved_model.pb at its top")
    return found[0].parent
