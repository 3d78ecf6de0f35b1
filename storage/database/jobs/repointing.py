"""Queued jobs go from one version to another that can stand in for it.

The one exception to ``jobs`` being written once: what a job records is the version that answers
it. Only jobs that are queued at that moment move, in one statement; one that is being claimed
either moves before, or runs with the version it had. A message that is under way already names the
old version: whoever gets it finds a job of another one, and gives it back.
"""

from __future__ import annotations

from collections.abc import Mapping

from storage.database.statements import SQLITE, Statement
from storage.database.store import Store
from storage.records.models import ModelVersion

MOST = 50_000  # jobs that move in one statement: a few seconds of it

# Scalar subquery: an EXISTS may be made a join, planned while tables were small.
_INFERENCE = "(SELECT n.kind FROM jobs AS n WHERE n.id = j.id) = 'inference'"
_OF_VERSION = f"""
    SELECT j.id FROM live AS j
    WHERE j.tenant = :tenant AND j.state = 'queued' AND j.run_deadline_at IS NULL
        AND j.version_id = :old AND j.shadow_of IS NULL AND {_INFERENCE}
    ORDER BY j.id LIMIT :limit {{lock}}
"""
_OF_ARM = """
    SELECT j.id FROM live AS j
    WHERE j.arm_id = :arm AND j.state || '' = 'queued' AND j.version_id = :old
    ORDER BY j.id LIMIT :limit {lock}
"""
_MOVED = """
    UPDATE live SET version_id = :new, published_at = NULL, seq = seq + 1, arm_id = NULL
    WHERE id {ids}
"""
_TOLD = "UPDATE jobs SET version_id = :new, version = :number WHERE id {ids}"


def _at_once(found: str) -> str:
    of_held = "= ANY (ARRAY(SELECT held.id FROM held))"
    return f"""
    WITH held AS MATERIALIZED ({found}), moved AS ({_MOVED.format(ids=of_held)}
        RETURNING live.id), told AS ({_TOLD.format(ids=of_held)})
    SELECT moved.id FROM moved
    """


REPOINT = Statement(
    "Queued inference jobs of a version go to another (PostgreSQL).",
    _at_once(_OF_VERSION),
    only="postgresql",
)

REPOINT_ARM = Statement(
    "Queued jobs of a trial's arm go to the other version, and leave the trial (PostgreSQL).",
    _at_once(_OF_ARM),
    only="postgresql",
)

OF_VERSION = Statement("Those of a version.", _OF_VERSION, only="sqlite")
OF_ARM = Statement("Those of an arm.", _OF_ARM, only="sqlite")
MOVED_HERE = Statement(
    "They wait for the other version.", _MOVED.format(ids="{among_ids}"), only="sqlite"
)
TOLD_HERE = Statement("And record it.", _TOLD.format(ids="{among_ids}"), only="sqlite")


class Repointing(Store):
    """Jobs change their version before they are started."""

    def repoint(self, tenant: str, old_id: str, new: ModelVersion, *, limit: int = MOST) -> int:
        """Up to ``limit`` queued inference jobs of the tenant's version go to ``new``, which can
        stand in for it (``records.compatibility``); how many did. As long as that is the limit
        there may be more."""
        to = {"new": new.id, "number": new.version}
        return self._repoint(REPOINT, OF_VERSION, to, tenant=tenant, old=old_id, limit=limit)

    def repoint_arm(
        self, arm_id: str, old_id: str, new_id: str, number: int, *, limit: int = MOST
    ) -> int:
        """The same for the jobs of a trial's arm: version ``number``, whose id is ``new_id``."""
        to = {"new": new_id, "number": number}
        return self._repoint(REPOINT_ARM, OF_ARM, to, arm=arm_id, old=old_id, limit=limit)

    def _repoint(
        self, at_once: Statement, found: Statement, to: Mapping[str, object], **where: object
    ) -> int:
        work = self._work
        if work.dialect != SQLITE:
            ids = [row.id for row in work.change(at_once, **where, **to)]
        elif ids := [row.id for row in work.change(found, **where)]:
            work.count(MOVED_HERE, ids=work.ids(ids), new=to["new"])
            work.count(TOLD_HERE, ids=work.ids(ids), **to)
        work.tell(ids)
        return len(ids)
