"""What data an evaluation is about, as one digest: two versions are only told apart on the same.

It covers the files in their order (address, format, size, and what pins the content, if the store
has that), which of their rows (``where``, a list of positions), and which column is the label.
Not the model, nor which columns go into it, nor what rows are told apart by: none of that changes
what is asked and what is so. Of a prefix of pictures it covers the addresses; the folders are the
labels. An uploaded file counts by its content, so that it may be uploaded once more for the next
version. Any other under another address is other data: nothing says that it is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import cast

import orjson

from storage.records.bulk import BulkSpec, Plan
from workers.bulk.files import LISTED, ONLY


def data_digest(
    spec: BulkSpec, plan: Plan, label: str | None, contents: Mapping[str, str] | None = None
) -> str:
    """SHA-256 hex. ``label`` as ``Asked`` has it; ``contents``: of uploaded files the SHA-256, by
    address."""
    known = contents or {}
    group = spec.evaluation.of_group if spec.evaluation is not None else None
    told: dict[str, object] = {
        "files": [
            [known[file.uri], file.format, file.gzip]
            if file.uri in known
            else [file.uri, file.format, file.gzip, file.size_bytes, file.digest]
            for file in plan.files
        ],
        "listed": plan.extra.get(LISTED) if group is None else None,
        "group": group,
        "where": [[one.column, one.op, one.value] for one in spec.input.where],
        "only": _only(plan),
        "label": label,
    }
    if group is not None:  # its inputs are written anew for each run
        told["files"] = []
    text = orjson.dumps(told, option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.sha256(text).hexdigest()


def _only(plan: Plan) -> object:
    """Which rows, where only some are scored: their file is another one each time."""
    noted = cast("Mapping[str, object] | None", plan.extra.get(ONLY))
    return None if noted is None else [noted["files"], noted["ranges"]]
