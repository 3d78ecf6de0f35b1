"""A ``where`` lets through what SQL would, and says what it cannot compare."""

from __future__ import annotations

import datetime as dt
import operator
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.records.bulk import Condition
from storage.records.errors import InvalidInput
from workers.bulk.reading.where import Where

steady = settings(deadline=None)  # a busy machine is no failure
UTC = dt.UTC


def chosen(values: pa.Array, op: str, value: object = None) -> list[int]:
    mask = Where([Condition("x", op, value)], "f")(pa.record_batch([values], names=["x"]))
    assert mask is not None and mask.null_count == 0
    return [index for index, one in enumerate(mask.to_pylist()) if one]


def col(values: list[object], kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind)


MOMENTS = [dt.datetime(2026, 1, day, 12, 30) for day in (1, 2, 3)]


@pytest.mark.parametrize(
    ("column", "op", "value", "rows"),
    [
        (col([1, 2, None, 4], pa.int8()), "=", 2, [1]),
        (col([1, 2, None, 4], pa.int8()), "!=", 2, [0, 3]),
        (col([1, 2, None, 4], pa.int8()), "!=", 1000, [0, 1, 3]),
        (col([1, 2, None, 4], pa.int8()), "<", 1000, [0, 1, 3]),
        (col([1, 2, None, 4], pa.uint64()), ">=", -1, [0, 1, 3]),
        (col([1, 2, None, 4], pa.uint64()), "<", -1, []),
        (col([1, 2, None, 4], pa.int64()), "<", 2.5, [0, 1]),
        (col([1, 2, None, 4], pa.int64()), ">=", 2.5, [3]),
        (col([1, 2, None, 4], pa.int64()), "=", 2.5, []),
        (col([1, 2, None, 4], pa.int64()), "=", 2.0, [1]),
        (col([1, 2, None, 4], pa.int16()), "in", [4, 2, 2.5, 10**30], [1, 3]),
        (col([1, 2, None, 4], pa.int16()), "in", [], []),
        (col([0.1, 2.5, None], pa.float32()), "=", 0.1, [0]),
        (col([0.1, 2.5, float("nan")], pa.float64()), "<", 3, [0, 1]),
        (col([0.5, 2.5, None], pa.float16()), ">", 1, [1]),
        (col([0.5, 2.5, None], pa.float64()), "in", [0.5, 7], [0]),
        (col(["a", "b", None], pa.string()), ">=", "b", [1]),
        (col(["a", "b", None], pa.large_string()), "in", ["a", "z"], [0]),
        (col(["a", "b", None], pa.string_view()), "=", "a", [0]),
        (col(["a", "b", None], pa.string()).dictionary_encode(), "=", "b", [1]),
        (col(["a", "b", None], pa.string()).dictionary_encode(), "is_null", None, [2]),
        (col([True, False, None], pa.bool_()), "=", False, [1]),
        (col([True, False, None], pa.bool_()), "in", [True], [0]),
        (col([Decimal("1.10"), Decimal("2.00"), None], pa.decimal128(10, 2)), "=", 1.1, [0]),
        (col([Decimal("1.10"), Decimal("2.00"), None], pa.decimal128(10, 2)), ">", 1.105, [1]),
        (col([Decimal("1.10"), Decimal("2.00"), None], pa.decimal128(10, 2)), "in", [2], [1]),
        (col([dt.date(2026, 1, 1), dt.date(2026, 1, 2)], pa.date32()), ">", "2026-01-01", [1]),
        (col([dt.date(2026, 1, 1), dt.date(2026, 1, 2)], pa.date64()), "=", "2026-01-01", [0]),
        (col([dt.time(1), dt.time(2)], pa.time32("s")), ">", "01:30:00", [1]),
        (col(MOMENTS, pa.timestamp("ns")), ">", "2026-01-02", [1, 2]),
        (col(MOMENTS, pa.timestamp("s")), "=", "2026-01-02T12:30:00", [1]),
        (col(MOMENTS, pa.timestamp("ms", "UTC")), "<=", "2026-01-02T14:30:00+02:00", [0, 1]),
        (col(MOMENTS, pa.timestamp("us", "Europe/Berlin")), "<", "2026-01-02T12:30:00", [0]),
        (col(MOMENTS, pa.timestamp("us")), "in", ["2026-01-03 12:30", "2020-01-01"], [2]),
        (col([[1], None], pa.list_(pa.int8())), "not_null", None, [0]),
        (col([None, None], pa.null()), "=", 1, []),
        (col([None, None], pa.null()), "is_null", None, [0, 1]),
    ],
)
def test_a_comparison_holds_as_in_sql(
    column: pa.Array, op: str, value: object, rows: list[int]
) -> None:
    assert chosen(column, op, value) == rows


