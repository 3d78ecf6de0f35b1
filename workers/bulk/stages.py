"""What is read of a run's files, and who turns it into what the model takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from storage.records.bulk import BulkFormat, BulkSpec, Plan
from storage.records.errors import InvalidInput
from storage.records.signatures import Signature
from workers.bulk.decode import ChunkDecoder
from workers.bulk.evaluating.asked import asked_of
from workers.bulk.kit import Kit


@dataclass(frozen=True, slots=True)
class Stages:
    """Of one run's shards."""

    decoder: ChunkDecoder
    columns: tuple[str, ...]  # that are read
    kept: tuple[str, ...]  # those of them that are written beside the prediction


def stages_of(kit: Kit, tenant: str, spec: BulkSpec, plan: Plan, signature: Signature) -> Stages:
    """Raises ``InvalidInput`` when the columns do not fit the model, or are not there."""
    form = plan.files[0].format
    decoder = ChunkDecoder(
        signature,
        spec.input.columns,
        plan.columns,
        format=form,
        crew=kit.parts.crew,
        fetch_ref=kit.refs.for_tenant(tenant),
    )
    kept = _kept(spec, plan, form)
    extra = tuple(name for name in kept if name not in decoder.columns)
    return Stages(decoder, (*decoder.columns, *extra), kept)


def _kept(spec: BulkSpec, plan: Plan, form: BulkFormat) -> tuple[str, ...]:
    """The columns that go along; of requests and pictures never what the model was shown."""
    asked = asked_of(spec, plan.columns, form)
    shown = {
        BulkFormat.REQUESTS: ("custom_id",),
        BulkFormat.URIS: ("uri",),
        BulkFormat.IMAGES: ("uri",),
    }.get(form)
    if shown is not None:
        return shown
    if spec.output.join:
        return plan.columns
    for name in spec.output.keep:
        if name not in plan.columns:
            raise InvalidInput(
                f"output.keep names {name!r}, which is no column of the input; it has"
                f" {', '.join(plan.columns)[:500]}",
                code="unknown_column",
                field="output.keep",
            )
    judged = asked.kept if asked is not None else ()
    return tuple(dict.fromkeys((*judged, *spec.output.keep)))


def types_in(
    spec: BulkSpec,
    signature: Signature,
    columns: Sequence[str],
    form: BulkFormat,
    sample: Callable[[Sequence[str]], Mapping[str, str]],
) -> dict[str, str]:
    """The types that a text file's columns are read with. ``sample`` tells them of some rows, given
    the columns that are to hold numbers; the model has the last word, as rows behind the sample may
    have a fraction where those in it have none."""
    decoder = ChunkDecoder(signature, spec.input.columns, columns, format=form)
    return decoder.types(sample(decoder.numbers))
