"""Files of requests: what a batch of the OpenAI shape is made of, and the bulk job it becomes.

A line is ``{"custom_id", "method": "POST", "url": "/v1/jobs", "body": {"model", "input"}}``. What
is wrong with a file is found here in one pass that holds a line at a time and a digest of every
``custom_id``; whether an input fits the model is found when its row is scored, and harms it alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from producers.names import MODEL_REF
from producers.requests import INPUT, JobRequest, read_bulk
from producers.shapes import Choice, Fields, Text, Wrong, show
from storage import strict_json
from storage.records.bulk import BulkFormat, PartFormat
from storage.records.errors import InvalidInput
from storage.records.jobs import JobError
from storage.records.refs import file_uri
from storage.records.webhooks import BATCH_LABEL

ENDPOINT = "/v1/jobs"
MAX_REQUESTS = 50_000
MAX_FILE_BYTES = 200 << 20
MAX_LINE_BYTES = 16 << 20  # what is read of one when its row is scored
MAX_ERRORS = 20  # told of one file
MAX_ERROR_CHARS = 120  # of one message: so all of them are kept with the job

WINDOW, WINDOW_S = "24h", 86_400
OWN_LABELS = "openai/"  # how the keys of labels begin that are ours: no caller's holds a slash
REQUESTS_LABEL = OWN_LABELS + "requests"  # how many a batch has

_MARK = b"\xef\xbb\xbf"
_DIGEST_BYTES = 16
LINE = Fields(
    "a request",
    required={
        "custom_id": Text(1, 512),
        "method": Choice(("POST",)),
        "url": Choice((ENDPOINT,)),
        "body": Fields("body", required={"model": MODEL_REF, "input": INPUT}),
    },
)


@dataclass(frozen=True, slots=True)
class BatchError:
    """One thing wrong with a file: ``line`` counts from 1, ``param`` is a field of it."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What a file turned out to hold."""

    requests: int
    model: str | None  # as its first good line names it; None: there is none
    errors: tuple[BatchError, ...]


def check_file(pieces: Iterable[bytes]) -> Checked:
    """Read a file, given in pieces of any size. It ends early when there are ``MAX_ERRORS``."""
    seen = _Seen()
    for number, line in enumerate(_lines(pieces), start=1):
        if seen.full:
            break
        if line is None:
            says = f"it is longer than {MAX_LINE_BYTES} bytes"
            seen.note(InvalidInput(says, code="line_too_long"), number)
        elif line:
            seen.look(line, number)
    if not seen.requests and not seen.errors:
        seen.note(InvalidInput("there is no request in it", code="empty_file"), None)
    return Checked(seen.requests, seen.model, tuple(seen.errors))


@dataclass(slots=True)
class _Seen:
    """What the pass remembers."""

    requests: int = 0
    model: str | None = None
    errors: list[BatchError] = field(default_factory=list)
    first_with: dict[bytes, int] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        return len(self.errors) >= MAX_ERRORS or self.requests > MAX_REQUESTS

    def note(self, error: InvalidInput, line: int | None) -> None:
        message = error.message.replace("\n", " ")[:MAX_ERROR_CHARS]
        param = error.field if error.field and _PARAM.fullmatch(error.field) else None
        self.errors.append(BatchError(error.stable_code, message, line, param))

    def look(self, line: bytes, number: int) -> None:
        """A line that is not empty."""
        self.requests += 1
        if self.requests > MAX_REQUESTS:
            says = f"there are more than {MAX_REQUESTS} requests in it"
            self.note(InvalidInput(says, code="too_many_requests"), None)
            return
        try:
            value = strict_json.parse(line)
            if not isinstance(value, dict):
                raise InvalidInput(f"it is {show(value)}, not an object", code="invalid_type")
            LINE.check(value)
            self._alike(value["body"]["model"])
            self._once(value["custom_id"], number)
        except Wrong as wrong:
            self.note(wrong.error(), number)
        except InvalidInput as error:
            self.note(error, number)

    def _alike(self, model: str) -> None:
        self.model = self.model or model
        if model != self.model:
            says = f"names {show(model)}, and the lines before it {show(self.model)}"
            raise Wrong(says, code="model_mismatch").under("body", "model")

    def _once(self, custom_id: str, number: int) -> None:
        digest = hashlib.blake2b(custom_id.encode(), digest_size=_DIGEST_BYTES).digest()
        before = self.first_with.setdefault(digest, number)
        if before != number:
            says = f"{show(custom_id)} is also that of line {before}"
            raise Wrong(says, code="duplicate_custom_id").under("custom_id")


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes | None]:
    """Lines without their ends; ``None`` in place of one that is too long, of which nothing is
    kept."""
    rest, skipping, first = bytearray(), False, True
    for piece in pieces:
        *whole, last = piece.split(b"\n")
        for end in whole:
            rest += end
            yield None if skipping or len(rest) > MAX_LINE_BYTES else _plain(rest, first)
            rest, skipping, first = bytearray(), False, False
        rest += last
        if skipping or len(rest) > MAX_LINE_BYTES:
            rest, skipping = bytearray(), True
    if rest or skipping:
        yield None if skipping else _plain(rest, first)


def _plain(line: bytearray, first: bool) -> bytes:
    text = bytes(line).removesuffix(b"\r")
    return text.removeprefix(_MARK) if first else text


# A batch whose file is wrong is a job that failed: its error is its file's, one error a line, as
# people read it and ``errors_of`` reads it back.
INVALID_BATCH = "invalid_batch"
_PARAM = re.compile(r"[A-Za-z0-9_.\[\]-]{1,40}")
_TOLD = re.compile(rf"(?:the file|line (\d+))(?:, ({_PARAM.pattern}))?: ([a-z_]+): (.*)")


def job_error(errors: Iterable[BatchError]) -> JobError:
    """The error of the job."""
    return JobError(INVALID_BATCH, "\n".join(_told(one) for one in errors))


def errors_of(error: JobError) -> list[BatchError]:
    """The errors that ``job_error`` put together; of a job that failed otherwise, its own."""
    if error.code != INVALID_BATCH:
        return [BatchError(error.code, error.message)]
    found = []
    for told in error.message.split("\n"):
        if match := _TOLD.fullmatch(told):
            line, param, code, message = match.groups()
            found.append(BatchError(code, message, int(line) if line else None, param))
    return found


def _told(error: BatchError) -> str:
    where = "the file" if error.line is None else f"line {error.line}"
    param = f", {error.param}" if error.param else ""
    return f"{where}{param}: {error.code}: {error.message}"


def bulk_request(file_id: str, checked: Checked, metadata: Mapping[str, str]) -> JobRequest:
    """The bulk job of a batch. However many of its inputs are wrong, the others are answered.
    ``InvalidInput`` if its file names no model: then there is nothing to make a job for."""
    if checked.model is None:
        first = checked.errors[0]
        says = f"the file names no model; {_told(first)}"
        raise InvalidInput(says, code=first.code, field="input_file_id")
    requests = 0 if checked.errors else checked.requests
    request = read_bulk(
        {
            "kind": "bulk",
            "model": checked.model,
            "input": {"uri": file_uri(file_id), "format": BulkFormat.REQUESTS.value},
            "output": {"format": PartFormat.JSONL.value, "keep": ["custom_id"]},
            "on_error": {"max_share": 1},
            "expires_in_s": WINDOW_S,
            "run_timeout_s": WINDOW_S,
        }
    )
    own = dict([BATCH_LABEL, (REQUESTS_LABEL, str(requests))])
    return replace(request, metadata={**metadata, **own})
