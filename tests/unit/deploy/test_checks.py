"""The doctor goes on whatever a part does, and repeats no secret."""

from __future__ import annotations

import pytest

from forebay.checks import Ailing, Check, examine
from forebay.doctor import keeping
from storage.records.duties import DutyNote
from storage.records.errors import DatabaseUnavailable


def raising(error):
    def look():
        raise error

    return look


def test_every_part_is_looked_at():
    findings = examine(
        [
            Check("a", raising(DatabaseUnavailable("it does not answer")), "start it"),
            Check("b", raising(Ailing("half open", "close it")), "unused"),
            Check("c", raising(RuntimeError("amqp://user:hunter2@host")), "look at it"),
            Check("d", raising(Ailing("none yet", "start one")), "", fatal=False),
            Check("e", lambda: "fine", ""),
        ]
    )
    assert [(one.part, one.ok) for one in findings] == [
        ("a", False),
        ("b", False),
        ("c", False),
        ("d", None),
        ("e", True),
    ]
    assert findings[0].advice == "start it" and findings[1].advice == "close it"
    assert "hunter2" not in str([one.as_json() for one in findings])


def test_a_person_sees_the_fault_and_what_to_do(capsys):
    from forebay.checks import Finding
    from forebay.doctor import _print

    _print(Finding("broker", False, "it does not answer", "start it"))
    _print(Finding("api", None, "nothing answers", "forebay up"))
    _print(Finding("home", True, "9 GiB free", None))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "NOT OK  broker    it does not answer" and "→ start it" in lines[1]
    assert lines[2].startswith("-       api") and lines[4] == "ok      home      9 GiB free"


NOW = 1_800_000_000_000


def note(name: str, ran_s: float, clear_s: float, every_s: float = 6.0) -> DutyNote:
    ago = (NOW - int(1000 * one) for one in (ran_s, clear_s))
    return DutyNote(name, int(1000 * every_s), *ago)


def test_a_keeper_that_runs_and_keeps_up_is_well():
    notes = [note("sweep", 3, 3), note("retention", 50, 50, every_s=65)]
    assert keeping(notes, NOW, "forebay keeper") == "2 duties done, the last 3 s ago"


def test_a_keeper_that_never_ran_or_is_dead_is_noticed():
    with pytest.raises(Ailing, match="none ever ran") as ailing:
        keeping([], NOW, "forebay keeper")
    assert "forebay keeper" in ailing.value.advice
    with pytest.raises(Ailing, match="none ran for 300 s"):
        keeping([note("sweep", 300, 300), note("expiry", 301, 301)], NOW, "forebay keeper")


def test_a_duty_that_is_behind_is_named():
    with pytest.raises(Ailing, match="behind: retention by 535 s"):
        keeping([note("sweep", 3, 3), note("retention", 1, 600, every_s=65)], NOW, "x")
