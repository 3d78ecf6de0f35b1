"""The page of figures: valid, bounded, zero where nothing is, and without names for strangers."""

from __future__ import annotations

import json
import re
from itertools import count
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from producers.api.metric_names import FAMILIES, Kind
from producers.api.metrics import Metrics
from producers.api.scraping import rendered
from producers.api.system_metrics import OTHER, KeeperView, Named, PoolView, View, workers_of
from producers.estimates import Sample
from storage.records.counts import STAGES
from storage.records.latency import QueuedLoad
from storage.records.sessions import Session
from storage.records.webhooks import DeliveryLoad
from workers.inference.meters import Meters

ROOT = Path(__file__).parents[3]
NOW = 1_800_000_000_000
SECRETS = ("acme", "umbrella", "digits", "reviews", "host-7", "node-7")


class Hands:
    def __init__(self) -> None:
        self.at_s = 0.0

    def monotonic_s(self) -> float:
        return self.at_s

    def now_ms(self) -> int:
        return NOW


def busy_document(versions=("v1", "v2"), tenants=("acme", "umbrella")):
    """What a worker that did a bit of everything tells."""
    clock = Hands()
    meters = Meters(clock)
    for version_id, tenant in zip(versions, tenants, strict=True):
        meters.batch(version_id, 5, 8, False, 0.5)
        meters.batch(version_id, 8, 8, True, 0.25)
        meters.waited(version_id, 0.01, 0.3)
        for stage in STAGES:
            meters.stage(version_id, stage, 5, 0.125)
        meters.settled(version_id, tenant, "succeeded", 12)
        meters.settled(version_id, tenant, "failed", 1)
        meters.expired(version_id, tenant, 2)
        meters.bisected(version_id)
        meters.out_of_memory(version_id)
        meters.loaded(version_id, 1.5, 1024)
    meters.unloaded(versions[0])
    meters.busy(2.0)
    clock.at_s += 4.0
    return json.loads(json.dumps(meters.snapshot()))


numbers = count(1)


def session(stats=None, *, pool="default", at=1, node="node-7") -> Session:
    id_ = f"0192f0c4-0000-7000-8000-{next(numbers):012d}"
    return Session(id_, node, "host-7", "cpu", pool, at, at + 9, 20.0, None, stats or {})


def sample(sessions=(), loads=()) -> Sample:
    return Sample(NOW, 0.0, 0.0, sessions, loads, {"v1": 0.5, "v2": 0.25}, 0.1, {}, frozenset())


LOADS = (
    QueuedLoad("acme", "digits", 3, "v1", 40, NOW - 9_000),
    QueuedLoad("umbrella", "reviews", 1, "v2", 4, NOW - 90_000),
    QueuedLoad("umbrella", "reviews", 1, "v2", 100, NOW - 5_000, priority=1),
)
NAMES = {"v1": Named("acme", "digits:3"), "v2": Named("umbrella", "reviews:1")}


def a_view() -> View:
    sessions = [session(busy_document()), session(busy_document(), node="node-8")]
    pools = [PoolView("default", sample(sessions, LOADS), 17, 2)]
    keeping = KeeperView({"sweep": 1.0}, DeliveryLoad(1, 2, NOW), NOW)
    return View(pools, workers_of(sessions), NAMES, keeping)


def page(view: View, *, named: bool):
    """The page, read by the reference parser: name → [(labels, value)]."""
    text = rendered(view, named=named).decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            found.setdefault(one.name, []).append((one.labels, one.value))
    return found


def total(rows, **labels) -> float:
    return sum(value for has, value in rows if labels.items() <= has.items())


