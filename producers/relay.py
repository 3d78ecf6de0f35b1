"""From the backlog to the ready window: the one place that publishes wake-ups.

A look at one pool goes: how full is the window, who wants in, whose turn is it (``fairness``);
*mark* the chosen rows as published and commit; only then publish; take the mark off again from
whatever the broker did not confirm. Marked first, a message never exists before its row says so;
a crash in between leaves rows that the keeper's sweep finds. A message too many is harmless:
claiming is a compare-and-swap.

Any number of relays may run: the mark decides who publishes a row. Trouble of any kind is answered
by a pause here and never reaches a submit.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from producers import fairness
from producers.fairness import Ledger, Pick
from producers.settings import RelaySettings
from storage.clock import Clock, random_bits
from storage.database import Database
from storage.queue.envelope import WakeUp
from storage.queue.lanes import Lane, queue_name
from storage.queue.publisher import Message, Publisher
from storage.records.errors import ForebayError

_LOG = logging.getLogger("forebay.relay")

BUSY_TICK_S, FULL_TICK_S, IDLE_TICK_S = 0.05, 0.2, 1.0
FULL_REST_S = 0.025
LEAST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
RATE_TTL_S = 1.0


@dataclass(frozen=True, slots=True)
class Look:
    """What one look did: ``marked`` rows, of which ``returned`` went back to the backlog."""

    marked: int = 0
    returned: int = 0
    waiting: bool = False  # there was more than the window could take


class Relay:
    """Owned by one thread that calls ``run``; ``poke`` may come from any thread."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        clock: Clock,
        *,
        settings: RelaySettings | None = None,
        declare: Callable[[Sequence[str]], None] | None = None,
        chance: Callable[[int], int] = random_bits,
    ) -> None:
        """``declare(pools)`` makes the pools' queues exist; it is asked again when one is gone."""
        self._database = database
        self._publisher = publisher
        self._clock = clock
        self._settings = settings or RelaySettings()
        self._declare = declare
        self._chance = chance
        self._wake = threading.Event()
        self._ledgers: dict[str, Ledger] = {}
        self._declared: set[str] = set()
        self._cursor: dict[str, str] = {}
        self._targets: dict[str, tuple[float, int]] = {}
        self._trouble: str | None = None
        self._least_pause_s = 0.0  # what the publisher asked for when it last failed

    @property
    def trouble(self) -> str | None:
        """Why nothing can be published at the moment, in words without secrets."""
        return self._trouble

    def poke(self) -> None:
        """There is new work. Many pokes before the next look are one."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Look until ``stop`` is set (``poke`` after it for an immediate end)."""
        tick_s, pause_s = BUSY_TICK_S, LEAST_PAUSE_S
        while not stop.is_set():
            self._wake.clear()
            began_s = self._clock.monotonic_s()
            try:
                look = self.look()
            except ForebayError as error:
                self._note(error.message)
                look = None
            except Exception:
                _LOG.exception("the relay's look failed; it goes on")
                self._note("an unexpected error, see the log")
                look = None
            if look is None or (look.returned and look.returned == look.marked):
                stop.wait(max(pause_s, self._least_pause_s))
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
                continue
            pause_s = LEAST_PAUSE_S
            took_s = self._clock.monotonic_s() - began_s
            stop.wait(rest_s(look, took_s))  # pokes of this moment are one
            longest_s = FULL_TICK_S if look.waiting else IDLE_TICK_S
            tick_s = BUSY_TICK_S if look.marked else min(longest_s, tick_s * 2)
            if self._wake.wait(tick_s):
                tick_s = BUSY_TICK_S

    def look(self) -> Look:
        """One look at every pool with a backlog."""
        with self._database.read() as tx:
            pools = tx.backlog.pools()
        for pool in set(self._ledgers) - set(pools):
            del self._ledgers[pool]
        total = Look()
        for pool in pools:
            one = self._look_at(pool)
            total = Look(
                total.marked + one.marked,
                total.returned + one.returned,
                total.waiting or one.waiting,
            )
        if total.marked > total.returned or not (total.marked or total.waiting):
            self._note(None)
        return total

    def _look_at(self, pool: str) -> Look:
        with self._database.read() as tx:
            window = tx.backlog.window(pool)
            target = self._target(pool, lambda: sum(s.jobs_per_s for s in tx.sessions.live(pool)))
            wanting = self._turn(pool, tx.backlog.tenants(pool))
            room = max(0, target - sum(window.values()))
            depth = max(room, min(fairness.RESERVE, target))
            heads = {tenant: tx.backlog.heads(pool, tenant, depth) for tenant in wanting}
        ledger = fairness.observe(
            self._ledgers.get(pool, fairness.EMPTY), window, wanting, lag=target // 4
        )
        choice = fairness.choose(ledger, heads, target=target, overfill=target)
        waiting = sum(map(len, heads.values())) > len(choice.picks)
        if not choice.picks:
            self._ledgers[pool] = ledger
            return Look(waiting=waiting)
        self._ensure(pool)
        with self._database.begin() as tx:
            won = tx.backlog.mark_published([pick.head.id for pick in choice.picks])
        picks = [pick for pick in choice.picks if pick.head.id in won]
        returned = self._publish(pool, picks)
        entered = Counter(pick.head.tenant for pick in picks if pick.head.id not in returned)
        turns = Counter(ledger.turns) + entered
        self._ledgers[pool] = Ledger(turns, ledger.service, Counter(window) + entered)
        return Look(len(picks), len(returned), waiting)

    def _publish(self, pool: str, picks: Sequence[Pick]) -> frozenset[str]:
        """Send the wake-ups; the ids whose messages were not confirmed, their marks taken off."""
        messages = {m.id: m for m in self._messages(pool, picks)}
        if not messages:
            return frozenset()
        report = self._publisher.publish(list(messages.values()))
        if report.unroutable:
            self._declared.discard(pool)  # somebody deleted the queue: declare it again
        failed = report.unroutable | report.refused | report.unknown
        ids = frozenset(i for message in failed for i in messages[message].wake_up.job_ids)
        if ids:
            self._least_pause_s = report.retry_after_s
            counts = f"{len(report.refused)} refused, {len(report.unroutable)} unroutable"
            self._note(report.trouble or f"{len(report.unknown)} unconfirmed, {counts}")
            with self._database.begin() as tx:
                tx.backlog.unmark(sorted(ids))
        return ids

    def _messages(self, pool: str, picks: Iterable[Pick]) -> Iterable[Message]:
        """Chunks of one lane and one version, in the order in which they were picked."""
        chunks: dict[tuple[Lane, str], list[str]] = {}
        for pick in picks:
            chunks.setdefault((pick.lane, pick.head.version_id), []).append(pick.head.id)
        size = self._settings.max_jobs_per_message
        for (lane, version_id), ids in chunks.items():
            for start in range(0, len(ids), size):
                yield Message(
                    id=f"{self._chance(128):032x}",
                    queue=queue_name(pool, lane),
                    wake_up=WakeUp(version_id=version_id, job_ids=tuple(ids[start : start + size])),
                )

    def _target(self, pool: str, measure: Callable[[], float]) -> int:
        """The window's size, measured anew at most once a second."""
        known = self._targets.get(pool)
        now = self._clock.monotonic_s()
        if known and now - known[0] < RATE_TTL_S:
            return known[1]
        limits = self._settings
        target = fairness.window_target(
            measure(),
            window_s=limits.window_s,
            least=limits.min_window_jobs,
            most=limits.max_window_jobs,
        )
        self._targets[pool] = (now, target)
        return target

    def _turn(self, pool: str, tenants: Sequence[str]) -> Sequence[str]:
        """With very many tenants a look takes the next few of them, round and round."""
        most = self._settings.tenants_per_look
        if len(tenants) <= most:
            return tenants
        after = self._cursor.get(pool, "")
        ordered = sorted(tenants)
        chosen = ([t for t in ordered if t > after] + ordered)[:most]
        self._cursor[pool] = chosen[-1]
        return chosen

    def _ensure(self, pool: str) -> None:
        if self._declare is not None and pool not in self._declared:
            self._declare([pool])
        self._declared.add(pool)

    def _note(self, trouble: str | None) -> None:
        if trouble != self._trouble:
            if trouble:
                _LOG.warning("the relay pauses: %s", trouble)
            else:
                _LOG.info("the relay publishes again")
        self._trouble = trouble


def rest_s(look: Look, took_s: float) -> float:
    """How long to leave the database alone after a look, however many pokes come.

    A relay that answered every poke of a flood would spend as much as the submits themselves.
    So it looks at most a third of the time, and hardly ever into a window that is full.
    """
    if look.waiting and not look.marked:
        return FULL_REST_S
    return min(BUSY_TICK_S, 2 * took_s) if look.marked else 0.0
