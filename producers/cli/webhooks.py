"""``forebay webhooks …``: where events go, what signs them, what was tried, and once more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.cli.connection import connect
from producers.cli.exits import usage
from producers.cli.options import AsJson
from producers.cli.output import note, say, say_fields, say_json, say_table

if TYPE_CHECKING:
    from producers.client import Webhook, WebhookSecret

app = typer.Typer(
    no_args_is_help=True, help="Be told when work is over: endpoints, secrets, attempts, replays."
)

WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="An endpoint's id.")]
MaybeWebhookId = Annotated[
    str | None, typer.Argument(metavar="[WEBHOOK]", help="Without one: the tenant's secret.")
]
Events = Annotated[
    list[str] | None,
    typer.Option(
        "--event",
        metavar="EVENT",
        help="job.succeeded, job.failed, job.cancelled, job.expired, group.completed; of batches"
        " batch.completed, batch.failed, batch.cancelled, batch.expired; or '*'.",
    ),
]
SecretFile = Annotated[
    Path | None,
    typer.Option(
        "--secret-file",
        metavar="FILE",
        help="A secret of your own (whsec_…); - reads standard input. Not on the command line,"
        " where others could see it.",
    ),
]


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are sent.")],
    event: Events = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    own_secret: Annotated[
        bool, typer.Option("--own-secret", help="Make a secret for this endpoint alone.")
    ] = False,
    secret_file: SecretFile = None,
    as_json: AsJson = False,
) -> None:
    """Register an endpoint; prints the secret that its deliveries are signed with."""
    if own_secret and secret_file is not None:
        raise usage("--own-secret makes one, --secret-file brings one: take one of them")
    secret = "own" if own_secret else _read_secret(secret_file)
    with connect() as client:
        made = client.webhooks.add(
            url, events=event or ["*"], description=description, secret=secret
        )
    if as_json:
        say_json({**made.document, "secret": made.secret})
    else:
        say_fields({"webhook": made.id, "secret": made.secret})
        note(f"told of {', '.join(made.events)}; try it: forebay webhooks test {made.id}")


@app.command("list")
def list_webhooks(
    url: Annotated[
        str | None,
        typer.Option(help="Only this URL, also if it came with a job's own webhook."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Endpoints, newest first."""
    with connect() as client:
        found = list(client.webhooks.list(url=url))
    if as_json:
        say_json([one.document for one in found])
        return
    rows = [(one.id, one.url, ",".join(one.events) or "its jobs", _state(one)) for one in found]
    say_table(("webhook", "url", "events", "state"), rows, empty="no webhooks")


@app.command()
def show(webhook: WebhookId, as_json: AsJson = False) -> None:
    """What is known of an endpoint."""
    with connect() as client:
        _show(client.webhooks.get(webhook), as_json=as_json)


@app.command()
def change(
    webhook: WebhookId,
    event: Events = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell an endpoint of other events."""
    if event is None and description is None:
        raise usage("nothing to change: give --event or --description")
    with connect() as client:
        _show(
            client.webhooks.change(webhook, events=event, description=description), as_json=as_json
        )


@app.command()
def enable(webhook: WebhookId, as_json: AsJson = False) -> None:
    """Switch an endpoint on; what came before can be replayed."""
    with connect() as client:
        _show(client.webhooks.change(webhook, enabled=True), as_json=as_json)


@app.command()
def disable(webhook: WebhookId, as_json: AsJson = False) -> None:
    """Switch an endpoint off; what waits for it is given up."""
    with connect() as client:
        _show(client.webhooks.change(webhook, enabled=False), as_json=as_json)


@app.command()
def remove(webhook: WebhookId, as_json: AsJson = False) -> None:
    """Forget an endpoint."""
    with connect() as client:
        client.webhooks.remove(webhook)
    if as_json:
        say_json({"removed": webhook})
    else:
        note(f"removed {webhook}")


@app.command()
def test(webhook: WebhookId, as_json: AsJson = False) -> None:
    """Send an event webhook.test to an endpoint."""
    with connect() as client:
        event = client.webhooks.test(webhook)
    if as_json:
        say_json({"event": event})
    else:
        say(event)
        note(f"on its way; what came of it: forebay webhooks attempts {webhook}")


@app.command()
def replay(
    webhook: WebhookId,
    event: Annotated[
        str | None,
        typer.Argument(metavar="[EVENT]", help="A webhook-id, or the id of a job or group."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="RFC 3339, as in 2026-05-01T12:00:00Z.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Up to then; without it, up to now.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Deliver again: one EVENT, or all that it wants since a time."""
    if (event is None) == (since is None) or (until is not None and since is None):
        raise usage("give one EVENT, or --since and perhaps --until")
    with connect() as client:
        count = client.webhooks.replay(webhook, event, since=since, until=until)
    if as_json:
        say_json({"deliveries": count})
    else:
        say(f"{count:,} on their way again")


@app.command()
def secret(as_json: AsJson = False) -> None:
    """The tenant's secret, which signs unless an endpoint has its own."""
    with connect() as client:
        _say_secret(client.webhooks.secret(), as_json=as_json)


@app.command()
def rotate(
    webhook: MaybeWebhookId = None,
    overlap_s: Annotated[
        int | None,
        typer.Option("--overlap-s", min=0, help="The old one signs as well for so long (a day)."),
    ] = None,
    secret_file: SecretFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a new secret, for an endpoint or for the tenant."""
    given = _read_secret(secret_file)
    with connect() as client:
        made = client.webhooks.rotate(webhook, overlap_s=overlap_s, secret=given)
    _say_secret(made, as_json=as_json)


@app.command()
def attempts(
    webhook: WebhookId,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """What was tried at an endpoint, newest first."""
    with connect() as client:
        found = list(client.webhooks.attempts(webhook, limit=limit))
    if as_json:
        say_json(found)
        return
    rows = [
        (
            one["started_at"],
            one["event"],
            one["number"],
            one["result"],
            one["status"],
            f"{one['duration_ms']} ms",
            one["error"],
        )
        for one in found
    ]
    columns = ("started", "event", "try", "result", "status", "took", "error")
    say_table(columns, rows, empty="nothing was tried yet")


def _show(webhook: Webhook, *, as_json: bool) -> None:
    if as_json:
        say_json(webhook.document)
        return
    left_out = ("links", "listed", "enabled", "disabled_reason")
    fields: dict[str, Any] = {
        name: value for name, value in webhook.document.items() if name not in left_out
    }
    say_fields(fields | {"events": ", ".join(webhook.events), "state": _state(webhook)})


def _state(webhook: Webhook) -> str:
    document = webhook.document
    if not webhook.enabled:
        return f"off ({document['disabled_reason']})"
    if document["paused_until"]:
        return f"failing, left alone until {document['paused_until']}"
    return f"on, failed {document['failures']} times" if document["failures"] else "on"


def _say_secret(secret: WebhookSecret, *, as_json: bool) -> None:
    if as_json:
        say_json({"secret": secret.secret, "previous_until": secret.previous_until})
        return
    say(secret.secret)
    if secret.previous_until:
        note(f"the one before signs as well until {secret.previous_until}")


def _read_secret(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise usage(f"cannot read a secret from {file}: {error}") from error
    return text.strip()
