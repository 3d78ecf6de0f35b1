"""The promises that are broken on purpose, and the tests that keep them."""

from __future__ import annotations

from tests.mutations.mutant import Edit, Mutant

RUNNING = "storage/database/jobs/running.py"
LEAVING = "storage/database/jobs/leaving.py"

MUTANTS = (
    Mutant(
        "the commit does not check the epoch",
        (
            Edit(LEAVING, " AND l.epoch = said.epoch)", ")"),
            Edit(RUNNING, " and one.epoch == outcome.epoch", ""),
        ),
        ("tests/contracts/test_database_runs.py", "-k", "stale_owner"),
    ),
    Mutant(
        "a message is acknowledged before its jobs are committed",
        (
            Edit(
                "workers/inference/finish.py",
                "        try:\n            settled = self._commit(stored)\n",
                "        closing.settle()\n"
                "        try:\n            settled = self._commit(stored)\n",
            ),
        ),
        ("tests/integration/test_worker_pipeline.py", "-k", "computed_batch_waits"),
    ),
    Mutant(
        "the commit ignores that somebody asked the job to stop",
        (
            Edit(
                LEAVING,
                "CASE WHEN l.cancel_requested_at IS NULL THEN said.state ELSE 'cancelled' END"
                " AS next",
                "said.state AS next",
            ),
        ),
        ("tests/contracts/test_database_runs.py", "-k", "asked_to_stop"),
    ),
    Mutant(
        "no row of a pack is written before its object is put",
        (
            Edit(
                "workers/inference/pack_stock.py",
                "            for pack in packs:\n                tx.packs.open(pack)\n",
                "",
            ),
        ),
        ("tests/unit/workers/test_pack_stock.py", "-k", "every_row_is_there"),
    ),
    Mutant(
        "a death is blamed on what was claimed, not on what was on the device",
        (
            Edit(
                RUNNING,
                '_POISON = JobError("poison"',
                'CLAIMED = Statement("All of a session.", "SELECT id FROM live WHERE session_id ='
                " :session AND state = 'running'\")\n"
                '_POISON = JobError("poison"',
            ),
            Edit(
                RUNNING,
                "            for one in self._hold(ids)\n",
                "            for one in self._hold(\n"
                "                [row.id for row in self._work.rows(CLAIMED, session=session_id)]\n"
                "            )\n",
            ),
        ),
        ("tests/contracts/test_database_runs.py", "-k", "suspected or alone_on_the_device"),
    ),
    Mutant(
        "the ledger names what is claimed, not only what is on the device",
        (
            Edit(
                "workers/inference/ready.py",
                "            self._window.add(candidates, self._clock.monotonic_s())\n",
                "            self._window.add(candidates, self._clock.monotonic_s())\n"
                "            self.claimed = getattr(self, 'claimed', [])\n"
                "            self.claimed += [one.job_id for one in candidates]\n",
            ),
            Edit(
                "workers/inference/device.py",
                "ids = [work.job.id for work in inside if work.session_id == session_id]",
                "ids = self._ready.claimed",
            ),
        ),
        ("tests/integration/test_worker_deaths.py", "-k", "culprit_is_quarantined"),
    ),
    Mutant(
        "a commit does not wait for the pack that is put beside it",
        (
            Edit(
                "workers/inference/finish.py",
                "                    if putting is not None:\n"
                "                        putting.require()\n",
                "",
            ),
        ),
        ("tests/integration/test_put_beside_commit.py", "-k", "the_statement_runs"),
    ),
)
