"""Bulk runs: one store whose verbs are the transitions of ``storage.records.bulk``.

============  ==========================================================
``runs``      create, plan, adopt; pause, resume, fail; what a run is told and tells
``shards``    claim, note, commit, release: what a session does
``deaths``    blame, reap: what becomes of shards whose session died
``sums``      count, parts, unfinished
============  ==========================================================

Lock order: the session's row, then live jobs by id, then shards, then parts, then runs. A run that
is being planned has no shards yet, so that its row may be held while they are written.
"""

from __future__ import annotations

from storage.database.bulk.deaths import Dying
from storage.database.bulk.runs import Planning
from storage.database.bulk.shards import Scoring
from storage.database.bulk.sums import Counting


class Bulk(Dying, Planning, Scoring, Counting):
    """The store of bulk runs of one transaction."""
