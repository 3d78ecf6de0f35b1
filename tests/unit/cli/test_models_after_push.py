"""``forebay models card|edit|deprecate|delete``, and what the SDK does for them."""

from __future__ import annotations

import json
import sys

import pytest

import producers.cli.models
from producers.client import Forebay
from producers.client.errors import BadArgument
from tests.unit.client.fake_service import problem


@pytest.fixture
def digits(service):
    service.versions = {
        number: {"version": int(number), "state": state, "licence": None, "notes": None}
        for number, state in {"1": "ready", "2": "ready", "3": "deprecated", "4": "deleted"}.items()
    }
    service.models["digits"] = {
        "name": "digits",
        "latest_version": 4,
        "aliases": {"prod": 1},
        "versions": list(service.versions.values()),
    }
    return service


def bodies(service, method):
    return [json.loads(one.content) for one in service.requests if one.method == method]


@pytest.mark.parametrize(
    ("ref", "meant"), [("digits:4", 4), ("digits@prod", 1), ("digits", 2), ("digits:3", 3)]
)
def test_a_reference_means_what_it_would_in_a_submit(digits, ref, meant):
    with Forebay(transport=digits.transport) as client:
        assert client.models.get(ref).version == meant


@pytest.mark.parametrize("ref", ["digits:x", "digits:", "digits@nope", "digits:1@prod"])
def test_a_wrong_reference_is_refused_before_anything_is_done(digits, ref):
    with Forebay(transport=digits.transport) as client, pytest.raises(BadArgument):
        client.models.get(ref)


def test_a_card_is_written_as_markdown(forebay, digits, tmp_path):
    assert forebay("models", "card", "digits@prod") == (0, "# digits:1\n", "")
    file = tmp_path / "card.md"
    assert forebay("models", "card", "digits:3", "--output", file) == (0, "", "")
    assert file.read_text() == "# digits:3\n"
    code, _, err = forebay("models", "card", "digits:3", "--output", tmp_path / "no" / "x.md")
    assert code == 2 and "cannot write" in err


def test_a_card_is_written_as_json(forebay, digits, tmp_path):
    assert json.loads(forebay("models", "card", "digits:3", "--json")[1]) == {"model": "digits:3"}
    file = tmp_path / "card.json"
    forebay("models", "card", "digits:3", "--json", "--output", file)
    assert json.loads(file.read_text()) == {"model": "digits:3"}


def test_what_is_said_of_a_version_is_changed(forebay, digits):
    assert forebay("models", "edit", "digits:1", "--licence", "MIT") == (
        *(0, "digits:1: changed\n", ""),
    )
    _, out, _ = forebay("models", "edit", "digits:1", "--licence", "", "--notes", "n", "--json")
    assert json.loads(out)["notes"] == "n"
    assert bodies(digits, "PATCH") == [{"licence": "MIT"}, {"licence": "", "notes": "n"}]
    code, _, err = forebay("models", "edit", "digits:1")
    assert code == 2 and "nothing to change" in err


def test_a_version_is_deprecated_and_restored(forebay, digits):
    assert forebay("models", "deprecate", "digits:2")[1] == "digits:2  deprecated\n"
    assert forebay("models", "deprecate", "digits:2", "--undo")[1] == "digits:2  ready\n"
    assert bodies(digits, "PATCH") == [{"state": "deprecated"}, {"state": "ready"}]


def test_a_version_is_deleted_by_who_is_sure(forebay, digits, monkeypatch):
    code, _, err = forebay("models", "delete", "digits:1")
    assert code == 2 and "--yes" in err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(
        "typer.confirm", lambda text, abort, err: (_ for _ in ()).throw(SystemExit(1))
    )
    assert forebay("models", "delete", "digits:1")[0] == 1
    assert not [one for one in digits.requests if one.method == "DELETE"]
    code, out, _ = forebay("models", "delete", "digits:1", "--yes")
    assert (code, out) == (0, "digits:1  deleted\nmade from it, and still there: digits:9\n")
    assert json.loads(forebay("models", "delete", "digits:1", "--yes", "--json")[1])["state"] == (
        "deleted"
    )


def test_what_is_in_use_says_by_whom(forebay, digits):
    refusal = problem(409, "version_in_use", "digits:1 is in use by 1 alias (digits@prod)")
    real = digits._route
    digits._route = lambda method, *rest: refusal if method == "DELETE" else real(method, *rest)
    code, _, err = forebay("models", "delete", "digits:1", "--yes")
    assert code != 0 and "digits@prod" in err


def test_a_push_says_licence_and_notes(forebay, digits, tmp_path):
    (tmp_path / "m.keras").write_bytes(b"x")
    forebay("models", "push", "m", tmp_path / "m.keras", "--licence", "MIT", "--notes", "of June")
    sent = digits.requests[-1].content
    assert b'name="licence"\r\n\r\nMIT' in sent and b'name="notes"\r\n\r\nof June' in sent
    forebay("models", "push", "m", tmp_path / "m.keras")
    assert b"licence" not in digits.requests[-1].content


def test_show_says_who_pushed_it_and_what_is_said_of_it(forebay, digits):
    digits.versions["2"] |= {"uploader": "fbk_12345678", "licence": "MIT", "notes": "of June"}
    digits.versions["2"] |= {"format": "keras", "size_bytes": 1, "digest": "d" * 64}
    out = forebay("models", "show", "digits:2")[1]
    for said in ("fbk_12345678", "MIT", "of June"):
        assert said in out
    for one in digits.versions.values():
        one.update({"format": "keras", "size_bytes": 1, "digest": "d" * 64})
    assert "digits:3" in forebay("models", "show", "digits")[1], "the newest that is not deleted"


def test_an_operators_push_says_them_too(forebay, monkeypatch, tmp_path):
    (tmp_path / "m.h5").write_bytes(b"x")
    told = []

    def push(*given):
        told.append(given)
        return {"name": "m", "version": 1, "state": "pending"}

    monkeypatch.setattr(producers.cli.models, "trusted_push", [push])
    forebay("models", "push", "m", tmp_path / "m.h5", "--trusted", "--licence", "MIT")
    assert told[0][3:] == (None, {"licence": "MIT", "notes": None})
