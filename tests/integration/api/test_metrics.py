"""Who sees names on ``/metrics``, that the page is true, and that scrapes cost next to nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from storage.clock import SystemClock
from storage.records.jobs import JobFilter, JobKind, NewJob
from storage.records.latency import VersionCost
from tests.support.api import new_id
from tests.support.waiting import wait_until
from workers.inference.meters import Meters

TOKEN = "token-of-the-operator"
SESSIONS = "forebay_worker_sessions"
AS_OPERATOR = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def busy(quiet_house):
    """A service with work of the tenant ``acme`` and a worker that told what it did for it."""
    house = quiet_house
    version = house.push("portraits", tenant="acme")
    house.start(metrics_token=TOKEN)
    with house.client(house.key_for("acme")) as client:
        for _ in range(3):
            house.submit(client, model="portraits")
    session_id = house.session()
    meters = Meters(SystemClock())
    meters.batch(version.id, 6, 8, False, 0.1)
    meters.settled(version.id, "acme", "succeeded", 6)
    meters.loaded(version.id, 1.0, 4096)
    with house.database.begin() as tx:
        tx.sessions.renew(session_id, 60_000, 12.5, meters.snapshot())
        tx.latency.save_costs([VersionCost(version.id, "cpu", 0.5, 2.0, 1.0, 4096)])
    yield house
    house.stop()


def samples(house, headers=None):
    answer = house.http.get("/metrics", headers=headers)
    assert answer.status_code == 200
    return [one for f in text_string_to_metric_families(answer.text) for one in f.samples]


def value(found, name, **labels) -> float:
    values = [
        one.value for one in found if one.name == name and labels.items() <= one.labels.items()
    ]
    assert values, f"no {name} with {labels}"
    return sum(values)


def names_in(house, headers=None) -> bool:
    text = house.http.get("/metrics", headers=headers).text
    known = [secret in text for secret in ("acme", "portraits", 'host="here"')]
    assert len(set(known)) == 1, "some names are shown and some are not"
    return known[0]


def test_trainings_that_wait_are_a_pool_of_their_own_with_its_workers(busy):
    def shown():
        return {one.labels["pool"]: one.value for one in samples(busy) if one.name == SESSIONS}

    wait_until(lambda: shown() == {"default": 1}, what="the pool that every job is for")
    job = NewJob(new_id(), JobKind.TRAINING, "m", new_id(), 1, "train.default", b"{}")
    with busy.database.begin() as tx:
        tx.jobs.submit("acme", [job], published=True)
    both = {"default": 1, "train.default": 1}
    wait_until(lambda: shown() == both, what="the pool of its trainings")
    assert value(samples(busy), "forebay_window_jobs", pool="train.default") == 1


def test_the_page_tells_what_waits_and_what_workers_counted(busy):
    acme = {"tenant": "acme", "model": "portraits:1"}

    def complete():
        found = samples(busy)
        return found if value(found, "forebay_backlog_jobs", pool="default") == 3 else None

    found = wait_until(complete, what="a fresh sample of the backlog")
    assert value(found, "forebay_backlog_jobs", **acme) == 3
    assert value(found, "forebay_backlog_seconds", pool="default") == 6
    assert value(found, "forebay_batch_rows_sum", **acme) == 6
    assert value(found, "forebay_batch_slots_total", **acme) == 8
    assert value(found, "forebay_tenant_jobs_settled_total", tenant="acme") == 6
    assert value(found, "forebay_model_memory_bytes", **acme) == 4096
    assert value(found, "forebay_worker_jobs_per_second") == 12.5
    assert value(found, "forebay_worker_info", node="w@" + _session_prefix(busy), host="here") == 1


def test_the_page_tells_what_keepers_are_behind_with(busy):
    clock, at_ms = SystemClock(), SystemClock().now_ms() - 3_600_000
    with busy.database.begin() as tx:
        tx.duties.note("sweep", 6_000, clear=True)
        tx.duties.note("retention", 60_000, clear=False)
        endpoint = new_id()
        tx.webhooks.add("acme", endpoint, "https://example.com/", ["*"])
        (job, *_) = tx.jobs.list("acme", JobFilter(), limit=9, after=None)
        tx.jobs.request_cancel("acme", job.id)
    with busy.database._engines.writing.begin() as connection:
        connection.exec_driver_sql(f"UPDATE duties SET clear_at = {at_ms} WHERE name = 'retention'")
        connection.exec_driver_sql(f"UPDATE deliveries SET due_at = {at_ms}")

    def told():
        found = samples(busy)
        return found if any(one.labels.get("duty") == "sweep" for one in found) else None

    found = wait_until(told, what="a look at the notes")
    passed_s = (clock.now_ms() - at_ms) / 1000
    assert value(found, "forebay_duty_lag_seconds", duty="sweep") == 0
    assert 3_540 <= value(found, "forebay_duty_lag_seconds", duty="retention") <= passed_s
    assert value(found, "forebay_webhooks_pending") == 1
    assert value(found, "forebay_webhooks_due") == 1
    assert 3_600 <= value(found, "forebay_webhook_oldest_due_seconds") <= passed_s


def _session_prefix(house) -> str:
    with house.database.read() as tx:
        return tx.sessions.live()[0].id[:8]


def test_on_loopback_names_are_shown(busy):
    assert names_in(busy)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
        {"Via": "1.1 proxy"},
        {"X-Real-IP": "127.0.0.1"},
        {"Host": "metrics.example.org"},
    ],
)
def test_a_forwarded_scrape_is_not_loopback(busy, headers):
    assert not names_in(busy, headers)
    assert names_in(busy, headers | AS_OPERATOR)


def test_a_service_that_listens_beyond_loopback_names_nobody_without_the_token(busy):
    busy.service.keyless = False
    assert not names_in(busy)
    assert names_in(busy, AS_OPERATOR)


@pytest.mark.parametrize(
    "word",
    [
        "Bearer wrong",
        "Bearer",
        "Bearer " + TOKEN[:-1],
        "Bearer " + TOKEN.upper(),
        f"Basic {TOKEN}",
        TOKEN,
        "",
    ],
)
def test_another_word_than_the_token_opens_nothing(busy, word):
    busy.service.keyless = False
    assert not names_in(busy, {"Authorization": word})


def test_a_tenants_key_opens_nothing(busy):
    busy.service.keyless = False
    assert not names_in(busy, {"Authorization": f"Bearer {busy.key_for('acme')}"})


def test_an_empty_token_is_no_token(quiet_house):
    quiet_house.push()
    quiet_house.start()
    try:
        quiet_house.service.keyless = False
        with quiet_house.client(quiet_house.key_for("default")) as client:
            quiet_house.submit(client)
        for word in ("Bearer", "Bearer x", ""):
            page = quiet_house.http.get("/metrics", headers={"Authorization": word}).text
            assert "vectors" not in page
    finally:
        quiet_house.stop()


def test_the_token_is_in_no_representation_of_the_settings(busy):
    assert TOKEN not in repr(busy.service.settings) + repr(busy.service.parts)


def test_a_storm_of_scrapes_is_a_look_a_second(busy, monkeypatch):
    scraper, looks = busy.service.scraper, []
    look = scraper._look

    def counted():
        looks.append(1)
        return look()

    monkeypatch.setattr(scraper, "_look", counted)
    monkeypatch.setattr("producers.api.scraping.KEEP_S", 600.0)
    with ThreadPoolExecutor(8) as crowd:
        pages = list(crowd.map(lambda _: len(samples(busy)), range(24)))
    assert len(looks) <= 2 and min(pages) > 100
