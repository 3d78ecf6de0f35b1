"""How processes share the tests (``make test``: two): in groups, those of short modules last.

Each process has services of its own. A module's tests stay together, since they share fixtures,
and the acceptance tests of one mode do, since they share a stack. Short modules end the run, so
that no process is left waiting for a long one that the other began late.
"""

from __future__ import annotations

import re

import pytest
from xdist.scheduler import LoadScopeScheduling

SHORT = ("tests/contracts/", "tests/unit/")
OF_A_STACK = re.compile(r"tests/acceptance/.*\[(embedded|full)\b")


def group_of(test: str) -> str:
    """The mode of the stack that the test needs, or else its module."""
    found = OF_A_STACK.match(test)
    return found[1] if found else test.partition("::")[0]


# By name, not by pytest-xdist's marks for groups, which pytest 9.2 does not let it read.
class ByGroup(LoadScopeScheduling):
    """Gives a process the next group when it is nearly done with its last, in their order."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl
def pytest_xdist_make_scheduler(config, log) -> ByGroup:
    """For any number of processes, whatever ``--dist`` says."""
    config.option.loadscopereorder = False  # it would begin with whatever has most tests
    return ByGroup(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The order in which groups are begun. One process that runs all tests needs none."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.nodeid.startswith(SHORT))
