"""Does padding change answers, and how long is the answer to an item of some length?

A model whose pusher declared sizes (``serving.pad``) is run on made-up items as they are and
padded. The answers must be the same but for rounding, or the declaration was a mistake. Outputs
that grow with an input (a label for each token, a map of a picture) are cut back by a rule that
is learned here from a few lengths: as long as the input, a stride, a border less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from storage.records.serving import Pad
from storage.records.serving_check import fill_of
from storage.records.signatures import InputSpec, OutputSpec, Signature
from workers.inference.ports import Array, Follows, ModelBroken, Ragged, Row
from workers.inference.shapes import Lengths, cut, exact_shape, free_axes, stack
from workers.runtime.probes import Forward, alike, made_up_rows

CODE = "padding_changes_answers"
_LONGEST_TRIED = 256
_SHORTER_BY = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144)
_SCALES, _STRIDES, _BORDERS = (1, 2, 4, 8, 16, 32, 3, 5, 6), range(1, 65), range(65)
_MOST_PADDED = 1 << 20  # positions of one item's largest padding that is still tried

Follow = tuple[Follows | None, ...]
Driver = tuple[str, int]  # an input, and which of its axes of any length
Sizes = Mapping[str, Lengths]
OutputShapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class PaddingProbe:
    """Runs one made-up item at a time. ``forward`` takes any shapes, at no great cost each."""

    forward: Forward
    signature: Signature
    seed: int

    def follows(self, outputs: Sequence[OutputSpec]) -> dict[str, Follow]:
        """By output that grows with an input: what each of its axes follows."""
        growing = [spec for spec in outputs if None in spec.shape]
        found: dict[str, list[Follows | None]] = {s.name: [None] * len(s.shape) for s in growing}
        for driver, samples in self._drivers() if growing else ():
            for spec in growing:
                for axis, length in enumerate(spec.shape):
                    seen = [(n, shapes[spec.name][1 + axis]) for n, shapes in samples]
                    if length is not None or len({have for _, have in seen}) == 1:
                        continue
                    rule = _rule(driver, seen)
                    if rule is None or found[spec.name][axis] is not None:
                        raise ModelBroken(
                            f"how long output {spec.name!r} is follows no input in a way that"
                            " padding could be cut off by: declare no pad for it",
                            code=CODE,
                        )
                    found[spec.name][axis] = rule
        return {name: tuple(axes) for name, axes in found.items() if any(axes)}

    def check(self, follows: Mapping[str, Follow]) -> None:
        """``ModelBroken`` when an item is answered otherwise among its padding than alone."""
        refused: Exception | None = None
        tried = 0
        for natural, padded in self._cases():
            bucket = exact_shape(self.signature, self._row(padded))
            for row in self._items(natural):
                exact = exact_shape(self.signature, row)
                try:
                    alone = self._answer(row, exact, follows)
                except Exception as error:  # too short for it, perhaps
                    refused = error
                    break
                tried += 1
                filled = self._answer(row, bucket, follows)
                differs = [n for n in alone if not alike(alone[n][0], filled[n][0])]
                if differs:
                    raise ModelBroken(
                        f"output {differs[0]!r} of an item of {exact} is another when it is padded"
                        f" to {bucket}: let the model mask, or declare no pad for it",
                        code=CODE,
                    )
        if not tried and refused is not None:
            raise refused

    def _answer(self, row: Row, shape: str, follows: Mapping[str, Follow]) -> dict[str, Ragged]:
        outputs = self.forward(stack(self.signature, [row], shape, 1))
        return cut(self.signature, follows, outputs, [row])

    def _row(self, lengths: Sizes) -> Row:
        return made_up_rows(self.signature, [lengths], self.seed)[0]

    def _items(self, lengths: Sizes) -> Iterator[Row]:
        """A made-up item, and one in which nothing looks like padding: of whole numbers there are
        two that any model takes, and a short item of zeros is answered alike however far it is
        filled up with zeros."""
        row = self._row(lengths)
        yield row
        unlike = dict(row)
        for spec, pad in self._padded():
            values = row[spec.name]
            if values.dtype.kind not in "fc":
                unlike[spec.name] = _unlike(values, fill_of(pad, spec.dtype))
        if any(unlike[name] is not row[name] for name in row):
            yield unlike

    def _padded(self) -> list[tuple[InputSpec, Pad]]:
        pads = self.signature.serving.pad
        return [(spec, pads[spec.name]) for spec in self.signature.varying if spec.name in pads]

    def _even(self, length: Callable[[Pad], int]) -> dict[str, Lengths]:
        """The same length for each axis of an input."""
        return {s.name: (length(pad),) * len(free_axes(s)) for s, pad in self._padded()}

    def _cases(self) -> Iterator[tuple[Sizes, Sizes]]:
        """What is tried: items that nearly fill a bucket, half fill it, and hardly do."""
        smallest = self._even(lambda pad: pad.sizes[0])
        for share in (0.9, 0.5):
            yield self._even(lambda pad, share=share: math.ceil(pad.sizes[0] * share)), smallest  # type: ignore[misc]
        for index in range(max(len(pad.sizes) for _, pad in self._padded()) - 1, 0, -1):
            larger = self._even(lambda pad, i=index: pad.sizes[min(i, len(pad.sizes) - 1)])  # type: ignore[misc]
            if max(math.prod(lengths) for lengths in larger.values()) <= _MOST_PADDED:
                yield self._even(lambda pad: math.ceil(pad.sizes[0] * 0.7)), larger
                return

    def _drivers(self) -> Iterator[tuple[Driver, list[tuple[int, OutputShapes]]]]:
        """Each axis with the outputs' shapes at some of its lengths, all others kept."""
        tied: set[int] = set()
        for spec, pad in self._padded():
            for axis in range(len(free_axes(spec))):
                if axis in tied:
                    continue
                largest = min(pad.sizes[-1], _LONGEST_TRIED)
                lengths = [largest - less for less in _SHORTER_BY if less < largest]
                samples = self._samples(lengths, axis, spec.name)
                if len(samples) < min(2, len(lengths)) and len(self._padded()) > 1:
                    # Its inputs must be of one length: they grow together.
                    samples = self._samples(lengths, axis, None)
                    tied.add(axis)
                yield (spec.name, axis), samples

    def _samples(
        self, lengths: Sequence[int], axis: int, only: str | None
    ) -> list[tuple[int, OutputShapes]]:
        """The longest first; a model may have no answer for an item that is too short."""
        found: list[tuple[int, OutputShapes]] = []
        for n in lengths:
            try:
                found.append((n, self._shapes(n, axis, only)))
            except Exception:
                if not found:
                    raise
                break
        return found

    def _shapes(self, n: int, axis: int, only: str | None) -> OutputShapes:
        lengths = self._even(lambda pad: min(pad.sizes[-1], _LONGEST_TRIED))
        for name, have in lengths.items():
            if only in (None, name) and axis < len(have):
                lengths[name] = (*have[:axis], n, *have[axis + 1 :])
        row = self._row(lengths)
        batch = stack(self.signature, [row], exact_shape(self.signature, row), 1)
        return {name: array.shape for name, array in self.forward(batch).items()}


def _unlike(values: Array, fill: object) -> Array:
    """The same with something else wherever it is what fills it; itself where nothing is."""
    same = values == fill
    if not same.any():
        return values
    other = ("one" if fill == "" else "") if values.dtype.kind == "O" else int(fill == 0)
    return np.where(same, other, values).astype(values.dtype)


def _rule(driver: Driver, seen: Sequence[tuple[int, int]]) -> Follows | None:
    """The simplest rule that explains every length seen."""
    for by in _STRIDES:
        for scale in _SCALES:
            for border in _BORDERS:
                for add in {border, -border}:
                    rule = Follows(*driver, scale=scale, add=add, by=by)
                    if all(rule.length(n) == have for n, have in seen):
                        return rule
    return None
