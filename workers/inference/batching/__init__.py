"""What runs together on the device, when, and what it will take: decisions without a clock.

::

    claimed, decoded jobs ──add──▶ Window ──pick──▶ Pick ──▶ device
                                     │  ▲                      │
                              estimate  charge ◀───────────────┤
                                     ▼                         │
                                LatencyBook ◀──observe─────────┘

Pure and standard library only: nothing here has a clock, a thread, a log or randomness.
"""

from workers.inference.batching.candidate import BLOCKS, MIXED, UNLIMITED, Candidate, Limits, Pick
from workers.inference.batching.deadlines import latest_start_s
from workers.inference.batching.latency import LatencyBook
from workers.inference.batching.retries import retry_delay_ms
from workers.inference.batching.sizes import next_size
from workers.inference.batching.suspects import companions_of
from workers.inference.batching.window import Window

__all__ = [
    "BLOCKS",
    "MIXED",
    "UNLIMITED",
    "Candidate",
    "LatencyBook",
    "Limits",
    "Pick",
    "Window",
    "companions_of",
    "latest_start_s",
    "next_size",
    "retry_delay_ms",
]
