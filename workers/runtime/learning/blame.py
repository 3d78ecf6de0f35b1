"""What Keras and TensorFlow raise because of the spec, said as an error of it.

As a fault it would be the death of a process, and the same again in the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from storage.records.errors import InvalidInput
from workers.runtime.framework import Framework
from workers.runtime.learning.refusals import bad_network, first_line

_BUILDING = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(AssertionError, NotImplementedError, RecursionError),
)
_NODE = re.compile(r"\[\[\{\{node ([^}]+)\}\}")
_AROUND = ("Graph execution error", "Detected at node", 'File "', "[[", "<stack traces")


@contextmanager
def laid_to(
    framework: Framework, refusal: Callable[[str], InvalidInput], says: str
) -> Iterator[None]:
    """``refusal`` of what is raised while something is built or traced of the spec's words."""
    errors = framework.tf.errors
    try:
        yield
    except InvalidInput:
        raise
    except (*_BUILDING, errors.InvalidArgumentError, errors.UnimplementedError) as error:
        raise refusal(f"{says}: {first_line(error)}") from error


@contextmanager
def fit_for_its_rows(framework: Framework) -> Iterator[None]:
    """``bad_network`` where a network that was built cannot take the rows after all, such as an
    embedding of fewer words than there are."""
    errors = framework.tf.errors
    try:
        yield
    except (errors.InvalidArgumentError, errors.UnimplementedError) as error:
        raise bad_network(f"the network fails at its rows: {step_error(str(error))}") from error


def step_error(text: str) -> str:
    """TensorFlow's complaint out of the places that it comes through, with its node."""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith(_AROUND)]
    node = _NODE.search(text)
    where = f" (at {node[1][-200:]})" if node else ""
    return (said[-1] if said else "no reason is given")[:500] + where
