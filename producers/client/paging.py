"""Lists, page after page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from producers.client.transport import Transport


def pages(
    transport: Transport, path: str, params: Mapping[str, Any], *, limit: int | None = None
) -> Iterator[Mapping[str, Any]]:
    """Every entry of a list, page after page, at most ``limit``."""
    left, after = limit, None
    while left is None or left > 0:
        asked = dict(params) | ({"after": after} if after else {})
        if left is not None:
            asked["limit"] = min(left, 100)
        page = transport.json("GET", path, params=asked)
        rows = page["data"]
        yield from rows if left is None else rows[:left]
        left = None if left is None else left - len(rows)
        if not page.get("has_more") or not rows:
            return
        after = page["next"]