@pytest.mark.parametrize("named", [True, False])
def test_the_page_is_valid_and_says_what_the_workers_counted(named):
    view = a_view()
    text = rendered(view, named=named).decode()
    seen = [(f.name, f.type) for f in text_string_to_metric_families(text)]
    assert seen == [(name, family.kind.value) for name, family in FAMILIES.items()]
    found = page(view, named=named)
    assert total(found["forebay_batch_rows_sum"], **{"class": "online"}) == 20
    assert total(found["forebay_batch_rows_bucket"], le="4.0") == 0
    assert total(found["forebay_batch_rows_bucket"], le="8.0") == 8
    assert total(found["forebay_batch_rows_bucket"], le="+Inf") == 8
    assert total(found["forebay_batch_slots_total"]) == 64
    assert total(found["forebay_queue_age_seconds_count"], **{"class": "online"}) == 8
    assert total(found["forebay_stage_seconds_sum"], stage="store") == pytest.approx(0.5)
    assert total(found["forebay_stage_seconds_count"], stage="store") == 4
    assert total(found["forebay_stage_jobs_total"], stage="store") == 20
    assert total(found["forebay_jobs_settled_total"], state="succeeded") == 48
    assert total(found["forebay_jobs_expired_total"]) == 8
    assert total(found["forebay_bisections_total"]) == 4
    assert total(found["forebay_out_of_memory_total"]) == 4
    assert total(found["forebay_model_loads_total"]) == 4
    assert total(found["forebay_model_evictions_total"]) == 2
    assert total(found["forebay_models_loaded"]) == 2
    assert total(found["forebay_model_memory_bytes"]) == 2048
    assert [value for _, value in found["forebay_device_busy_ratio"]] == [0.5, 0.5]
    assert total(found["forebay_device_busy_seconds_total"]) == 4
    assert total(found["forebay_worker_sessions"], pool="default") == 2
    assert total(found["forebay_window_jobs"]) == 17


@pytest.mark.parametrize("named", [True, False])
def test_the_backlog_is_told_in_jobs_and_in_seconds_of_those_alive(named):
    found = page(a_view(), named=named)
    assert total(found["forebay_backlog_jobs"], **{"class": "online"}) == 44
    assert total(found["forebay_backlog_jobs"], **{"class": "bulk"}) == 100
    assert total(found["forebay_backlog_seconds"]) == pytest.approx((20 + 1 + 25) / 2)
    oldest = max(value for _, value in found["forebay_backlog_oldest_seconds"])
    assert oldest == pytest.approx(90)


@pytest.mark.parametrize("named", [True, False])
def test_who_is_behind_in_the_background_is_told_by_duty(named):
    keeping = KeeperView({"sweep": 0.0, "retention": 61.5}, DeliveryLoad(3, 7, NOW - 2_500), NOW)
    found = page(View([], [], {}, keeping), named=named)
    assert {row["duty"]: value for row, value in found["forebay_duty_lag_seconds"]} == {
        "sweep": 0,
        "retention": 61.5,
    }
    assert total(found["forebay_webhooks_due"]) == 3
    assert total(found["forebay_webhooks_pending"]) == 7
    assert total(found["forebay_webhook_oldest_due_seconds"]) == 2.5


def test_without_webhooks_their_figures_are_zeros_and_not_gaps():
    found = page(View([], []), named=False)
    for name in ("webhooks_due", "webhooks_pending", "webhook_oldest_due_seconds"):
        assert [value for _, value in found[f"forebay_{name}"]] == [0]


@pytest.mark.parametrize("named", [True, False])
def test_an_empty_backlog_is_a_zero_and_not_a_gap(named):
    found = page(View([PoolView("default", sample(), 0, 0)], []), named=named)
    for name in ("jobs", "seconds", "oldest_seconds"):
        rows = found[f"forebay_backlog_{name}"]
        assert [value for _, value in rows] == [0, 0]
        assert {labels["class"] for labels, _ in rows} == {"online", "bulk"}


def test_names_of_tenants_models_and_hosts_are_only_on_the_named_page():
    shown = rendered(a_view(), named=True).decode()
    assert all(secret in shown for secret in SECRETS)
    open_page = rendered(a_view(), named=False).decode()
    assert not any(secret in open_page for secret in SECRETS)
    for family in text_string_to_metric_families(open_page):
        for one in family.samples:
            assert not {"tenant", "model", "node", "host"} & set(one.labels)


