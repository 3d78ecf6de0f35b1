"""``forebay models …``: the registry."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from producers.cli import compare, promotion, trials, versions
from producers.cli.connection import be_patient, connect
from producers.cli.exits import Exit, Failure, usage
from producers.cli.options import AsJson, TimeoutS
from producers.cli.output import note, say, say_fields, say_json, say_table
from producers.cli.version_page import show_version

# What an operator's installation adds: push past the API, for formats it does not take.
TrustedPush = Callable[
    [str, Path, Mapping[str, Any], str | None, Mapping[str, str | None]], Mapping[str, Any]
]

app = typer.Typer(no_args_is_help=True, help="Push models, look at them, move aliases.")
_VERBS: Sequence[Callable[..., None]] = (
    versions.card,
    versions.edit,
    versions.deprecate,
    versions.delete,
    trials.canary,
    trials.shadow,
    trials.trials,
    trials.stop_trial,
    promotion.promote,
    promotion.rollback,
    promotion.history,
    promotion.requeue,
)
for _verb in _VERBS:
    app.command()(_verb)
trusted_push: list[TrustedPush] = []  # filled by the composition root, empty in a bare install

Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]


@app.command()
def push(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .keras archive.")],
    input: Annotated[
        str | None, typer.Option(help="What callers send: tensor, image, text or record.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labels of the output, one a line.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Show so many labels with scores.")
    ] = None,
    options: Annotated[
        str | None,
        typer.Option(
            metavar="JSON|@FILE", help="Further push options (image, columns, scores, …)."
        ),
    ] = None,
    serving: Annotated[
        str | None,
        typer.Option(
            metavar="JSON|@FILE",
            help="How it is served: max_batch, latency_objective_ms, batch_sizes, pad, cost, …",
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Under which it may be used.")
    ] = None,
    notes: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What else there is to say of it.")
    ] = None,
    trusted: Annotated[
        bool,
        typer.Option(
            "--trusted",
            help="Operators only: also .h5 and SavedModel, straight to database and storage."
            " Such a model can run code on your workers.",
        ),
    ] = False,
    tenant: Annotated[
        str | None, typer.Option(help="With --trusted: whose model it is (default: default).")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until a worker loaded it.")] = False,
    timeout_s: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Push FILE as the next version of NAME."""
    sent = _options(input, labels, top_k, options, serving)
    if not file.exists():
        raise usage(f"there is no file {file}")
    if trusted:
        if wait:
            raise usage("--trusted writes past the API and cannot wait", "forebay models show NAME")
        said = {"licence": licence, "notes": notes}
        _show_version(_push_trusted(name, file, sent, tenant, said), as_json=as_json)
        return
    if tenant is not None:
        raise usage("--tenant goes with --trusted; over the API, the key says whose model it is")
    with connect() as client:
        version = client.models.push(name, file, options=sent, licence=licence, notes=notes)
        be_patient(client)
        if wait:
            version.wait(timeout_s)
    _show_version(version.document, as_json=as_json)
    if version.state == "broken":
        raise typer.Exit(Exit.FAILED)


def _options(
    input: str | None,
    labels: Path | None,
    top_k: int | None,
    options: str | None,
    serving: str | None,
) -> dict[str, Any]:
    from producers.client.models import read_labels

    sent: dict[str, Any] = {}
    if options is not None:
        sent.update(_json_object(options, "--options"))
    if serving is not None:
        sent["serving"] = _json_object(serving, "--serving")
    if input is not None:
        sent["input"] = input
    if top_k is not None:
        sent["top_k"] = top_k
    if labels is not None:
        sent["labels"] = read_labels(labels)
    return sent


