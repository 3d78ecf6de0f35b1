"""The SDK and the command move aliases of the real service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebay import Forebay
from producers.cli.app import build_app, run
from producers.client import Conflict, GateFailed, InvalidRequest
from storage.records.evaluations import Evaluation
from tests.support.api import ApiHouse, new_id


@pytest.fixture
def versions(house: ApiHouse) -> dict[int, str]:
    """Two ready versions of ``vectors`` by their ids; ``prod`` is the first."""
    house.push(labels=["a", "b"])
    with house.database.begin() as tx:
        found = tx.models.versions("default", "vectors")
        for one in found:
            assert tx.models.mark_ready(one.id, dict(found[-1].signature))
    return {one.version: one.id for one in found}


@pytest.fixture
def client(house: ApiHouse, versions: dict[int, str]):
    with Forebay(house.url) as made:
        made.models.alias("vectors", "prod", 1)
        yield made


@pytest.fixture
def forebay(client, house: ApiHouse, monkeypatch, capsys):
    """Run a command line: (exit code, standard output, standard error)."""
    monkeypatch.setenv("FOREBAY_API_URL", house.url)
    monkeypatch.delenv("FOREBAY_API_KEY", raising=False)

    def command(*argv: object) -> tuple[int, str, str]:
        code = run(build_app(), [str(word) for word in argv])
        out = capsys.readouterr()
        return code, out.out, out.err

    return command


def measure(house: ApiHouse, versions: dict[int, str], version: int, **metrics: float) -> None:
    """As an evaluation does at its end."""
    with house.database.begin() as tx:
        tx.evaluations.record(
            Evaluation(
                *(new_id(), "default", versions[version], "vectors", version),
                *("digest-of-friday", 10, metrics, {}, 0),
            )
        )


def stands(client: Forebay) -> int:
    return int(client.models.show("vectors")["aliases"]["prod"])


def test_a_promotion_and_its_way_back_in_python(house, client, versions):
    gate = "accuracy > @prod.accuracy"
    with pytest.raises(InvalidRequest) as unmeasured:
        client.models.promote("vectors:2", "prod", gate=gate)
    assert unmeasured.value.code == "metric_not_measured"
    measure(house, versions, 1, accuracy=0.9)
    measure(house, versions, 2, accuracy=0.8)
    with pytest.raises(GateFailed, match=r"0.8 against 0.9") as failed:
        client.models.promote("vectors:2", "prod", gate=gate)
    (seen,) = failed.value.comparisons
    assert (seen["comparison"], seen["left"], seen["right"], seen["holds"]) == (
        *(gate, 0.8, 0.9, False),
    )
    with pytest.raises(Conflict) as moved:
        client.models.promote("vectors:2", "prod", expected=2)
    assert moved.value.code == "alias_moved" and stands(client) == 1

    job = client.submit("vectors@prod", tensor=[1, 2, 3, 4])
    measure(house, versions, 2, accuracy=0.95)
    would = client.models.promote("vectors:2", "prod", gate=gate, dry_run=True)
    assert (would["holds"], would["move"], stands(client)) == (True, None, 1)
    done = client.models.promote("vectors:2", "prod", gate=gate, requeue=True, note="better")
    assert (done["version"], done["requeued"], stands(client)) == (2, 1, 2)
    assert client.job(job.id).model == "vectors:2"
    back = client.models.rollback("vectors", "prod", expected=2)
    assert (back["version"], back["requeued"], stands(client)) == (1, 0, 1)
    assert client.models.requeue("vectors", 2, 1) == 1
    assert client.job(job.id).model == "vectors:1"
    whys = [(one["why"], one["version"]) for one in client.models.history("vectors", "prod")]
    assert whys == [("rollback", 1), ("promote", 2), ("set", 1)]
    with pytest.raises(Conflict) as none_left:
        client.models.rollback("vectors", "prod")
    assert none_left.value.code == "nothing_to_roll_back"


def test_the_example_of_the_readme(house, forebay, versions):
    argv = ("models", "promote", "vectors:2", "--to", "prod")
    gate = ("--if", "accuracy >= 0.97 and recall >= @prod.recall - 0.005")
    measure(house, versions, 1, accuracy=0.96, recall=0.95)
    measure(house, versions, 2, accuracy=0.98, recall=0.9)
    code, out, err = forebay(*argv, *gate)
    assert code == 1
    assert [line.split()[-3:] for line in out.splitlines()[1:]] == [
        *(["0.98", "0.97", "yes"], ["0.9", "0.945", "no"]),
    ]
    assert "recall >= @prod.recall - 0.005: does not hold" in err and "nothing was changed" in err
    assert json.loads(forebay(*argv, *gate, "--json")[2])["error"]["code"] == "gate_failed"
    assert forebay(*argv, *gate, "--dry-run")[0] == 1

    measure(house, versions, 2, accuracy=0.98, recall=0.95)
    code, out, err = forebay(*argv, *gate, "--expected", "1", "--note", "of June")
    assert (code, out.splitlines()[-1]) == (0, "vectors@prod is vectors:2, was vectors:1")
    assert err.startswith("measured on data digest-of-fr: vectors:1 by ")
    code, _, err = forebay(*argv, "--expected", "1")
    assert code == 2 and "does not stand for version 1" in err

    code, out, _ = forebay("models", "rollback", "vectors", "--alias", "prod")
    assert (code, out) == (0, "vectors@prod is vectors:1, was vectors:2\n")
    rows: list[Any] = json.loads(forebay("models", "history", "vectors", "--json")[1])
    assert [(one["why"], one["note"]) for one in rows] == [
        *(("rollback", None), ("promote", "of June"), ("set", None)),
    ]
    out = forebay("models", "history", "vectors", "--alias", "prod")[1]
    assert out.splitlines()[1].split()[:6] == ["prod#3", "2", "1", "rollback", "of", "#2"]
    code, out, _ = forebay("models", "requeue", "vectors:2", "vectors:1")
    assert (code, out) == (0, "0 queued jobs go to vectors:1\n")
    assert forebay("models", "history", "vectors", "--alias", "nobody")[0] == 2
