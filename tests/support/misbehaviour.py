"""Values that make the test models misbehave, each in the first number of a row.

All are exact in float32, and no test counts through them.
"""

from __future__ import annotations

POISON = -0.625  # the pass raises
NAN = -0.375  # this row's answer is NaN
KILLER = -0.875  # the process dies
GREEDY = -0.1875  # the pass needs more memory than there is
FEWER = -0.3125  # the answer has one row less than the question
WIDER = -0.4375  # the answer has another shape than before
SLOW = -0.5625  # the pass takes as many seconds as the second number says, about
