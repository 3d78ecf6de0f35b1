"""The five trainings on real data, as a user runs them: specs, files, ``forebay train``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from forebay.mnist import DIGITS, read_digits
from forebay.training_data import SPECS, write_digits
from forebay.tweets import TWEETS, read_tweets
from producers.cli.exits import Failure
from tests.support.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "trainings"
ENDS_WITHIN_S = 400.0


class NoData(Exception):
    """The digits or the tweets cannot be had; the message says why."""


@dataclass(frozen=True)
class Training:
    """A job that succeeded, and where its curves were drawn."""

    job: dict[str, Any]
    picture: Path

    @property
    def result(self) -> dict[str, Any]:
        return dict(self.job["result"])

    @property
    def measured(self) -> dict[str, Any]:
        """On rows that it never saw."""
        return dict(self.result["evaluation"])


def write_all(folder: Path) -> None:
    """Every file that a spec names, and the specs beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_digits(folder, *read_digits(DIGITS.read(None, CACHE)))
        (folder / "tweets.csv").write_bytes(read_tweets(TWEETS.read(None, CACHE)))
    except Failure as error:
        raise NoData(str(error)) from error
    for path in SPECS.glob("*.yaml"):
        (folder / path.name).write_bytes(path.read_bytes())


def at_address(folder: Path, name: str) -> Path:
    """The spec of ``name`` with its data's paths as addresses of this machine."""
    path = folder / f"{name}.yaml"
    spec = yaml.safe_load(path.read_text())
    uri = spec["data"]["uri"]
    spec["data"]["uri"] = f"{(folder / uri).as_uri()}{'/' if uri.endswith('/') else ''}"
    path.write_text(yaml.safe_dump(spec))
    return path


def train(stack: Stack, spec: Path, *options: str) -> Training:
    """``forebay train … --wait``."""
    picture = spec.with_suffix(".png")
    line = ("train", str(spec), "--wait", "--json", "--png", str(picture), *options)
    done = stack.run(*line, deadline_s=ENDS_WITHIN_S)
    words = " ".join(line)
    assert done.returncode == 0, f"forebay {words}:\n{done.stdout}{done.stderr}\n{stack.logs()}"
    return Training(json.loads(done.stdout), picture)
