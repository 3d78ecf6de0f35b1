"""``forebay top``: true rates whenever it looks, for scripts as for people, and its exit codes."""

from __future__ import annotations

import io
import json
import math

import httpx
import pytest

from producers.cli import top as top_verb
from producers.cli.exposition import parse_page
from producers.cli.rates import Rates, quantile
from producers.cli.screen import screen
from producers.cli.top_tables import TABLES, drawn, rows_of

BOUNDS = (0.01, 0.1, 1.0)


def worker(id_, uptime_s, *, rows=0.0, passes=0, slots=0.0, done=0, ages=(0, 0, 0, 0), model="m:1"):
    """What a page says of one worker that serves one model of ``acme``."""
    who = f'worker="{id_}",pool="default"'
    what = f'{who},model="{model}",tenant="acme"'
    online = f'{what},class="online"'
    seen, lines = 0, []
    for bound, count in zip(("0.01", "0.1", "1.0", "+Inf"), ages, strict=True):
        seen += count
        lines.append(f'forebay_queue_age_seconds_bucket{{{online},le="{bound}"}} {seen}')
    return [
        f'forebay_worker_info{{{who},device="cpu",node="node-{id_}",host="h"}} 1.0',
        f"forebay_worker_uptime_seconds{{{who}}} {uptime_s}",
        f"forebay_worker_jobs_per_second{{{who}}} 7.5",
        f"forebay_device_busy_ratio{{{who}}} 0.5",
        f"forebay_models_loaded{{{who}}} 1",
        f"forebay_model_memory_bytes{{{what}}} 2097152",
        f"forebay_batch_rows_sum{{{online}}} {rows}",
        f"forebay_batch_rows_count{{{online}}} {passes}",
        f"forebay_batch_slots_total{{{online}}} {slots}",
        f'forebay_jobs_settled_total{{{what},state="succeeded"}} {done}',
        f'forebay_jobs_settled_total{{{what},state="queued"}} {done * 9}',
        f'forebay_tenant_jobs_settled_total{{{who},tenant="acme",state="succeeded"}} {done}',
        f'forebay_stage_seconds_sum{{{what},stage="store"}} {passes * 0.25}',
        f'forebay_stage_seconds_count{{{what},stage="store"}} {passes}',
        f'forebay_stage_jobs_total{{{what},stage="store"}} {rows}',
        *lines,
    ]


def backlog(jobs=0, seconds=0.0, oldest_s=0.0):
    what = 'pool="default",class="online",model="m:1",tenant="acme"'
    return [
        f"forebay_backlog_jobs{{{what}}} {jobs}",
        f"forebay_backlog_seconds{{{what}}} {seconds}",
        f"forebay_backlog_oldest_seconds{{{what}}} {oldest_s}",
        'forebay_backlog_jobs{pool="default",class="bulk",model="",tenant=""} 0',
    ]


def text(*parts):
    return "\n".join(line for part in parts for line in part) + "\n"


FIRST = text(worker("a", 100.0, rows=1000, passes=10, slots=1280, done=1000), backlog(400, 2.0))
SECOND = text(
    worker("a", 105.0, rows=1500, passes=20, slots=2560, done=1500, ages=(0, 40, 60, 0)),
    backlog(300, 1.5, oldest_s=4.0),
)


