"""What a fault is: a name, and how it is made to happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.scene import Scene


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    ``inject`` submits work, makes the fault happen while that is under way, says so by
    ``scene.hit``, and undoes the fault (``scene.healed``) where it does not end by itself. The
    harness submits what is left of ``jobs`` afterwards, waits and audits.
    """

    name: str
    inject: Callable[[Scene], None]
    settings: Mapping[str, str] = field(default_factory=dict)  # of every process
    heavy: bool = False  # needs TensorFlow's device process
    fresh: bool = False  # breaks its stack: it gets one of its own
    jobs: int = 200