@pytest.mark.parametrize(
    ("column", "op", "value"),
    [
        (col([1], pa.int8()), "=", "1"),
        (col([1], pa.int8()), "=", True),
        (col([1], pa.int8()), "=", None),
        (col([1], pa.int8()), "in", 1),
        (col([1], pa.int8()), "in", [1, None]),
        (col([1], pa.int8()), "like", 1),
        (col([1], pa.int8()), "=", [1]),
        (col([1.0], pa.float32()), "<", 10**400),
        (col(["1"], pa.string()), "=", 1),
        (col([True], pa.bool_()), "=", 1),
        (col([True], pa.bool_()), "<", True),
        (col([b"1"], pa.binary()), "=", "1"),
        (col([dt.date(2026, 1, 1)], pa.date32()), "=", "yesterday"),
        (col([MOMENTS[0]], pa.timestamp("us")), "=", 5),
        (col([MOMENTS[0]], pa.timestamp("us")), "=", "2026-01-02T14:30:00+02:00"),
        (col([[1]], pa.list_(pa.int8())), "=", 1),
        (col([{"a": 1}], pa.struct([("a", pa.int8())])), "=", "x"),
    ],
)
def test_what_cannot_be_compared_is_said_before_a_row_is_read(
    column: pa.Array, op: str, value: object
) -> None:
    where = Where([Condition("x", op, value)], "f")
    for ask in (
        lambda: where(pa.record_batch([column], names=["x"])),
        lambda: where.check(pa.schema([("x", column.type)])),
    ):
        with pytest.raises(InvalidInput, match="'x'") as caught:
            ask()
        assert caught.value.stable_code == "bad_where"


def test_all_conditions_must_hold_and_none_lets_everything_through() -> None:
    batch = pa.record_batch({"a": [1, 2, 3, None], "b": ["x", "y", "y", "y"]})
    both = Where([Condition("a", ">", 1), Condition("b", "=", "y")], "f")
    assert both(batch).to_pylist() == [False, True, True, False]
    assert both.columns == ("a", "b")
    assert Where([], "f")(batch) is None


def test_a_column_that_is_not_there_is_named_beside_those_that_are() -> None:
    where = Where([Condition("c", "=", 1)], "s3://b/f.parquet")
    with pytest.raises(InvalidInput) as caught:
        where(pa.record_batch({"a": [1], "b": [2]}))
    assert caught.value.stable_code == "unknown_column"
    assert str(caught.value) == "s3://b/f.parquet has no column 'c'; it has: a, b"


OPS = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
KINDS = [pa.int8(), pa.uint8(), pa.int64(), pa.uint64()]


@steady
@given(st.sampled_from(KINDS), st.sampled_from(sorted(OPS)), st.data())
def test_integers_are_compared_as_on_paper(kind: pa.DataType, op: str, data: st.DataObject) -> None:
    signed = pa.types.is_signed_integer(kind)
    least, most = -(2 ** (kind.bit_width - 1)) if signed else 0, 2 ** (kind.bit_width - signed) - 1
    values = data.draw(st.lists(st.one_of(st.none(), st.integers(least, most)), max_size=6))
    number = data.draw(
        st.one_of(
            st.integers(least - 3, most + 3),
            st.floats(allow_nan=False, allow_infinity=False),
            st.sampled_from([0.5, -0.5, 2.0**63, float(most)]),
        )
    )
    expected = [i for i, one in enumerate(values) if one is not None and OPS[op](one, number)]
    assert chosen(pa.array(values, kind), op, number) == expected


cells = st.one_of(st.none(), st.integers(-5, 5), st.floats(-5, 5, width=32), st.just(float("nan")))


@steady
@given(
    st.lists(cells, min_size=1, max_size=5),
    st.sampled_from([*OPS, "in", "is_null", "not_null"]),
    st.one_of(st.integers(-6, 6), st.floats(-6, 6, width=32)),
)
@example([float("nan")], "!=", 1)
def test_a_row_group_is_skipped_only_if_no_row_of_it_holds(
    values: list[float | None], op: str, number: float
) -> None:
    whole = all(one is None or one == int(one) for one in values if one == one) and all(
        one == one for one in values
    )
    kinds = [pa.float32(), pa.float64()] + ([pa.int32()] if whole else [])
    for kind in kinds:
        column = pa.array(
            [
                one if one is None else (int(one) if kind == pa.int32() else float(one))
                for one in values
            ],
            kind,
        )
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"x": column}), sink)
        group = pq.ParquetFile(pa.BufferReader(sink.getvalue())).metadata.row_group(0)
        value: object = [number, 1] if op == "in" else number
        where = Where([Condition("x", op, value)], "f")
        schema = pa.schema([("x", kind)])
        if where.leaves_out_all(schema, {"x": group.column(0).statistics}.get):
            assert chosen(column, op, value) == []


def test_bounds_spare_reading_where_they_tell() -> None:
    sink = pa.BufferOutputStream()
    table = pa.table(
        {"n": [5, 6, 7], "t": ["b", "c", "d"], "m": pa.array(MOMENTS, pa.timestamp("ms", "UTC"))}
    )
    pq.write_table(table, sink)
    group = pq.ParquetFile(pa.BufferReader(sink.getvalue())).metadata.row_group(0)
    stats = {name: group.column(i).statistics for i, name in enumerate(table.schema.names)}

    def spared(column: str, op: str, value: object = None) -> bool:
        where = Where([Condition(column, op, value)], "f")
        return where.leaves_out_all(table.schema, stats.get)

    assert spared("n", ">", 7) and spared("n", "<", 5) and spared("n", "in", [1, 8])
    assert spared("n", "is_null") and spared("t", "=", "a") and spared("t", "<", "b")
    assert spared("m", ">", "2026-01-04") and spared("n", "=", 4.5)
    assert not spared("n", "<=", 5) and not spared("t", "=", "c") and not spared("n", "!=", 6)
    assert not spared("n", "in", [1, 6]) and not spared("m", "<", "2026-01-02")
