"""Where the parts of bulk jobs lie: in the service's own store, or below a listed prefix.

A run's plan says it: its ``base`` is a key in a store, which is our own unless the plan's ``extra``
names another under ``output``, a prefix of ``FOREBAY_OUTPUT_PREFIXES``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from storage.objects import Objects, open_objects
from storage.objects.opening import folder_of
from storage.records.bulk import OUTPUT, Plan
from storage.records.errors import Unprocessable
from storage.records.refs import read_prefix


class Outputs:
    """The stores that parts are read from, each opened once. Safe to share between threads."""

    def __init__(self, own: Objects, prefixes: Sequence[str]) -> None:
        self._own = own
        self._listed = frozenset(read_prefix(prefix) for prefix in prefixes)
        self._opened: dict[str, Objects] = {}
        self._lock = threading.Lock()

    def of(self, plan: Plan) -> Objects:
        """The store of a run's output; refused if the operator does not list it any more. Blocks:
        it may have to be opened."""
        named = plan.extra.get(OUTPUT)
        if named is None:
            return self._own
        prefix = read_prefix(str(named))
        if prefix not in self._listed:
            raise _not_allowed(
                f"the output lies below {prefix}, which the operator does not list any more"
            )
        if prefix.startswith("file://"):
            root = folder_of(prefix).resolve()
            if not (root / plan.base).resolve().is_relative_to(root):
                raise _not_allowed(f"the output is a link that leads out of {prefix}")
        with self._lock:
            if prefix not in self._opened:
                self._opened[prefix] = open_objects(prefix.rstrip("/"))
            return self._opened[prefix]

    def close(self) -> None:
        """Let go of connections; our own store's are others' to close."""
        with self._lock:
            for store in self._opened.values():
                store.close()
            self._opened.clear()


def _not_allowed(why: str) -> Unprocessable:
    return Unprocessable(why, code="output_not_allowed")


def key_below(plan: Plan, name: str) -> str:
    """The key of what is called so in a run's output."""
    return f"{plan.base}/{name}" if plan.base else name
