"""However the others arrive, everybody is picked within the device-seconds that are promised."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.batching.candidates import always, candidate
from workers.inference.batching import Candidate, LatencyBook, Limits, Window
from workers.inference.batching.patience import PATIENCE_S, bound_s

SIZES = (1, 2, 4)
SERVICE_S = {"a": 0.9, "b": 0.2, "v": 0.5}  # of any pass of the version
FAR_S = 1e9


@dataclass(frozen=True)
class Arrival:
    """One of the others. ``newcomer``: its tenant was never served."""

    version: str
    rank_ms: int
    bulk: bool
    in_a_hurry: bool
    newcomer: bool
    rows: int


def arrivals(most: int) -> st.SearchStrategy[list[Arrival]]:
    return st.lists(
        st.builds(
            Arrival,
            st.sampled_from(list(SERVICE_S)),
            st.sampled_from([-(10**12), -300_000, 0, 10**6]),
            st.booleans(),
            st.booleans(),
            st.booleans(),
            st.sampled_from([1, 1, 4]),
        ),
        min_size=1,
        max_size=most,
    )


class Adversary:
    """Keeps a window full of others, round and round the same list."""

    def __init__(self) -> None:
        self.book = LatencyBook()
        self.window = Window(self.book, limits=lambda version_id: Limits(SIZES, None, 1.0))
        self.now_s = 0.0
        self._came = 0

    def send(self, others: list[Arrival]) -> None:
        for one in others:
            self._came += 1
            tenant = f"new-{self._came}" if one.newcomer else "often"
            latest_start_s = self.now_s + 2.0 if one.in_a_hurry else FAR_S
            self.window.add(
                [
                    candidate(
                        one.version,
                        tenant=tenant,
                        rank_ms=one.rank_ms,
                        bulk=one.bulk,
                        rows=one.rows,
                        latest_start_s=latest_start_s,
                    )
                ],
                self.now_s,
            )

    def run(self) -> tuple[float, tuple[Candidate, ...]]:
        """One pass: what it took, and who was in it."""
        picked = self.window.pick(self.now_s, always)
        assert picked is not None
        seconds = SERVICE_S[picked.version_id] * -(-picked.rows // picked.bucket)
        self.window.charge(picked, seconds)
        self.book.observe(picked.version_id, picked.shape, picked.bucket, seconds)
        self.now_s += seconds
        self.window.expire(self.now_s)
        return seconds, picked.candidates


@pytest.mark.parametrize("bulk", [False, True])
@settings(print_blob=True, max_examples=25, deadline=None)
@given(before=arrivals(12), after=arrivals(6))
def test_nobody_waits_longer_than_promised(
    bulk: bool, before: list[Arrival], after: list[Arrival]
) -> None:
    game = Adversary()
    game.send(before)
    game.run()
    victim = candidate(tenant="often", rank_ms=10**9, bulk=bulk, latest_start_s=FAR_S)
    game.window.add([victim], game.now_s)
    ahead = sum(one.bulk is bulk for one in before)
    promised_s = bound_s(ahead, max(SERVICE_S.values()), bulk=bulk)
    others_s = 0.0
    while True:
        game.send(after)
        seconds, picked = game.run()
        if victim in picked:
            break
        others_s += seconds
        assert others_s <= promised_s


def test_without_patience_they_would_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same game with the promise taken out: the test above can fail."""
    monkeypatch.setattr("workers.inference.batching.choice.PATIENCE_S", 1e12)
    game = Adversary()
    victim = candidate(tenant="often", rank_ms=10**9, latest_start_s=FAR_S)
    game.window.add([victim], game.now_s)
    hurry = [Arrival("a", -(10**12), False, True, True, 4)]
    others_s = 0.0
    while others_s < 2 * bound_s(0, 0.9, bulk=False):
        game.send(hurry)
        seconds, picked = game.run()
        assert victim not in picked
        others_s += seconds


def test_overdue_work_does_not_take_the_device_for_itself() -> None:
    """A window full of people who waited too long does not make deadlines worthless."""
    game = Adversary()
    game.window.add([candidate("b", rank_ms=n) for n in range(200)], game.now_s)
    hurry = [Arrival("a", 0, False, True, True, 4)]
    waited_s = 0.0
    while waited_s < PATIENCE_S + 1:
        game.send(hurry)
        waited_s += game.run()[0]
    spent = {"a": 0.0, "b": 0.0}
    for _ in range(30):
        game.send(hurry)
        seconds, picked = game.run()
        spent[picked[0].version_id] += seconds
    assert spent["a"] == pytest.approx(spent["b"], rel=0.35)


def test_bulk_gets_its_small_share_of_a_device_that_online_work_fills() -> None:
    game = Adversary()
    game.window.add([candidate("b", bulk=True, rank_ms=-(10**9)) for _ in range(400)], 0.0)
    online = [Arrival("a", 0, False, False, False, 4)]
    spent = {"a": 0.0, "b": 0.0}
    while game.now_s < PATIENCE_S + 200:
        game.send(online)
        seconds, picked = game.run()
        spent[picked[0].version_id] += seconds
        assert spent["b"] == 0 or game.now_s > PATIENCE_S
    assert spent["b"] == pytest.approx(200 / 20, rel=0.2)
