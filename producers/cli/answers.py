"""A job and its result in one line for people, or as documents for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from producers.cli import training_answers
from producers.cli.bulk_answers import end_of_bulk, told
from producers.cli.evaluation_answers import end_of_evaluation
from producers.cli.exits import Exit, of_states
from producers.cli.output import note, say, say_fields, say_json

if TYPE_CHECKING:
    from producers.client import Group, Job

BULK_KINDS = ("bulk", "evaluation")  # whose rows are counted as they are scored
LINE = 100  # characters of a result shown in a line


def brief(result: Any) -> str:
    """A result in one line: its labels with scores, or its first values."""
    if not isinstance(result, Mapping):
        return _short(result)
    if isinstance(result.get("items"), list):
        shown = [brief(item) for item in result["items"][:5]]
        more = len(result["items"]) - len(shown)
        return " | ".join(shown) + (f" | … {more} more" if more > 0 else "")
    if "error" in result:
        return f"error: {result['error'].get('message', result['error'])}"
    if result.get("top"):
        return "  ".join(f"{best['label']} {best['score']:.3f}" for best in result["top"])
    if "label" in result:
        return str(result["label"])
    outputs = result.get("outputs", result)
    return "  ".join(f"{name}={_short(value)}" for name, value in outputs.items())


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LINE else text[: LINE - 1] + "…"


def show_job(job: Job) -> None:
    """All there is to know of a job."""
    document = job.document
    named = ("id", "state", "model", "kind", "group", "custom_id", "priority", "metadata")
    times = ("created_at", "started_at", "finished_at", "expires_at", "cancel_requested_at")
    fields = {name: document.get(name) for name in (*named, *times, "retry_of")}
    fields["attempts"] = f"{document.get('attempts', 0)} of {document.get('max_attempts', '?')}"
    if document.get("kind") in BULK_KINDS:
        fields["progress"] = told(job.progress)
        fields["device"] = f"{job.progress.get('device_s') or 0:,.1f} s"
    if job.training:
        fields["progress"] = training_answers.told(job.training)
        if at := job.training.get("checkpoint"):
            fields["checkpoint"] = f"after step {at['step']:,}, {at['made_at']}"
    if job.error:
        fields["error"] = f"{job.error.get('code')}: {job.error.get('message')}"
    say_fields(fields)


def end_of_job(job: Job, *, as_json: bool, name: str | None = None) -> Exit:
    """Print how a job ended, with its result."""
    if job.document.get("kind") == "bulk":
        return end_of_bulk(job, as_json=as_json, name=name)
    if job.document.get("kind") == "evaluation":
        return end_of_evaluation(job, as_json=as_json, name=name)
    if job.document.get("kind") == "training":
        return training_answers.end_of_training(job, as_json=as_json, name=name)
    result = job.result if job.state == "succeeded" else None
    if as_json:
        say_json(dict(job.document) | ({"result": result} if result is not None else {}))
    elif job.state == "succeeded":
        say(f"{name}  {brief(result)}" if name else brief(result))
    else:
        why = f": {job.error.get('code')}: {job.error.get('message')}" if job.error else ""
        note(f"forebay: job {job.id} {job.state}{why}")
    return of_states([job.state])


def counts_text(counts: Mapping[str, int]) -> str:
    """``998 succeeded, 2 failed``."""
    shown = [f"{count:,} {state}" for state, count in counts.items() if count]
    return ", ".join(shown) or "empty"


def end_of_group(group: Group) -> Exit:
    """The exit code of a group: good only when every job succeeded."""
    return of_states(state for state, count in group.counts.items() if count)
