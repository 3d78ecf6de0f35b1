"""The doctor goes on whatever a part does, and repeats no secret."""

from __future__ import annotations

from forebay.checks import Ailing, Check, examine
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
