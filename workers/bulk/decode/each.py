"""Rows that are decoded one by one, each in its own place: pictures, whole inputs as JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import numpy as np

from storage.records.errors import InvalidInput, ItemError
from storage.records.signatures import InputSpec, Shape
from workers.bulk.decode.reading import Filled, empty_block, takes
from workers.bulk.decode.verdicts import Verdicts
from workers.inference.decode_crew import DecodeCrew
from workers.inference.gate import TROUBLE
from workers.inference.ports import Row
from workers.inference.refs import RefUnavailable

log = logging.getLogger(__name__)


def fill(
    inputs: dict[str, tuple[InputSpec, Shape]],
    rows: Iterable[int],
    decode: Callable[[int], Row],
    verdicts: Verdicts,
    crew: DecodeCrew | None,
) -> dict[str, Filled]:
    """``decode`` each of ``rows`` straight into its place. Trouble of a storage is raised."""
    filled: dict[str, Filled] = {}
    for name, (spec, shape) in inputs.items():
        block = empty_block(verdicts.count, shape, spec.dtype)
        filled[name] = [None] * verdicts.count if block is None else block

    def place(row: int) -> None:
        for name, array in decode(row).items():
            into = filled[name]
            if isinstance(into, np.ndarray) and into.shape[1:] != array.shape:
                said = takes(*inputs[name])
                raise ItemError(f"the shape {list(array.shape)}, {said}", code="wrong_shape")
            # numpy would put an array without axes itself into an array of objects
            into[row] = array if array.shape or isinstance(into, list) else array[()]

    def reason(row: int) -> tuple[str, str] | None:
        try:
            place(row)
        except InvalidInput as error:
            return error.stable_code, error.message
        except ItemError as error:
            return error.stable_code, error.message
        except (RefUnavailable, MemoryError, *TROUBLE):
            raise
        except Exception as fault:
            log.error("a row could not be decoded: %s", type(fault).__name__, exc_info=True)
            return "undecodable", "the input could not be read"
        return None

    todo = [row for row in rows if not verdicts.is_wrong(row)]
    reasons = map(reason, todo) if crew is None else crew.in_order(reason, todo)
    for row, found in zip(todo, reasons, strict=True):
        if found is not None:
            verdicts.refuse(row, *found)
    return filled
