"""Whatever is sent, the service never answers 5xx, and answers as ``/openapi.json`` says."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import (
    not_a_server_error,
)
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.caller import Caller
from tests.support.stack import Stack

EXAMPLES = 12
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def test_random_requests_are_answered_as_documented(stack: Stack, caller: Caller) -> None:
    schema = schemathesis.openapi.from_url(f"{stack.url}/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def holds(case: schemathesis.Case) -> None:
            if case.query and "wait" in case.query:
                case.query["wait"] = "0.01"  # a long-poll is as long as one asks for
            case.call_and_validate(checks=CHECKS, timeout=30)

        holds()
