"""Jobs: one store whose verbs are the transitions of ``storage.records.jobs``.

There is no ``set_status``. Every verb here moves rows along one arrow of the diagram, makes sure
in the same transaction that the arrow starts where the row is, and raises ``seq``.

==============  ==========================================================
``submit``      submit, and reading back what was submitted
``reading``     get, list (its pages: ``paging``), payload, the watcher's glimpse
``running``     claim, commit, release, blame: what a session does
``ending``      cancel, for one job and for a group
``repointing``  queued jobs go to another version
``duties``      expire, time out, sweep, reap: what a keeper does
``leaving``     what those share that take a job out of its state
==============  ==========================================================
"""

from __future__ import annotations

from storage.database.jobs.duties import Duties
from storage.database.jobs.ending import Stopping
from storage.database.jobs.reading import Reading
from storage.database.jobs.repointing import Repointing
from storage.database.jobs.running import Running
from storage.database.jobs.submit import Submitting


class Jobs(Submitting, Reading, Running, Stopping, Repointing, Duties):
    """The job store of one transaction."""
