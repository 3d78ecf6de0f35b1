"""The small parser reads what the reference parser reads, and refuses all that is no figure."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from producers.cli.exposition import NotMetrics, parse_page


def reference(text: str):
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def ours(text: str):
    return {
        (name, tuple(sorted(one.labels.items()))): one.value
        for name, samples in parse_page(text).items()
        for one in samples
    }


VALUES = st.floats(allow_nan=False) | st.integers(-(10**18), 10**18)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.tuples(WORDS, WORDS, VALUES), max_size=8), st.lists(VALUES, max_size=5))
def test_it_reads_what_the_reference_parser_reads(rows, observed):
    registry = CollectorRegistry()
    gauge = Gauge("some_thing", 'Says "this"\nand\\that.', ["one", "two"], registry=registry)
    for one, two, value in rows:
        gauge.labels(one, two).set(value)
    histogram = Histogram("other_thing", "x", registry=registry)
    for value in observed:
        histogram.observe(value)
    text = generate_latest(registry).decode()
    assert ours(text) == reference(text)


def test_values_of_every_kind():
    page = parse_page('a +Inf\nb -Inf\nc NaN\nd 1e-09\ne{} 3 1700000000000\nf{x="y",} 4\n')
    values = {name: samples[0].value for name, samples in page.items()}
    assert math.isnan(values.pop("c"))
    assert values == {"a": math.inf, "b": -math.inf, "d": 1e-09, "e": 3, "f": 4}


@pytest.mark.parametrize(
    "text",
    [
        "<html><body>hello</body></html>",
        '{"status": "ok"}',
        "name",
        "name one",
        "name{a=b} 1",
        'name{a="b} 1',
        'name{a="b\\x"} 1',
        'name{a="b" c="d"} 1',
        "na-me 1",
        "name 1 2 3",
        "name 0x10",
        "name 1_000",
        " name 1",
    ],
)
def test_what_is_no_figure_is_refused(text):
    with pytest.raises(NotMetrics):
        parse_page(text)