def test_a_tenants_jobs_are_counted_by_name():
    found = page(a_view(), named=True)
    settled = found["forebay_tenant_jobs_settled_total"]
    assert total(settled, tenant="acme", state="succeeded") == 24
    assert "forebay_tenant_jobs_settled_total" not in page(a_view(), named=False)


def test_a_process_that_opened_a_new_session_is_counted_once():
    document = busy_document()
    old, new = session(document, at=1), session(document, at=2)
    view = View([], workers_of([new, old]), NAMES)
    rows = page(view, named=True)["forebay_device_busy_seconds_total"]
    assert [labels["worker"] for labels, _ in rows] == [new.id.replace("-", "")[-12:]]


def test_documents_that_make_no_sense_do_not_break_the_page():
    strange = [
        {"versions": {"v1": {"classes": "?"}}, "busy_s": "x"},
        {"v": 99},
        {"versions": {'"} evil 1\n': busy_document()["versions"]["v1"]}},
    ]
    sessions = [session(one, node=f"node-{n}") for n, one in enumerate(strange)]
    names = {'"} evil 1\n': Named('te"n\\ant\n', 'na"me:1')}
    found = page(View([], workers_of(sessions), names), named=True)
    assert total(found["forebay_jobs_settled_total"], tenant='te"n\\ant\n') == 13
    assert len(found["forebay_worker_info"]) == 3


def test_the_number_of_series_is_bounded():
    sessions = []
    for number in range(60):
        versions = [f"v{number}-{place}" for place in range(20)]
        tenants = [f"t{number}-{place}" for place in range(20)]
        sessions.append(session(busy_document(versions, tenants), node=f"node-{number}"))
    loads = [QueuedLoad(f"t{n}", f"m{n}", 1, f"v{n}", 1, NOW) for n in range(2_000)]
    names = {
        version_id: Named(f"t-{version_id}", f"m-{version_id}")
        for one in sessions
        for version_id in one.stats["versions"]
    }
    view = View([PoolView("default", sample(sessions, loads), 0, 60)], workers_of(sessions), names)
    found = page(view, named=True)
    assert sum(len(rows) for rows in found.values()) < 60_000
    assert len(found["forebay_backlog_jobs"]) < 300
    assert total(found["forebay_backlog_jobs"]) == 2_000
    assert total(found["forebay_jobs_settled_total"], state="succeeded") == 60 * 20 * 12
    assert total(found["forebay_jobs_settled_total"], model=OTHER) > 0
    tenants_seen = {labels["tenant"] for labels, _ in found["forebay_tenant_jobs_settled_total"]}
    assert len(tenants_seen) <= 257


def documented() -> dict[str, str]:
    """Figures of the README's table: name → labels."""
    text = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `(forebay_[a-z_]+)` \| ([^|]*) \| ([^|]*) \|", text, re.M)
    return {name: labels.replace("`", "").strip() for name, labels, _ in rows}


def shown() -> dict[str, str]:
    """Figures that the page has, as it names them: name → labels."""
    found = {
        name + ("_total" if family.kind is Kind.COUNTER else ""): family.labels
        for name, family in FAMILIES.items()
    }
    for family in text_string_to_metric_families(Metrics().page().decode()):
        if not family.name.endswith("_created"):
            name = family.name + ("_total" if family.type == "counter" else "")
            found[name] = OWN_LABELS.get(family.name, "")
    return found


OWN_LABELS = {
    "forebay_http_requests": "method, route, status",
    "forebay_http_request_seconds": "method, route",
}


def test_every_figure_is_in_the_readme_and_no_other():
    assert documented() == shown()


def test_a_figures_labels_are_those_that_the_list_says():
    text = rendered(a_view(), named=True).decode()
    for family in text_string_to_metric_families(text):
        labels = {label for one in family.samples for label in one.labels} - {"le"}
        said = FAMILIES[family.name].labels
        assert labels == set(said.split(", ") if said else ()), family.name
