"""A bulk job beside everything else: who waits online is answered soon, tenants never meet in it, a
worker that joins helps at once, and its end is told.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.acceptance.conftest import Tenants, slow_files
from tests.support.bulk_desk import Desk, Shelves
from tests.support.bulk_files import json_lines, lines, parquet, vectors
from tests.support.caller import Caller, only_output, tensor
from tests.support.process import ChildProcess
from tests.support.receiver import receiving
from tests.support.stack import FullStack, command
from tests.support.waiting import wait_until

FILES, ROWS = 24, 64
ONLINE = 12
SOON_S = 5.0  # on a machine that does much else


def test_online_jobs_are_answered_soon_and_the_end_is_told_once(desk: Desk, caller: Caller) -> None:
    caller.ask("slow_echo", tensor(0, 0))
    with receiving() as receiver:
        job = desk.submit(
            "slow_echo",
            slow_files(desk, FILES, ROWS),
            {"to": "out"},
            webhook=receiver.url("/ok/bulk"),
        )
        desk.until_some_rows(job)
        waits = []
        for number in range(ONLINE):
            model = ("echo", "slow_echo")[number % 2]
            began = time.monotonic()
            assert only_output(caller.ask(model, tensor(number, -number))) == [number, -number]
            waits.append(time.monotonic() - began)
            if caller.job(job)["state"] != "running":
                break
        assert len(waits) >= 4, "the bulk job was over too soon to tell"
        assert sorted(waits)[len(waits) // 2] < SOON_S, waits
        outcome = desk.outcome(job)
        assert len(outcome.rows) == FILES * ROWS
        wait_until(lambda: receiver.requests, 90, what="the webhook")
        (request,) = receiver.requests
        event = json.loads(request["body"])
        assert event["type"] == "job.succeeded" and event["data"]["id"] == job
        assert caller.http.get(event["data"]["links"]["result"]).json() == outcome.result


def test_tenants_share_neither_inputs_nor_parts(tenants: Tenants, bulk_shelves: Shelves) -> None:
    a, b = tenants.a, tenants.b
    mine = []
    for file in range(2):
        data = parquet({"question": vectors(range(50 * file, 50 * file + 50))})
        stored = a.http.post("/v1/files", files={"file": (f"{file}.parquet", data)})
        mine.append(stored.json()["uri"])
    desks = {name: Desk(caller, bulk_shelves, name) for name, caller in (("a", a), ("b", b))}
    job = desks["a"].submit("echo", {"uri": mine}, {})
    numbers = sorted(one[0] for one in desks["a"].outcome(job).predictions().values())
    assert numbers == list(range(100))

    # As an input it is nobody else's: neither by itself, nor in a list, nor in a request.
    body = {"kind": "bulk", "model": "echo", "input": {"uri": mine[0]}}
    answer = b.http.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "file_not_found")
    foreign = {"ref": mine[0]}
    data, starts = lines(json_lines([{"input": foreign}, {"input": {"tensor": [1, 2]}}]))
    theirs = b.http.post("/v1/files", files={"file": ("requests.jsonl", data)}).json()
    other = desks["b"].submit(
        "echo", {"uri": theirs["uri"], "format": "requests"}, {}, on_error={"max_share": 1}
    )
    outcome = desks["b"].outcome(other)
    assert outcome.codes() == {"0:0": "ref_not_found"}
    assert outcome.predictions() == {f"0:{starts[1]}": [1, 2]}

    # Nor are its parts, by any way to them.
    _, part = desks["a"].parts(job)
    (own,) = desks["b"].parts(other)
    for way in (part["href"], f"/v1/jobs/{job}/parts", f"/v1/jobs/{job}/manifest"):
        assert b.http.get(way).status_code == 404
    assert own["name"] != part["name"]
    crossed = b.http.get(own["href"].replace(own["name"], part["name"]))
    assert (crossed.status_code, crossed.json()["code"]) == (404, "part_not_found")
    up = b.http.get(f"/v1/jobs/{other}/parts/..%2F..%2F{job}%2F{part['name']}")
    assert up.status_code == 404
    for verb in ("pause", "resume", "cancel", "retry"):
        assert b.http.post(f"/v1/jobs/{job}/{verb}").status_code == 404
    assert [one["id"] for one in b.http.get("/v1/jobs?kind=bulk").json()["data"]] == [other]


@pytest.mark.parametrize("stack", ["full"], indirect=True)
def test_a_worker_that_joins_helps_at_once(stack: FullStack, desk: Desk, caller: Caller) -> None:
    """The job is planned and begun without it."""
    job = desk.submit("slow_echo", slow_files(desk, 2 * FILES, ROWS), {"to": "out"})
    desk.until_some_rows(job)
    caller.http.post(f"/v1/jobs/{job}/pause").raise_for_status()
    with _another_worker(stack):
        caller.http.post(f"/v1/jobs/{job}/resume").raise_for_status()
        took: dict[tuple[int, int], str] = {}  # who runs a shard, by number and epoch

        def over() -> bool:
            with psycopg.connect(stack.services.database_url) as connection:
                rows = connection.execute(
                    "SELECT number, epoch, session_id FROM bulk_shards"
                    " WHERE job_id = %s AND state = 'running'",
                    [job],
                ).fetchall()
            took.update({(number, epoch): session for number, epoch, session in rows})
            return caller.job(job)["progress"]["state"] == "ended"

        wait_until(over, 120, what="the end", every_s=0.02)
        outcome = desk.outcome(job)
        assert len(outcome.rows) == 2 * FILES * ROWS
        with psycopg.connect(stack.services.database_url) as connection:
            parts = connection.execute(
                "SELECT number, epoch FROM bulk_parts WHERE job_id = %s", [job]
            ).fetchall()
        by = {took[shard] for shard in parts if shard in took}
        assert len(by) == 2, f"{len(by)} workers committed parts: {took}"


@contextmanager
def _another_worker(stack: FullStack) -> Iterator[None]:
    """Until it is ready, and to its end."""

    def live() -> int:
        with psycopg.connect(stack.services.database_url) as connection:
            found = connection.execute("SELECT count(*) FROM sessions WHERE ended_at IS NULL")
            return int(found.fetchall()[0][0])

    before = live()
    worker = ChildProcess(
        command("worker", "--devices", "cpu"),
        log=stack.folder / "worker2.log",
        env={**stack.environment, "FOREBAY_WORKER_CACHE_DIR": str(stack.folder / "cache2")},
    )
    try:
        wait_until(lambda: live() > before, 120, what="a second worker", every_s=0.2)
        yield
    finally:
        worker.stop(deadline_s=45)
