"""The webhooks of the service of a few lines: endpoints in a dict, attempts as a test puts them."""

from __future__ import annotations

import json
from typing import Any

import httpx

TENANTS_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class FakeWebhooks:
    def __init__(self) -> None:
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.attempts: list[dict[str, Any]] = []  # newest first, of whichever endpoint
        self.replays: list[dict[str, Any]] = []  # answers, one after another
        self.asked: list[tuple[str, Any]] = []  # path and body of what changed something

    def route(self, path: list[str], request: httpx.Request) -> httpx.Response | None:
        body = json.loads(request.content) if request.content else None
        if request.method != "GET":
            self.asked.append(("/".join(path), body))
        match (request.method, path):
            case ("POST", []):
                return self._add(body)
            case ("GET", []):
                url = request.url.params.get("url")
                rows = [one for one in self.endpoints.values() if url in (None, one["url"])]
                return _json(200, {"data": rows[::-1], "has_more": False, "next": None})
            case ("GET", ["secret"]):
                return _json(200, _secret(TENANTS_SECRET, None))
            case ("POST", ["secret", "rotate"]):
                return _json(200, _secret("whsec_new", "2026-05-02T00:00:00.000Z"))
            case (method, [id_, *rest]) if id_ in self.endpoints:
                return self._of_one(method, id_, rest, body, request)
        return None

    def _of_one(
        self, method: str, id_: str, rest: list[str], body: Any, request: httpx.Request
    ) -> httpx.Response | None:
        match (method, rest):
            case ("GET", []):
                return _json(200, self.endpoints[id_])
            case ("PATCH", []):
                self.endpoints[id_].update(body)
                off = not self.endpoints[id_]["enabled"]
                self.endpoints[id_]["disabled_reason"] = "by_hand" if off else None
                return _json(200, self.endpoints[id_])
            case ("DELETE", []):
                del self.endpoints[id_]
                return httpx.Response(204)
            case ("POST", ["test"]):
                return _json(202, {"event": "evt_test"})
            case ("POST", ["replay"]):
                usual = {"deliveries": 1, "until": None, "next_since": None}
                return _json(202, self.replays.pop(0) if self.replays else usual)
            case ("POST", ["rotate"]):
                given = (body or {}).get("secret", "whsec_own")
                return _json(200, _secret(given, "2026-05-02T00:00:00.000Z"))
            case ("GET", ["attempts"]):
                limit = int(request.url.params.get("limit", 50))
                page, more = self.attempts[:limit], len(self.attempts) > limit
                next_ = page[-1]["id"] if more else None
                return _json(200, {"data": page, "has_more": more, "next": next_})
        return None

    def _add(self, body: dict[str, Any]) -> httpx.Response:
        id_ = f"0190cccc-0000-7000-8000-{len(self.endpoints):012d}"
        self.endpoints[id_] = {
            "id": id_,
            "url": body["url"],
            "events": body.get("events", ["*"]),
            "description": body.get("description"),
            "listed": True,
            "enabled": True,
            "disabled_reason": None,
            "failures": 0,
            "paused_until": None,
            "own_secret": "secret" in body,
            "created_at": "2026-05-01T00:00:00.000Z",
            "links": {"self": f"/v1/webhooks/{id_}"},
        }
        given = body.get("secret", TENANTS_SECRET)
        secret = "whsec_made" if given == "own" else given
        return _json(201, self.endpoints[id_] | {"secret": secret})


def attempt(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"0190dddd-0000-7000-8000-{number:012d}",
        "event": f"evt_{number}",
        "number": 1,
        "result": "retry",
        "status": 500,
        "error": None,
        "duration_ms": 12,
        "started_at": "2026-05-01T00:00:00.000Z",
    } | more


def _secret(text: str, previous_until: str | None) -> dict[str, Any]:
    created = "2026-05-01T00:00:00.000Z"
    return {"secret": text, "created_at": created, "previous_until": previous_until}


def _json(status: int, document: Any) -> httpx.Response:
    return httpx.Response(status, json=document)
