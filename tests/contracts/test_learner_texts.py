"""Texts become the ids that the served model's own layer gives them, whatever they hold."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records.training import Cut, TextPreparation
from workers.runtime.learning.opening import open_learning
from workers.runtime.learning.texts import most_frequent, text_layer
from workers.training.ports import Vectorizer

pytestmark = [pytest.mark.tensorflow]

ODD = [
    "",
    "   ",
    "Good, GOOD; good!",
    "don't stop-me now…",
    "你好世界 你好",
    "naïve ÉCOLE école",
    "👩‍👩‍👧 👍🏽👍🏽 a",
    "a\tb\nc\r\nd\u00a0e\u2028f",
    "[UNK] [unk] <pad>",
    "nul\x00inside",
    "half \ud83d of a pair",
    "x" * 5000,
    "ﬁ ß ǅ İstanbul",
    "\u202eright to left",
]
PREPARATIONS = [
    TextPreparation(max_tokens=30, length=5),
    TextPreparation(max_tokens=30, length=7, lower=False, strip_punctuation=False),
    TextPreparation(max_tokens=60, length=9, cut=Cut.CHARACTERS, strip_punctuation=False),
    TextPreparation(max_tokens=12, length=3, lower=False, cut=Cut.CHARACTERS),
]


def vectorizer(text: TextPreparation) -> Vectorizer:
    return open_learning("cpu").vectorizer_of(text)


@pytest.mark.parametrize("text", PREPARATIONS)
def test_ids_are_those_of_the_layer_that_is_exported(text: TextPreparation) -> None:
    learning = open_learning("cpu")
    ours = learning.vectorizer_of(text)
    vocabulary = ours.learn(lambda: [ODD])
    assert len(set(vocabulary)) == len(vocabulary) <= text.max_tokens - 2
    layer = learning.framework.keras.layers.TextVectorization.from_config(
        text_layer(learning.framework, text, vocabulary).get_config()
    )
    sound = [one.encode("utf-8", "replace").decode() for one in ODD]
    ids = ours.apply(vocabulary, ODD)
    assert ids.dtype == np.int32 and ids.shape == (len(ODD), text.length)
    assert np.array_equal(ids, layer(np.array(sound, dtype=object)).numpy())
    assert not ids[0].any() and ids.max() > 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_a_text_has_the_same_ids_alone_and_among_others(texts: list[str]) -> None:
    ours = _ours()
    together = ours.apply(("a", "b", "0"), texts)
    alone = np.concatenate([ours.apply(("a", "b", "0"), [text]) for text in texts])
    assert np.array_equal(together, alone)


_kept: list[Vectorizer] = []


def _ours() -> Vectorizer:
    if not _kept:
        _kept.append(vectorizer(PREPARATIONS[0]))
    return _kept[0]


def test_the_vocabulary_is_the_most_frequent_words_and_ties_go_by_the_word() -> None:
    ours = vectorizer(TextPreparation(max_tokens=5, length=4))
    asked = 0

    def texts() -> Iterator[Sequence[str]]:
        nonlocal asked
        asked += 1
        yield ["b a", "c, a!"]
        yield ["d c é"]

    assert ours.learn(texts) == ("a", "c", "b")
    assert asked == 1
    assert ours.apply(("a", "c", "b"), ["C a z a a a"]).tolist() == [[3, 2, 1, 2]]
    assert ours.apply(("a",), []).shape == (0, 4)


def test_more_words_than_the_table_holds_are_counted_in_more_passes_and_as_exactly() -> None:
    chance = random.Random(3)
    words = [f"w{int(chance.paretovariate(0.6))}".encode() for _ in range(20_000)]
    chunks = [words[start : start + 500] for start in range(0, len(words), 500)]
    passes = 0

    def counted() -> Iterator[tuple[list[bytes], list[int]]]:
        nonlocal passes
        passes += 1
        for chunk in chunks:
            yield list(Counter(chunk)), list(Counter(chunk).values())

    whole = sorted(Counter(words).items(), key=lambda one: (-one[1], one[0]))
    assert most_frequent(counted, 300, most=500) == [token for token, _ in whole[:300]]
    assert passes > 1
