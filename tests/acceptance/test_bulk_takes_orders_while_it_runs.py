"""Pause, resume and cancel take hold within moments; what is done stays done, can be read at once,
and is never done again.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from tests.acceptance.conftest import slow_files
from tests.support.bulk_desk import Desk
from tests.support.bulk_files import json_lines, lines
from tests.support.caller import Caller, only_output, tensor
from tests.support.waiting import wait_until

FILES, ROWS = 24, 64
LONG_S = 8.0  # of work in one shard
REST_S = 1.5
SOON_S = 15.0  # on a machine that does much else; moments on an idle one


def test_a_pause_holds_what_is_done_until_the_job_goes_on(desk: Desk, caller: Caller) -> None:
    input = slow_files(desk, FILES, ROWS)
    job = desk.submit("slow_echo", input, {"to": "out", "keep": ["id"]})
    with Told(caller, job) as told:
        desk.until_some_rows(job)
        paused = _order(caller, job, "pause")
        assert paused["progress"]["state"] == "paused"
        held = _at_rest(desk, job)
        assert 0 < sum(part["rows"] for part in held) < FILES * ROWS
        # Beside it others are served, and it stays as it is.
        assert only_output(caller.ask("echo", tensor(1, 2))) == [1, 2]
        _read_meanwhile(desk, job)
        assert _whole(desk, job) == held
        progress = desk.progress(job)
        assert progress["state"] == "paused" and progress["estimated_end_at"] is None
        assert progress["rows_done"] == sum(part["rows"] for part in held)

        assert _order(caller, job, "resume")["progress"]["state"] == "running"
        outcome = desk.outcome(job)
    assert outcome.predictions() == {
        f"{file}:{row}": [file * ROWS + row, -file * ROWS - row]
        for file in range(FILES)
        for row in range(ROWS)
    }
    assert {row["id"] for row in outcome.rows.values()} == set(range(FILES * ROWS))
    done = {(one["name"], one["sha256"]) for one in outcome.manifest["parts"]}
    assert {(part["name"], part["sha256"]) for part in held} <= done
    told.is_a_story_of(FILES * ROWS)
    again = caller.http.post(f"/v1/jobs/{job}/pause")
    assert (again.status_code, again.json()["code"]) == (409, "not_pausable")


def test_orders_reach_into_a_shard_and_a_retry_of_what_was_cancelled_does_the_rest(
    desk: Desk, caller: Caller
) -> None:
    """A gzip file is one shard, however large."""
    long = _rows_for(caller, LONG_S)
    given = json_lines([{"question": [n, -n]} for n in range(long)])
    data, starts = lines(given)
    uri = desk.input.write("one.jsonl.gz", gzip.compress(data))
    job = desk.submit("slow_echo", {"uri": uri}, {"to": "out"})
    wait_until(lambda: desk.progress(job)["rows_done"] >= long // 4, 60, what="some rows")
    _order(caller, job, "pause")
    held = _at_rest(desk, job)
    assert sum(part["rows"] for part in held) < long, "it was not held, or over too soon to tell"
    assert desk.progress(job)["shards"]["total"] == 1
    _order(caller, job, "resume")
    wait_until(lambda: desk.progress(job)["shards"]["running"] == 1, 60, what="its shard runs")
    began = time.monotonic()
    caller.http.post(f"/v1/jobs/{job}/cancel").raise_for_status()
    assert desk.finish(job, "cancelled")["progress"]["state"] == "ended"
    assert time.monotonic() - began < SOON_S
    kept = _whole(desk, job)
    assert kept[: len(held)] == held and sum(part["rows"] for part in kept) < long
    manifest = desk.manifest(job)
    assert not manifest["complete"] and manifest["state"] == "cancelled"
    # What was being written may come a moment later, and goes with the retry.
    assert {part["name"] for part in kept} <= set(desk.output.at("out").names())

    answer = caller.http.post(f"/v1/jobs/{job}/retry")
    assert answer.status_code == 202, answer.text
    outcome = desk.outcome(answer.json()["id"])
    assert outcome.predictions() == {f"0:{start}": [n, -n] for n, start in enumerate(starts)}
    parts = {one["name"]: one for one in outcome.manifest["parts"]}
    assert all(parts[one["name"]]["sha256"] == one["sha256"] for one in kept)
    assert outcome.manifest["input"]["resume_of"] == job
    twice = caller.http.post(f"/v1/jobs/{job}/retry")
    assert (twice.status_code, twice.json()["code"]) == (409, "not_retryable")


def _rows_for(caller: Caller, seconds: float) -> int:
    """How many rows keep ``slow_echo`` busy for so long here and now."""
    items = [{"tensor": [n, -n]} for n in range(256)]
    caller.ask("slow_echo", {"items": items})
    began = time.monotonic()
    caller.ask("slow_echo", {"items": items})
    each_s = (time.monotonic() - began) / len(items)
    return max(1_000, min(50_000, round(seconds / each_s)))


def _order(caller: Caller, job: str, verb: str) -> dict[str, Any]:
    answer = caller.http.post(f"/v1/jobs/{job}/{verb}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def _at_rest(desk: Desk, job: str) -> list[dict[str, Any]]:
    """The parts of a paused job, when for far longer than one takes there came no other."""
    seen, since = desk.parts(job), time.monotonic()
    began = since

    def rests() -> bool:
        nonlocal seen, since
        now = desk.parts(job)
        if now != seen:
            seen, since = now, time.monotonic()
        idle = desk.progress(job)["shards"]["running"] == 0
        return idle and time.monotonic() - since > REST_S

    wait_until(rests, SOON_S + REST_S, what="nothing comes of it any more", every_s=0.1)
    assert since - began < SOON_S
    return _whole(desk, job)


def _whole(desk: Desk, job: str) -> list[dict[str, Any]]:
    """The parts of a job of which nothing runs."""
    parts = desk.parts(job)
    assert all(part["failed"] == 0 and part["name"] for part in parts)
    return parts


def _read_meanwhile(desk: Desk, job: str) -> None:
    """Parts and manifest can be read before the job is over, and say that there is more."""
    manifest = desk.manifest(job)
    assert manifest["complete"] is False
    rows = list(desk.listed_rows(job))
    assert len({row["row_id"] for row in rows}) == len(rows)
    assert len(rows) == sum(part["rows"] for part in manifest["parts"])
    for row in rows:
        file, _, place = row["row_id"].partition(":")
        number = int(file) * ROWS + int(place)
        assert row["prediction"] == [number, -number]


class Told:
    """What a job's event stream says, from now to its end."""

    def __init__(self, caller: Caller, job: str) -> None:
        self._caller, self._job = caller, job
        self.documents: list[dict[str, Any]] = []

    def __enter__(self) -> Told:
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive(), "the stream does not end with its job"

    def _listen(self) -> None:
        self.documents += self._stream()

    def _stream(self) -> Iterator[dict[str, Any]]:
        with self._caller.http.stream(
            "GET", f"/v1/jobs/{self._job}/events", timeout=120
        ) as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    def is_a_story_of(self, rows: int) -> None:
        """It gets forward, never back, and ends well."""
        seen = [one["progress"] for one in self.documents]
        done = [one["rows_done"] for one in seen]
        assert len(set(done)) > 2 and done == sorted(done) and done[-1] == rows
        shares = [one["share"] for one in seen]
        assert shares == sorted(shares) and shares[-1] == 1
        states = list(dict.fromkeys(one["state"] for one in seen))
        assert {"running", "paused", "ended"} <= set(states) and states[-1] == "ended"
        assert any(one["rows_per_s"] > 0 and one["estimated_end_at"] for one in seen)
        assert seen[-1]["device_s"] > 0
        assert self.documents[-1]["state"] == "succeeded"
