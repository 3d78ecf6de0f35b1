"""The one tree of errors, each carrying what its handler needs.

::

    ForebayError                      code, http_status, retryable, retry_after_s, field
    ├── InvalidInput            400   the caller's request is wrong; ``field`` names where
    │   ├── TooLarge            413
    │   ├── UnsupportedMedia    415
    │   ├── NotBuilt            422   a documented field or kind this version does not serve
    │   └── Unprocessable       422   well-formed, but it cannot be done as asked
    ├── Unauthenticated         401
    ├── Forbidden               403
    ├── NotFound                404   also what a foreign tenant's id answers
    ├── Conflict                409
    │   └── NotReady            409   there is no result yet
    ├── Gone                    410   the result was erased or its retention has passed
    ├── Overloaded              429   admission refused it; ``retry_after_s`` says when
    ├── Unavailable             503   a part Forebay depends on does not answer
    │   ├── DatabaseUnavailable
    │   ├── BrokerUnavailable
    │   └── ObjectsUnavailable
    │       └── ObjectsMisconfigured  it answers, and will refuse until somebody changes a setting
    ├── ObjectCorrupt           500   stored bytes are not the bytes that were written
    └── ItemError               -     one item of a batch cannot be scored; blames that item alone

``code`` is stable: clients match on it. ``retryable`` says whether the same call may succeed later.
"""

from __future__ import annotations

from typing import ClassVar


class ForebayError(Exception):
    """Base of every error that Forebay raises on purpose."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        field: str | None = None,
        retry_after_s: float | None = None,
        details: list[dict[str, object]] | None = None,
    ) -> None:
        """``field`` is a JSON path (``jobs[3].input.tensor``); ``details`` lists further errors."""
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s
        self.details = details
        self._code = code

    @property
    def stable_code(self) -> str:
        """The code of this very error: its own if it was given one, else its class's."""
        return self._code or type(self).code


class InvalidInput(ForebayError):
    """The request is wrong; repeating it cannot help."""

    code = "invalid_input"
    http_status = 400


class TooLarge(InvalidInput):
    """The body, a part of it, or the number of items is over a limit."""

    code = "too_large"
    http_status = 413


class UnsupportedMedia(InvalidInput):
    """The content type is not one this route takes."""

    code = "unsupported_media_type"
    http_status = 415


class NotBuilt(InvalidInput):
    """A field or kind that is documented but not served by this version: refused, never ignored."""

    code = "not_built"
    http_status = 422


class Unprocessable(InvalidInput):
    """Well-formed, but it cannot be done as asked."""

    code = "unprocessable"
    http_status = 422


class Unauthenticated(ForebayError):
    """No key, or a key nobody knows."""

    code = "unauthenticated"
    http_status = 401


class Forbidden(ForebayError):
    """The caller is known and may not do this."""

    code = "forbidden"
    http_status = 403


class NotFound(ForebayError):
    """There is no such thing for this tenant."""

    code = "not_found"
    http_status = 404


class Conflict(ForebayError):
    """It contradicts what is stored."""

    code = "conflict"
    http_status = 409


class NotReady(Conflict):
    """The job has no result yet (or ended without one)."""

    code = "not_ready"


class Gone(ForebayError):
    """It existed; its retention has passed or it was erased."""

    code = "gone"
    http_status = 410


class Overloaded(ForebayError):
    """Admission refused the work; nothing was stored."""

    code = "overloaded"
    http_status = 429
    retryable = True


class Unavailable(ForebayError):
    """A part that Forebay depends on does not answer; nothing was lost."""

    code = "unavailable"
    http_status = 503
    retryable = True


class DatabaseUnavailable(Unavailable):
    """The database does not answer, or refuses connections."""

    code = "database_unavailable"


class BrokerUnavailable(Unavailable):
    """The message broker does not answer."""

    code = "broker_unavailable"


class ObjectsUnavailable(Unavailable):
    """The object store does not answer."""

    code = "objects_unavailable"


class ObjectsMisconfigured(ObjectsUnavailable):
    """Wrong credentials, no such bucket or folder: waiting alone does not help."""

    code = "objects_misconfigured"
    retryable = False


class ObjectCorrupt(ForebayError):
    """Stored bytes are missing, cut short or changed: length or digest disagree."""

    code = "object_corrupt"


class ItemError(ForebayError):
    """One item cannot be decoded or scored. It fails alone; its batch goes on."""

    code = "bad_item"
    http_status = 422
