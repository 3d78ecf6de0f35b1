"""The promise that nobody waits for ever, whatever arrives meanwhile.

Deadlines, debts, ranks and switches decide who goes next; each lets somebody pass ahead, and so
could let newcomers pass for ever. A candidate that has seen ``PATIENCE_S`` device-seconds of other
work go by while it waited is *overdue*. Overdue candidates go in the order in which they came, and
are given a share of the device's time until there are none: half of it to online ones, a
twentieth to bulk.

So with ``T`` the longest pick and ``k`` the candidates of its class that came before it, an online
candidate whose version is free is picked after at most ``PATIENCE_S + 2(k + 2)T`` device-seconds,
and a bulk one after ``PATIENCE_S + 20(k + 3)T``. (Each of its predecessors takes at most one pick
under this rule; the share bounds what runs between these; one pick may have overshot each limit.)
"""

from __future__ import annotations

PATIENCE_S = 30.0  # as much as one step of priority is worth
ONLINE_SHARE = 1 / 2
BULK_SHARE = 1 / 20


class Turns:
    """Whether the overdue of one class are due a pass: their share less what they had of it."""

    def __init__(self, share: float) -> None:
        self._per_other_s = share / (1 - share)
        self._credit_s = 0.0

    @property
    def is_due(self) -> bool:
        return self._credit_s >= 0

    def ran(self, seconds: float, *, own: bool) -> None:
        """A pass took so long; ``own`` when this rule had picked it."""
        self._credit_s += -seconds if own else seconds * self._per_other_s

    def rest(self) -> None:
        """Nobody is overdue: neither side owes the other anything."""
        self._credit_s = 0.0


def bound_s(ahead: int, longest_pass_s: float, *, bulk: bool) -> float:
    """Device-seconds after which a candidate is picked, as promised above."""
    if bulk:
        return PATIENCE_S + (ahead + 3) * longest_pass_s / BULK_SHARE
    return PATIENCE_S + (ahead + 2) * longest_pass_s / ONLINE_SHARE
