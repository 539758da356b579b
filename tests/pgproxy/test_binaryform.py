"""psycopg's binary loaders are the oracle; literal bytes were sent by PostgreSQL 15.18."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import Transformer

from pgproxy.binaryform import binary_column, numeric_binary
from rewriter.refusal import Refusal


def loaded(data: bytes | None, oid: int) -> Any:
    if data is None:
        return None
    loader = psycopg.adapters.get_loader(oid, psycopg.pq.Format.BINARY)
    assert loader is not None
    return loader(oid, Transformer()).load(data)


MOMENT = dt.datetime(1969, 7, 20, 20, 17, 40, 123456)  # noqa: DTZ001 - a timestamp without time zone


@pytest.mark.parametrize(
    ("oid", "kind", "values"),
    [
        (16, pa.bool_(), [True, False, None]),
        (21, pa.int16(), [-1, 2**15 - 1, None]),
        (23, pa.int32(), [-1, 2**31 - 1, None]),
        (20, pa.int64(), [-1, 2**63 - 1, None]),
        (26, pa.int64(), [0, 2**32 - 1, None]),
        (700, pa.float32(), [0.5, -1.5, None]),
        (701, pa.float64(), [0.1, -1e300, float("inf"), None]),
        (25, pa.string(), ["", "żółw", None]),
        (19, pa.string(), ["name", None]),
        (1082, pa.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31), None]),
        (1114, pa.timestamp("us"), [MOMENT, MOMENT.replace(year=2000), None]),
        (1184, pa.timestamp("us", "UTC"), [MOMENT.replace(tzinfo=dt.UTC), None]),
        (1700, pa.decimal128(38, 2), [Decimal("0.00"), Decimal("-12345678.90"), Decimal("10000.00"), None]),
        (1700, pa.decimal128(38, 0), [Decimal(10**30), Decimal(-1), None]),
        (1700, pa.string(), [None]),
    ],
)
def test_psycopg_reads_back_what_was_sent(oid: int, kind: pa.DataType, values: list[Any]) -> None:
    column = pa.array(values, kind)
    assert [loaded(data, oid) for data in binary_column(column, oid).to_pylist()] == values
    assert [loaded(data, oid) for data in binary_column(column[1:], oid).to_pylist()] == values[1:]


@given(st.lists(st.none() | st.decimals(-(10**17), 10**17, places=3, allow_nan=False), max_size=10))
def test_columns_of_numerics_agree_with_single_ones(values: list[Decimal | None]) -> None:
    column = pa.array(values, pa.decimal128(38, 3))
    single = [None if value is None else numeric_binary(f"{value:.3f}") for value in values]
    assert binary_column(column, 1700).to_pylist() == single


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=9))
def test_psycopg_reads_any_numeric(value: Decimal) -> None:
    assert loaded(numeric_binary(f"{value:f}"), 1700) == value


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("0", "0000000000000000"),
        ("0.2500", "0001ffff0000000409c4"),
        ("-20000", "0001000140000000" + "0002"),
        ("NaN", "00000000c0000000"),
        ("-Infinity", "00000000f0000000"),
        ("0.00010000", "0001ffff00000008" + "0001"),
    ],
)
def test_numerics_have_the_bytes_of_numeric_send(text: str, data: str) -> None:
    assert numeric_binary(text).hex() == data


@pytest.mark.parametrize(
    ("oid", "text", "data"),
    [
        (1009, "{}", "000000000000000000000019"),
        (1007, "{1,NULL}", "00000001000000010000001700000002000000010000000400000001ffffffff"),
        (22, "1 2", "0000000100000000000000150000000200000000000000020001000000020002"),
        (30, "", "00000001000000000000001a0000000000000000"),
    ],
)
def test_arrays_have_the_bytes_of_array_send(oid: int, text: str, data: str) -> None:
    (sent,) = binary_column(pa.array([text]), oid).to_pylist()
    assert sent.hex() == data


def test_quoted_elements_of_arrays_are_unquoted() -> None:
    (sent,) = binary_column(pa.array([r'{a,"b c",NULL,"NULL","q\"x,}"}']), 1009).to_pylist()
    assert loaded(sent, 1009) == ["a", "b c", None, "NULL", 'q"x,}']


@pytest.mark.parametrize(("oid", "text"), [(1186, "1 day"), (2205, "pg_class"), (1007, "{{1},{2}}")])
def test_what_has_no_binary_form_is_refused_with_a_hint(oid: int, text: str) -> None:
    with pytest.raises(Refusal) as raised:
        binary_column(pa.array([text]), oid)
    assert raised.value.sqlstate == "0A000"
    assert raised.value.hint
