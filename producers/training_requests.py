"""What a caller writes to have a model trained, and the spec that it becomes: whole, with every
default in it.

Said here as far as it shows by itself. Whether the addresses may be read is for ``references``;
what the files hold, and what Keras says of arguments, is found by the worker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from producers.shapes import Wrong, present, show
from producers.training_names import (
    CLASS_METRICS,
    LOSS,
    METRIC,
    MOMENTUM,
    NUMBER_METRICS,
    OPTIMIZER,
    SCHEDULE,
    STRANGE_METRICS,
    named,
    nearest,
)
from producers.training_networks import read_network
from producers.training_shapes import BALANCED, LEARN, SPEC
from storage.records.bulk import Condition
from storage.records.errors import TooLarge
from storage.records.training import (
    BINARY_LOSSES,
    CHECKPOINT_EVERY_S,
    Cut,
    DataFormat,
    EarlyStopping,
    Limits,
    MissingRule,
    Named,
    Network,
    Preparation,
    Scaling,
    Split,
    Task,
    TextPreparation,
    TrainingData,
    TrainingSpec,
    Weights,
    payload_of,
)

MAX_SPEC_BYTES = 256 << 10  # it is kept in SQL with the job
DEFAULT_MAX_DEATHS = 3
_TABLES = frozenset({DataFormat.CSV, DataFormat.PARQUET, DataFormat.JSONL, DataFormat.NPZ})
_ENDINGS = {
    ".csv": DataFormat.CSV,
    ".csv.gz": DataFormat.CSV,
    ".parquet": DataFormat.PARQUET,
    ".jsonl": DataFormat.JSONL,
    ".jsonl.gz": DataFormat.JSONL,
    ".npz": DataFormat.NPZ,
}
_WILD = frozenset("*?[")


def spec_from(value: object, *, max_deaths: int = DEFAULT_MAX_DEATHS) -> TrainingSpec:
    """The spec that a caller wrote as JSON or YAML; ``InvalidInput`` with its field."""
    try:
        SPEC.check(value)
        assert isinstance(value, dict)
        return read_spec(value, max_deaths=max_deaths)
    except Wrong as wrong:
        raise wrong.error() from None


def read_spec(given: Mapping[str, Any], *, max_deaths: int = DEFAULT_MAX_DEATHS) -> TrainingSpec:
    """The spec of a checked object. ``Wrong`` where its fields contradict each other, ``TooLarge``
    if it cannot be kept with the job."""
    told = present(given)
    get = told.get
    loss = named(told["loss"], LOSS)
    network = _network(told["network"])
    optimizer, schedule = _rates(get("optimizer", "adam"), get("schedule"))
    spec = TrainingSpec(
        data=_data(told["data"]),
        network=network,
        loss=loss,
        prepare=_preparation(get("prepare"), has_text=network.recipe == "text-average"),
        split=_split(get("split")),
        optimizer=optimizer,
        schedule=schedule,
        metrics=tuple(dict.fromkeys(METRIC.of(one) for one in get("metrics", ()))),
        epochs=int(get("epochs", 10)),
        batch_size=int(get("batch_size", 32)),
        weights=_weights(get("weights")),
        early_stopping=_stopping(get("early_stopping")),
        limits=_limits(get("limits")),
        checkpoint_every_s=float(get("checkpoint_every_s", CHECKPOINT_EVERY_S)),
        deterministic=bool(get("deterministic", False)),
        seed=int(get("seed", 0)),
        halve_batch=bool(get("halve_batch", False)),
        max_deaths=max_deaths,
    )
    for check in (_check_data, _check_task, _check_labels, _check_split, _check_stopping):
        check(spec)
    _check_length(payload_of(spec), "the spec", "spec")
    return spec


def uris_of(spec: TrainingSpec, given: object) -> list[tuple[str, str]]:
    """The addresses that a training reads, each with its field below the spec. ``given`` is the
    checked ``data.uri``, one or a list."""
    one = isinstance(given, str)
    found = [
        ("data.uri" if one else f"data.uri[{index}]", uri)
        for index, uri in enumerate(spec.data.uris)
    ]
    if spec.data.labels_uri is not None:
        found.append(("data.labels_uri", spec.data.labels_uri))
    return found


def _network(value: Mapping[str, Any]) -> Network:
    """The network, what is wrong with it found below its field. Its length comes first: an
    architecture is walked through."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    _check_length(text, "the network", "spec.network")
    try:
        return read_network(value)
    except Wrong as wrong:
        raise wrong.under("network") from None


def _check_length(text: bytes, what: str, field: str) -> None:
    if len(text) > MAX_SPEC_BYTES:
        raise TooLarge(
            f"{what} comes to {len(text)} bytes, and a training's spec may have {MAX_SPEC_BYTES}:"
            " name its files by a pattern, or push the architecture as a version and train on that",
            code="input_too_long",
            field=field,
        )


