"""The model card: every figure from the records, and nothing that somebody wrote becomes markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from producers.card_text import code, text, to_markdown
from producers.model_card import MOST_LABELS, Records, card_of
from storage.records.evaluations import Evaluation
from storage.records.latency import LatencyRow, VersionCost
from storage.records.lineage import Dependents, Part, Stay
from storage.records.models import ModelFormat, ModelVersion, VersionState
from storage.records.trials import TrialKind, TrialState

MARKDOWN = MarkdownIt("gfm-like", {"linkify": False, "html": True})
AT = 1_800_000_000_123
VERSION = ModelVersion(
    id="01a3185c-5000-7000-8000-000000000001",
    tenant="alice",
    name="digits",
    version=3,
    state=VersionState.READY,
    format=ModelFormat.KERAS,
    digest="ab" * 32,
    size_bytes=412_331,
    object_key="k",
    signature={
        "form": "image",
        "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 28, 1]}],
        "outputs": [{"name": "p", "dtype": "float32", "shape": [3]}],
        "labels": ["cat", "dog", "cow"],
        "top_k": 2,
        "serving": {"max_batch": 64},
    },
    trusted=False,
    error=None,
    created_at=AT,
    loaded_at=AT + 1,
    origin={
        "job_id": "job-1",
        "spec": {
            "network": {"recipe": "cnn"},
            "loss": {"name": "sparse_categorical_crossentropy"},
            "optimizer": {"name": "adam"},
            "data": {"uris": ["s3://lake/photos/"]},
        },
        "parents": ["digits:2"],
        "data": {"digest": "dd" * 8, "split": {"train": 900, "test": 100}},
        "epochs": 5,
        "steps": 150,
        "stopped": "epochs",
        "seconds": 12.5,
        "evaluation": {"on": "test", "rows": 100, "accuracy": 0.951, "metrics": {"loss": 0.2}},
    },
    uploader="training",
    licence="Apache-2.0",
    notes="Of June.\nSecond line.",
)
EVALUATION = Evaluation(
    job_id="job-2",
    tenant="alice",
    version_id=VERSION.id,
    model_name="digits",
    version=3,
    data_digest="ee" * 8,
    rows=1000,
    metrics={"zeta": 1.5, "recall": 0.9, "accuracy": 0.9712, "auc": None, "rows": 1000},
    document={
        "task": "classes",
        "data": {"digest": "ee" * 8, "uris": ["s3://lake/test.csv"], "label": "kind"},
        "intervals": {"accuracy": [0.958, 0.979]},
        "slices": [
            {
                "column": "hour",
                "values": [
                    {"value": "3", "rows": 40, "metrics": {"accuracy": 0.5}, "intervals": {}},
                    {"value": "12", "rows": 60, "metrics": {"accuracy": 0.75}, "intervals": {}},
                ],
                "other_values": 2,
                "other_rows": 7,
            }
        ],
        "against": {
            "job": None,
            "group": None,
            "model": "digits:2",
            "rows": 998,
            "disagreed": 31,
            "share": 0.031,
            "interval": [0.02, 0.04],
            "examples": [{"row_id": "secret row"}],
        },
    },
    created_at=AT + 5,
)
FULL = Records(
    version=VERSION,
    latency=[
        LatencyRow(VERSION.id, "cpu", "", 128, 900, 0.010, 0.011, AT),
        LatencyRow(VERSION.id, "cpu", "", 8, 40, 0.002, 0.003, AT),
    ],
    costs=[VersionCost(VERSION.id, "cpu", 0.0001, 0.0004, 1.5, 4096, 64, AT)],
    evaluations=[EVALUATION],
    stays=[
        Stay("prod", 2, AT, AT + 60_000, 4, "promote", "accuracy >= 0.97", "a | b", "fbk_12345678"),
        Stay("prod", 4, AT + 90_000, None, None, "rollback", None, None, None),
    ],
    parts=[
        Part(
            *("trial-1", "prod", TrialKind.CANARY, True, 2, 0.1, TrialState.RETURNED),
            *("5 of 50 failed", AT, AT + 9),
        )
    ],
    dependents=Dependents(("prod",), 2, 1, ("trial-2",), ("job-3",), ("digits:5",)),
)
BARE = Records(
    version=replace(
        VERSION,
        state=VersionState.PENDING,
        signature={"form": "tensor", "inputs": []},
        origin=None,
        loaded_at=None,
        uploader=None,
        licence=None,
        notes=None,
    ),
    latency=[],
    costs=[],
    evaluations=[],
    stays=[],
    parts=[],
    dependents=Dependents(),
)


def test_the_document_says_what_the_records_say():
    card = card_of(FULL)
    assert (card["model"], card["state"], card["aliases"]) == ("digits:3", "ready", ["prod"])
    assert (card["licence"], card["notes"]) == ("Apache-2.0", "Of June.\nSecond line.")
    assert (card["uploader"], card["created_at"]) == ("training", "2027-01-15T08:00:00.123Z")
    assert card["artifact"]["sha256"] == "ab" * 32 and card["artifact"]["size_bytes"] == 412_331
    assert card["signature"]["labels"] == ["cat", "dog", "cow"]
    assert card["serving"]["max_batch"] == 64
    assert [row["bucket"] for row in card["latency"]] == [128, 8]
    assert card["costs"][0]["path_s_per_job"] == 0.0004
    assert card["training"]["parents"] == ["digits:2"]
    assert card["training"]["data"]["digest"] == "dd" * 8
    (evaluation,) = card["evaluations"]
    assert evaluation["metrics"] == dict(EVALUATION.metrics)
    assert evaluation["intervals"] == {"accuracy": [0.958, 0.979]}
    assert evaluation["slices"] == EVALUATION.document["slices"]
    assert evaluation["against"]["disagreed"] == 31 and "examples" not in evaluation["against"]
    assert [one["until"] for one in card["stood_for"]] == ["2027-01-15T08:01:00.123Z", None]
    assert card["trials"][0]["role"] == "candidate"
    assert card["made_from_it"] == ["digits:5"]
    assert card["in_use_by"] == {
        "aliases": ["prod"],
        "queued_jobs": 2,
        "running_jobs": 1,
        "trials": ["trial-2"],
        "trainings": ["job-3"],
    }
    assert card["not_known"] == []
    json.dumps(card)


def test_what_no_record_says_is_said_to_be_unknown():
    card = card_of(BARE)
    assert card["not_known"] == [
        *("licence", "notes", "uploader", "outputs", "latency", "costs"),
        *("how it was trained", "evaluations"),
    ]
    shown = to_markdown(card)
    assert "It was pushed. How it was trained is not known." in shown
    assert "It was not evaluated." in shown and "No pass was measured." in shown
    assert "No alias ever stood for it" in shown
    assert "## What is not known\n\nlicence, notes, uploader" in shown


def test_the_same_records_give_the_same_card():
    assert to_markdown(card_of(FULL)) == to_markdown(card_of(replace(FULL)))


def test_the_text_says_every_figure():
    shown = to_markdown(card_of(FULL))
    for said in (
        "# digits:3\n",
        "- State: ready\n",
        "- Licence: Apache-2.0\n",
        "- Uploaded by: `training`\n",
        "> Of June.\n> Second line.",
        f"- SHA-256: `{'ab' * 32}`",
        "keras, 412,331 bytes",
        "`x`: float32 of any, 28, 1",
        "- Labels (3): `cat`, `dog`, `cow`",
        "- Begun with: `digits:2`",
        "- Rows: 900 train, 100 test",
        "loss 0.2, accuracy 0.951 on 100 test rows",
        "| accuracy | 0.9712 | 0.958 to 0.979 |\n| recall | 0.9 |  |\n| auc | - |  |",
        "| zeta | 1.5 |  |",
        "By `hour`:\n\n| value | rows | accuracy |\n| --- | --- | --- |\n| 12 | 60 | 0.75 |",
        "2 further values are not shown.",
        "`digits:2`: 31 of 998 rows differ (0.031)",
        "| cpu | any | 8 | 2.000 ms | 3.000 ms | 40 |\n| cpu | any | 128 | 10.000 ms |",
        "loads in 1.50 s, holds 4,096 bytes, 0.100 ms of device a job, 0.400 ms a job in all",
        "| `prod` | 2027-01-15T08:00:00.123Z | 2027-01-15T08:01:00.123Z (then version 4) | promote",
        "a \\| b",
        "candidate, with version 2 | 10 % | returned",
        "- Queued jobs: 2\n- Running jobs: 1\n- Trials: `trial-2`",
        "- Made from it: `digits:5`",
    ):
        assert said in shown, said
    assert "secret row" not in shown


def test_what_else_may_be_the_matter_is_told():
    broken = replace(VERSION, state=VersionState.BROKEN, error="no <layer>", loaded_at=None)
    assert "- State: broken: no \\<layer\\>\n" in to_markdown(
        card_of(replace(FULL, version=broken))
    )
    gone = replace(
        VERSION, state=VersionState.DELETED, deleted_at=AT, collected_at=AT + 5, trusted=True
    )
    shown = to_markdown(card_of(replace(FULL, version=gone)))
    assert "- Deleted: 2027-01-15T08:00:00.123Z" in shown
    assert "trusted by the operator, taken away 2027-01-15T08:00:00.128Z" in shown
    never = replace(VERSION, digest="", object_key="", size_bytes=0, state=VersionState.TRAINING)
    card = card_of(replace(FULL, version=never))
    assert card["artifact"] is None and "artifact" in card["not_known"]
    assert "SHA-256" not in to_markdown(card)
    later = replace(VERSION, signature={**VERSION.signature, "serving": {"warp": 9}})
    assert card_of(replace(FULL, version=later))["serving"] == {}


def test_of_many_labels_the_first_are_told():
    many = {**VERSION.signature, "labels": [f"l{n}" for n in range(5_000)]}
    card = card_of(replace(FULL, version=replace(VERSION, signature=many)))
    assert len(card["signature"]["labels"]) == MOST_LABELS
    assert "- Labels (5,000): `l0`, " in to_markdown(card)
    assert "`l99`, and 4,900 more" in to_markdown(card)


HOSTILE = [
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/p.png)",
    "`code` ``more``",
    "# heading",
    "a\n\n# heading\n\n| a | b |\n| --- | --- |",
    "- list",
    "1. list",
    "2) list",
    "---",
    "===",
    "> quote",
    "*strong* _em_ ~~gone~~",
    "a | b | c",
    "\\",
    "\\|",
    "&lt;b&gt; &amp;",
    "https://evil.example www.evil.example me@evil.example",
    "<https://evil.example>",
    "    indented",
    "\u2028# heading\x85\x0b",
    "$x$",
    "[^1]: footnote",
    "- [ ] task",
]


def tokens(shown: str) -> list[Token]:
    flat: list[Token] = []
    for token in MARKDOWN.parse(shown):
        flat += [token, *(token.children or ())]
    return flat


def kinds(shown: str) -> list[str]:
    """What a renderer makes of it, but for text, and code where text may be in its place."""
    plain = {"text", "softbreak", "code_inline", "inline", "text_special"}
    return [token.type for token in tokens(shown) if token.type not in plain]


def hostile(word: str) -> Records:
    """Everything that a caller may write says ``word``."""
    signature = {
        **VERSION.signature,
        "inputs": [{"name": word, "dtype": "float32", "shape": [1]}],
        "labels": [word],
        "columns": [{"name": word, "type": "number"}],
    }
    assert VERSION.origin is not None
    spec: Any = VERSION.origin["spec"]
    origin = {
        **VERSION.origin,
        "spec": {**spec, "data": {"uris": [word]}},
        "evaluation": {"on": "test", "rows": 1, "metrics": {word: 0.5}},
    }
    version = replace(
        VERSION, signature=signature, origin=origin, licence=f"L {word}", notes=f"N {word}"
    )
    slices = [{"column": word, "values": [{"value": word, "rows": 1, "metrics": {}}]}]
    document = {
        **EVALUATION.document,
        "slices": slices,
        "data": {"uris": [word], "digest": "d", "label": word},
    }
    evaluation = replace(EVALUATION, document=document)
    stays = [replace(FULL.stays[0], note=word, gate=word, moved_by=word)]
    parts = [replace(FULL.parts[0], reason=word)]
    return replace(FULL, version=version, evaluations=[evaluation], stays=stays, parts=parts)


PLAIN_KINDS = kinds(to_markdown(card_of(hostile("plain"))))


@pytest.mark.parametrize("word", HOSTILE)
def test_nothing_that_somebody_wrote_becomes_markup(word: str) -> None:
    shown = to_markdown(card_of(hostile(word)))
    wanted = PLAIN_KINDS
    assert [kind for kind in kinds(shown) if "paragraph" not in kind] == [
        kind for kind in wanted if "paragraph" not in kind
    ]
    assert not {"html_inline", "html_block", "link_open", "image", "fence"} & set(kinds(shown))


@given(st.text(max_size=60))
def test_a_text_is_shown_as_it_was_written(word: str) -> None:
    shown = text(word)
    assert "\n" not in shown
    if not shown:
        return
    (opened, inline, closed) = MARKDOWN.parse(shown)
    assert (opened.type, closed.type) == ("paragraph_open", "paragraph_close")
    told = "".join(token.content for token in inline.children or ())
    assert told.split() == _seen(word).split()


@given(st.text(max_size=60))
def test_a_code_span_holds_what_was_written(word: str) -> None:
    shown = code(word)
    if not shown:
        return
    (_, inline, _) = MARKDOWN.parse(f"x {shown}")
    told = "".join(token.content for token in inline.children or ())[2:]
    assert told.split() == _seen(word).split()


@pytest.mark.parametrize("link", ["https://a.example/x", "www.a.example", "mailto:me@a.example"])
def test_an_address_is_no_link_even_where_bare_ones_are(link: str) -> None:
    """GitHub's rules: what begins like an address, as it stands in the source."""
    shown = text(f"see {link}")
    assert not re.search(r"(?i)https?://|\bwww\.|mailto:|\w@\w", shown)


def _seen(word: str) -> str:
    """As a page shows it: a break is a space, and Markdown knows no U+0000."""
    return "".join(" " if ord(c) < 32 or c in "\x7f\x85\u2028\u2029" else c for c in word)
