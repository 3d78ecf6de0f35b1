"""Training runs: one store whose verbs are the transitions of ``storage.records.training_runs``.

============  ==========================================================
``runs``      create; pause, resume; begin, describe; what it is told and how it goes wrong
``measuring`` note; measures, log: what a run says while it goes on
``keeping``   keep a checkpoint; finish with a version
============  ==========================================================

Whoever runs the job writes, and names ``(job, session, epoch)`` each time: nothing is written for
somebody whose job it is not. Lock order: live job, then the run, then packs, then versions.
"""

from __future__ import annotations

from storage.database.training.keeping import Keeping
from storage.database.training.measuring import Measuring
from storage.database.training.runs import Going


class Training(Keeping, Measuring, Going):
    """The store of training runs of one transaction."""
