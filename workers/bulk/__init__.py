"""Bulk scoring: files in, parts out, every row answered once.

::

    owner    one session runs the bulk job itself: plans it, watches over it, ends it
    runner   takes shards, whoever's the job is
    reading ─▶ decode ─▶ the batcher's window ─▶ encode ─▶ a part, put and committed

Rows travel in Arrow batches and numpy blocks; no Python object is made for a single one of them
unless it is wrong.
"""
