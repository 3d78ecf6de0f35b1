"""Where the service is and who we are: the one place of the SDK that reads the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """FOREBAY_API_URL: address of the service. FOREBAY_API_KEY: the tenant's key, if it has one.
    FOREBAY_METRICS_TOKEN: an operator's, for figures by name."""

    url: str = DEFAULT_URL
    key: str | None = field(default=None, repr=False)
    metrics_token: str | None = field(default=None, repr=False)


def client_settings(environ: Mapping[str, str] | None = None) -> ClientSettings:
    """Read the environment; what is empty is unset."""
    env = os.environ if environ is None else environ
    return ClientSettings(
        url=env.get("FOREBAY_API_URL", "").strip() or DEFAULT_URL,
        key=env.get("FOREBAY_API_KEY", "").strip() or None,
        metrics_token=env.get("FOREBAY_METRICS_TOKEN", "").strip() or None,
    )
