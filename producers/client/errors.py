"""What can go wrong for a caller of the SDK, as one tree that mirrors the service's problem codes.

::

    ForebayError                    message, code
    ├── Refused                     the service answered with a problem: status, code, field, errors
    │   ├── InvalidRequest          400 413 415 422   the request is wrong; repeating cannot help
    │   ├── Unauthenticated         401
    │   ├── Forbidden               403
    │   ├── NotFound                404
    │   ├── Conflict                409
    │   │   ├── NotReady            409 not_ready     there is no result yet
    │   │   └── GateFailed          409 gate_failed   an alias stays where it is: ``comparisons``
    │   ├── Gone                    410
    │   ├── Overloaded              429               try again after ``retry_after_s``
    │   └── ServiceUnavailable      5xx
    ├── BadArgument                 refused on this side, before anything was sent
    ├── Unreachable                 no connection, or no answer in time
    ├── WebhookVerificationError    a webhook is not what it says it is: ``code`` says why
    ├── WaitTimeout                 the time you gave to ``wait`` is over; the work goes on
    └── JobEnded                    asked for the result of a job that has none: ``job``
        ├── JobFailed               its error is in ``code`` and the message
        ├── JobCancelled
        └── JobExpired
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ForebayError(Exception):
    """Base of everything the SDK raises on purpose."""

    def __init__(self, message: str, *, code: str = "client_error") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class BadArgument(ForebayError, ValueError):
    """The arguments cannot become a request; nothing was sent."""

    def __init__(self, message: str, *, code: str = "bad_argument") -> None:
        super().__init__(message, code=code)


class Unreachable(ForebayError):
    """No connection to the service, or no answer in time."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="unreachable")


class WebhookVerificationError(ForebayError):
    """A webhook was not signed with this secret, or not now, or its headers are no signature."""


class WaitTimeout(ForebayError, TimeoutError):
    """Waiting took longer than asked. Nothing was lost: wait again with the same id."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="wait_timeout")


class Refused(ForebayError):
    """The service answered with a problem (RFC 9457)."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        field: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.field = field
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s


class InvalidRequest(Refused):
    """The request is wrong; repeating it cannot help."""


class Unauthenticated(Refused):
    """No key, or a key nobody knows."""


class Forbidden(Refused):
    """The key is known and may not do this."""


class NotFound(Refused):
    """There is no such thing for this key's tenant."""


class Conflict(Refused):
    """It contradicts what is stored."""


class NotReady(Conflict):
    """The job has no result yet."""


class GateFailed(Conflict):
    """A gate does not hold; nothing was changed."""

    @property
    def comparisons(self) -> Sequence[Mapping[str, Any]]:
        """Each comparison of the gate: comparison, left, right, holds."""
        return self.errors


class Gone(Refused):
    """It existed; its retention has passed."""


class Overloaded(Refused):
    """The backlog is full; nothing was stored."""


class ServiceUnavailable(Refused):
    """The service, or a part it needs, does not work at the moment."""


class JobEnded(ForebayError):
    """The job is over and has no result."""

    def __init__(self, message: str, *, code: str, job: Any) -> None:
        super().__init__(message, code=code)
        self.job = job


class JobFailed(JobEnded):
    """The job failed."""


class JobCancelled(JobEnded):
    """The job was cancelled."""


class JobExpired(JobEnded):
    """The job was not started in time."""


_BY_STATUS: Mapping[int, type[Refused]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    429: Overloaded,
}
_CONFLICTS: Mapping[str, type[Conflict]] = {"not_ready": NotReady, "gate_failed": GateFailed}


def refused(status: int, problem: Mapping[str, Any], retry_after_s: float | None = None) -> Refused:
    """The error for a problem document."""
    code = str(problem.get("code") or f"http_{status}")
    kind = _BY_STATUS.get(status, ServiceUnavailable if status >= 500 else InvalidRequest)
    if kind is Conflict:
        kind = _CONFLICTS.get(code, kind)
    field = problem.get("field")
    errors = problem.get("errors")
    return kind(
        str(problem.get("detail") or problem.get("title") or f"the service answered {status}"),
        code=code,
        status=status,
        field=str(field) if field else None,
        errors=errors if isinstance(errors, list) else (),
        retry_after_s=retry_after_s,
    )
