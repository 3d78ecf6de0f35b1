"""The wire message: a model version and ids of jobs that wait for it, and nothing else.

::

    {"v": 1, "version": "<id>", "jobs": ["<id>", …]}

Reading is strict, because anybody who reaches the broker can write: what is not exactly this is
an ``EnvelopeError`` and starts no work. A message that lies within this shape does no harm
either: ids are claimed in SQL, by compare-and-swap, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from storage.records.errors import InvalidInput
from storage.records.ids import is_id

WIRE_VERSION = 1
MAX_JOBS = 512  # the largest batch, twenty kilobytes; more would not be cheaper per job
_FIELDS = frozenset({"v", "version", "jobs"})


class EnvelopeError(InvalidInput):
    """This is no wake-up that we could have sent."""

    code = "bad_envelope"


@dataclass(frozen=True, slots=True)
class WakeUp:
    """Jobs that are ready, all of one model version."""

    version_id: str
    job_ids: tuple[str, ...]


def encode(wake_up: WakeUp) -> dict[str, object]:
    """The wake-up as JSON's types."""
    if not 1 <= len(wake_up.job_ids) <= MAX_JOBS:
        raise EnvelopeError(f"a wake-up carries 1 to {MAX_JOBS} jobs, not {len(wake_up.job_ids)}")
    return {"v": WIRE_VERSION, "version": wake_up.version_id, "jobs": list(wake_up.job_ids)}


def decode(message: Mapping[str, object]) -> WakeUp:
    """The wake-up in ``message``, or ``EnvelopeError``."""
    if not isinstance(message, Mapping):
        raise EnvelopeError(f"a wake-up is an object, not {type(message).__name__}")
    wire_version = message.get("v")
    if type(wire_version) is not int:  # True is an int, too
        raise EnvelopeError("a wake-up says its version in 'v'")
    if wire_version != WIRE_VERSION:
        raise EnvelopeError(
            f"wake-up version {wire_version} is not known here: this part speaks {WIRE_VERSION}"
        )
    if message.keys() != _FIELDS:
        raise EnvelopeError("a wake-up has the fields v, version and jobs, no more and no less")
    version_id, jobs = message["version"], message["jobs"]
    if not (isinstance(version_id, str) and is_id(version_id)):
        raise EnvelopeError("'version' of a wake-up is an id")
    if not isinstance(jobs, list | tuple) or not 1 <= len(jobs) <= MAX_JOBS:
        raise EnvelopeError(f"'jobs' of a wake-up is a list of 1 to {MAX_JOBS} ids")
    if not all(isinstance(job, str) and is_id(job) for job in jobs):
        raise EnvelopeError("'jobs' of a wake-up holds something that is no id")
    if len(set(jobs)) != len(jobs):
        raise EnvelopeError("'jobs' of a wake-up names a job twice")
    return WakeUp(version_id, tuple(jobs))
