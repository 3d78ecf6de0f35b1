"""A wake-up as Celery's protocol 2 wants it, without Celery.

``send_task`` costs a millisecond each, and brings retries and connections of its own. The
protocol is documented and small; a test sends one to a real worker.
"""

from __future__ import annotations

import json
from typing import Any

from storage.queue.envelope import encode
from storage.queue.messages import Message
from storage.queue.topology import INFER_TASK

_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def body_of(message: Message) -> bytes:
    """``[args, kwargs, embed]`` with the envelope as the only argument."""
    return json.dumps([[encode(message.wake_up)], {}, _EMBED], separators=(",", ":")).encode()


def headers_of(message: Message) -> dict[str, Any]:
    return {
        "lang": "py",
        "task": INFER_TASK,
        "id": message.id,
        "root_id": message.id,
        "parent_id": None,
        "group": None,
        "retries": 0,
        "ignore_result": True,
        "argsrepr": f"{len(message.wake_up.job_ids)} jobs",
        "kwargsrepr": "",
    }


def properties_of(message: Message) -> dict[str, Any]:
    return {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,  # persistent
        "message_id": message.id,
        "correlation_id": message.id,
    }
