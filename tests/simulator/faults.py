"""Which faults a run has, how often, and when: chosen by its seed, so that runs differ."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

# By kind: how often it may happen at most, at each place where it could.
RATES = {
    "process killed": 0.012,
    "process stopped": 0.012,
    "thread held up": 0.015,
    "commit held up": 0.25,
    "others in between": 0.10,
    "database: no begin": 0.03,
    "database: commit failed": 0.03,
    "database: reply lost": 0.04,
    "database: slow": 0.03,
    "database: down": 0.004,
    "database: crash takes back a claim": 0.05,
    "objects: put failed": 0.10,
    "objects: put arrived, reply lost": 0.10,
    "objects: slow": 0.08,
    "objects: read cut": 0.06,
    "objects: down": 0.01,
    "broker: confirm lost": 0.05,
    "broker: refused": 0.05,
    "broker: message lost": 0.08,
    "broker: message doubled": 0.10,
    "broker: message delayed": 0.12,
    "broker: out of order": 0.15,
    "broker: alarm": 0.02,
    "broker: restart": 0.01,
    "broker: queues wiped": 0.008,
    "broker: garbage": 0.03,
    "broker: forged": 0.04,
    "connection lost": 0.01,
}


@dataclass
class Faults:
    """The dice of one run."""

    chance: random.Random
    rates: dict[str, float] = field(default_factory=dict)
    on: bool = True

    def __post_init__(self) -> None:
        for kind, most in RATES.items():
            self.rates[kind] = most * self.chance.choice((0.0, 0.0, 0.3, 1.0, 2.0))

    def happens(self, kind: str) -> bool:
        """Whether it does, here and now."""
        return self.on and self.chance.random() < self.rates[kind]

    def one_of(self, *kinds: str) -> str | None:
        """Which of them does, if any."""
        if not self.on:
            return None
        at = self.chance.random()
        for kind in kinds:
            at -= self.rates[kind]
            if at < 0:
                return kind
        return None
