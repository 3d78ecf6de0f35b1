"""``forebay top``: workers, models, tenants and classes, live. All of it out of ``/metrics``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from producers.cli.connection import be_patient, connect
from producers.cli.exits import Exit, Failure
from producers.cli.exposition import NotMetrics, Page, parse_page
from producers.cli.options import AsJson
from producers.cli.output import note, say_json
from producers.cli.rates import Rates
from producers.cli.screen import hidden_names, screen
from producers.cli.top_tables import drawn, print_plainly

if TYPE_CHECKING:
    from producers.client import Forebay

NEWS_WITHIN_S = 7.0  # workers tell their figures every five seconds
LOOK_EVERY_S = 0.5
HIDDEN = (
    "the service does not show this caller the names of models and tenants:"
    " set FOREBAY_METRICS_TOKEN to the token that it has"
)


def top(
    once: Annotated[
        bool, typer.Option("--once", help="Print one look at the last few seconds, and end.")
    ] = False,
    interval_s: Annotated[
        float, typer.Option("--interval-s", min=0.2, help="Time between two looks.")
    ] = 2.0,
    as_json: AsJson = False,
) -> None:
    """What the workers are doing: devices, batches, backlog, models, tenants."""
    with connect() as client:
        try:
            if once:
                _one_look(client, as_json=as_json)
            else:
                _look_on(client, interval_s, as_json=as_json)
        except KeyboardInterrupt:
            raise typer.Exit(Exit.GOOD) from None  # the way to leave it


def _one_look(client: Forebay, *, as_json: bool) -> None:
    """Two pages, far enough apart that each worker has told something new in between."""
    rates = Rates()
    page = _read(client, rates)
    be_patient(client)
    first, deadline_s = dict(rates.last), time.monotonic() + NEWS_WITHIN_S
    while not rates.moved_since(first) and time.monotonic() < deadline_s:
        time.sleep(LOOK_EVERY_S)
        page = _read(client, rates)
    found = screen(page, rates)
    if as_json:
        say_json(found)
    else:
        print_plainly(found)
    if hidden_names(page):
        note(HIDDEN)


def _look_on(client: Forebay, interval_s: float, *, as_json: bool) -> None:
    rates = Rates()
    page = _read(client, rates)
    be_patient(client)
    if hidden_names(page):
        note(HIDDEN)
    with _display(as_json=as_json) as show:
        while True:
            show(screen(page, rates))
            time.sleep(interval_s)
            page = _read(client, rates)


def _read(client: Forebay, rates: Rates) -> Page:
    try:
        page = parse_page(client.metrics())
    except NotMetrics as error:
        raise Failure(
            f"{client.url} does not answer with figures: {error}",
            exit_code=Exit.USAGE,
            code="not_forebay",
            hint="FOREBAY_API_URL must be the address of a Forebay service",
        ) from error
    rates.feed(page)
    return page


class _Show(Protocol):
    def __call__(self, found: Mapping[str, Any], /) -> None: ...


@contextmanager
def _display(*, as_json: bool) -> Iterator[_Show]:
    if as_json:
        yield lambda found: say_json(found, compact=True)
    elif not sys.stdout.isatty():
        yield print_plainly
    else:
        with _live() as show:
            yield show


@contextmanager
def _live() -> Iterator[_Show]:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), screen=True, auto_refresh=False) as live:
        yield lambda found: live.update(drawn(found), refresh=True)
