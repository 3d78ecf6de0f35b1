"""The Python SDK: what a caller's program imports, by way of ``from forebay import Forebay``.

Needs httpx and nothing else; imports no other part of Forebay.
"""

from producers.client.bulk import Part
from producers.client.client import Forebay
from producers.client.comparing import Comparison
from producers.client.errors import (
    BadArgument,
    Conflict,
    Forbidden,
    ForebayError,
    GateFailed,
    Gone,
    InvalidRequest,
    JobCancelled,
    JobEnded,
    JobExpired,
    JobFailed,
    NotFound,
    NotReady,
    Overloaded,
    Refused,
    ServiceUnavailable,
    Unauthenticated,
    Unreachable,
    WaitTimeout,
    WebhookVerificationError,
)
from producers.client.evaluations import EvaluationJob
from producers.client.files import StoredFile
from producers.client.groups import Group, GroupResult, Member
from producers.client.jobs import Job
from producers.client.models import ModelVersion
from producers.client.verification import verify
from producers.client.webhooks import Webhook, WebhookSecret

__all__ = [
    "BadArgument",
    "Comparison",
    "Conflict",
    "EvaluationJob",
    "Forbidden",
    "Forebay",
    "ForebayError",
    "GateFailed",
    "Gone",
    "Group",
    "GroupResult",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobEnded",
    "JobExpired",
    "JobFailed",
    "Member",
    "ModelVersion",
    "NotFound",
    "NotReady",
    "Overloaded",
    "Part",
    "Refused",
    "ServiceUnavailable",
    "StoredFile",
    "Unauthenticated",
    "Unreachable",
    "WaitTimeout",
    "Webhook",
    "WebhookSecret",
    "WebhookVerificationError",
    "verify",
]
