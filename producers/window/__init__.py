"""The ready window: what may enter it, whose turn it is, and when to look. The relay is its hand.

The parts that decide are pure: ``fairness`` and ``choice``, ``packing`` and ``pace``. ``sight``
reads, ``places`` is shared with the submits of the same process.
"""
