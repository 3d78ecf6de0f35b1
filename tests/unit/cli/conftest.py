"""A command line, run against a service of a few lines."""

from __future__ import annotations

import functools

import pytest

import producers.cli.models
import producers.client
from producers.cli.app import build_app, run
from tests.unit.client.fake_service import FakeService


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def forebay(monkeypatch, service, capsys):
    """Run a command line; gives (exit code, standard output, standard error)."""
    made = functools.partial(producers.client.Forebay, transport=service.transport)
    monkeypatch.setattr(producers.client, "Forebay", made)
    # Of a bare install, whatever a composition root did in this process before.
    monkeypatch.setattr(producers.cli.models, "trusted_push", [])

    def command(*argv):
        code = run(build_app(), [str(word) for word in argv])
        out = capsys.readouterr()
        return code, out.out, out.err

    return command