def _json_object(given: str, option: str) -> dict[str, Any]:
    """JSON as it stands there, or in the file that ``@`` names."""
    try:
        text = Path(given[1:]).read_text("utf-8") if given.startswith("@") else given
        parsed = json.loads(text)
    except OSError as error:
        raise usage(f"cannot read {given[1:]}: {error.strerror or error}") from error
    except ValueError as error:
        raise usage(f"{option} is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise usage(f"{option} takes a JSON object")
    return parsed


def _push_trusted(
    name: str,
    file: Path,
    sent: Mapping[str, Any],
    tenant: str | None,
    said: Mapping[str, str | None],
) -> Mapping[str, Any]:
    if not trusted_push:
        raise Failure(
            "--trusted needs the server parts of Forebay on this machine",
            exit_code=Exit.USAGE,
            code="not_installed",
            hint="pip install 'forebay[server]', with FOREBAY_DATABASE_URL and"
            " FOREBAY_OBJECTS_URL set",
        )
    return trusted_push[0](name, file, sent, tenant, said)


def _show_version(document: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        say_json(document)
        return
    say(f"{document['name']}:{document['version']}  {document['state']}")
    if document.get("error"):
        note(f"forebay: {document['error']}")


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """Every model."""
    with connect() as client:
        found = list(client.models.list())
    if as_json:
        say_json(found)
        return
    rows = [
        (
            model["name"],
            model["latest_version"],
            _aliases(model.get("aliases")),
            model.get("created_at"),
        )
        for model in found
    ]
    say_table(("model", "latest", "aliases", "created"), rows, empty="no models")


@app.command()
def show(
    ref: Annotated[str, typer.Argument(metavar="NAME[:V]", help="A model, or one version of it.")],
    as_json: AsJson = False,
) -> None:
    """A model's versions, and what was measured of one: the newest, or NAME:V, or NAME@ALIAS."""
    name, _, alias = ref.partition("@")
    name, colon, number = name.partition(":")
    if colon and not number.isdecimal():
        raise usage(f"{ref!r} is not a version", "write NAME:NUMBER, as in digits:3")
    with connect() as client:
        model = client.models.show(name)
        if alias and alias not in model["aliases"]:
            raise usage(f"{name} has no alias {alias!r}", f"forebay models show {name}")
        chosen = model["aliases"][alias] if alias else int(number or _newest(model))
        version = client.models.version(name, chosen).document
    one = bool(number or alias)
    if as_json:
        say_json(version if one else {**model, "newest": version})
        return
    if not one:
        _show_model(model)
        say()
    show_version(version)


def _newest(model: Mapping[str, Any]) -> int:
    """The newest version that is not deleted, if there is one."""
    kept = [one["version"] for one in model.get("versions", ()) if one["state"] != "deleted"]
    return int(max(kept, default=model["latest_version"]))


def _show_model(model: Mapping[str, Any]) -> None:
    say_fields({"model": model["name"], "aliases": _aliases(model.get("aliases"))})
    rows = [
        (
            version["version"],
            version["state"],
            version["format"],
            f"{version['size_bytes']:,}",
            version["digest"][:12],
            version.get("created_at"),
            version.get("error"),
        )
        for version in model.get("versions", [])
    ]
    columns = ("version", "state", "format", "bytes", "sha256", "created", "error")
    say_table(columns, rows, empty="no versions")


@app.command()
def alias(
    name: Name,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="As in NAME@ALIAS.")],
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1)],
    expected: Annotated[
        int | None, typer.Option(help="Move it only if it stands at this version now.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Point NAME@ALIAS at VERSION, atomically."""
    with connect() as client:
        document = client.models.alias(name, alias, version, expected=expected)
    if as_json:
        say_json(document)
    else:
        say(f"{name}@{alias} is {name}:{document.get('version', version)}")


for _measuring in compare.VERBS:
    app.command()(_measuring)


def _aliases(aliases: Any) -> str:
    if isinstance(aliases, Mapping):
        return ", ".join(f"{alias}→{version}" for alias, version in aliases.items())
    if isinstance(aliases, list):
        return ", ".join(f"{entry['alias']}→{entry['version']}" for entry in aliases)
    return ""
