"""Webhooks: where events go, what signs them, and what was tried: ``Forebay().webhooks``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from producers.client.errors import BadArgument
from producers.client.paging import pages
from producers.client.transport import Transport

PATH = "/v1/webhooks"


@dataclass(frozen=True, slots=True)
class Webhook:
    """An endpoint as last seen. ``secret`` is known only of one that was just added."""

    document: Mapping[str, Any] = field(repr=False)
    secret: str | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"Webhook({self.id!r}, {self.url!r})"

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.document["id"])

    @property
    def url(self) -> str:
        """Where events go."""
        return str(self.document["url"])

    @property
    def events(self) -> Sequence[str]:
        """What it is told of; ``*`` is everything."""
        return tuple(self.document["events"])

    @property
    def enabled(self) -> bool:
        """Whether anything is delivered."""
        return bool(self.document["enabled"])


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """A secret, and until when (RFC 3339) the one before signs as well, if it does."""

    secret: str = field(repr=False)
    previous_until: str | None = None


class Webhooks:
    """Each ``webhook`` is one that was added or found, or its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def add(
        self,
        url: str,
        *,
        events: Sequence[str] = ("*",),
        description: str | None = None,
        secret: str | None = None,
    ) -> Webhook:
        """Register an endpoint, which is told of ``events`` from now on.

        Its ``secret`` is what ``verify`` needs: the tenant's, unless ``secret`` is one of your own
        (``whsec_…``) or ``"own"``, which makes one for this endpoint alone.
        """
        given = {"url": url, "events": list(events), "description": description, "secret": secret}
        body = {name: value for name, value in given.items() if value is not None}
        document = dict(self._transport.json("POST", PATH, body=body))
        return Webhook(document, document.pop("secret"))

    def list(self, *, url: str | None = None) -> Iterator[Webhook]:
        """Every registered endpoint, newest first. With ``url`` those with this very URL, and the
        one that your jobs brought along with ``webhook=``."""
        params = {} if url is None else {"url": url}
        for document in pages(self._transport, PATH, params):
            yield Webhook(document)

    def get(self, webhook: Webhook | str) -> Webhook:
        """One endpoint, as it stands now."""
        return Webhook(self._transport.json("GET", _path(webhook)))

    def change(
        self,
        webhook: Webhook | str,
        *,
        events: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> Webhook:
        """What is given is changed. Switched off, what waits for it is given up."""
        body: dict[str, Any] = {}
        if events is not None:
            body["events"] = list(events)
        if description is not None:
            body["description"] = description
        if enabled is not None:
            body["enabled"] = enabled
        return Webhook(self._transport.json("PATCH", _path(webhook), body=body, repeatable=True))

    def remove(self, webhook: Webhook | str) -> None:
        """Forget an endpoint; what waits for it is given up."""
        self._transport.call("DELETE", _path(webhook))

    def test(self, webhook: Webhook | str) -> str:
        """Send an event ``webhook.test`` to it; gives the ``webhook-id`` that it will have."""
        return str(self._transport.json("POST", f"{_path(webhook)}/test")["event"])

    def replay(
        self,
        webhook: Webhook | str,
        event: str | None = None,
        *,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
    ) -> int:
        """Deliver again: one ``event`` (its ``webhook-id``, or the job's or group's id), or all
        that the endpoint wants of a time range. Times are RFC 3339, or datetimes with their zone.
        Gives the number of deliveries; a long range takes several requests."""
        path = f"{_path(webhook)}/replay"
        if event is not None:
            if since is not None or until is not None:
                raise BadArgument("replay takes an event or a time range, not both")
            answer = self._transport.json("POST", path, body={"event": event}, repeatable=True)
            return int(answer["deliveries"])
        if since is None:
            raise BadArgument("say what to replay: an event, or since when")
        body = {"since": _time(since)} | ({} if until is None else {"until": _time(until)})
        count = 0
        while True:
            answer = self._transport.json("POST", path, body=body, repeatable=True)
            count += int(answer["deliveries"])
            if answer["next_since"] is None:
                return count
            body = {"since": answer["next_since"], "until": answer["until"]}

    def secret(self) -> WebhookSecret:
        """The tenant's: what signs unless an endpoint has its own; made when first asked for."""
        return _secret(self._transport.json("GET", f"{PATH}/secret"))

    def rotate(
        self,
        webhook: Webhook | str | None = None,
        *,
        overlap_s: int | None = None,
        secret: str | None = None,
    ) -> WebhookSecret:
        """A new secret for one endpoint, which then has its own, or for the tenant. For
        ``overlap_s`` (a day, unless you say otherwise) the one before signs as well."""
        given = {"overlap_s": overlap_s, "secret": secret}
        body = {name: value for name, value in given.items() if value is not None}
        path = f"{PATH}/secret" if webhook is None else _path(webhook)
        return _secret(self._transport.json("POST", f"{path}/rotate", body=body))

    def attempts(
        self, webhook: Webhook | str, *, limit: int | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """What was tried, newest first: event, number, result, status, error, duration_ms."""
        yield from pages(self._transport, f"{_path(webhook)}/attempts", {}, limit=limit)


def _path(webhook: Webhook | str) -> str:
    id_ = webhook.id if isinstance(webhook, Webhook) else webhook
    if not isinstance(id_, str) or not id_.replace("-", "").isalnum():
        raise BadArgument(f"{id_!r} is no webhook's id")
    return f"{PATH}/{id_}"


def _secret(document: Mapping[str, Any]) -> WebhookSecret:
    return WebhookSecret(str(document["secret"]), document["previous_until"])


def _time(when: str | datetime) -> str:
    if isinstance(when, str):
        return when
    if when.tzinfo is None:
        raise BadArgument(f"{when} has no time zone; datetime.now(UTC) has one")
    return when.isoformat()
