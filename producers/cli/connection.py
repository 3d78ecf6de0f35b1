"""From a verb to the service: one place that makes the client and knows how patient to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from producers.client import Forebay

FIRST_PATIENCE_S = 1.5  # nobody at the terminal wants to wait for a service that is not there
PATIENCE_S = 60.0  # but one that answered before may be restarting


@contextmanager
def connect() -> Iterator[Forebay]:
    """A client for the service that the environment names."""
    from producers.client import Forebay

    with Forebay(patience_s=FIRST_PATIENCE_S) as client:
        yield client


def be_patient(client: Forebay) -> None:
    """From here on the service may go away for a while: the work is safe."""
    client.patience_s = PATIENCE_S
