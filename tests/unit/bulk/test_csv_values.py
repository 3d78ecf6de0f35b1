"""What is told of a cell by its looks is what Arrow does with it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.bulk.reading.csv_values import do_not_fit

TYPES = [pa.int64(), pa.float64(), pa.bool_()]
WORDS = ["NA", "nan", "NULL", "inf", "Infinity", "0x1F", "1e5", "true", "False", "nan(1)", "-0"]
CELLS = (
    st.text("0123.eE+-xXaFnNiIfty ()\t", max_size=8)
    | st.sampled_from(WORDS).flatmap(lambda word: st.sampled_from([word, f" {word}", f"-{word}"]))
    | st.integers(-(2**64), 2**64).map(str)
    | st.integers(0, 2**66).map(hex)
    | st.floats().map(str)
)


def arrow_takes(cell: str, type_: pa.DataType) -> bool:
    try:
        pa_csv.read_csv(
            pa.BufferReader(f'"{cell}"\n'.encode()),
            read_options=pa_csv.ReadOptions(use_threads=False, column_names=["a"]),
            convert_options=pa_csv.ConvertOptions(column_types={"a": type_}),
        )
    except pa.ArrowInvalid:
        return False
    return True


@pytest.mark.parametrize("type_", TYPES, ids=str)
@given(cells=st.lists(CELLS, max_size=20))
@example(cells=["9" * 5000, "0" * 5000 + "1", "-" + "0" * 30, "1\n", "1\x0b", "1\u00a0", "٣"])
@example(cells=["9223372036854775807", "9223372036854775808", "-9223372036854775808"])
def test_a_cell_fits_by_its_looks_exactly_if_arrow_takes_it(
    cells: list[str], type_: pa.DataType
) -> None:
    told = ~do_not_fit(pa.chunked_array([cells], pa.string()), type_)
    assert told.tolist() == [arrow_takes(cell, type_) for cell in cells]


def test_of_other_types_nothing_is_told() -> None:
    assert do_not_fit(pa.chunked_array([["soon"]]), pa.date32()).tolist() == [False]
