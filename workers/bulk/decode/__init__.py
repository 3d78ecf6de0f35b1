"""From Arrow batches to a model's inputs, with the online decoder's strictness, whole columns at
a time.

::

    mapping      which columns fill which input: said once for a file, refused at once if wrong
    chunk        one batch through the readers of its inputs
    tensors, records, texts, pictures, payloads     the readers
    nesting, values, fitting                        what they are made of, in numpy
    verdicts     the rows that are wrong, each with its first reason

What differs from online, because a column has one type for all its rows: a whole number in a
column of floats counts as an integer (a gap makes a column of integers one of floats), and in CSV,
which has no types, numbers may stand in a column of text.
"""

from workers.bulk.decode.chunk import ChunkDecoder

__all__ = ["ChunkDecoder"]
