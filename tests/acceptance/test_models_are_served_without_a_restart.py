"""What is pushed while workers run is served, and names move atomically between versions."""

from __future__ import annotations

from pathlib import Path

from tests.support.caller import Caller, only_output, tensor
from tests.support.stack import Stack
from tests.support.zoo import Zoo


def test_a_pushed_version_is_served_and_an_alias_moves(caller: Caller, zoo: Zoo) -> None:
    first = caller.push("moving", zoo.echo)
    assert (first["name"], first["version"]) == ("moving", 1)
    assert only_output(caller.ask("moving", tensor(1, 2))) == [1, 2], "served though just pushed"
    alias = caller.http.put("/v1/models/moving/aliases/prod", json={"version": 1})
    assert alias.status_code == 200, alias.text
    assert only_output(caller.ask("moving@prod", tensor(3, 4))) == [3, 4]

    assert caller.push("moving", zoo.double)["version"] == 2
    assert only_output(caller.ask("moving", tensor(1, 2))) == [2, 4]
    assert only_output(caller.ask("moving@prod", tensor(1, 2))) == [1, 2], "still version 1"
    assert only_output(caller.ask("moving:1", tensor(1, 2))) == [1, 2]

    stale = {"version": 2, "expected": 2}
    refused = caller.http.put("/v1/models/moving/aliases/prod", json=stale)
    assert refused.status_code == 409, refused.text
    moved = caller.http.put("/v1/models/moving/aliases/prod", json={"version": 2, "expected": 1})
    assert moved.status_code == 200, moved.text
    job = caller.finish(caller.submit("moving@prod", tensor(1, 2))["id"])
    assert job["model"] == "moving:2", "the version is resolved at submit and recorded"

    shown = caller.http.get("/v1/models/moving").json()
    assert [version["version"] for version in shown["versions"]] in ([1, 2], [2, 1])
    assert {version["state"] for version in shown["versions"]} == {"ready"}
    assert shown["aliases"] == {"prod": 2}


def test_the_same_by_the_command(stack: Stack, models: None, zoo: Zoo, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("dark\nbright\n")
    pushed = stack.run(
        *("models", "push", "shades", str(zoo.picture), "--input", "image"),
        *("--labels", str(labels), "--json"),
    )
    assert pushed.returncode == 0, pushed.stderr
    shown = stack.run("models", "show", "shades", "--json")
    assert shown.returncode == 0, shown.stderr
    assert '"shades"' in shown.stdout
    named = stack.run("models", "alias", "shades", "best", "1")
    assert named.returncode == 0, named.stdout + named.stderr