def test_rates_are_over_the_workers_own_time_however_often_one_looks():
    rates = Rates()
    for page in (FIRST, FIRST, FIRST, SECOND, SECOND):
        rates.feed(parse_page(page))
    found = screen(parse_page(SECOND), rates)
    (row,) = found["workers"]
    assert row["worker"] == "node-a" and row["busy"] == 0.5
    assert row["jobs_per_s"] == pytest.approx(100)
    assert row["batch_mean"] == pytest.approx(50)
    assert row["fill"] == pytest.approx(500 / 1280)
    assert found["jobs_per_s"] == pytest.approx(100)  # a job that is tried again is not done
    (model,) = found["models"]
    assert (model["model"], model["tenant"], model["queued"]) == ("m:1", "acme", 300)
    assert model["backlog_s"] == found["backlog_s"] == 1.5
    assert model["rows_per_s"] == pytest.approx(100)
    assert model["age_p50_s"] == pytest.approx(0.1 + 0.9 * 10 / 60)
    (tenant,) = found["tenants"]
    assert tenant == {
        "tenant": "acme",
        "queued": 300,
        "oldest_s": 4.0,
        "jobs_per_s": pytest.approx(100),
    }
    store = next(one for one in found["stages"] if one["stage"] == "store")
    assert (store["mean_s"], store["per_job_s"]) == (0.25, pytest.approx(0.005))
    online, bulk = found["classes"]
    assert (online["queued"], bulk["queued"], bulk["batch_mean"]) == (300, 0, None)


def test_before_the_second_telling_nothing_is_claimed():
    rates = Rates()
    rates.feed(parse_page(FIRST))
    found = screen(parse_page(FIRST), rates)
    assert found["measured"] is False and found["jobs_per_s"] is None
    assert found["workers"][0]["jobs_per_s"] == 7.5  # what the worker says itself
    assert found["models"][0]["queued"] == 400


def test_a_worker_that_started_anew_or_left_spoils_no_rate():
    rates = Rates()
    for page in (FIRST, SECOND):
        rates.feed(parse_page(page))
    restarted = worker("b", 2.0, rows=20, passes=1, slots=32, done=20)
    rates.feed(parse_page(text(restarted, backlog())))
    assert rates.per_s("forebay_batch_rows_sum") is None
    rates.feed(parse_page(text(worker("b", 4.0, rows=60, passes=3, slots=96, done=60))))
    assert rates.per_s("forebay_batch_rows_sum") == pytest.approx(20)


def test_workers_are_added_up_each_by_its_own_clock():
    rates = Rates()
    rates.feed(parse_page(text(worker("a", 10, rows=100), worker("b", 50, rows=0))))
    rates.feed(parse_page(text(worker("a", 15, rows=600), worker("b", 60, rows=500))))
    assert rates.per_s("forebay_batch_rows_sum") == pytest.approx(150)
    assert rates.per_s("forebay_batch_rows_sum", worker="b") == pytest.approx(50)


def test_quantiles():
    assert quantile(0.5, BOUNDS, [0, 0, 0]) is None and quantile(0.5, [], []) is None
    assert quantile(0.5, BOUNDS, [10, 10, 10]) == pytest.approx(0.005)
    assert quantile(0.95, (*BOUNDS, math.inf), [0, 0, 0, 7]) == 1.0
    assert quantile(1.0, BOUNDS, [5, 10, 10]) == pytest.approx(0.1)


@pytest.fixture
def no_waiting(monkeypatch):
    """Time passes at once."""
    now_s = [0.0]

    def sleep(seconds):
        now_s[0] += seconds

    monkeypatch.setattr(top_verb.time, "sleep", sleep)
    monkeypatch.setattr(top_verb.time, "monotonic", lambda: now_s[0])
    return now_s


def test_one_look_waits_until_each_worker_has_told_something_new(forebay, service, no_waiting):
    service.pages = [FIRST, FIRST, FIRST, SECOND]
    code, out, _ = forebay("top", "--once")
    assert code == 0 and service.scrapes == 4
    assert out.startswith("300 queued, 1.50 s of work, oldest 4.00 s · 1 worker · 100 jobs/s")
    assert "store 250 ms (5.00 ms a job)" in out
    row = next(line for line in out.splitlines() if line.startswith("node-a"))
    assert row.split() == ["node-a", "cpu", "50", "%", "100", "50", "39", "%", "1", "2.0", "MiB"]


def test_one_look_does_not_wait_for_ever_and_not_at_all_without_workers(
    forebay, service, no_waiting
):
    service.pages = [FIRST]
    assert forebay("top", "--once")[0] == 0 and service.scrapes < 20
    service.pages, service.scrapes = [text(backlog(5, 1.0))], 0
    code, out, _ = forebay("top", "--once")
    assert code == 0 and service.scrapes == 1 and "0 workers" in out


