"""Exit codes, and which error ends in which.

====  ==============================================================
0     good
1     the job failed (or a check of ``doctor`` did)
2     wrong usage: the arguments, the input or the service's refusal say what to change
3     cancelled, expired, or not done within ``--timeout-s``
4     the service cannot be reached, or cannot work at the moment
====  ==============================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """What a shell sees."""

    GOOD = 0
    FAILED = 1
    USAGE = 2
    STOPPED = 3
    UNREACHABLE = 4
    INTERRUPTED = 130


class Failure(Exception):
    """An expected failure: a sentence for people, a code for programs, and the exit code."""

    def __init__(
        self,
        message: str,
        *,
        exit_code: Exit,
        code: str = "failed",
        hint: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.code = code
        self.hint = hint
        self.details = details or {}

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints on the error stream."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.hint:
            error["hint"] = self.hint
        return {"error": error | self.details}


def usage(message: str, hint: str | None = None) -> Failure:
    """The arguments are wrong."""
    return Failure(message, exit_code=Exit.USAGE, code="usage", hint=hint)


def from_client(error: Exception) -> Failure | None:
    """The failure for an error of the SDK, or None if it is none of them."""
    from producers.client import errors

    if not isinstance(error, errors.ForebayError):
        return None
    details: dict[str, Any] = {}
    hint = None
    exit_code = Exit.USAGE
    match error:
        case errors.Unreachable():
            exit_code = Exit.UNREACHABLE
            hint = "is it running? start it with: forebay up   (FOREBAY_API_URL says where it is)"
        case errors.ServiceUnavailable() | errors.Overloaded():
            exit_code = Exit.UNREACHABLE
            hint = "try again later; forebay doctor says which part is down"
        case errors.WaitTimeout() | errors.JobCancelled() | errors.JobExpired():
            exit_code = Exit.STOPPED
        case errors.JobEnded():
            exit_code = Exit.FAILED
        case errors.BadArgument(code="file_exists"):
            hint = "--overwrite replaces what is there"
        case errors.Unauthenticated():
            hint = "set FOREBAY_API_KEY; an operator makes keys with: forebay keys create"
    if isinstance(error, errors.Refused):
        details = {"status": error.status}
        if error.field:
            details["field"] = error.field
        if error.errors:
            details["errors"] = [dict(entry) for entry in error.errors]
    return Failure(error.message, exit_code=exit_code, code=error.code, hint=hint, details=details)


def of_states(states: Iterable[str]) -> Exit:
    """The exit code for jobs that ended so: a failed one weighs more than a stopped one."""
    seen = set(states)
    if "failed" in seen:
        return Exit.FAILED
    if seen & {"cancelled", "expired"}:
        return Exit.STOPPED
    return Exit.GOOD
