"""Which jobs travel together: messages of one lane and one version. Pure.

A worker runs a version's jobs together and pays for a switch, so jobs of a version are gathered,
but never at the price of the order for long: a message goes as soon as it is full, and those begun
before it go first. So no job is overtaken by a message's worth of any other version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from storage.queue.envelope import WakeUp
from storage.queue.lanes import Lane, is_training_pool, queue_name
from storage.queue.messages import Message

LEAST_CHUNK = 16
CHUNKS_PER_WORKER = 4  # so many messages of one window for each worker, that each gets its share

Item: TypeAlias = tuple[Lane, str, str]  # lane, version id, job id


def chunk_size(window: int, workers: int, most: int) -> int:
    """Most ids in one message: many where the window is deep, few where workers must share it."""
    share = window // (CHUNKS_PER_WORKER * max(1, workers))
    return min(most, max(LEAST_CHUNK, share))


def messages(
    pool: str, items: Iterable[Item], size: int, new_id: Callable[[], str]
) -> Iterator[Message]:
    """The wake-ups for ``items``, in their order but for the gathering. A training travels alone:
    there is a place for it at one worker, and at another for the next."""
    size = 1 if is_training_pool(pool) else size
    open_chunks: dict[tuple[Lane, str], list[str]] = {}
    for lane, version_id, job_id in items:
        chunk = open_chunks.setdefault((lane, version_id), [])
        chunk.append(job_id)
        if len(chunk) == size:
            for begun in list(open_chunks):
                yield _message(pool, *begun, open_chunks.pop(begun), new_id())
                if begun == (lane, version_id):
                    break
    for (lane, version_id), chunk in open_chunks.items():
        yield _message(pool, lane, version_id, chunk, new_id())


def _message(pool: str, lane: Lane, version_id: str, ids: list[str], message_id: str) -> Message:
    return Message(message_id, queue_name(pool, lane), WakeUp(version_id, tuple(ids)))
