"""What a caller writes to submit jobs: its fields, its limits, and how it is read.

``JOB``, ``BULK_JOB``, ``EVALUATION_JOB`` and ``TRAINING_JOB`` are the one description: what reads
a request checks by them and the OpenAPI draws them. Unknown fields are refused with the nearest
known name, fields that are not built yet by their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from producers import evaluation_requests, training_requests
from producers.bulk_requests import BULK_INPUT, BULK_OUTPUT, ON_ERROR, SPEC_FIELDS, read_spec
from producers.evaluation_requests import EVALUATION, EVALUATION_INPUT
from producers.names import MODEL_REF, NEW_MODEL
from producers.shapes import (
    Choice,
    Fields,
    Flag,
    Labels,
    NotYet,
    Number,
    Raw,
    Schema,
    Shape,
    Text,
    Wrong,
    nullable,
    present,
    show,
)
from producers.training_shapes import SPEC
from storage.records.bulk import BulkSpec
from storage.records.errors import ForebayError, InvalidInput, TooLarge
from storage.records.input_check import MAX_ITEMS
from storage.records.jobs import (
    BUILT_KINDS,
    BULK_PRIORITY,
    DEFAULT_PRIORITY,
    MAX_PRIORITY,
    MIN_PRIORITY,
    JobKind,
)
from storage.records.training import TrainingSpec

DEFAULT_EXPIRES_IN_S, DEFAULT_RUN_TIMEOUT_S, DEFAULT_MAX_ATTEMPTS = 86_400, 900, 3
MAX_EXPIRES_IN_S, MAX_RUN_TIMEOUT_S, MAX_ATTEMPTS = 30 * 86_400, 86_400, 10
BULK_DEFAULT_TIME_S, MAX_BULK_RUN_TIMEOUT_S = 7 * 86_400, 30 * 86_400
MAX_METADATA_KEYS = 16

METADATA_KEY = Text(1, 64, r"^[A-Za-z0-9_.-]*$", "made of A-Z a-z 0-9 _ . -")
METADATA_VALUE = Text(0, 512, r"^[^\u0000]*$", "text without NUL")
CUSTOM_ID = Text(1, 128)
URL = Text(1, 2_000, r"^[^\u0000-\u0020\u007f]*$", "a URL")
IDEMPOTENCY_KEY = Text(1, 255, r"^[\u0021-\u007e]*$", "visible ASCII without spaces")

_ITEM_FORMS = {
    "tensor": {
        "description": "A nested list, or {dtype, shape, b64}: little-endian, row by row.",
        "type": ["array", "object", "number", "string", "boolean"],
    },
    "inputs": {"type": "object", "description": "Tensors by the name of the model's input."},
    "image": {"type": "string", "description": "An encoded picture in base64."},
    "text": {"type": "string", "description": "Raw text, for models that take it."},
    "record": {"type": "object", "description": "Values by column."},
    "ref": {"type": "string", "description": "forebay://files/<id>, or a listed address."},
}
INPUT = Raw(
    {
        "description": (
            "Exactly one of tensor, inputs, image, text, record, ref; or items: a list of such"
            f" inputs (at most {MAX_ITEMS}). Which forms fit is said by the model's signature."
        ),
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": {**_ITEM_FORMS, "items": {"type": "array", "items": {"type": "object"}}},
    }
)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Whom to tell: a URL, by itself or as the one field of an object. Where it may lead is
    checked later."""

    def check(self, value: object) -> None:
        if type(value) is dict:
            _WEBHOOK.check(value)
        elif type(value) is str:
            URL.check(value)
        else:
            says = f'must be a URL or {{"url": …}}, not {show(value)}'
            raise Wrong(says, code="invalid_type")

    def schema(self) -> Schema:
        return {
            **_WEBHOOK.schema(),
            **URL.schema(),
            "type": ["string", "object"],
            "title": "Webhook",
            "description": (
                "A URL, or it as the field url of an object, that is told when this is over: signed"
                " by the Standard Webhooks specification with the tenant's secret."
            ),
        }


_WEBHOOK = Fields("Webhook", required={"url": URL})
WEBHOOK = Webhook()

