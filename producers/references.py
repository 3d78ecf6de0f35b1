"""What a request refers to: model versions, refs and webhooks, each looked up once however often
it occurs.

The version found here is recorded in the job: an alias that moves later changes nothing for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from producers import training_requests
from producers.bulk_requests import uris_of
from producers.requests import JobRequest, gather
from storage.database import Transaction
from storage.records.errors import (
    Conflict,
    ForebayError,
    Gone,
    InvalidInput,
    NotFound,
    Unprocessable,
)
from storage.records.input_check import check_input, refs_in
from storage.records.jobs import Millis
from storage.records.models import ModelVersion, VersionState, parse_model_ref
from storage.records.refs import (
    FILES_PREFIX,
    FileRef,
    check_output,
    check_ref,
    overlaps,
    read_prefix,
)
from storage.records.refs import check_input as check_address
from storage.records.signatures import Signature
from storage.records.trials import Trial
from storage.records.webhook_guard import Guard

MAX_SIGNATURES = 256


class Resolver:
    """Shared by the submit threads."""

    def __init__(
        self, ref_prefixes: Sequence[str], guard: Guard, *, output_prefixes: Sequence[str] = ()
    ) -> None:
        self._prefixes = tuple(read_prefix(prefix) for prefix in ref_prefixes)
        self._output_prefixes = tuple(read_prefix(prefix) for prefix in output_prefixes)
        self._guard = guard
        self._signatures: dict[tuple[str, VersionState], Signature] = {}
        self._lock = threading.Lock()

    def versions(
        self, tx: Transaction, tenant: str, models: set[str]
    ) -> tuple[dict[str, ModelVersion | ForebayError], dict[str, Trial]]:
        """Every distinct reference, resolved, or why it cannot be; and the trials on them."""
        found: dict[str, ModelVersion | ForebayError] = {}
        trials: dict[str, Trial] = {}
        for text in models:
            try:
                version, trial = tx.models.resolve_tried(tenant, parse_model_ref(text))
                if version.state is VersionState.BROKEN:
                    raise Unprocessable(
                        f"{version.name}:{version.version} cannot be loaded: {version.error}",
                        code="version_broken",
                    )
                found[text] = version
                if trial is not None:
                    trials[text] = trial
            except (Conflict, Gone, InvalidInput, NotFound) as error:
                found[text] = error
        return found, trials

    def known_files(
        self, tx: Transaction, tenant: str, requests: Sequence[JobRequest], since: Millis
    ) -> set[str]:
        """The tenant's own files among those that the inputs name. One from before ``since`` may be
        deleted any moment, as no live job can need it: it does not count any more."""
        named: set[str] = set()
        for request in requests:
            if request.bulk is not None:
                for uri in request.bulk.input.uris:
                    if uri.startswith(FILES_PREFIX):
                        named.add(uri.removeprefix(FILES_PREFIX))
            elif request.training is not None:
                for _, uri in training_requests.uris_of(request.training, request.input["uri"]):
                    if uri.startswith(FILES_PREFIX):
                        named.add(uri.removeprefix(FILES_PREFIX))
            elif "ref" in request.input or "items" in request.input:
                for _, uri in refs_in(request.input):
                    if uri.startswith("forebay://"):
                        named.add(uri.rpartition("/")[2])
        found = (tx.files.get(tenant, file_id) for file_id in named)
        return {file.id for file in found if file is not None and file.created_at > since}

    def check_inputs(
        self,
        requests: Sequence[JobRequest],
        versions: dict[str, ModelVersion | ForebayError],
        files: set[str],
        *,
        single: bool,
    ) -> list[ModelVersion | None]:
        """The version that each request is for; of a training the one that it begins with, if any.
        What is wrong is raised with the field, for every index."""
        resolved: list[ModelVersion | None] = []
        errors: list[ForebayError] = []
        signatures: dict[str, Signature] = {}
        webhooks: set[str | None] = {None}
        for index, request in enumerate(requests):
            where = "" if single else f"jobs[{index}]."
            if request.webhook not in webhooks:
                try:
                    self.check_webhook(request.webhook, f"{where}webhook")
                    webhooks.add(request.webhook)
                except InvalidInput as error:
                    errors.append(error)
            model = request.reads_version
            version = None if model is None else versions[model]
            if isinstance(version, ForebayError):
                field = "model" if request.training is None else "spec.network.version"
                errors.append(_at(version, where + field))
                continue
            resolved.append(version)
            if request.training is not None or version is None:
                try:
                    self._check_training(request, files)
                except InvalidInput as error:
                    errors.append(error)
                continue
            signature = signatures.get(request.model)
            if signature is None:
                signature = signatures[request.model] = self._signature(version)
            try:
                if request.bulk is not None:
                    self._check_bulk(request, signature, files)
                    continue
                check_input(signature, request.input, field=f"{where}input")
                if "ref" in request.input or "items" in request.input:
                    self._check_refs(request, files, f"{where}input")
            except InvalidInput as error:
                errors.append(error)
        if errors:
            raise errors[0] if single else gather(errors, len(requests))
        return resolved

    def check_webhook(self, url: str | None, field: str) -> None:
        """Whether a job or a group may name this URL to be told at."""
        if url is not None:
            self._guard.target(url, field=field)

    def check_output(self, output_uri: str | None, input_uris: Sequence[str]) -> None:
        """Whether a bulk job may write there: where the operator lets it, and apart from what it
        reads."""
        if output_uri is None:
            return
        check_output(output_uri, self._output_prefixes, field="output.uri")
        if any(overlaps(output_uri, uri) for uri in input_uris):
            raise InvalidInput(
                "output.uri holds what the job reads, or lies in it: take another prefix",
                code="output_in_input",
                field="output.uri",
            )

    def _check_bulk(self, request: JobRequest, signature: Signature, files: set[str]) -> None:
        """What shows without a look at the files."""
        assert request.bulk is not None
        for field, uri in _addresses(request):
            self._check_address(field, uri, files)
        self.check_output(request.bulk.output.uri, request.bulk.input.uris)
        known = {spec.name for spec in signature.asked} | {col.name for col in signature.columns}
        for name in request.bulk.input.columns:
            if name and known and name not in known:
                said = "uri" in request.input  # else they are taken over from a job
                field = f"input.columns.{name[:80]}" if said else _taken_from(request)
                near = ", ".join(sorted(known)[:20])
                says = f"{field}: the model has no input {name[:80]!r}; it has {near}"
                code = "unknown_column" if signature.columns else "unknown_input"
                raise InvalidInput(says, code=code, field=field)

    def _check_training(self, request: JobRequest, files: set[str]) -> None:
        """Whether its data may be read."""
        assert request.training is not None
        uris = training_requests.uris_of(request.training, request.input["uri"])
        self._check_addresses(uris, "spec", files)

    def _check_addresses(
        self, uris: Iterable[tuple[str, str]], above: str, files: set[str]
    ) -> None:
        """Each with its field below ``above``: listed, or an uploaded file that is there."""
        for below, uri in uris:
            self._check_address(f"{above}.{below}", uri, files)

    def _check_address(self, field: str, uri: str, files: set[str]) -> None:
        ref = check_address(uri, self._prefixes, field=field)
        if isinstance(ref, FileRef) and ref.file_id not in files:
            raise _no_file(ref, field)

    def _check_refs(self, request: JobRequest, files: set[str], where: str) -> None:
        for field, uri in refs_in(request.input, field=where):
            ref = check_ref(uri, self._prefixes, field=field)
            if isinstance(ref, FileRef) and ref.file_id not in files:
                raise _no_file(ref, field)

    def _signature(self, version: ModelVersion) -> Signature:
        """Parsed once: a version's signature changes only when a worker first loads it."""
        key = (version.id, version.state)
        with self._lock:
            if known := self._signatures.get(key):
                return known
        signature = Signature.from_json(version.signature)
        with self._lock:
            if len(self._signatures) >= MAX_SIGNATURES:
                self._signatures.clear()
            self._signatures[key] = signature
        return signature


def _addresses(request: JobRequest) -> Iterable[tuple[str, str]]:
    """What a bulk job or an evaluation reads, each address with the field that named it."""
    assert request.bulk is not None
    if "uri" in request.input:
        return [(f"input.{below}", uri) for below, uri in uris_of(request.input)]
    return [(_taken_from(request), uri) for uri in request.bulk.input.uris]


def _taken_from(request: JobRequest) -> str:
    return f"input.{next(iter(request.input))}"


def _no_file(ref: FileRef, field: str) -> Unprocessable:
    return Unprocessable(
        f"{field}: you have no file {ref.file_id}", code="file_not_found", field=field
    )


def _at(error: ForebayError, field: str) -> ForebayError:
    return type(error)(f"{field}: {error.message}", code=error.stable_code, field=field)
