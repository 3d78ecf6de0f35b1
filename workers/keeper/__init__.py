"""Background duties: one file each, all of one shape.

A duty has a frozen ``Config`` with documented defaults and ``run_once(database, objects)``, which
does at most one bounded piece of work and returns its ``Counts``. It is safe to run in several
processes at once: every change is a compare-and-swap in SQL. ``loop`` owns the clock.
"""
