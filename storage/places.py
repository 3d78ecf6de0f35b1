"""The three URLs that say where storage is: which are understood, and how they are shown.

Messages never repeat a URL: it may hold a password.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

SCHEMES = {
    "database_url": ("postgresql", "postgresql+psycopg", "postgres", "sqlite"),
    "broker_url": ("amqp", "amqps", "memory"),
    "objects_url": ("s3", "file"),
}
EXAMPLES = {
    "database_url": "postgresql://user:password@host/forebay or sqlite:////folder/forebay.db",
    "broker_url": "amqp://user:password@host:5672/vhost",
    "objects_url": "s3://bucket/prefix or file:///folder",
}
_USER_PART = re.compile(r"(?<=://)([^:@/]*):.*@", re.DOTALL)
_SECRET_OPTION = re.compile(r"(?i)([?&][^=&]*(?:password|secret|token|key)[^=&]*=)[^&#]*")


def embedded_places(home: Path) -> dict[str, str]:
    """Where everything is when nothing is configured: in the home."""
    return {
        "database_url": f"sqlite:///{home / 'forebay.db'}",
        "broker_url": "memory://",
        "objects_url": f"file://{home / 'objects'}",
    }


def check_place(name: str, url: str) -> str | None:
    """Why ``url`` cannot be the place ``name``, or None when it can."""
    example = f"write {EXAMPLES[name]}"
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when it is not a number
    except ValueError:
        return f"is not a URL (special characters of a password must be percent-encoded): {example}"
    if parts.scheme not in SCHEMES[name]:
        scheme = parts.scheme if "://" in url else ""
        return f"has the unknown scheme {scheme[:20]!r}: {example}"
    if name == "objects_url" and parts.scheme == "s3" and "@" in parts.netloc:
        return (
            "holds a user name or a password; keys belong into AWS_ACCESS_KEY_ID and"
            f" AWS_SECRET_ACCESS_KEY: {example}"
        )
    if parts.scheme in ("sqlite", "file"):
        if parts.netloc or parts.path in ("", "/"):
            return f"names no file or folder: {example}"
    elif parts.scheme != "memory" and not (parts.netloc or parts.query):
        # PostgreSQL's socket folder travels as ?host=/folder.
        return f"names no host: {example}"
    return None


def without_password(url: str) -> str:
    """The URL for people to read. What might be a password is hidden, rather more than less."""
    return _SECRET_OPTION.sub(r"\1***", _USER_PART.sub(r"\1:***@", url))