def test_json_is_one_document_for_scripts(forebay, service, no_waiting):
    service.pages = [FIRST, SECOND]
    found = json.loads(forebay("top", "--once", "--json")[1])
    assert found["backlog_s"] == 1.5 and found["workers"][0]["device"] == "cpu"
    assert found["measured"] is True


def test_it_looks_on_until_interrupted_and_that_is_no_failure(forebay, service, monkeypatch):
    service.pages, naps = [FIRST, SECOND], []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(top_verb.time, "sleep", sleep)
    code, out, _ = forebay("top", "--json", "--interval-s", "0.5")
    documents = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and naps == [0.5] * 3
    assert [one["measured"] for one in documents] == [False, True, True]


def test_names_that_are_hidden_are_said_to_be(forebay, service):
    service.pages = ['forebay_worker_info{worker="a",pool="default",device="cpu"} 1\n']
    code, _, err = forebay("top", "--once")
    assert code == 0 and "FOREBAY_METRICS_TOKEN" in err


def test_the_token_of_the_environment_is_shown_to_metrics_alone(forebay, service, monkeypatch):
    monkeypatch.setenv("FOREBAY_METRICS_TOKEN", "operator")
    monkeypatch.setenv("FOREBAY_API_KEY", "tenant-key")
    forebay("top", "--once")
    forebay("models", "list")
    shown = [request.headers.get("authorization") for request in service.requests]
    assert shown == ["Bearer operator", "Bearer tenant-key"]


def test_a_service_that_is_not_there_is_exit_four(forebay, service, no_waiting, monkeypatch):
    monkeypatch.setattr("producers.cli.connection.FIRST_PATIENCE_S", 0.0)
    service.faults = [httpx.ConnectError("refused")] * 50
    code, _, err = forebay("top", "--once")
    assert code == 4 and "is it running" in err


def test_something_else_that_answers_is_told_apart(forebay, service):
    service.pages = ["<html>hello</html>"]
    code, _, err = forebay("top", "--once")
    assert code == 2 and "does not answer with figures" in err and "Traceback" not in err


def keeper_figures(lag_s, due, oldest_s):
    return [
        f'forebay_duty_lag_seconds{{duty="sweep"}} {lag_s}',
        'forebay_duty_lag_seconds{duty="expiry"} 0.0',
        f"forebay_webhooks_due {due}",
        f"forebay_webhook_oldest_due_seconds {oldest_s}",
    ]


def test_a_keeper_that_is_behind_has_a_line(forebay, service, no_waiting):
    service.pages = [text(backlog(), keeper_figures(95.0, 1200, 300.0))]
    code, out, _ = forebay("top", "--once")
    assert code == 0
    assert "keeper: sweep lags 95.0 s  1,200 webhooks due, oldest 5 min" in out
    found = json.loads(forebay("top", "--once", "--json")[1])
    assert found["lagging"] == {"sweep": 95.0} and found["webhooks_due"] == 1200


def test_a_keeper_that_keeps_up_has_none(forebay, service, no_waiting):
    service.pages = [text(backlog(), keeper_figures(29.0, 8, 0.5))]
    assert "keeper" not in forebay("top", "--once")[1]


def test_every_cell_of_every_table_can_be_drawn():
    from rich.console import Console

    empty = screen({}, Rates())
    rates = Rates()
    for page in (FIRST, SECOND):
        rates.feed(parse_page(page))
    full = screen(parse_page(SECOND), rates)
    console = Console(width=160, record=True, file=io.StringIO())
    for found in (empty, full):
        console.print(drawn(found))
    drawing = console.export_text()
    assert "node-a" in drawing and "acme" in drawing and "online" in drawing
    assert all(len(rows_of(full, name)) >= 1 for name in TABLES)
