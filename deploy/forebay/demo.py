"""``forebay demo``: the main job on real data, on a Forebay of its own that is gone afterwards.

While the embedded service starts (its worker imports TensorFlow), a child process trains a small
CNN on 4,000 digits; then the model is pushed, and 1,000 digits that it never saw are submitted
as single jobs of one group, all over the API.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.demo_bulk import Scored, score_a_file
from forebay.demo_promotion import Promoted, TookOver, judge_and_promote, take_over
from forebay.demo_service import clean, failed, serving
from forebay.demo_told import Told, ask
from forebay.demo_training import Lessons, train_all, write_data
from forebay.demo_webhook import Delivered, ask_to_be_told
from forebay.figures import Figures, figures
from forebay.mnist import DIGITS, HELD_OUT, read_digits
from producers.cli.output import note, progress, say, say_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from producers.client import Forebay, Group, ModelVersion

MODEL = "digits"
START_S, TRAIN_S, WORK_S = 120.0, 300.0, 300.0


@dataclass(frozen=True, slots=True)
class Steps:
    """Says what is being done, and how long it took; silent for ``--json``."""

    quiet: bool

    @contextmanager
    def step(self, text: str) -> Iterator[list[str]]:
        """``with steps.step("…") as more:`` adds what is appended to ``more``."""
        more: list[str] = []
        began = time.monotonic()
        if not self.quiet and sys.stderr.isatty():
            sys.stderr.write(f"  {text} …\r")  # the finished line replaces it
            sys.stderr.flush()
        yield more
        if not self.quiet:
            tail = f"  {more[0]}" if more else ""
            note(f"  {text:<44} {time.monotonic() - began:5.1f} s{tail}")


def run_demo(
    data: Path | None,
    cache: Path,
    environ: Mapping[str, str],
    *,
    as_json: bool,
    full: Path | None = None,
) -> None:
    """Do it, and print what happened. ``full``: the five trainings besides, their curves and
    answers in this folder."""
    steps = Steps(quiet=as_json)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="forebay-demo-") as folder:
        home = Path(folder)
        with steps.step("real digits (MNIST, 28 × 28)") as more:
            pictures, labels = read_digits(DIGITS.read(data, cache))
            more.append(f"{len(labels) - HELD_OUT:,} to learn from, {HELD_OUT:,} held out")
        files = home / "data"
        if full is not None:
            with steps.step("digits and tweets in the forms that trainings read"):
                write_data(files, pictures, labels, cache)
        with serving(home, environ, reads=files) as service:
            with steps.step("a CNN, trained while the service starts"):
                model = _train(home, pictures[HELD_OUT:], labels[HELD_OUT:], environ)
            with steps.step("the service is ready") as more:
                url = service.ready(START_S)
                more.append(f"{url}  (SQLite, local files, in-process broker)")
            worked = _work(url, home, model, pictures[:HELD_OUT], labels[:HELD_OUT], steps)
            lessons = None if full is None else _lessons(url, files, full, steps)
    _report(*worked, lessons, time.monotonic() - began, as_json=as_json)


def _lessons(url: str, files: Path, target: Path, steps: Steps) -> tuple[Lessons, TookOver]:
    from producers.client import Forebay

    with Forebay(url, key="") as client:
        lessons = train_all(client, files, target, steps)
        tweets = (files / "tweets.csv").read_bytes()
        return lessons, take_over(client, files / "story", tweets, steps)


def _train(
    home: Path,
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
    environ: Mapping[str, str],
) -> Path:
    """Train in a process of its own: this one never loads TensorFlow."""
    import numpy as np

    table, model = home / "train.npz", home / "digits.keras"
    np.savez(table, pictures=pictures, labels=labels)
    command = [sys.executable, "-P", "-m", "forebay.train_digits", str(table), str(model)]
    done = subprocess.run(
        command, env=clean(environ), capture_output=True, text=True, timeout=TRAIN_S, check=False
    )
    if done.returncode or not model.is_file():
        raise failed("the training failed", done.stderr)
    return model


def _work(
    url: str,
    home: Path,
    model: Path,
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
    steps: Steps,
) -> tuple[Figures, Told, Delivered, Scored, Promoted]:
    from producers.client import Forebay

    with Forebay(url, key="") as client:
        with steps.step("the model, pushed and loaded by the worker") as more:
            version = _push(client, model)
            more.append(version.ref)
        truth = {str(place): str(label) for place, label in enumerate(labels)}
        items = [{"image": picture, "custom_id": str(n)} for n, picture in enumerate(pictures)]
        with steps.step(f"{len(items):,} jobs, submitted, done and read") as more:
            began = time.monotonic()
            group = client.submit_many(MODEL, items)
            with progress("  jobs", quiet=steps.quiet or not sys.stderr.isatty()) as step:
                step(0, group.total, "")
                group.wait(WORK_S, progress=lambda now: step(now.finished, now.total, ""))
            elapsed_s = time.monotonic() - began
            answers = _answers(group)
            more.append(f"group {group.id}")
        with steps.step("what the worker tells of it"):
            told = ask(client.metrics, version.refresh, len(items))
        with steps.step("one more job, with a webhook") as more:
            delivered = ask_to_be_told(client, MODEL, pictures[0])
            more.append(delivered.line())
        with steps.step("a file of digits, scored in bulk") as more:
            scored = score_a_file(client, MODEL, home, pictures, labels)
            more.append(scored.line())
        with steps.step("what the version is worth, and what prod is") as more:
            promoted = judge_and_promote(client, version.ref, home, pictures, labels)
            more.append(promoted.line())
    measured = figures(_rows(home, group.id), answers, truth, elapsed_s)
    return measured, told, delivered, scored, promoted


def _push(client: Forebay, model: Path) -> ModelVersion:
    version = client.models.push(
        MODEL, model, input="image", labels=[str(digit) for digit in range(10)], top_k=1
    )
    version.wait(START_S)
    if version.state != "ready":
        raise failed(f"the model is {version.state}: {version.error}", "")
    return version


def _answers(group: Group) -> dict[str, str]:
    found = {}
    for row in group.results():
        if row.state == "succeeded" and row.custom_id is not None:
            found[row.custom_id] = str(row.result["label"])
    return found


def _rows(home: Path, group_id: str) -> list[Any]:
    """The jobs' rows, from the database that the demo owns: the API shows no packs."""
    from storage.database import Database
    from storage.records.tenants import DEFAULT_TENANT

    database = Database.open(f"sqlite:///{home / 'forebay.db'}")
    try:
        with database.read() as tx:
            return tx.groups.members(DEFAULT_TENANT, group_id, after_index=-1, limit=HELD_OUT)
    finally:
        database.close()


