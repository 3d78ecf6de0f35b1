"""Long-polls and event streams: they end when the job does, and cost nobody anything meanwhile."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from producers.api import events, watcher
from producers.api.watch import Pace
from storage.records.jobs import JobError
from tests.support.waiting import wait_until


def waiting(house) -> int:
    return house.service.watcher.waiting


def test_a_long_poll_answers_when_the_job_is_over(house):
    job = house.submit()
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(house.http.get, f"/v1/jobs/{job['id']}", params={"wait": 30})
        wait_until(lambda: waiting(house) == 1, what="the long-poll")
        house.work([job["id"]])
        done = time.monotonic()
        answer = poll.result(10).json()
    assert answer["state"] == "succeeded"
    assert time.monotonic() - done < 2
    assert house.service.watcher.watching == 0


def test_a_long_poll_answers_after_its_time_with_the_job_as_it_is(house):
    job = house.submit()
    began = time.monotonic()
    answer = house.http.get(f"/v1/jobs/{job['id']}", params={"wait": 0.3}).json()
    assert answer["state"] == "queued"
    assert 0.25 <= time.monotonic() - began < 5


def test_many_callers_wait_for_one_job_with_one_look(house):
    job = house.submit()
    with ThreadPoolExecutor(20) as pool:
        polls = [
            pool.submit(house.http.get, f"/v1/jobs/{job['id']}", params={"wait": 30})
            for _ in range(20)
        ]
        wait_until(lambda: waiting(house) == 20, what="twenty long-polls")
        house.work([job["id"]])
        assert {poll.result(10).json()["state"] for poll in polls} == {"succeeded"}


def test_a_group_is_waited_for_until_its_last_job(house):
    many = house.http.post(
        "/v1/jobs/many",
        json={"jobs": [{"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}] * 3},
    ).json()
    ids = [entry["id"] for entry in many["jobs"]]
    house.work(ids[:2])
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(house.http.get, f"/v1/groups/{many['group']}", params={"wait": 30})
        wait_until(lambda: waiting(house) == 1, what="the long-poll")
        house.work(ids[2:], lambda _: JobError("bad_item", "it is bad", 1))
        group = poll.result(10).json()
    assert group["done"] and group["counts"]["succeeded"] == 2 and group["counts"]["failed"] == 1


def test_a_version_is_waited_for_until_it_is_loaded(house):
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(house.http.get, "/v1/models/vectors/versions/1", params={"wait": 30})
        wait_until(lambda: waiting(house) == 1, what="the long-poll")
        with house.database.begin() as tx:
            version = tx.models.versions("default", "vectors")[0]
            tx.models.mark_ready(version.id, dict(version.signature))
        assert poll.result(10).json()["state"] == "ready"


def test_a_caller_who_hangs_up_is_forgotten(house):
    job = house.submit()
    host, port = house.url.removeprefix("http://").split(":")
    request = f"GET /v1/jobs/{job['id']}?wait=60 HTTP/1.1\r\nHost: {host}\r\n\r\n"
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(request.encode())
        wait_until(lambda: waiting(house) == 1, what="the long-poll")
    wait_until(lambda: house.service.watcher.watching == 0, what="the long-poll's end")


def test_a_stop_wakes_everybody(quiet_house):
    house = quiet_house
    house.push()
    house.start()
    job = house.submit()
    with house.client() as one, house.client() as stream, ThreadPoolExecutor(2) as pool:
        poll = pool.submit(one.get, f"/v1/jobs/{job['id']}", params={"wait": 60})
        events = pool.submit(stream.get, f"/v1/jobs/{job['id']}/events")
        wait_until(lambda: waiting(house) == 2, what="both to wait")
        began = time.monotonic()
        house.stop()
        assert time.monotonic() - began < 8
        assert poll.result(5).json()["state"] == "queued"
        assert events.result(5).text.startswith("event: state")


def test_events_tell_every_step_until_the_end(house):
    job = house.submit()
    seen = []
    got_first = threading.Event()

    def listen():
        with (
            house.client() as client,
            client.stream("GET", f"/v1/jobs/{job['id']}/events") as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line[6:])["state"])
                    got_first.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert got_first.wait(10)
    session, claims = house.claim([job["id"]])
    wait_until(lambda: "running" in seen, what="the running event")
    house.finish(session, claims, lambda _: {"outputs": {"y": 1}})
    listener.join(10)
    assert not listener.is_alive()
    assert seen[0] == "queued" and seen[-1] == "succeeded"
    assert seen == sorted(set(seen), key=["queued", "running", "succeeded"].index)


def test_who_knows_the_last_event_hears_only_news(house):
    job = house.submit()
    house.work([job["id"]])
    whole = house.http.get(f"/v1/jobs/{job['id']}/events").text
    last = next(line[4:] for line in whole.splitlines() if line.startswith("id: "))
    headers = {"Last-Event-ID": last}
    assert (
        "event: state" not in house.http.get(f"/v1/jobs/{job['id']}/events", headers=headers).text
    )


def test_waits_are_bounded_and_checked(house):
    job = house.submit()
    for wait in ("61", "-1", "nan", "1e999", "soon", "", "true"):
        answer = house.http.get(f"/v1/jobs/{job['id']}", params={"wait": wait})
        assert answer.status_code == 400, wait
        assert answer.json()["field"] == "wait"


def test_too_many_waiting_callers_are_answered_at_once(quiet_house):
    house = quiet_house
    house.push()
    house.start(max_watches=0)
    try:
        job = house.submit()
        began = time.monotonic()
        assert house.http.get(f"/v1/jobs/{job['id']}", params={"wait": 20}).status_code == 200
        assert time.monotonic() - began < 5
    finally:
        house.stop()


@pytest.mark.slow
def test_submits_go_on_beside_five_hundred_waiting_callers(house):
    """No thread and no connection is held: with four threads of each kind nothing gets stuck."""
    jobs = house.http.post(
        "/v1/jobs/many",
        json={"jobs": [{"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}] * 500},
    ).json()["jobs"]
    host, port = house.url.removeprefix("http://").split(":")
    callers = []
    try:
        for job in jobs:
            caller = socket.create_connection((host, int(port)))
            caller.sendall(
                f"GET /v1/jobs/{job['id']}?wait=60 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            )
            callers.append(caller)
        wait_until(lambda: waiting(house) == 500, 30, what="five hundred long-polls")
        for _ in range(20):
            house.submit()
    finally:
        for caller in callers:
            caller.close()
    wait_until(lambda: house.service.watcher.watching == 0, 20, what="all to be forgotten")


embedded_only = pytest.mark.parametrize("quiet_house", ["embedded"], indirect=True)


def hearing_house(house, *, told: bool = True):
    """The service with news by hand, looking so rarely that only news can be quick."""
    news = HandNews()
    house.news = lambda: news if told else None
    house.push()
    house.start()
    wait_until(lambda: house.service.watcher._hearing or not told, what="the listening")
    return news


class HandNews:
    """News as a test gives them."""

    def __init__(self) -> None:
        self.queue: queue.Queue[list[str]] = queue.Queue()

    def wait(self, timeout_s: float) -> list[str]:
        try:
            return self.queue.get(timeout=timeout_s)
        except queue.Empty:
            return []

    def close(self) -> None:
        self.queue.put([])


@pytest.fixture
def looks_are_rare(monkeypatch):
    for name in ("ALONE", "HEARING"):
        monkeypatch.setattr(watcher, name, Pace(3600, 0.5, 3600))


@embedded_only
def test_news_end_a_long_poll_without_a_look(quiet_house, looks_are_rare):
    house = quiet_house
    news = hearing_house(house)
    try:
        job = house.submit()
        with ThreadPoolExecutor(1) as pool:
            poll = pool.submit(house.http.get, f"/v1/jobs/{job['id']}", params={"wait": 30})
            wait_until(lambda: waiting(house) == 1, what="the long-poll")
            news.queue.put([job["id"]])  # not true yet: the caller looks, and waits on
            house.work([job["id"]])
            assert not poll.done()
            news.queue.put([job["id"]])
            assert poll.result(10).json()["state"] == "succeeded"
    finally:
        house.stop()


@embedded_only
def test_a_groups_end_is_seen_by_the_news_of_its_jobs(quiet_house, looks_are_rare):
    house = quiet_house
    news = hearing_house(house)
    try:
        jobs = [{"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}] * 6
        many = house.http.post("/v1/jobs/many", json={"jobs": jobs}).json()
        ids = [entry["id"] for entry in many["jobs"]]
        with ThreadPoolExecutor(1) as pool:
            poll = pool.submit(house.http.get, f"/v1/groups/{many['group']}", params={"wait": 30})
            wait_until(lambda: waiting(house) == 1, what="the long-poll")
            for part in (ids[:2], ids[2:5], ids[5:]):
                house.work(part)
                news.queue.put(part)
            group = poll.result(10).json()
        assert group["done"] and group["counts"]["succeeded"] == 6
    finally:
        house.stop()


@embedded_only
def test_events_come_with_the_news(quiet_house, looks_are_rare):
    house = quiet_house
    news = hearing_house(house)
    try:
        job = house.submit()
        with ThreadPoolExecutor(1) as pool:
            stream = pool.submit(house.http.get, f"/v1/jobs/{job['id']}/events")
            wait_until(lambda: waiting(house) == 1, what="the stream")
            house.work([job["id"]])
            news.queue.put([job["id"]])
            text = stream.result(10).text
        states = [
            json.loads(line[6:])["state"] for line in text.splitlines() if line[:5] == "data:"
        ]
        assert states == ["queued", "succeeded"]
    finally:
        house.stop()


@embedded_only
def test_a_cancel_through_this_service_is_seen_at_once(quiet_house, looks_are_rare):
    house = quiet_house
    hearing_house(house, told=False)
    try:
        job = house.submit()
        jobs = [{"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}]
        group = house.http.post("/v1/jobs/many", json={"jobs": jobs}).json()["group"]
        with ThreadPoolExecutor(2) as pool, house.client() as other:
            poll = pool.submit(house.http.get, f"/v1/jobs/{job['id']}", params={"wait": 30})
            polled = pool.submit(other.get, f"/v1/groups/{group}", params={"wait": 30})
            wait_until(lambda: waiting(house) == 2, what="the long-polls")
            with house.client() as third:
                third.post(f"/v1/jobs/{job['id']}/cancel")
                third.post(f"/v1/groups/{group}/cancel")
            assert poll.result(10).json()["state"] == "cancelled"
            assert polled.result(10).json()["counts"]["cancelled"] == 1
    finally:
        house.stop()


def test_the_databases_own_news_are_heard(house):
    """On PostgreSQL the worker's commit itself tells; on SQLite a look finds out."""
    if house.mode == "full":
        wait_until(lambda: house.service.watcher._hearing, what="the listening")
    jobs = [house.submit() for _ in range(5)]
    with ThreadPoolExecutor(5) as pool, house.client() as client:
        polls = [
            pool.submit(client.get, f"/v1/jobs/{job['id']}", params={"wait": 30}) for job in jobs
        ]
        wait_until(lambda: waiting(house) == 5, what="the long-polls")
        house.work([job["id"] for job in jobs])
        assert {poll.result(10).json()["state"] for poll in polls} == {"succeeded"}


