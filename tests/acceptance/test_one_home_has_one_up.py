"""A second ``forebay up`` on the same home is refused; both halves of one die together."""

from __future__ import annotations

import pytest

from tests.support.caller import Caller, only_output, tensor
from tests.support.ports import free_port
from tests.support.stack import EmbeddedStack

pytestmark = pytest.mark.parametrize("stack", ["embedded"], indirect=True)


def test_a_second_up_is_told_who_has_the_home(stack: EmbeddedStack, caller: Caller) -> None:
    second = stack.run("up", "--port", str(free_port()))
    assert second.returncode == 2, second.stdout + second.stderr
    said = second.stdout + second.stderr
    assert str(stack.home) in said.replace("\n", "")
    assert "Traceback" not in said
    assert only_output(caller.ask("echo", tensor(1, 2))) == [1, 2], "the first one goes on"


def test_doctor_finds_each_part_usable(stack: EmbeddedStack, caller: Caller) -> None:
    done = stack.run("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