def _report(
    measured: Figures,
    told: Told,
    delivered: Delivered,
    scored: Scored,
    promoted: Promoted,
    lessons: tuple[Lessons, TookOver] | None,
    seconds: float,
    *,
    as_json: bool,
) -> None:
    if as_json:
        more = {
            "worker": told.as_json(),
            "webhook": delivered.as_json(),
            "bulk": scored.as_json(),
            "promotion": promoted.as_json(),
        }
        if lessons is not None:
            more |= {"training": lessons[0].as_json(), "story": lessons[1].as_json()}
        say_json(measured.as_json() | more | {"total_s": round(seconds, 3)})
        return
    lines = {
        "accuracy": f"{measured.accuracy:.1%}   {measured.correct:,} of {measured.jobs:,}",
        "throughput": f"{measured.jobs_per_s:,.0f} jobs/s",
        "mean batch size": f"{measured.mean_batch:.1f}   {measured.batches} batches",
        "latency p50 / p99": f"{measured.latency_p50_ms:,.0f} / {measured.latency_p99_ms:,.0f} ms"
        "   accepted to finished, all submitted at once",
        **told.lines(),
        "bulk": scored.line(),
        "prod": promoted.line(),
        **(lessons[0].lines() | {"prod in full": lessons[1].line()} if lessons is not None else {}),
    }
    say()
    for name, value in lines.items():
        say(f"  {name:<18} {value}")
    say()
    say(f"  done in {seconds:.0f} s. Now your own:  forebay up  and  forebay models push …")
