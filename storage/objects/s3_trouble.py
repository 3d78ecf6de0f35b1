"""Tells what an error of boto3 means, and what to do about it."""

from __future__ import annotations

from typing import Any

from storage.records.errors import (
    ForebayError,
    InvalidInput,
    NotFound,
    ObjectCorrupt,
    ObjectsMisconfigured,
    ObjectsUnavailable,
)

TAKEN = frozenset({"PreconditionFailed", "412"})
ASK_AGAIN = frozenset({"ConditionalRequestConflict", "OperationAborted", "409"})
_NO_OBJECT = frozenset({"NoSuchKey", "404", "NotFound"})
_CLOCK = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_PASSED = frozenset({"ExpiredToken", "ExpiredTokenException", "InvalidToken"})
_TRANSIENT = frozenset({"RequestTimeout", "IncompleteBody", "BadDigest", "ThrottlingException"})
_NO_KEYS = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError")
_SETTINGS = ("InvalidRegionError", "InvalidEndpoint", "ProfileNotFound", "NoRegionError")


def code_of(error: Exception) -> str:
    """The store's own code of a refusal; empty for anything else."""
    return str(_answer(error).get("Error", {}).get("Code", ""))


def was_repeated(error: Exception) -> bool:
    """Whether boto3 had sent the request before without learning what became of it."""
    return int(_answer(error).get("ResponseMetadata", {}).get("RetryAttempts", 0)) > 0


def is_transport(error: Exception) -> bool:
    """Whether the way to the store failed, as against the store's answer or our own files."""
    theirs = type(error).__module__.startswith(("botocore.", "boto3.", "urllib3."))
    return (theirs and not _answer(error)) or isinstance(error, ConnectionError | TimeoutError)


def explain(where: str, key: str, error: Exception) -> ForebayError | None:
    """Our error for one of boto3's; ``None`` for an error that is not of its making."""
    if _answer(error):
        return _explain_refusal(where, key, error)
    if not is_transport(error):
        return None
    name = type(error).__name__
    if name in _NO_KEYS:
        return ObjectsMisconfigured(
            f"there are no keys for {where}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if name in _SETTINGS:
        return ObjectsMisconfigured(f"boto3 cannot reach {where} as it is set up: {error}")
    if name == "SSLError":
        return ObjectsMisconfigured(
            f"{where} is not trusted ({error}): set AWS_CA_BUNDLE, or its address to http://"
        )
    return ObjectsUnavailable(
        f"{where} does not answer ({name}): check that it runs and that AWS_ENDPOINT_URL_S3 is"
        " its address"
    )


def _explain_refusal(where: str, key: str, error: Exception) -> ForebayError:
    code, answer = code_of(error), _answer(error)
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        return missing_bucket(where)
    if code in _NO_OBJECT:
        return NotFound(f"there is no object {key}", code="object_not_found")
    if code == "InvalidRange" or status == 416:
        return ObjectCorrupt(f"{key} ends before the range that was asked for")
    if code == "KeyTooLongError":
        return InvalidInput(f"{key[:120]!r} is too long for {where}", code="invalid_key")
    if code in _CLOCK:
        return ObjectsMisconfigured(f"{where} says that this machine's clock is wrong ({code})")
    if code in _PASSED:
        return ObjectsMisconfigured(f"{where} says that the keys have run out ({code})")
    if status in (401, 403):
        return ObjectsMisconfigured(
            f"{where} refuses these keys ({code or status}): check AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY, and that they may list the bucket and get, put and delete"
            " its objects"
        )
    if status in (301, 307, 400, 501) and code not in _TRANSIENT:
        return ObjectsMisconfigured(
            f"{where} cannot do what was asked ({code or status}): check AWS_REGION and"
            " AWS_ENDPOINT_URL_S3, and that the server knows If-None-Match"
        )
    return ObjectsUnavailable(f"{where} is in trouble ({code or status}): look after the server")


def missing_bucket(where: str) -> ObjectsMisconfigured:
    """What is said of a bucket that is not there."""
    return ObjectsMisconfigured(f"{where} does not exist: create it, or correct its name")


def _answer(error: Exception) -> dict[str, Any]:
    answer = getattr(error, "response", None)
    return answer if isinstance(answer, dict) else {}
