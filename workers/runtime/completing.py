"""From an opened graph to what is served: its signature completed, its answers tried.

Everything that may be wrong with a version is found here, once, on made-up rows, before a job's
row goes through it; each finding is a ``ModelBroken`` with a code of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from storage.records.models import ModelVersion
from storage.records.push_options import ScoreKind
from storage.records.serving import Precision
from storage.records.signatures import (
    InputSpec,
    Signature,
    build_signature,
    label_output_of,
)
from workers.inference.ports import Array, Follows, ModelBroken
from workers.inference.shapes import free_axes
from workers.runtime import precision
from workers.runtime.framework import Framework
from workers.runtime.graphs import FROZEN_COPIES, Graph
from workers.runtime.padding import Follow, PaddingProbe
from workers.runtime.probes import (
    Forward,
    alike,
    check_batch_axis,
    check_rows_apart,
    made_up,
    seed_of,
    with_lengths,
)

log = logging.getLogger(__name__)

_PROBABLE = frozenset({"softmax", "sigmoid", "hard_sigmoid", "sparsemax", "sparse_sigmoid"})
_NO_XLA = "xla_unsupported"
_TRIED_ROWS = 2  # more may not fit
_FROZEN_SHARE = 0.1  # of what all models may hold together
_MOST_FROZEN_BYTES = 128 << 20  # of weights: no graph of TensorFlow's has more than 2 GiB
_FROZEN_TOLERANCE = 1e-3  # of the largest value


def complete(
    framework: Framework,
    version: ModelVersion,
    pushed: Signature,
    graph: Graph,
    budget_bytes: int,
) -> tuple[Signature, dict[str, Follow]]:
    """The signature, and what outputs follow; ``graph`` computes as the knobs say afterwards.
    ``budget_bytes`` is what all models together may hold."""
    if not graph.outputs:
        raise ModelBroken("the model gives no output")
    graph.inputs = _agreed(pushed.inputs, graph.inputs)
    signature = pushed
    if pushed.deferred is not None:
        signature = build_signature(
            graph.inputs, pushed.deferred, rescales_itself=graph.rescales_itself
        )

    def forward(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return run(framework, graph, inputs)

    seed = seed_of(version.id)
    tried = made_up(signature, _TRIED_ROWS, seed)
    try:
        outputs = forward(tried)
        _check_rows(forward, signature, outputs, tried, seed)
        follows = _padding(forward, signature, graph, seed)
    except framework.tf.errors.InvalidArgumentError as error:
        # It refuses the made-up values (a vocabulary without a place for unknown words, say).
        log.warning("version %s was not tried: %s", version.id, type(error).__name__)
        outputs, follows = {}, _guessed(signature, graph)
    answers = _turn_knobs(
        framework, signature, graph, lambda: forward(tried) if outputs else {}, outputs
    )
    if not signature.serving.xla:  # which makes the most of the graph by itself
        _freeze(framework, graph, lambda: forward(tried), answers, budget_bytes)
    specs = graph.outputs
    if outputs and not signature.varying:
        specs = tuple(with_lengths(spec, outputs[spec.name]) for spec in specs)
    return _with_scores(replace(signature, outputs=specs), graph, outputs), follows


def run(framework: Framework, graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays to tensors and back. Only tensors go in: a Python scalar would trace anew."""
    tf = framework.tf
    tensors = [tf.convert_to_tensor(inputs[spec.name], dtype=spec.dtype) for spec in graph.inputs]
    return {name: tensor.numpy() for name, tensor in graph.call(*tensors).items()}


def _check_rows(
    forward: Forward,
    signature: Signature,
    outputs: Mapping[str, Array],
    tried: Mapping[str, Array],
    seed: int,
) -> None:
    check_batch_axis(outputs, _TRIED_ROWS)
    check_batch_axis(forward(made_up(signature, 1, seed)), 1)
    check_rows_apart(forward, tried, _TRIED_ROWS)


def _padding(forward: Forward, signature: Signature, graph: Graph, seed: int) -> dict[str, Follow]:
    if not signature.serving.pad:
        return {}
    probe = PaddingProbe(forward, signature, seed)
    follows = probe.follows(graph.outputs)
    probe.check(follows)
    return follows


def _guessed(signature: Signature, graph: Graph) -> dict[str, Follow]:
    """Where nothing could be tried: an open axis is as long as the input's axis in its place."""
    found: dict[str, Follow] = {}
    padded = [spec for spec in signature.varying if spec.name in signature.serving.pad]
    for output in graph.outputs if padded else ():
        axes = [index for index, axis in enumerate(output.shape) if axis is None]
        follows: list[Follows | None] = [None] * len(output.shape)
        for place, axis in enumerate(axes[: len(free_axes(padded[0]))]):
            follows[axis] = Follows(padded[0].name, place)
        if axes:
            found[output.name] = tuple(follows)
    return found


