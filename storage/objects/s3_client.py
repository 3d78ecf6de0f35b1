"""Makes boto3's S3 client: its time limits, its retries, and what of it is turned off."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from storage.records.errors import ObjectsMisconfigured

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10
LARGE_READ_TIMEOUT_S = 60  # a server may take a while to settle a body of gigabytes
TRIES = 3
CONNECTIONS = 32


def make_client(*, large: bool) -> tuple[Any, Any]:
    """A client for small objects, or one for ``large`` ones; and the session it came from."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
    from botocore.handlers import add_expect_header

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=LARGE_READ_TIMEOUT_S if large else READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent="forebay",
        parameter_validation=False,  # this package writes every parameter itself
    )
    try:
        # A session of its own: boto3's default one is shared with everybody and not thread-safe.
        session = boto3.Session()
        client = session.client("s3", config=config)
        if _wants_paths(session, client.meta.endpoint_url):
            client.close()
            client = session.client(
                "s3", config=config.merge(Config(s3={"addressing_style": "path"}))
            )
    except (BotoCoreError, ValueError) as error:
        raise ObjectsMisconfigured(
            f"the settings of boto3 (AWS_*) make no S3 client: {error}"
        ) from error
    if "@" in urlsplit(client.meta.endpoint_url).netloc:
        client.close()
        raise ObjectsMisconfigured(
            "AWS_ENDPOINT_URL_S3 holds a user name or a password; put them into"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if not large:
        client.meta.events.unregister("before-call.s3", add_expect_header)
    return client, session


def _wants_paths(session: Any, endpoint_url: str) -> bool:
    """Whether buckets go into the path: at other servers than Amazon's a bucket seldom has a
    host name of its own. A profile that sets ``addressing_style`` has the last word."""
    host = urlsplit(endpoint_url).hostname or ""
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return False
    profile = session._session.get_scoped_config().get("s3") or {}
    return not (isinstance(profile, dict) and profile.get("addressing_style"))
