"""Expected texts were printed by PostgreSQL 15.18."""

from __future__ import annotations

import datetime as dt
import math
import struct
from decimal import Decimal

import psycopg.adapt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.textform import date_text, float_text, text_column, timestamp_text

DOUBLES = {
    1e14: "100000000000000",
    1e15: "1e+15",
    123456789012345.0: "123456789012345",
    1234567890123456.0: "1.234567890123456e+15",
    0.0001: "0.0001",
    0.00001: "1e-05",
    1e-7: "1e-07",
    1e20: "1e+20",
    -0.0: "-0",
    0.1: "0.1",
    100.0: "100",
    5e-324: "5e-324",
    1.7976931348623157e308: "1.7976931348623157e+308",
    6.8004168354023696e16: "6.8004168354023696e+16",
    -9.801018082498861e16: "-9.801018082498861e+16",
    math.inf: "Infinity",
    -math.inf: "-Infinity",
}
REALS = {
    1e5: "100000",
    1e6: "1e+06",
    123456.0: "123456",
    1234567.0: "1.234567e+06",
    0.0001: "0.0001",
    0.00001: "1e-05",
    16777216.0: "1.6777216e+07",
    1234567890.5: "1.2345679e+09",
    0.1: "0.1",
    3.4028234663852886e38: "3.4028235e+38",
}


def test_doubles_are_printed_as_float8out_does() -> None:
    column = pa.array([*DOUBLES, math.nan, None], pa.float64())
    assert text_column(column, 701).to_pylist() == [*DOUBLES.values(), "NaN", None]


def test_reals_are_printed_as_float4out_does() -> None:
    column = pa.array([*REALS, math.nan, None], pa.float32())
    assert text_column(column, 700).to_pylist() == [*REALS.values(), "NaN", None]


@given(st.lists(st.floats(), max_size=20))
def test_any_double_reads_back(values: list[float]) -> None:
    texts = text_column(pa.array(values, pa.float64()), 701).to_pylist()
    assert texts == [float_text(value) for value in values]
    for text, value in zip(texts, values, strict=True):
        assert struct.pack("d", float(text)) == struct.pack("d", value) or math.isnan(value)


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=20))
def test_any_real_reads_back(values: list[float]) -> None:
    texts = text_column(pa.array(values, pa.float32()), 700).to_pylist()
    assert pa.array(map(float, texts), pa.float32()).to_pylist() == values


@pytest.mark.parametrize(
    ("values", "scale", "texts"),
    [
        (["0.0000001", "0", "-12.5"], 10, ["0.0000001000", "0.0000000000", "-12.5000000000"]),
        (["1", "-1"], 0, ["1", "-1"]),
        (["99999999999999999999999999.99"], 2, ["99999999999999999999999999.99"]),
    ],
)
def test_numerics_keep_their_scale_and_have_no_exponent(values: list[str], scale: int, texts: list[str]) -> None:
    column = pa.array([*map(Decimal, values), None], pa.decimal128(38, scale))
    assert text_column(column, 1700).to_pylist() == [*texts, None]


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (0, "1970-01-01"),
        (2_932_896, "9999-12-31"),
        (2_932_897, "10000-01-01"),
        (-719_162, "0001-01-01"),
        (-719_163, "0001-12-31 BC"),
        (-735_161, "0044-03-14 BC"),
    ],
)
def test_dates_of_all_years(days: int, text: str) -> None:
    assert date_text(days) == text
    assert text_column(pa.array([days, None], pa.int32()).cast(pa.date32()), 1082).to_pylist() == [text, None]


@given(st.dates())
def test_dates_agree_with_python(day: dt.date) -> None:
    assert date_text((day - dt.date(1970, 1, 1)).days) == day.isoformat()


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "1970-01-01 00:00:00"),
        (500_000, "1970-01-01 00:00:00.5"),
        (1, "1970-01-01 00:00:00.000001"),
        (10_000_000, "1970-01-01 00:00:10"),
        (-1, "1969-12-31 23:59:59.999999"),
        (253_402_300_800_120_000, "10000-01-01 00:00:00.12"),
        (-62_135_596_800_000_001, "0001-12-31 23:59:59.999999 BC"),
    ],
)
def test_timestamps_have_no_trailing_zeros(micros: int, text: str) -> None:
    assert timestamp_text(micros) == text
    plain = pa.array([micros, None], pa.int64())
    assert text_column(plain.cast(pa.timestamp("us")), 1114).to_pylist() == [text, None]
    zoned = text.replace(" BC", "+00 BC") if "BC" in text else text + "+00"
    assert text_column(plain.cast(pa.timestamp("us", "UTC")), 1184).to_pylist() == [zoned, None]


@given(st.datetimes())
def test_psycopg_reads_timestamps_back(moment: dt.datetime) -> None:
    (text,) = text_column(pa.array([moment], pa.timestamp("us")), 1114).to_pylist()
    loader = psycopg.adapters.get_loader(1114, psycopg.pq.Format.TEXT)
    assert loader is not None
    assert loader(1114).load(text.encode()) == moment


@pytest.mark.parametrize(
    ("column", "oid", "texts"),
    [
        (pa.array([True, False, None]), 16, ["t", "f", None]),
        (pa.array([-(2**63), None], pa.int64()), 20, ["-9223372036854775808", None]),
        (pa.array(["ż", None], pa.large_string()), 25, ["ż", None]),
        (pa.array(["a", None]).dictionary_encode(), 25, ["a", None]),
        (pa.array(["NaN", "1.50"]), 1700, ["NaN", "1.50"]),
        (pa.nulls(2), 25, [None, None]),
        (pa.array([], pa.float64()), 701, []),
    ],
)
def test_other_columns(column: pa.Array, oid: int, texts: list[str | None]) -> None:
    assert text_column(column, oid).to_pylist() == texts
