"""What is said when a spec asks for something that Keras has not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from storage.records.errors import InvalidInput

NETWORK, OPTIMIZER, LOSS = "spec.network", "spec.optimizer", "spec.loss"
SCHEDULE, METRICS = "spec.schedule", "spec.metrics"
_CAUSE = "Exception encountered:"


def bad_network(message: str, field: str = NETWORK) -> InvalidInput:
    """No network can be made of this."""
    return InvalidInput(message, code="bad_network", field=field)


def shape_mismatch(message: str, field: str = NETWORK) -> InvalidInput:
    """The network takes or gives another shape than the data has; the message says both."""
    return InvalidInput(message, code="shape_mismatch", field=field)


def bad_loss(message: str) -> InvalidInput:
    """There is no such loss, or it does not fit the labels."""
    return InvalidInput(message, code="bad_loss", field=LOSS)


def bad_optimizer(message: str) -> InvalidInput:
    """There is no such optimiser, or its arguments are none."""
    return InvalidInput(message, code="bad_optimizer", field=OPTIMIZER)


def bad_metric(message: str) -> InvalidInput:
    """There is no such metric, or it does not fit the labels."""
    return InvalidInput(message, code="bad_metric", field=METRICS)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """``there is no X 'name'``, with the nearest known one and all of them."""
    listed = sorted(known)
    near = difflib.get_close_matches(name, listed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"there is no {what} {name[:80]!r}{hint} Known are: {', '.join(listed)}"


def first_line(error: Exception) -> str:
    """Keras's complaint, as far as it fits a message."""
    text = str(error)
    _, cause, inner = text.partition(_CAUSE)  # behind the whole configuration
    lines = [line.strip() for line in (inner if cause else text).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:500]


def told(shape: Any) -> str:
    """A shape without its batch axis, as a caller writes it."""
    return str(list(shape))
