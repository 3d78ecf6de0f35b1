"""Every setting has a name, a default and a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.records.errors import InvalidInput
from workers.settings import WorkerSettings, describe


def test_each_setting_is_documented() -> None:
    for name, _, sentence in describe():
        assert name.startswith("FOREBAY_")
        assert sentence.endswith(".") and len(sentence) > 20


def test_the_environment_sets_each_kind() -> None:
    settings = WorkerSettings.from_environment(
        {
            "FOREBAY_WORKER_MAX_BATCH": "64",
            "FOREBAY_WORKER_LEASE_TTL_S": "2.5",
            "FOREBAY_WORKER_CACHE_DIR": "/var/cache/x",
            "FOREBAY_WORKER_LEDGER": "/run/x",
            "FOREBAY_WORKER_DEVICE": "gpu:0",
            "FOREBAY_REF_PREFIXES": "s3://a/b/, file:///c/",
        }
    )
    assert (settings.max_batch, settings.lease_ttl_s) == (64, 2.5)
    assert settings.cache_dir == Path("/var/cache/x")
    assert settings.ledger == Path("/run/x")
    assert settings.ref_prefixes == ("s3://a/b/", "file:///c/")
    assert settings.prefetch == WorkerSettings().prefetch
    assert settings.node_name(7).startswith("default-gpu0-7@")


def test_a_wrong_number_is_named() -> None:
    with pytest.raises(InvalidInput) as refused:
        WorkerSettings.from_environment({"FOREBAY_WORKER_MAX_BATCH": "many"})
    assert refused.value.field == "FOREBAY_WORKER_MAX_BATCH"
