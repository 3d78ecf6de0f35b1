"""The story of three versions, as the README tells it and a user types it: the first is served, the
second is better and takes over step by step, the third is bad and returns by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from forebay import Forebay
from forebay.story_data import FIRST, HELD_OUT, MODEL, MORE, WRONG, spec_of, write_story
from forebay.tweets import TWEETS, read_tweets
from producers.cli.exits import Failure
from tests.acceptance.conftest import Desk
from tests.show.trainings import CACHE
from tests.support.fixtures import missing
from tests.support.stack import Stack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow
PROD = f"{MODEL}@prod"
GATE = "accuracy >= 0.8 and recall >= @prod.recall - 0.005"
ENOUGH = 300  # texts of a wave, of which a share goes to the candidate
TRAINED_WITHIN_S, RETURNED_WITHIN_S = 300, 90


class Story:
    """What was typed, and what came of it."""

    def __init__(self, stack: Stack, folder: Path, uris: dict[str, str], texts: list[str]) -> None:
        self._stack, self._folder, self._uris, self.texts = stack, folder, uris, texts

    def type(self, *words: str, code: int = 0, deadline_s: float = 120) -> Any:
        """``forebay …``, and what it says as JSON."""
        done = self._stack.run(*words, "--json", deadline_s=deadline_s)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout or done.stderr)

    def train(self, name: str) -> int:
        """The version that comes of a training on this file."""
        spec = self._folder / f"{name}.yaml"
        spec.write_text(yaml.safe_dump({"model": MODEL, **spec_of(self._uris[name])}))
        job = self.type("train", str(spec), "--wait", deadline_s=TRAINED_WITHIN_S)
        return int(job["result"]["version"].rpartition(":")[2])

    def uri(self, name: str) -> str:
        """Where a file lies."""
        return self._uris[name]

    def answers(self) -> dict[int, int]:
        """A wave of texts for what callers use: how many of them each version answered."""
        with Forebay(self._stack.url, key="") as client:
            group = client.submit_many(PROD, [{"text": text} for text in self.texts[:ENOUGH]])
            group.wait(120)
            counts: dict[int, int] = {}
            for job in client.jobs(group=group.id):
                assert job.state == "succeeded", job.document
                version = int(job.document["model"].rpartition(":")[2])
                counts[version] = counts.get(version, 0) + 1
        return counts


@pytest.fixture
def story(stack: Stack, desk: Desk, tmp_path: Path) -> Story:
    try:
        texts = write_story(tmp_path, read_tweets(TWEETS.read(None, CACHE)))
    except Failure as error:
        missing(f"there are no tweets: {error}")
    uris = {}
    for name in (FIRST, MORE, WRONG, HELD_OUT):
        desk.input.write(name, (tmp_path / name).read_bytes())
        uris[name] = desk.input.uri(name)
    return Story(stack, tmp_path, uris, texts)


def test_a_better_version_takes_over_and_a_bad_one_returns_by_itself(story: Story) -> None:
    first = story.train(FIRST)
    story.type("models", "alias", MODEL, "prod", str(first))
    told = story.type("submit", PROD, "--text", "what a wonderful day, thank you all!", "--wait")
    assert told["model"] == f"{MODEL}:{first}"
    assert set(story.answers()) == {first}

    second = story.train(MORE)
    compared = compare(story, first, second)
    before, after = (compared[one]["document"]["metrics"] for one in ("first", "second"))
    assert after["accuracy"] > before["accuracy"] + 0.02, compared
    against = compared["against"]
    assert against["rows"] == 2_000 and against["fixed"] > against["broken"] > 0
    (by_size,) = compared["second"]["document"]["slices"]
    assert {one["value"] for one in by_size["values"]} == {"short", "medium", "long"}
    assert sum(one["rows"] for one in by_size["values"]) == 2_000

    try_out(story, second, "--share", "0.2", "--max-error-share", "0.02")
    counts = story.answers()
    assert set(counts) == {first, second} and counts[second] < counts[first]
    refused = promote(story, second, "accuracy >= 0.99", code=1)
    assert "accuracy >= 0.99: does not hold" in json.dumps(refused)
    moved = promote(story, second, GATE)
    assert moved["holds"] is True and moved["move"]["version"] == second
    assert set(story.answers()) == {second}

    third = story.train(WRONG)
    try_out(story, third, "--share", "0.5", "--max-disagreement", "0.3")
    trial = until_it_ends(story, lambda: story.answers())
    assert trial["state"] == "returned" and "answers differ" in trial["reason"], trial
    assert set(story.answers()) == {second}

    moves = story.type("models", "history", MODEL, "--alias", "prod")
    moves = moves["data"] if isinstance(moves, dict) else moves
    assert [(move["why"], move["version"]) for move in moves] == [
        ("promote", second),
        ("set", first),
    ]
    back = story.type("models", "rollback", MODEL, "--alias", "prod")
    assert back["move"]["version"] == first
    assert set(story.answers()) == {first}


def compare(story: Story, one: int, other: int) -> dict[str, Any]:
    """Both on the texts that neither saw."""
    line = ("models", "compare", f"{MODEL}:{one}", f"{MODEL}:{other}")
    on = ("--on", story.uri(HELD_OUT), "--label", "sentiment", "--slice", "size")
    return dict(story.type(*line, *on))


def try_out(story: Story, version: int, *limits: str) -> None:
    story.type("models", "canary", f"{MODEL}:{version}", "--of", "prod", *limits)


def promote(story: Story, version: int, gate: str, code: int = 0) -> dict[str, Any]:
    line = ("models", "promote", f"{MODEL}:{version}", "--to", "prod", "--if", gate)
    return dict(story.type(*line, code=code))


def until_it_ends(story: Story, wave: Callable[[], object]) -> dict[str, Any]:
    """Wave after wave comes in, until the newest trial is over."""

    def ended() -> dict[str, Any] | None:
        wave()
        trial = dict(story.type("models", "trials", PROD)[0])
        return trial if trial["state"] != "running" else None

    return wait_until(ended, RETURNED_WITHIN_S, what="the candidate's return", every_s=0.5)
