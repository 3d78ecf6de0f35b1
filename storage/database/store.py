"""What every store is made of."""

from __future__ import annotations

from storage.database.work import Work


class Store:
    """The verbs of one noun, inside one transaction."""

    def __init__(self, work: Work) -> None:
        self._work = work
