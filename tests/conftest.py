"""Fixtures and hooks for every test; what they do is in ``tests/support``."""

from __future__ import annotations

from tests.support.distribution import (  # noqa: F401
    pytest_collection_modifyitems,
    pytest_xdist_make_scheduler,
)
from tests.support.fixtures import (  # noqa: F401
    broker_url,
    buckets,
    databases,
    loopback_guard,
    postgres,
    postgres_database_url,
    rabbitmq,
    s3,
    s3_bucket,
    s3_env,
    s3_objects_url,
    services_folder,
    stays_on_loopback,
    vhosts,
)