_OF_ANY_KIND: dict[str, Shape] = {
    "custom_id": CUSTOM_ID,
    "max_attempts": Number(1, MAX_ATTEMPTS, default=DEFAULT_MAX_ATTEMPTS),
    "metadata": Labels(MAX_METADATA_KEYS, METADATA_KEY, METADATA_VALUE),
    "webhook": WEBHOOK,
}
_FOR_BULK = 'is a field of bulk jobs: it goes with "kind": "bulk"'
_FOR_EVALUATION = 'is a field of evaluations: it goes with "kind": "evaluation"'
_FOR_TRAINING = 'is a field of trainings: it goes with "kind": "training"'
_ALONE = "jobs are submitted one at a time, by POST /v1/jobs"
JOB = Fields(
    "JobRequest",
    required={"model": MODEL_REF, "input": INPUT},
    optional={
        "kind": Choice(
            built=(JobKind.INFERENCE.value,),
            later=frozenset(kind.value for kind in JobKind if kind not in BUILT_KINDS),
            default=JobKind.INFERENCE.value,
            elsewhere={
                JobKind.BULK.value: _ALONE,
                JobKind.EVALUATION.value: _ALONE,
                JobKind.TRAINING.value: _ALONE,
            },
        ),
        **_OF_ANY_KIND,
        "priority": Number(MIN_PRIORITY, MAX_PRIORITY, default=DEFAULT_PRIORITY),
        "expires_in_s": Number(0.001, MAX_EXPIRES_IN_S, whole=False, default=DEFAULT_EXPIRES_IN_S),
        "run_timeout_s": Number(
            0.001, MAX_RUN_TIMEOUT_S, whole=False, default=DEFAULT_RUN_TIMEOUT_S
        ),
        "output": NotYet("an object of one's own for the result"),
    },
    foreign={
        "on_error": _FOR_BULK,
        "dry_run": _FOR_BULK,
        "evaluation": _FOR_EVALUATION,
        "spec": _FOR_TRAINING,
    },
)
_OF_BULK = ("output", "dry_run")  # and of no evaluation
BULK_JOB = Fields(
    "BulkJobRequest",
    required={"kind": Choice((JobKind.BULK.value,)), "model": MODEL_REF, "input": BULK_INPUT},
    optional={
        **_OF_ANY_KIND,
        "priority": Number(MIN_PRIORITY, MAX_PRIORITY, default=BULK_PRIORITY),
        "expires_in_s": Number(0.001, MAX_EXPIRES_IN_S, whole=False, default=BULK_DEFAULT_TIME_S),
        "run_timeout_s": Number(
            0.001, MAX_BULK_RUN_TIMEOUT_S, whole=False, default=BULK_DEFAULT_TIME_S
        ),
        "output": BULK_OUTPUT,
        "on_error": ON_ERROR,
        "dry_run": Flag(),
    },
    foreign={"evaluation": _FOR_EVALUATION, "spec": _FOR_TRAINING},
)
_NOT_OF_EVALUATIONS = "is no field of an evaluation: what it scored is in its parts, as Parquet"
EVALUATION_JOB = Fields(
    "EvaluationJobRequest",
    required={
        "kind": Choice((JobKind.EVALUATION.value,)),
        "model": MODEL_REF,
        "input": EVALUATION_INPUT,
    },
    optional={
        **{name: BULK_JOB.optional[name] for name in BULK_JOB.optional if name not in _OF_BULK},
        "evaluation": EVALUATION,
    },
    foreign=dict.fromkeys(_OF_BULK, _NOT_OF_EVALUATIONS) | {"spec": _FOR_TRAINING},
)
_NOT_OF_TRAININGS = "is no field of a training: what it reads and learns is said in spec"
TRAINING_JOB = Fields(
    "TrainingJobRequest",
    required={"kind": Choice((JobKind.TRAINING.value,)), "model": NEW_MODEL, "spec": SPEC},
    optional={
        **_OF_ANY_KIND,
        "priority": Number(MIN_PRIORITY, MAX_PRIORITY, default=DEFAULT_PRIORITY),
        "expires_in_s": Number(0.001, MAX_EXPIRES_IN_S, whole=False, default=BULK_DEFAULT_TIME_S),
        "run_timeout_s": Number(
            0.001, MAX_BULK_RUN_TIMEOUT_S, whole=False, default=BULK_DEFAULT_TIME_S
        ),
    },
    foreign=dict.fromkeys(("input", "output", "on_error", "dry_run"), _NOT_OF_TRAININGS),
)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One job as it was asked for; whether its model exists is not known yet."""

    model: str
    input: dict[str, object]
    kind: JobKind
    custom_id: str | None
    priority: int
    expires_in_ms: int
    run_timeout_ms: int
    max_attempts: int
    metadata: Mapping[str, str]
    webhook: str | None = None
    bulk: BulkSpec | None = None  # of a bulk job or evaluation, what it comes to
    training: TrainingSpec | None = None  # of a training, whose ``input`` is its data as given

    @property
    def reads_version(self) -> str | None:
        """The model that has to be there: of a training the version that it begins with, if any."""
        return self.model if self.training is None else self.training.network.version


@dataclass(frozen=True, slots=True)
class JobsRequest:
    """A group of jobs as it was asked for, and whom to tell when all of it is over."""

    jobs: Sequence[JobRequest]
    webhook: str | None = None


def read_job(value: object) -> JobRequest:
    """The request of an inference, or ``Wrong``."""
    JOB.check(value)
    assert isinstance(value, dict)
    given = present(value)
    get = given.get
    for name in SPEC_FIELDS:
        if name in given["input"]:
            raise Wrong(_FOR_BULK, code="unknown_field").under("input", name)
    return JobRequest(
        model=given["model"],
        input=given["input"],
        kind=JobKind.INFERENCE,
        custom_id=get("custom_id"),
        priority=int(get("priority", DEFAULT_PRIORITY)),
        expires_in_ms=_millis(get("expires_in_s", DEFAULT_EXPIRES_IN_S)),
        run_timeout_ms=_millis(get("run_timeout_s", DEFAULT_RUN_TIMEOUT_S)),
        max_attempts=int(get("max_attempts", DEFAULT_MAX_ATTEMPTS)),
        metadata=get("metadata", {}),
        webhook=_url_of(get("webhook")),
    )


def read_bulk(value: object) -> JobRequest:
    """The request of a bulk job, or ``Wrong``."""
    return _read_rows(value, BULK_JOB, JobKind.BULK, read_spec)


def read_evaluation(value: object) -> JobRequest:
    """The request of an evaluation, or ``Wrong``."""
    return _read_rows(value, EVALUATION_JOB, JobKind.EVALUATION, evaluation_requests.read_spec)


def _read_rows(
    value: object, shape: Fields, kind: JobKind, read: Callable[..., BulkSpec]
) -> JobRequest:
    """The attempts that a caller grants are those of a row: the job itself has one, since whoever
    takes it over goes on where the last one was."""
    shape.check(value)
    assert isinstance(value, dict)
    given = present(value)
    get = given.get
    return JobRequest(
        model=given["model"],
        input=given["input"],
        kind=kind,
        custom_id=get("custom_id"),
        priority=int(get("priority", BULK_PRIORITY)),
        expires_in_ms=_millis(get("expires_in_s", BULK_DEFAULT_TIME_S)),
        run_timeout_ms=_millis(get("run_timeout_s", BULK_DEFAULT_TIME_S)),
        max_attempts=1,
        metadata=get("metadata", {}),
        webhook=_url_of(get("webhook")),
        bulk=read(given, max_attempts=int(get("max_attempts", DEFAULT_MAX_ATTEMPTS))),
    )


def read_training(value: object) -> JobRequest:
    """The request of a training, or ``Wrong``. The attempts that a caller grants are deaths of its
    process between two checkpoints: the job itself has one, as a bulk job has."""
    TRAINING_JOB.check(value)
    assert isinstance(value, dict)
    given = present(value)
    get = given.get
    deaths = int(get("max_attempts", training_requests.DEFAULT_MAX_DEATHS))
    try:
        spec = training_requests.read_spec(given["spec"], max_deaths=deaths)
    except Wrong as wrong:
        raise wrong.under("spec") from None
    return JobRequest(
        model=given["model"],
        input=given["spec"]["data"],
        kind=JobKind.TRAINING,
        custom_id=get("custom_id"),
        priority=int(get("priority", DEFAULT_PRIORITY)),
        expires_in_ms=_millis(get("expires_in_s", BULK_DEFAULT_TIME_S)),
        run_timeout_ms=_millis(get("run_timeout_s", BULK_DEFAULT_TIME_S)),
        max_attempts=1,
        metadata=get("metadata", {}),
        webhook=_url_of(get("webhook")),
        training=spec,
    )


_READERS = {
    JobKind.BULK.value: read_bulk,
    JobKind.EVALUATION.value: read_evaluation,
    JobKind.TRAINING.value: read_training,
}


def read_one(body: object) -> JobRequest:
    """The body of ``POST /v1/jobs``."""
    kind = body.get("kind") if isinstance(body, dict) else None
    try:
        return _READERS.get(kind, read_job)(body) if isinstance(kind, str) else read_job(body)
    except Wrong as wrong:
        raise wrong.error() from None


def one_schema() -> Schema:
    """``read_one`` as JSON Schema."""
    kinds = (JOB, BULK_JOB, EVALUATION_JOB, TRAINING_JOB)
    return {"title": "JobRequest", "anyOf": [kind.schema() for kind in kinds]}


def read_many(body: object, *, most: int) -> JobsRequest:
    """The body of ``POST /v1/jobs/many``: all of it, or an error that names each wrong index."""
    if not isinstance(body, dict):
        raise Wrong(f"must be a JSON object, not {show(body)}", code="invalid_type").error()
    try:
        _MANY.check(body)
    except Wrong as wrong:
        raise wrong.error() from None
    jobs: list[object] = body["jobs"]
    if len(jobs) > most:
        raise TooLarge(
            f"jobs has {len(jobs)} jobs; at most {most} in one request",
            code="too_many_jobs",
            field="jobs",
        )
    requests: list[JobRequest] = []
    errors: list[ForebayError] = []
    first_with: dict[str, int] = {}
    for index, value in enumerate(jobs):
        try:
            request = read_job(value)
            if request.custom_id is not None:
                _see(first_with, request.custom_id, index)
        except Wrong as wrong:
            errors.append(wrong.under("jobs", index).error())
        else:
            requests.append(request)
    if errors:
        raise gather(errors, len(jobs))
    return JobsRequest(requests, _url_of(body.get("webhook")))


def gather(errors: Sequence[ForebayError], total: int) -> ForebayError:
    """One error for a request of many jobs: the first one's words and status, and all of them.

    It keeps the first one's code and status if all agree, so that a client may match on it.
    """
    first = errors[0]
    alike = all((e.stable_code, type(e)) == (first.stable_code, type(first)) for e in errors)
    details: list[dict[str, object]] = [
        {"field": e.field, "code": e.stable_code, "detail": e.message[:300]} for e in errors
    ]
    says = f"{len(errors)} of {total} jobs are wrong, none was stored; the first: {first.message}"
    kind = type(first) if alike else InvalidInput
    code = first.stable_code if alike else "invalid_jobs"
    return kind(says, code=code, field=first.field, details=details)


def many_schema(most: int) -> dict[str, object]:
    """``read_many`` as JSON Schema."""
    jobs = {"type": "array", "minItems": 1, "maxItems": most, "items": JOB.schema()}
    return {
        "title": "JobsRequest",
        "type": "object",
        "properties": {"jobs": jobs, "webhook": nullable(WEBHOOK.schema())},
        "required": ["jobs"],
        "additionalProperties": False,
    }


class _AnyList:
    def check(self, value: object) -> None:
        if type(value) is not list or not value:
            raise Wrong(f"must be a list of at least one job, not {show(value)}")

    def schema(self) -> dict[str, object]:
        return {"type": "array", "minItems": 1}


_MANY = Fields("JobsRequest", required={"jobs": _AnyList()}, optional={"webhook": WEBHOOK})


def _url_of(webhook: object) -> str | None:
    """The URL of a checked ``webhook``."""
    if isinstance(webhook, dict):
        webhook = webhook["url"]
    return None if webhook is None else str(webhook)


def _see(first_with: dict[str, int], custom_id: str, index: int) -> None:
    before = first_with.setdefault(custom_id, index)
    if before != index:
        says = f"{show(custom_id)} is also that of jobs[{before}]"
        raise Wrong(says, code="duplicate_custom_id").under("custom_id")


def _millis(seconds: float) -> int:
    return max(1, round(seconds * 1000))
