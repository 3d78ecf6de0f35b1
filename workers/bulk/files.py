"""The files of a planned run, opened as they were found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from storage.records.bulk import BulkFormat, BulkSpec, Plan
from workers.bulk.kit import Kit
from workers.bulk.places import Found, Place
from workers.bulk.ports import Positions, Source
from workers.bulk.reading.opening import found_again, open_source

LISTING = "listing"  # of a plan's notes: the key of a list that planning wrote into our own store
LISTED = "listed"  # SHA-256 hex of that list
TYPES = "types"  # of its columns, where the file does not say
ONLY = "only"  # the key of the positions that are to be scored, and where each file's lie in it
COLUMNS = "columns"  # of the parts, with their types
APART = "apart"  # how many positions lie between two rows, about


def open_planned(kit: Kit, tenant: str, spec: BulkSpec, plan: Plan, index: int) -> Source:
    """One file; ``InvalidInput`` (``file_changed``) when it is not the one that was planned."""
    file = plan.files[index]
    if LISTING in plan.extra:
        place = Place(kit.objects, str(plan.extra[LISTING]), file.uri)
    else:
        place = kit.places.find(tenant, file.uri)
    return open_found(kit, tenant, spec, plan.extra, found_again(place, file), file.format)


def open_found(
    kit: Kit,
    tenant: str,
    spec: BulkSpec,
    extra: Mapping[str, object],
    found: Found,
    form: BulkFormat,
    *,
    just_found: bool = False,
) -> Source:
    """A file that is there."""
    return open_source(
        found,
        form,
        types=cast("Mapping[str, str] | None", extra.get(TYPES)),
        where=spec.input.where,
        fetch=kit.refs.for_tenant(tenant),
        just_found=just_found,
    )


def only_of(kit: Kit, plan: Plan, index: int) -> Positions | None:
    """The positions of a file that are to be scored; None for all of them."""
    noted = plan.extra.get(ONLY)
    if noted is None:
        return None
    told = cast("dict[str, dict[str, list[int]] | str]", noted)
    places = cast("dict[str, list[int]]", told["files"])
    first, count = places[str(index)]
    data = kit.objects.get_range(str(told["key"]), first * 8, count * 8)
    return np.frombuffer(data, dtype="<i8").astype(np.int64)


def ranges_of(plan: Plan) -> list[tuple[int, int, int]] | None:
    """File, start and stop of what is to be scored; None for all of every file."""
    noted = plan.extra.get(ONLY)
    if noted is None:
        return None
    told = cast("dict[str, list[list[int]]]", noted)
    return [(file, start, stop) for file, start, stop in told["ranges"]]
