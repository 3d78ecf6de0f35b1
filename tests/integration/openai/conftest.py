"""The service, listening, and the real client of the OpenAI API that is pointed at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.integration.api.conftest import house, quiet_house  # noqa: F401
from tests.integration.openai.batch_hand import open_client


@pytest.fixture
def client(house) -> Iterator[OpenAI]:  # noqa: F811
    with open_client(house) as opened:
        yield opened
