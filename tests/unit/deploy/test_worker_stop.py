"""A supervisor kills no device process that is still within the drain that the operator allowed."""

from __future__ import annotations

import pytest

import forebay.worker
import workers.supervisor
from storage.settings import Settings

PLACES = {
    "FOREBAY_DATABASE_URL": "postgresql://forebay@localhost/forebay",
    "FOREBAY_BROKER_URL": "amqp://forebay@localhost//",
    "FOREBAY_OBJECTS_URL": "s3://forebay/prod",
}


@pytest.mark.parametrize(("drain", "grace_s"), [("", 45.0), ("600", 615.0)])
def test_the_patience_with_device_processes_follows_the_drain(monkeypatch, drain, grace_s):
    told = []
    monkeypatch.setattr(forebay.worker, "require_schema", lambda database: None)
    monkeypatch.setattr(workers.supervisor, "run_supervisor", lambda parts: told.append(parts) or 0)
    environ = {**PLACES, "FOREBAY_WORKER_DRAIN_S": drain}
    assert forebay.worker.run_workers(Settings.from_environment(environ), environ, "cpu") == 0
    assert told[0].stop_grace_s == grace_s
