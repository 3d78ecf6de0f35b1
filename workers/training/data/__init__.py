"""Data of a training: from files to rows that lie ready on this machine's disk.

::

    files ─▶ readers (table, idx, pictures) ─▶ pieces ─▶ inputs, labels ─▶ flat files
                                                              │ all rows seen
                         split ─▶ what is learned on the training rows only ─▶ KeptRows

Files are read once. What is in memory of all rows are labels, numbers of rows and, if asked for,
their hashes: up to 40 bytes a row.
"""
