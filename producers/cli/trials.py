"""``forebay models canary|shadow|trials|stop-trial``: candidates beside an alias's version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from producers.cli.connection import be_patient, connect
from producers.cli.exits import Exit, usage
from producers.cli.options import AsJson, TimeoutS
from producers.cli.output import say, say_json, say_table

Candidate = Annotated[str, typer.Argument(metavar="NAME:V", help="The candidate, as in digits:4.")]
Of = Annotated[str, typer.Option("--of", metavar="ALIAS", help="Beside what this stands for.")]
Share = Annotated[float, typer.Option(min=0.0, max=1.0, help="Of what is submitted to the alias.")]
ErrorShare = Annotated[
    float | None,
    typer.Option("--max-error-share", min=0.0, max=1.0, help="Failed jobs (default: 0.05)."),
]
LatencyRatio = Annotated[
    float | None,
    typer.Option("--max-latency-ratio", help="Its p95 to that of the other version."),
]
LatencyMs = Annotated[float | None, typer.Option("--max-latency-ms", help="Its p95.")]
Disagreement = Annotated[
    float | None,
    typer.Option(
        "--max-disagreement",
        min=0.0,
        max=1.0,
        help="Answers that differ, of inputs that both versions score.",
    ),
]
MinJobs = Annotated[
    int | None, typer.Option("--min-jobs", min=1, help="Before a share counts (default: 50).")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")]
Target = Annotated[str, typer.Argument(metavar="NAME@ALIAS", help="As in digits@prod.")]


def canary(
    ref: Candidate,
    of: Of,
    share: Share = 0.05,
    error_share: ErrorShare = None,
    latency_ratio: LatencyRatio = None,
    latency_ms: LatencyMs = None,
    disagreement: Disagreement = None,
    min_jobs: MinJobs = None,
    wait: Wait = False,
    timeout_s: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Have a version answer a share of what is submitted to an alias; it returns by itself."""
    limits = _limits(error_share, latency_ratio, latency_ms, disagreement, min_jobs)
    _start("canary", ref, of, share, limits, wait=wait, timeout_s=timeout_s, as_json=as_json)


def shadow(
    ref: Candidate,
    of: Of,
    share: Share = 0.05,
    error_share: ErrorShare = None,
    latency_ratio: LatencyRatio = None,
    latency_ms: LatencyMs = None,
    disagreement: Disagreement = None,
    min_jobs: MinJobs = None,
    wait: Wait = False,
    timeout_s: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Have a version score a share of an alias's inputs once more, unseen, and compare."""
    limits = _limits(error_share, latency_ratio, latency_ms, disagreement, min_jobs)
    _start("shadow", ref, of, share, limits, wait=wait, timeout_s=timeout_s, as_json=as_json)


def trials(target: Target, as_json: AsJson = False) -> None:
    """The trials beside an alias, and what was seen of each."""
    name, alias = _target(target)
    with connect() as client:
        found = [one.document for one in client.models.trials(name, alias)]
    if as_json:
        say_json(found)
        return
    rows = [
        (
            one["id"],
            one["kind"],
            f"{name}:{one['candidate']}",
            f"{one['share']:g}",
            one["state"],
            _seen(one),
            one["reason"] or "",
        )
        for one in found
    ]
    columns = ("trial", "kind", "candidate", "share", "state", "seen", "reason")
    say_table(columns, rows, empty=f"no trials beside {target}")


def stop_trial(target: Target, as_json: AsJson = False) -> None:
    """End the trial that runs beside an alias; its queued jobs go to the alias's version."""
    name, alias = _target(target)
    with connect() as client:
        running = [one for one in client.models.trials(name, alias) if one.state == "running"]
        if not running:
            raise usage(f"no trial runs beside {target}", f"forebay models trials {target}")
        stopped = running[0].stop().document
    if as_json:
        say_json(stopped)
    else:
        say(f"{name}:{stopped['candidate']}  stopped, {stopped['repointed']:,} jobs given back")


def _start(
    kind: str,
    ref: str,
    alias: str,
    share: float,
    limits: Mapping[str, float],
    *,
    wait: bool,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    with connect() as client:
        begin = client.models.canary if kind == "canary" else client.models.shadow
        trial = begin(ref, alias, share=share, limits=limits or None)
        if wait:
            be_patient(client)
            trial.wait(timeout_s)
    document = trial.document
    if as_json:
        say_json(document)
    elif trial.state == "running":
        base = f"{document['name']}:{document['base']}"
        say(f"{ref} beside {base}  {kind} of {share:g}  {document['id']}")
    else:
        say(f"{ref}  {trial.state}: {trial.reason}")
    if trial.state == "returned":
        raise typer.Exit(Exit.FAILED)


def _limits(
    error_share: float | None,
    latency_ratio: float | None,
    latency_ms: float | None,
    disagreement: float | None,
    min_jobs: int | None,
) -> dict[str, float]:
    told = {
        "error_share": error_share,
        "latency_ratio": latency_ratio,
        "latency_ms": latency_ms,
        "disagreement": disagreement,
        "min_jobs": min_jobs,
    }
    return {name: value for name, value in told.items() if value is not None}


def _seen(trial: Mapping[str, Any]) -> str:
    """Jobs, failures, p95 and disagreement, as far as there are any."""
    candidate = trial["seen"].get("candidate") or {}
    told = []
    if candidate.get("jobs"):
        told.append(f"{candidate['failed']} of {candidate['jobs']} failed")
    if candidate.get("p95_ms") is not None:
        told.append(f"p95 {candidate['p95_ms']:.0f} ms")
    if trial["compared"]:
        told.append(f"{trial['disagreed']} of {trial['compared']} differ")
    return ", ".join(told)


def _target(target: str) -> tuple[str, str]:
    name, at, alias = target.partition("@")
    if not (name and at and alias):
        raise usage(f"{target!r} is no alias", "write NAME@ALIAS, as in digits@prod")
    return name, alias
