"""The ready window: claimed, decoded jobs in memory, out of which each pass is picked.

Late binding: nothing here waits on a timer. The moment the device is free the best pass of what
is there is picked; what arrives while it runs may be in the next one. Not locked: its callers
hold one lock around it and its book. It has no clock of its own, so the same calls give the same
picks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from workers.inference.batching.candidate import BLOCKS, Candidate, Limits, Pick
from workers.inference.batching.choice import Choice, hurried, overdue, ranked
from workers.inference.batching.debts import Debts
from workers.inference.batching.forming import Former
from workers.inference.batching.group import Entry, Group, GroupKey
from workers.inference.batching.latency import LatencyBook
from workers.inference.batching.patience import BULK_SHARE, ONLINE_SHARE, Turns
from workers.inference.batching.presence import Presence

MIN_BULK_ROWS = 8  # bulk work goes on in passes of so many rows, whatever the objective


class Window:
    """Candidates of all versions; each leaves it once: picked, expired or discarded."""

    def __init__(self, book: LatencyBook, *, limits: Callable[[str], Limits]) -> None:
        self._book = book
        self._limits = limits
        self._groups: dict[GroupKey, Group] = {}
        self._presence = Presence()
        self._debts = {False: Debts(), True: Debts()}  # by ``bulk``: leftovers are no debt
        self._former = Former(book, self._debts, limits, self.bulk_cap)
        self._turns = {False: Turns(ONLINE_SHARE), True: Turns(BULK_SHARE)}  # by ``bulk``
        self._late: list[Candidate] = []  # found by a pick to be too late; ``expire`` gives them
        self._served_s = 0.0
        self._number = 0
        self._last_version: str | None = None

    # --- what waits

    @property
    def jobs(self) -> int:
        return self._presence.jobs + len(self._late)

    def waiting(self, version_id: str, bulk: bool) -> tuple[int, int]:
        """(jobs, rows) of one version and class."""
        return self._presence.waiting(version_id, bulk)

    def online_seen(self, now_s: float) -> bool:
        """Whether an online job waits, or came within the last second."""
        return any(True for _ in self._presence.online_versions(now_s))

    def bulk_cap(self, version_id: str, now_s: float) -> int:
        """Most rows of a bulk claim or pass of this version now.

        While online jobs come, the one that arrives behind it must not wait longer than is
        promised to it or to this version's: all stages it could be met in count.
        """
        limits = self._limits(version_id)
        largest = limits.sizes[-1]
        online = list(self._presence.online_versions(now_s))
        if not online:
            return largest
        objective_s = min(limits.objective_s, *(self._limits(v).objective_s for v in online))
        path = self._book.path(version_id)
        if path is None:
            return min(MIN_BULK_ROWS, largest)
        return min(largest, max(MIN_BULK_ROWS, int(min(path.cost_within(objective_s), largest))))

    # --- coming and going

    def add(self, candidates: Sequence[Candidate], now_s: float) -> None:
        """They are decoded and may enter the device from now on."""
        for candidate in candidates:
            group = self._group_of(candidate)
            if self._presence.came(candidate, now_s):
                self._debts[candidate.bulk].arrive(candidate.tenant)
            self._number += 1
            entry = Entry(candidate.rank_ms, self._number, self._served_s, candidate)
            group.side(candidate.bulk).add(entry)

    def expire(self, now_s: float) -> list[Candidate]:
        """Those whose latest start has passed, to be answered at once."""
        self._set_late_aside(now_s)
        late, self._late = self._late, []
        return late

    def discard(self, version_id: str) -> list[Candidate]:
        """Everything of a version that cannot be served after all."""
        return self._empty([g for g in self._groups.values() if g.version_id == version_id])

    def clear(self) -> list[Candidate]:
        """Everything, the late ones too."""
        late, self._late = self._late, []
        return late + self._empty(list(self._groups.values()))

    # --- passes

    def pick(
        self, now_s: float, free: Callable[[str], bool], *, bulk_too: bool = True
    ) -> Pick | None:
        """The pass to run now; None when nothing waits for a version that is free.

        ``free`` says whether another pass of a version may start: it is loaded and has an
        instance idle. Without ``bulk_too`` bulk work may fill a pass but has none of its own.
        The pick counts as served until ``charge`` says what it really took.
        """
        self._set_late_aside(now_s)
        free_now = {version_id: free(version_id) for version_id, _, _ in self._groups}
        ready = [
            group
            for group in self._groups.values()
            if free_now[group.version_id] and (bulk_too or group.online.jobs)
        ]
        if not ready:
            return None
        for bulk, debts in self._debts.items():
            debts.survey(self._presence.tenants(bulk))
        choice, until_s = self._choose(ready, now_s, (False, True) if bulk_too else (False,))
        pick = self._former.form(choice, until_s, now_s, self._served_s)
        self._presence.left(pick.version_id, pick.candidates)
        self._drop_if_empty(choice.group)
        self._last_version = pick.version_id
        self._count(pick, pick.estimate_s)
        return pick

    def charge(self, pick: Pick, seconds: float) -> None:
        """What the pass took on the device, in place of what it was expected to take."""
        self._count(pick, seconds - pick.estimate_s)
        if pick.candidates[0].companions != BLOCKS:  # which are no jobs, but rows of one
            self._book.observe_jobs(pick.version_id, len(pick.candidates), seconds)

    # --- inside

    def _choose(
        self, ready: Sequence[Group], now_s: float, classes: Sequence[bool]
    ) -> tuple[Choice, float]:
        """Which group goes, and until when its candidates are in a hurry."""
        for bulk in classes:
            choice = overdue(ready, self._served_s, self._turns[bulk], bulk=bulk)
            if choice is not None:
                return choice, self._former.until_s(ready, now_s, bulk=bulk)(choice.group)
        bulk = not any(group.online.jobs for group in ready)
        groups = [group for group in ready if group.side(bulk).jobs]
        until_s = self._former.until_s(groups, now_s, bulk=bulk)
        debts = self._debts[bulk]
        choice = hurried(groups, until_s, debts, bulk=bulk) or ranked(
            groups, debts, self._book.switch_s, self._last_version, bulk=bulk
        )
        return choice, until_s(choice.group)

    def _count(self, pick: Pick, seconds: float) -> None:
        shares: dict[bool, dict[str, float]] = {False: {}, True: {}}
        whole = 0.0
        for candidate in pick.candidates:
            of_class = shares[candidate.bulk]
            of_class[candidate.tenant] = of_class.get(candidate.tenant, 0.0) + candidate.cost
            whole += candidate.cost
        s_per_cost = seconds / whole if whole else 0.0
        for bulk, debts in self._debts.items():
            debts.charge(s_per_cost, shares[bulk])
        self._served_s += seconds
        for bulk, turns in self._turns.items():
            turns.ran(seconds, own=pick.overdue and pick.bulk is bulk)

    def _group_of(self, candidate: Candidate) -> Group:
        key = (candidate.version_id, candidate.shape, candidate.companions)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key)
        row_cost = candidate.cost / max(candidate.rows, 1)
        if row_cost > group.row_cost:
            group.row_cost = row_cost
            self._book.price(candidate.version_id, candidate.shape, row_cost)
        return group

    def _set_late_aside(self, now_s: float) -> None:
        for group in list(self._groups.values()):
            for side in (group.online, group.bulk):
                if side.earliest_s(now_s) < now_s:
                    late = side.remove(lambda entry: entry.candidate.latest_start_s < now_s)
                    self._late += self._leave(group, late)
            self._drop_if_empty(group)

    def _empty(self, groups: Iterable[Group]) -> list[Candidate]:
        gone: list[Candidate] = []
        for group in groups:
            for side in (group.online, group.bulk):
                gone += self._leave(group, side.remove(lambda entry: True))
            self._drop_if_empty(group)
        return gone

    def _leave(self, group: Group, entries: Iterable[Entry]) -> list[Candidate]:
        candidates = [entry.candidate for entry in sorted(entries)]
        self._presence.left(group.version_id, candidates)
        return candidates

    def _drop_if_empty(self, group: Group) -> None:
        if not group.jobs:
            self._groups.pop((group.version_id, group.shape, group.companions), None)
