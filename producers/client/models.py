"""The registry, as a caller sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

from producers.client.errors import BadArgument
from producers.client.jobs import POLL_S, seconds, wait_until
from producers.client.transport import Transport

PUSH_TIMEOUT_S = 600.0  # an upload may be large

UNSETTLED = ("training", "pending")  # nobody can say yet whether it works


@dataclass(slots=True)
class ModelVersion:
    """One immutable version. ``training`` until its job is over, if it is one's; ``pending`` until
    a worker has loaded it, then ready or broken."""

    document: Mapping[str, Any]
    _transport: Transport

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.document["name"])

    @property
    def version(self) -> int:
        """Its number."""
        return int(self.document["version"])

    @property
    def ref(self) -> str:
        """How a submit names exactly this version."""
        return f"{self.name}:{self.version}"

    @property
    def state(self) -> str:
        """training, pending, ready or broken, as last seen."""
        return str(self.document["state"])

    @property
    def error(self) -> str | None:
        """Why it is broken."""
        error = self.document.get("error")
        if isinstance(error, Mapping):
            return str(error.get("message"))
        return str(error) if error else None

    def refresh(self, wait_s: float = 0.0) -> Self:
        """Look again; with ``wait_s`` the service answers once a worker has judged it."""
        params = {"wait": seconds(wait_s)} if wait_s > 0 else None
        path = f"/v1/models/{self.name}/versions/{self.version}"
        self.document = self._transport.json("GET", path, params=params, extra_s=wait_s)
        return self

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait until a worker has loaded it. Does not raise when it is broken: see ``state``."""
        wait_until(
            lambda wait_s: self.refresh(wait_s).state not in UNSETTLED,
            timeout_s,
            done=self.state not in UNSETTLED,
            what=f"model {self.ref}",
            poll_s=POLL_S,
        )
        return self


class Models:
    """Push, look at and name models: ``Forebay().models``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def push(
        self,
        name: str,
        path: str | PathLike[str],
        *,
        input: str | None = None,
        labels: str | PathLike[str] | Sequence[str] | None = None,
        top_k: int | None = None,
        image: Mapping[str, Any] | None = None,
        columns: Sequence[Any] | None = None,
        serving: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ModelVersion:
        """Upload a ``.keras`` archive as the next version of ``name``.

        ``input`` says what callers send: tensor (the default), image, text or record.
        ``labels`` is a list, or a text file with one label a line. ``serving`` turns the knobs of
        how it is served (``{"max_batch": 64, "pad": {"tokens": {"sizes": [32, 128]}}}``); none
        needs turning. ``options`` passes anything else of the service's push options as it is.
        """
        file = Path(path)
        sent: dict[str, Any] = dict(options or {})
        named = {
            "input": input,
            "top_k": top_k,
            "image": image,
            "columns": columns,
            "serving": serving,
        }
        sent.update({key: value for key, value in named.items() if value is not None})
        if labels is not None:
            sent["labels"] = read_labels(labels)
        if not file.is_file():
            raise BadArgument(f"{file} is not a file")
        with ExitStack() as opened:

            def body() -> dict[str, Any]:
                content = opened.enter_context(file.open("rb"))
                return {
                    "files": {"file": (file.name, content, "application/octet-stream")},
                    "data": {"options": json.dumps(sent)},
                }

            document = self._transport.json(
                "POST", f"/v1/models/{name}/versions", make=body, extra_s=PUSH_TIMEOUT_S
            )
        return ModelVersion(document, self._transport)

    def list(self) -> Iterator[Mapping[str, Any]]:
        """Every model: name, latest_version, versions, aliases."""
        yield from pages(self._transport, "/v1/models", {})

    def show(self, name: str) -> Mapping[str, Any]:
        """One model with its versions and aliases."""
        document: Mapping[str, Any] = self._transport.json("GET", f"/v1/models/{name}")
        return document

    def version(self, name: str, version: int) -> ModelVersion:
        """One version of a model."""
        document = self._transport.json("GET", f"/v1/models/{name}/versions/{version}")
        return ModelVersion(document, self._transport)

    def alias(
        self, name: str, alias: str, version: int, *, expected: int | None = None
    ) -> Mapping[str, Any]:
        """Point ``name@alias`` at ``version``, atomically.

        With ``expected`` it moves only if it stands at that version now.
        """
        body: dict[str, Any] = {"version": version}
        if expected is not None:
            body["expected"] = expected
        path = f"/v1/models/{name}/aliases/{alias}"
        document: Mapping[str, Any] = self._transport.json(
            "PUT", path, body=body, repeatable=expected is None
        )
        return document


def read_labels(labels: str | PathLike[str] | Sequence[str]) -> Sequence[str]:
    """A list of labels, from itself or from a text file with one label a line."""
    if not isinstance(labels, (str, PathLike)):
        return [str(label) for label in labels]
    try:
        text = Path(labels).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadArgument(f"cannot read the labels in {labels}: {error}") from error
    found = [line.strip() for line in text.splitlines()]
    while found and not found[-1]:
        found.pop()
    return found


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
