"""Two versions are compared by what they have in common, or not at all."""

from __future__ import annotations

import pytest

from storage.records.errors import InvalidInput
from storage.records.push_options import InputForm
from storage.records.signatures import InputSpec, OutputSpec, Signature
from workers.bulk.evaluating.basis import Basis, basis_of


def version(*outputs: tuple[str, str, tuple[int | None, ...]], labels: str = "") -> Signature:
    return Signature(
        form=InputForm.TENSOR,
        inputs=(InputSpec("x", "float32", (2,)),),
        outputs=tuple(OutputSpec(*one) for one in outputs),
        labels=tuple(labels.split()),
        label_output=outputs[0][0] if labels else None,
    )


Y, Z = ("y", "float32", (3,)), ("z", "float32", (3,))


def test_labels_are_compared_where_both_have_some_in_common() -> None:
    assert basis_of(version(Y, labels="a b c"), version(Z, labels="c d e")) == Basis(labels=True)
    with pytest.raises(InvalidInput, match="no label in common: a, b, c before, and d, e, f"):
        basis_of(version(Y, labels="a b c"), version(Y, labels="d e f"))


def test_numbers_are_compared_by_name_or_where_each_has_one_output() -> None:
    assert basis_of(version(Y, Z), version(Z, Y)).outputs == (("y", "y"), ("z", "z"))
    assert basis_of(version(Y), version(Z)).outputs == (("y", "z"),)
    assert basis_of(version(("y", "float32", ())), version(("q", "float64", (1,)))).outputs
    other = ("y", "float32", (4,))
    assert basis_of(version(Y, Z), version(other, Z)).outputs == (("z", "z"),)
    assert basis_of(version(Y, labels="a b c"), version(Y)).outputs == (("y", "y"),)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (version(Y), version(("y", "float32", (4,)))),
        (version(Y, Z), version(("a", "float32", (3,)))),
        (version(("y", "string", ())), version(("y", "string", ()))),
        (version(("y", "float32", (None,))), version(("y", "float32", (None,)))),
        (version(Y, labels="a b c"), version(("y", "float32", (1,)))),
    ],
)
def test_what_has_nothing_in_common_is_refused(before: Signature, now: Signature) -> None:
    with pytest.raises(InvalidInput, match="no output of numbers in common") as refused:
        basis_of(before, now)
    assert refused.value.stable_code == "not_comparable"