@embedded_only
def test_a_job_that_was_not_over_when_told_is_waited_for_on(quiet_house, looks_are_rare):
    """A retry is told too: it settled something, but the job is queued again."""
    house = quiet_house
    news = hearing_house(house)
    try:
        job = house.submit()
        with ThreadPoolExecutor(1) as pool:
            poll = pool.submit(house.http.get, f"/v1/jobs/{job['id']}", params={"wait": 0.5})
            wait_until(lambda: waiting(house) == 1, what="the long-poll")
            for _ in range(3):
                news.queue.put([job["id"]])
            assert poll.result(10).json()["state"] == "queued"
    finally:
        house.stop()


def test_a_stream_whose_caller_hangs_up_is_forgotten(house):
    job = house.submit()
    host, port = house.url.removeprefix("http://").split(":")
    request = f"GET /v1/jobs/{job['id']}/events HTTP/1.1\r\nHost: {host}\r\n\r\n"
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(request.encode())
        assert b" 200 " in caller.recv(65536)
        wait_until(lambda: waiting(house) == 1, what="the stream")
    wait_until(lambda: house.service.watcher.watching == 0, what="the stream's end")


def test_a_quiet_stream_is_kept_alive(house, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    job = house.submit()
    with house.client() as client, client.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
        for beats, line in enumerate(line for line in answer.iter_lines() if line[:1] == ":"):
            assert line == ": still here"
            if beats == 2:
                break
