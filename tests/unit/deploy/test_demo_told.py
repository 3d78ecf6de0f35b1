"""What the demo tells about its worker is what the worker counted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from forebay import demo_told
from producers.api.scraping import rendered
from producers.api.system_metrics import View, workers_of
from storage.clock import SystemClock
from storage.records.sessions import Session
from workers.inference.meters import Meters


def page(*passes: int, settled: int) -> str:
    meters = Meters(SystemClock())
    for rows in passes:
        meters.batch("v", rows, 128, False, 0.1)
        meters.stage("v", "device", rows, 0.02)
    meters.settled("v", "default", "succeeded", settled)
    session = Session("0" * 12, "n", "h", "cpu", "default", 0, 1, 1.0, None, meters.snapshot())
    return rendered(View([], workers_of([session])), named=True).decode()


def test_it_waits_until_every_job_is_told(monkeypatch):
    monkeypatch.setattr(demo_told.time, "sleep", lambda _: None)
    pages = iter([page(1, settled=1), page(1, 3, 100, 128, 5000, settled=1000)])
    latency = [{"bucket": 128, "mean_s": 0.01, "p95_s": 0.02, "device": "cpu"}]
    version = SimpleNamespace(document={"latency": latency})
    told = demo_told.ask(lambda: next(pages), lambda: version, 1000)
    assert told.passes == {"1": 1, "3-4": 1, "65-128": 2, "over 1024": 1}
    assert told.rows_per_pass == pytest.approx(5232 / 5)
    assert told.fill == pytest.approx(5232 / (5 * 128))
    assert told.stages["device"] == pytest.approx(0.02)
    lines = told.lines()
    assert "device 20.0 ms" in lines["time of a batch"]
    assert lines["learned curve"] == "128 rows 10.0 ms"


def test_a_worker_that_says_nothing_costs_no_error():
    told = demo_told.told({}, [])
    assert told.lines() == {} and told.as_json()["passes"] == {}
