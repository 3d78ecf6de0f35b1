"""How a job leaves ``running``: one UPDATE for every reason.

A statement that takes jobs out of ``running`` says in a CTE ``decided`` what becomes of each (its
``next`` state and its counters); the rest is the same for a commit, a reap, a time-out and a
blame, and is written here once.

``decided`` carries ``cancel_requested_at`` as the locked row has it: PostgreSQL checks a new row
first as made from the statement's snapshot, which does not show a cancel that was committed while
the statement waited for its locks. Without it "cancelled, though nobody asked" would be refused.
"""

from __future__ import annotations

LEAVE_RUNNING = """
UPDATE jobs SET
    state = d.next,
    seq = jobs.seq + 1,
    attempts = d.attempts,
    losses = d.losses,
    suspicions = d.suspicions,
    cancel_requested_at = d.cancel_requested_at,
    session_id = CASE d.next WHEN 'queued' THEN NULL ELSE jobs.session_id END,
    started_at = CASE d.next WHEN 'queued' THEN NULL ELSE jobs.started_at END,
    run_deadline_at = CASE d.next WHEN 'queued' THEN NULL ELSE jobs.run_deadline_at END,
    published_at = CASE d.next WHEN 'queued' THEN NULL ELSE jobs.published_at END,
    not_before = CASE d.next WHEN 'queued' THEN d.not_before ELSE jobs.not_before END,
    finished_at = CASE d.next WHEN 'queued' THEN NULL ELSE CAST(:now AS bigint) END,
    error_code = CASE d.next WHEN 'failed' THEN d.error_code END,
    error_message = CASE d.next WHEN 'failed' THEN d.error_message END,
    error_attempt = CASE d.next WHEN 'failed' THEN d.attempts END,
    result_pack_id = CASE d.next WHEN 'succeeded' THEN d.pack_id END,
    result_offset_bytes = CASE d.next WHEN 'succeeded' THEN d.offset_bytes END,
    result_length_bytes = CASE d.next WHEN 'succeeded' THEN d.length_bytes END,
    result_digest = CASE d.next WHEN 'succeeded' THEN d.digest END
FROM decided AS d
WHERE jobs.id = d.id
RETURNING jobs.id, jobs.state
"""

# For reasons that never end in a result.
NO_RESULT = """
    CAST(NULL AS {uuid}) AS pack_id, CAST(NULL AS bigint) AS offset_bytes,
    CAST(NULL AS bigint) AS length_bytes, CAST(NULL AS text) AS digest
"""