def _turn_knobs(
    framework: Framework,
    signature: Signature,
    graph: Graph,
    again: Callable[[], Mapping[str, Array]],
    native: Mapping[str, Array],
) -> Mapping[str, Array]:
    """Lower the precision and compile, as asked; the answers must stay what they were. They are
    given back as they are now."""
    serving, answers = signature.serving, native
    if serving.precision is not Precision.NATIVE:
        try:
            precision.lower(framework, graph.model, serving.precision)
            graph.retrace(framework)
            lowered = again()
        except (TypeError, ValueError, framework.tf.errors.InvalidArgumentError) as error:
            raise _unsupported(serving.precision.value, precision.UNSUPPORTED, error) from error
        _compare(native, lowered, "precision_changes_answers", serving.precision.value)
        answers = lowered
    if serving.xla:
        if any(spec.dtype == "string" for spec in graph.outputs):
            # TensorFlow would not refuse: it ends the process.
            raise ModelBroken("XLA compiles no strings: the model gives some", code=_NO_XLA)
        errors = framework.tf.errors
        try:
            graph.compile(framework)
            compiled = again()
        except (
            ValueError,
            errors.InvalidArgumentError,
            errors.UnimplementedError,
            errors.InternalError,
        ) as error:
            raise _unsupported("XLA", _NO_XLA, error) from error
        _compare(native, compiled, "xla_changes_answers", "XLA")
        answers = compiled
    return answers


def _freeze(
    framework: Framework,
    graph: Graph,
    again: Callable[[], Mapping[str, Array]],
    before: Mapping[str, Array],
    budget_bytes: int,
) -> None:
    """Serve with constants for weights, where there is room for that and it answers the same."""
    weights_bytes = graph.weights_bytes
    much = FROZEN_COPIES * weights_bytes > budget_bytes * _FROZEN_SHARE
    if graph.model is None or not before or much or weights_bytes > _MOST_FROZEN_BYTES:
        return
    thaw = graph.freeze(framework)
    answers = again()
    if all(alike(before[name], array, _FROZEN_TOLERANCE) for name, array in answers.items()):
        graph.forget_variables()
    else:
        log.warning("a model answers otherwise with constants: it is served with variables")
        thaw()


def _unsupported(what: str, code: str, error: Exception) -> ModelBroken:
    told = f"{type(error).__name__}: {error}".strip().splitlines()[0][:500]
    return ModelBroken(f"the model does not run with {what}: {told}", code=code)


def _compare(
    native: Mapping[str, Array], turned: Mapping[str, Array], code: str, what: str
) -> None:
    for name, array in turned.items():
        if not alike(native[name], array, precision.TOLERANCE):
            raise ModelBroken(f"with {what}, output {name!r} is another", code=code)


def _agreed(pushed: tuple[InputSpec, ...], loaded: tuple[InputSpec, ...]) -> tuple[InputSpec, ...]:
    """The loaded inputs under the names callers use, if they are what was pushed."""
    if not pushed:
        return loaded
    if len(pushed) == 1 and len(loaded) == 1:
        loaded = (replace(loaded[0], name=pushed[0].name),)
    if {spec.name: spec for spec in pushed} != {spec.name: spec for spec in loaded}:
        raise ModelBroken(
            f"the archive declares the inputs {_told(pushed)}, but the model takes {_told(loaded)}",
            code="signature_mismatch",
        )
    return loaded


def _told(specs: Sequence[InputSpec]) -> str:
    return ", ".join(f"{s.name} {s.dtype}{list(s.shape)}" for s in specs)


def _with_scores(signature: Signature, graph: Graph, outputs: Mapping[str, Array]) -> Signature:
    """Check the labels against the output, and find out what its numbers are."""
    if not signature.labels:
        return signature
    spec = label_output_of(signature)
    if not spec.dtype.startswith("float"):
        raise ModelBroken(
            f"labels need scores, but output {spec.name!r} holds {spec.dtype}",
            code="labels_mismatch",
        )
    if signature.scores is not ScoreKind.AUTO:
        return replace(signature, label_output=spec.name)
    activation = graph.activations.get(spec.name)
    if activation in _PROBABLE:
        probable = True
    elif activation == "linear":
        probable = False
    else:
        values = outputs.get(spec.name, np.zeros(1))
        probable = bool(((values >= 0) & (values <= 1)).all())
    kind = ScoreKind.PROBABILITIES if probable else ScoreKind.LOGITS
    return replace(signature, scores=kind, label_output=spec.name)