def _strings(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    assert isinstance(value, str | list)
    return (value,) if isinstance(value, str) else tuple(value)


def _data(value: Mapping[str, Any]) -> TrainingData:
    told = present(value)
    form = told.get("format")
    return TrainingData(
        uris=_strings(told["uri"]),
        format=None if form is None else DataFormat(form),
        features=_strings(told.get("features")),
        label=told.get("label"),
        labels_uri=told.get("labels_uri"),
        shape=tuple(int(axis) for axis in told.get("shape", ())),
        where=tuple(Condition(*one) for one in told.get("where", ())),
        digests=told.get("digests", {}),
    )


def _preparation(value: Mapping[str, Any] | None, *, has_text: bool) -> Preparation:
    told = present(value)
    get = told.get
    missing, scale, text = get("missing", "refuse"), get("scale", "none"), get("text")
    fills, divides = isinstance(missing, dict), isinstance(scale, dict)
    if text is None and has_text:
        text = {}
    return Preparation(
        missing=MissingRule.FILL if fills else MissingRule(missing),
        fill=missing["fill"] if fills else {},
        drop_duplicates=bool(get("drop_duplicates", False)),
        replace=get("replace", {}),
        scale=Scaling.DIVIDE if divides else Scaling(scale),
        **({"divide_by": float(scale["divide"])} if divides else {}),
        categories={
            column: () if values == LEARN else tuple(values)
            for column, values in get("categories", {}).items()
        },
        text=None if text is None else _text(text),
        labels=_labels(get("labels")),
        drop_unknown_labels=get("unknown_labels") == "drop",
    )


def _text(value: Mapping[str, Any]) -> TextPreparation:
    told = present(value)
    for name in ("max_tokens", "length"):
        if name in told:
            told[name] = int(told[name])
    if "cut" in told:
        told["cut"] = Cut(told["cut"])
    return TextPreparation(**told)


def _labels(value: object) -> tuple[tuple[str, str], ...]:
    if isinstance(value, dict):
        return tuple(value.items())
    if not isinstance(value, list):
        return ()
    words = [one if isinstance(one, str) else _word(one) for one in value]
    for index, word in enumerate(words):
        if (before := words.index(word)) != index:
            says = f"{show(word)} is also entry {before}"
            raise Wrong(says, code="invalid_value").under("prepare", "labels", index)
    return tuple((word, word) for word in words)


def _word(number: float) -> str:
    """A number as the worker calls one that it finds in the data: 7 and 7.0 are both ``7``."""
    whole = isinstance(number, int) or number.is_integer()
    return str(int(number)) if whole else repr(number)


def _split(value: Mapping[str, Any] | None) -> Split:
    told = present(value)
    return Split(
        validation=float(told.get("validation", 0.1)),
        test=float(told.get("test", 0.1)),
        seed=int(told.get("seed", 0)),
        stratify=bool(told.get("stratify", True)),
    )


def _weights(value: Mapping[str, Any] | None) -> Weights:
    told = present(value)
    classes, group = told.get("classes", {}), told.get("group")
    return Weights(
        classes={} if classes == BALANCED else classes,
        balanced=classes == BALANCED,
        group=None if group is None else group["column"],
        groups={} if group is None else group["weights"],
    )


def _stopping(value: Mapping[str, Any] | None) -> EarlyStopping | None:
    if value is None:
        return None
    told = present(value)
    return EarlyStopping(
        monitor=_canonical(told.get("monitor", "val_loss")),
        patience=int(told.get("patience", 3)),
        min_delta=float(told.get("min_delta", 0.0)),
        restore_best=bool(told.get("restore_best", True)),
    )


def _limits(value: Mapping[str, Any] | None) -> Limits:
    told = present(value)
    max_s, max_steps = told.get("max_s"), told.get("max_steps")
    return Limits(
        max_s=None if max_s is None else float(max_s),
        max_steps=None if max_steps is None else int(max_steps),
    )


def _rates(optimizer: Any, schedule: Any) -> tuple[Named, Named | None]:
    """The optimiser and the schedule, at most one of which says where the learning rate begins."""
    made = named(optimizer, OPTIMIZER)
    given = optimizer if isinstance(optimizer, str) else optimizer["name"]
    if given == MOMENTUM:
        made = Named(made.name, {"momentum": 0.9, **made.arguments})
    rate = made.arguments.get("learning_rate")
    if rate is not None and type(rate) not in (int, float):
        hint = "; YAML takes 1e-3 for a text: write 0.001" if isinstance(rate, str) else ""
        says = f"must be a number, not {show(rate)}{hint}"
        raise Wrong(says, code="invalid_type").under("optimizer", "learning_rate")
    if rate is not None and rate <= 0:
        says = f"must be more than 0, not {show(rate)}"
        raise Wrong(says, code="out_of_range").under("optimizer", "learning_rate")
    if schedule is None:
        return made, None
    course = named(schedule, SCHEDULE)
    for own in ("initial_learning_rate", "values"):
        if own in course.arguments and "learning_rate" in made.arguments:
            says = f"goes with no schedule that has its own: the schedule's {own} says it already"
            raise Wrong(says).under("optimizer", "learning_rate")
    return made, course


def _check_data(spec: TrainingSpec) -> None:
    data = spec.data
    forms = {data.format or _by_ending(uri) for uri in data.uris}
    if data.label is None and forms <= _TABLES:
        says = "is missing: name the column (or array) that holds what is to be learned"
        raise Wrong(says, code="missing_field").under("data", "label")
    if data.labels_uri is not None and data.format not in (None, DataFormat.IDX):
        says = f"is for idx files; the labels of {data.format} lie in the data itself: name label"
        raise Wrong(says).under("data", "labels_uri")
    for index, name in enumerate(data.features):
        if name == data.label:
            says = f"{show(name)} is the label: it would be learned from itself"
            raise Wrong(says).under("data", "features", index)
        if data.features.index(name) != index:
            says = f"{show(name)} is also entry {data.features.index(name)}"
            raise Wrong(says).under("data", "features", index)
    read = [*data.uris, *([data.labels_uri] if data.labels_uri else ())]
    if not any(_WILD & set(uri) or uri.endswith("/") for uri in read):
        for uri in data.digests:
            if uri not in read:
                says = f"has {show(uri)}, which is no address of the data; {nearest(uri, read, 3)}"
                raise Wrong(says).under("data", "digests")


def _by_ending(uri: str) -> DataFormat | None:
    lowered = uri.lower()
    return next((form for end, form in _ENDINGS.items() if lowered.endswith(end)), None)


def _check_task(spec: TrainingSpec) -> None:
    """What is of classes does not go with a loss of numbers, nor the other way round."""
    numbers = spec.task is Task.NUMBERS
    wrong = CLASS_METRICS if numbers else NUMBER_METRICS
    kinds = ("classes", "numbers") if numbers else ("numbers", "classes")
    for index, name in enumerate(spec.metrics):
        if name in wrong:
            says = f"{name!r} measures {kinds[0]}, and the loss {spec.loss.name} is of {kinds[1]}"
            raise Wrong(says).under("metrics", index)
        for losses, names, what in STRANGE_METRICS:
            if spec.loss.name in losses and name in names:
                raise Wrong(f"{name!r} {what} {spec.loss.name}").under("metrics", index)
    if not numbers:
        return
    says = f"is of classes, and the loss {spec.loss.name} is of numbers"
    if spec.weights.balanced or spec.weights.classes:
        raise Wrong(says).under("weights", "classes")
    if spec.prepare.labels:
        raise Wrong(says).under("prepare", "labels")


def _check_labels(spec: TrainingSpec) -> None:
    labels = list(dict.fromkeys(name for _, name in spec.prepare.labels))
    if not labels:
        return
    if len(labels) < 2:
        raise Wrong("has one label, and there is nothing to tell apart").under("prepare", "labels")
    if spec.loss.name in BINARY_LOSSES and len(labels) != 2:
        says = f"has {len(labels)} labels, and the loss {spec.loss.name} takes two"
        raise Wrong(says).under("prepare", "labels")
    for name in spec.weights.classes:
        if name not in labels:
            says = f"is no label of prepare.labels; {nearest(name, labels)}"
            raise Wrong(says).under("weights", "classes", name)


def _check_split(spec: TrainingSpec) -> None:
    split = spec.split
    if split.validation + split.test >= 1:
        total = f"{split.validation + split.test:g}"
        says = f"takes {total} of the rows for validation and test, and leaves none to train on"
        raise Wrong(says, code="out_of_range").under("split")


def _check_stopping(spec: TrainingSpec) -> None:
    stopping = spec.early_stopping
    if stopping is None:
        return
    own = ["loss", *spec.metrics]
    known = [*own, *(f"val_{name}" for name in own)]
    monitor = stopping.monitor
    where = ("early_stopping", "monitor")
    if monitor not in known:
        says = f"is {show(monitor)}, which is not measured; {nearest(monitor, known)}"
        raise Wrong(says).under(*where)
    if monitor.startswith("val_") and not spec.split.validation:
        says = "looks at the validation split, and there is none: split.validation is 0"
        raise Wrong(says).under(*where)


def _canonical(monitor: str) -> str:
    """``val_acc`` as ``val_accuracy``."""
    before = "val_" if monitor.startswith("val_") else ""
    return before + METRIC.of(monitor.removeprefix("val_"))
