"""The registry, as a caller sees it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

from producers.client import trials
from producers.client.bulk import Source
from producers.client.comparing import Comparing, Comparison
from producers.client.errors import BadArgument
from producers.client.evaluations import evaluation_input, evaluations_of
from producers.client.files import Files
from producers.client.jobs import POLL_S, Job, seconds, wait_until
from producers.client.paging import pages
from producers.client.promotion import Promotions
from producers.client.transport import Transport
from producers.client.trials import Trial

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
        """training, pending, ready, broken, deprecated or deleted, as last seen."""
        return str(self.document["state"])

    @property
    def error(self) -> str | None:
        """Why it is broken."""
        error = self.document.get("error")
        if isinstance(error, Mapping):
            return str(error.get("message"))
        return str(error) if error else None

    @property
    def licence(self) -> str | None:
        """Under which it may be used, if somebody said so."""
        return self.document.get("licence")

    @property
    def notes(self) -> str | None:
        """What else somebody said of it."""
        return self.document.get("notes")

    @property
    def _path(self) -> str:
        return f"/v1/models/{self.name}/versions/{self.version}"

    def card(self) -> Mapping[str, Any]:
        """All that is known of it: what it takes, where it comes from, how good it is, what depends
        on it; ``not_known`` lists what no record says."""
        document: Mapping[str, Any] = self._transport.json("GET", f"{self._path}/card")
        return document

    def card_markdown(self) -> str:
        """The card as Markdown."""
        params = {"format": "markdown"}
        return self._transport.call("GET", f"{self._path}/card", params=params).text

    def edit(self, *, licence: str | None = None, notes: str | None = None) -> Self:
        """Change what is said of it; an empty text clears it."""
        said = {"licence": licence, "notes": notes}
        return self._change({key: text for key, text in said.items() if text is not None})

    def deprecate(self) -> Self:
        """From now on it serves only who names it by number, and the aliases that it has."""
        return self._change({"state": "deprecated"})

    def restore(self) -> Self:
        """It is ready again, after it was deprecated."""
        return self._change({"state": "ready"})

    def _change(self, body: Mapping[str, Any]) -> Self:
        self.document = self._transport.json("PATCH", self._path, body=body, repeatable=True)
        return self

    def refresh(self, wait_s: float = 0.0) -> Self:
        """Look again; with ``wait_s`` the service answers once a worker has judged it."""
        params = {"wait": seconds(wait_s)} if wait_s > 0 else None
        self.document = self._transport.json("GET", self._path, params=params, extra_s=wait_s)
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


class Models(Promotions):
    """Push, look at, name and promote models: ``Forebay().models``."""

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
        licence: str | None = None,
        notes: str | None = None,
    ) -> ModelVersion:
        """Upload a ``.keras`` archive as the next version of ``name``.

        ``input`` says what callers send: tensor (the default), image, text or record.
        ``labels`` is a list, or a text file with one label a line. ``serving`` turns the knobs of
        how it is served (``{"max_batch": 64, "pad": {"tokens": {"sizes": [32, 128]}}}``); none
        needs turning. ``options`` passes anything else of the service's push options as it is.
        ``licence`` and ``notes`` are kept with the version and shown on its card.
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
        said = {"licence": licence, "notes": notes}
        beside = {"options": json.dumps(sent)} | {k: v for k, v in said.items() if v is not None}
        with ExitStack() as opened:

            def body() -> dict[str, Any]:
                content = opened.enter_context(file.open("rb"))
                return {
                    "files": {"file": (file.name, content, "application/octet-stream")},
                    "data": beside,
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

    def get(self, ref: str) -> ModelVersion:
        """The version that ``name:version``, ``name@alias`` or a bare name (its newest version that
        is pending or ready) means now."""
        name, at, alias = ref.partition("@")
        name, colon, number = name.partition(":")
        if colon and (at or not (number.isascii() and number.isdecimal())):
            raise BadArgument(f"{ref!r} is no version: write name:number, as in digits:3")
        if colon:
            return self.version(name, int(number))
        model = self.show(name)
        if at:
            if alias not in model["aliases"]:
                raise BadArgument(f"{name} has no alias {alias!r}")
            return self.version(name, model["aliases"][alias])
        usable = [v["version"] for v in model["versions"] if v["state"] in ("pending", "ready")]
        if not usable:
            raise BadArgument(f"{name} has no version that can be loaded: name one by its number")
        return self.version(name, max(usable))

    def delete(self, name: str, version: int) -> Mapping[str, Any]:
        """Delete a version for good. It stays as a record, which is the answer, with what was made
        from it. Refused (``version_in_use``) while anything depends on it."""
        path = f"/v1/models/{name}/versions/{version}"
        document: Mapping[str, Any] = self._transport.json("DELETE", path, repeatable=True)
        return document

    def canary(
        self,
        ref: str,
        alias: str,
        *,
        share: float = 0.05,
        limits: Mapping[str, float | None] | None = None,
    ) -> Trial:
        """Have ``name:version`` answer a share of what is submitted to ``name@alias``.

        ``limits``: error_share, latency_ratio, latency_ms, disagreement, min_jobs, tolerance. Over
        one of them the candidate is returned, and what is queued for it goes to the other version.
        """
        return trials.start(self._transport, "canary", ref, alias, share, limits)

    def shadow(
        self,
        ref: str,
        alias: str,
        *,
        share: float = 0.05,
        limits: Mapping[str, float | None] | None = None,
    ) -> Trial:
        """Have ``name:version`` score a share of the inputs of ``name@alias`` once more, unseen;
        ``limits`` as for a canary."""
        return trials.start(self._transport, "shadow", ref, alias, share, limits)

    def trials(self, name: str, alias: str) -> Sequence[Trial]:
        """The trials beside ``name@alias``, the newest first."""
        return trials.trials_of(self._transport, name, alias)

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

    def evaluations(
        self, ref: str, *, limit: int | None = None, job: str | None = None, full: bool = False
    ) -> Sequence[Mapping[str, Any]]:
        """What a version (``digits:3``, ``digits@prod``) was measured to be worth, newest first:
        ``metrics`` and ``intervals`` by ``job``, ``data_digest`` and ``rows``; ``full`` with the
        whole ``document``, which stays when the job is gone."""
        return evaluations_of(self._transport, ref, limit=limit, job=job, full=full)

    def compare(
        self,
        first: str,
        second: str,
        data: Source | Sequence[Source] | None = None,
        *,
        label: str | None = None,
        slices: Sequence[str] | None = None,
        format: str | None = None,
        columns: Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
        where: Sequence[Sequence[Any]] | None = None,
        examples: int | None = None,
        tolerance: float | None = None,
        max_error_share: float | None = None,
        priority: int | None = None,
        timeout_s: float | None = None,
        on_progress: Callable[[Job], object] | None = None,
        on_upload: Callable[[Path], object] | None = None,
    ) -> Comparison:
        """Both versions on the same data: metrics side by side, and where they disagree. Waits.

        Evaluates ``first``, then ``second`` against it. Without ``data`` on those of the newest
        evaluation of either, and ``first`` is not scored again if it saw them already. Without a
        ``label`` it tells how far they agree, not who is right.
        """
        options = {
            "examples": examples,
            "tolerance": tolerance,
            "on_error": None if max_error_share is None else {"max_share": max_error_share},
            "priority": priority,
        }
        work = Comparing(
            self._transport, first, second, options, timeout_s=timeout_s, on_progress=on_progress
        )
        if data is None:
            if format or columns or where:
                raise BadArgument("format, columns and where go with data", code="no_input")
            return work.on_newest(label, slices or ())
        told = evaluation_input(
            data,
            format=format,
            columns=columns,
            where=where,
            needs_folders=False,
            files=Files(self._transport),
            on_upload=on_upload,
        )
        return work.on(told, label, slices or ())


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
