"""The command's frame: a user's verbs, and how every verb ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import typer

from producers.cli import groups, jobs, models, webhooks
from producers.cli.bulk import bulk
from producers.cli.evaluate import evaluate
from producers.cli.exits import Exit, Failure, from_client
from producers.cli.output import complain
from producers.cli.replay import replay
from producers.cli.sources import split_json_flag
from producers.cli.submit import submit
from producers.cli.top import top
from producers.cli.train import train

Translate = Callable[[Exception], Failure | None]


def build_app() -> typer.Typer:
    """The verbs that speak to a service over its API."""
    app = typer.Typer(
        name="forebay",
        help="Durable asynchronous inference: submit work, collect answers.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: rich alone would cost a third of its time
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(submit)
    app.command()(bulk)
    app.command()(train)
    app.command()(evaluate)
    app.command()(replay)
    app.command()(top)
    app.add_typer(jobs.app, name="jobs")
    app.add_typer(groups.app, name="groups")
    app.add_typer(models.app, name="models")
    app.add_typer(webhooks.app, name="webhooks")
    return app


def run(
    app: typer.Typer, argv: Sequence[str], translators: Sequence[Translate] = (from_client,)
) -> int:
    """Run one command line; expected errors become a message and an exit code, never a trace."""
    as_json = "--json" in argv
    try:
        app(split_json_flag(argv), standalone_mode=True)
    except SystemExit as end:
        return _code(end)
    except Failure as failure:
        complain(failure, as_json=as_json)
        return failure.exit_code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader went away (| head): nothing is left to be said to anyone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.GOOD
    except Exception as error:
        for translate in translators:
            known = translate(error)
            if known is not None:
                complain(known, as_json=as_json)
                return known.exit_code
        raise
    return Exit.GOOD


def _code(end: SystemExit) -> int:
    if isinstance(end.code, int):
        return end.code
    return Exit.GOOD if end.code is None else Exit.FAILED
