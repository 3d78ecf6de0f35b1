"""Texts to token ids by Keras's own layer, so that a row's ids are those of the served model.

The vocabulary is counted exactly. A table of counts may not grow without bound, so when it is
full, tokens are put off by their hash to another pass over the texts.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from storage.records.training import Cut, TextPreparation
from workers.runtime.framework import Framework
from workers.training.ports import Array

_RESERVED = frozenset({b"", b"[UNK]"})  # what Keras calls padding and unknown tokens
_SPECIAL = 2
_LONGEST = 256  # bytes: Keras keeps all tokens in an array as wide as the longest
_CHUNK = 4096  # texts in one call
MOST_COUNTED = 1_000_000  # tokens at a time: some 150 MB

Counts = Iterable[tuple[Sequence[bytes], Sequence[int]]]


class KerasVectorizer:
    """``Vectorizer``, by a TextVectorization layer."""

    def __init__(self, framework: Framework, text: TextPreparation) -> None:
        self._framework, self._text = framework, text
        self._applied: tuple[tuple[str, ...], Any] | None = None

    def learn(self, texts: Callable[[], Iterable[Sequence[str]]]) -> tuple[str, ...]:
        """Most frequent first, ties by the token."""
        tf = self._framework.tf
        layer = text_layer(self._framework, self._text, ())

        def tokens(some: Any) -> Any:
            flat = layer._preprocess(some).flat_values
            found, _, counts = tf.unique_with_counts(flat)
            return found, counts

        traced = _of_texts(self._framework, tokens)

        def counted() -> Counts:
            for chunk in _chunks(texts()):
                found, counts = traced(tf.constant(_bytes(chunk)))
                yield found.numpy().tolist(), counts.numpy().tolist()

        best = most_frequent(counted, self._text.max_tokens - _SPECIAL)
        return tuple(token.decode("utf-8", "replace") for token in best)

    def apply(self, vocabulary: Sequence[str], texts: Sequence[str]) -> Array:
        """Token ids, int32 (rows, length)."""
        call = self._layer_for(tuple(vocabulary))
        if not len(texts):
            return np.zeros((0, self._text.length), np.int32)
        constant = self._framework.tf.constant
        ids = [call(constant(_bytes(chunk))).numpy() for chunk in _chunks([texts])]
        return ids[0] if len(ids) == 1 else np.concatenate(ids)

    def _layer_for(self, vocabulary: tuple[str, ...]) -> Any:
        if self._applied is None or self._applied[0] != vocabulary:
            tf = self._framework.tf
            layer = text_layer(self._framework, self._text, vocabulary)

            def ids(some: Any) -> Any:
                return tf.cast(layer(some), tf.int32)

            self._applied = (vocabulary, _of_texts(self._framework, ids))
        return self._applied[1]


class VersionVectorizer(KerasVectorizer):
    """For a version to train on: the vocabulary is the version's own, whatever the texts."""

    def __init__(
        self, framework: Framework, text: TextPreparation, vocabulary: tuple[str, ...]
    ) -> None:
        super().__init__(framework, text)
        self._own = vocabulary

    def learn(self, texts: Callable[[], Iterable[Sequence[str]]]) -> tuple[str, ...]:
        """The version's vocabulary; no text is looked at."""
        return self._own


def text_layer(framework: Framework, text: TextPreparation, vocabulary: Sequence[str]) -> Any:
    """The layer that serves: raw text in, ``length`` token ids out."""
    standardize, split = standardization_of(text)
    return framework.keras.layers.TextVectorization(
        standardize=standardize,
        split=split,
        output_sequence_length=text.length,
        vocabulary=list(vocabulary) or None,
        name="tokens",
    )


def standardization_of(text: TextPreparation) -> tuple[str | None, str]:
    """What Keras calls how texts are made alike, and where they are cut."""
    standardize = {
        (True, True): "lower_and_strip_punctuation",
        (True, False): "lower",
        (False, True): "strip_punctuation",
        (False, False): None,
    }[text.lower, text.strip_punctuation]
    return standardize, "whitespace" if text.cut is Cut.WORDS else "character"


def most_frequent(
    counted: Callable[[], Counts], count: int, most: int = MOST_COUNTED
) -> list[bytes]:
    """The ``count`` most frequent tokens, ties by the token itself, each counted to its end.

    ``counted`` is gone through once, or again for what was put off: a pass looks at the tokens
    whose hash leaves the rest ``part`` by ``parts``, and halves its share when ``most`` is reached.
    Tokens that Keras cannot keep are left out.
    """
    best: list[tuple[int, bytes]] = []
    open_parts = [(0, 1)]
    while open_parts:
        part, parts = open_parts.pop()
        table: Counter[bytes] = Counter()
        for tokens, counts in counted():
            for token, number in zip(tokens, counts, strict=True):
                if parts == 1 or zlib.crc32(token) % parts == part:
                    table[token] += number
            while len(table) > most and parts < 1 << 20:
                open_parts.append((part + parts, 2 * parts))
                parts *= 2
                table = Counter(
                    {one: n for one, n in table.items() if zlib.crc32(one) % parts == part}
                )
        found = ((-n, token) for token, n in table.items() if _may_be_kept(token))
        best = heapq.nsmallest(count, [*best, *heapq.nsmallest(count, found)])
    return [token for _, token in best]


def _of_texts(framework: Framework, function: Callable[[Any], Any]) -> Any:
    """Traced once, for any number of texts."""
    tf = framework.tf
    return tf.function(function, input_signature=[tf.TensorSpec((None,), tf.string)])


def _may_be_kept(token: bytes) -> bool:
    """Whether Keras's table can hold it: numpy, in between, drops a NUL at a text's end."""
    return token not in _RESERVED and len(token) <= _LONGEST and b"\0" not in token


def _bytes(texts: Sequence[str]) -> list[bytes]:
    """UTF-8; halves of characters, which no UTF-8 has, become a question mark."""
    return [text.encode("utf-8", "replace") for text in texts]


def _chunks(pieces: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
    for piece in pieces:
        for start in range(0, len(piece), _CHUNK):
            yield piece[start : start + _CHUNK]
