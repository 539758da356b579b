from __future__ import annotations

import datetime as dt
from contextlib import suppress
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.numeric import Float4, Int2, Int4, Int8

from enclave.answer import Parameter
from pgproxy.parameters import bound_parameters, spread
from rewriter.refusal import Refusal

UTC_MOMENT = dt.datetime(2024, 1, 2, 3, 4, 5, 60, dt.UTC)


def read(oid: int, raw: bytes | None, code: int = 1) -> str | None:
    (parameter,) = bound_parameters((oid,), (code,), (raw,))
    assert parameter.type_oid == oid
    return parameter.value


def dumped(value: Any) -> tuple[int, bytes]:
    dumper = psycopg.adapters.get_dumper(type(value), psycopg.adapt.PyFormat.BINARY)(type(value))
    dumper = dumper.upgrade(value, psycopg.adapt.PyFormat.BINARY)
    raw = dumper.dump(value)
    assert raw is not None
    return dumper.oid, bytes(raw)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "t"),
        (False, "f"),
        (Int2(-5), "-5"),
        (Int4(-6), "-6"),
        (Int8(2**40), "1099511627776"),
        (0.1, "0.1"),
        (1e20, "1e+20"),
        (float("nan"), "NaN"),
        (Float4(0.5), "0.5"),
        (Decimal("-12.50"), "-12.50"),
        (Decimal("0.0001"), "0.0001"),
        (Decimal(20000), "20000"),
        (Decimal("NaN"), "NaN"),
        ("żółw", "żółw"),
        (dt.date(2024, 2, 29), "2024-02-29"),
        (UTC_MOMENT.replace(tzinfo=None, microsecond=600_000), "2024-01-02 03:04:05.6"),
        (UTC_MOMENT, "2024-01-02 03:04:05.00006+00"),
    ],
)
def test_what_psycopg_sends_in_binary_is_read(value: Any, text: str) -> None:
    oid, raw = dumped(value)
    assert read(oid, raw) == text


@given(st.decimals(-(10**30), 10**30, places=7, allow_nan=False))
def test_any_numeric_keeps_its_value_and_scale(value: Decimal) -> None:
    expected = f"{value:f}"
    assert read(*dumped(value)) in (expected, expected.removeprefix("-") if not value else expected)


def test_text_goes_through_as_it_is() -> None:
    found = bound_parameters((0, 25, 23), (), (b"a", None, b" 7 "))
    assert found == (Parameter(0, "a"), Parameter(25, None), Parameter(23, " 7 "))


def test_a_parameter_of_unknown_type_in_binary_is_text() -> None:
    assert read(0, b"abc") == "abc"


@pytest.mark.parametrize(
    ("oid", "raw"),
    [(23, b"\x00"), (16, b""), (1082, b"\x7f\xff\xff\x00"), (1700, b"\x00\x01"), (1700, bytes(7) + b"\x05" * 9)],
)
def test_bytes_that_are_not_of_the_type_are_refused(oid: int, raw: bytes) -> None:
    with pytest.raises(Refusal, match="incorrect binary data format in bind parameter 1") as raised:
        read(oid, raw)
    assert raised.value.sqlstate == "22P03"


def test_other_types_in_binary_are_refused_with_a_hint() -> None:
    with pytest.raises(Refusal) as raised:
        read(2950, bytes(16))
    assert raised.value.sqlstate == "0A000"
    assert raised.value.hint


@pytest.mark.parametrize("raw", [b"a\x00b", b"\xff", b"\xed\xa0\x80"])
def test_text_that_is_not_postgres_text_is_refused(raw: bytes) -> None:
    for code in (0, 1):
        with pytest.raises(Refusal) as raised:
            read(25, raw, code)
        assert raised.value.sqlstate == "22021"


@pytest.mark.parametrize("days", [2**31 - 1, -(2**31)])
def test_infinite_dates_have_their_names(days: int) -> None:
    assert read(1082, days.to_bytes(4, "big", signed=True)) in ("infinity", "-infinity")


@given(
    st.sampled_from([16, 20, 21, 23, 26, 700, 701, 1082, 1114, 1184, 1700]),
    st.binary(max_size=20) | st.binary(min_size=8, max_size=8) | st.binary(min_size=4, max_size=4),
)
def test_any_bytes_are_read_or_refused(oid: int, raw: bytes) -> None:
    with suppress(Refusal):
        assert read(oid, raw)


@pytest.mark.parametrize(
    ("formats", "count", "each"),
    [((), 2, (0, 0)), ((1,), 2, (1, 1)), ((0, 1), 2, (0, 1)), ((), 0, ()), ((1,), 0, ())],
)
def test_formats_are_none_one_or_all(formats: tuple[int, ...], count: int, each: tuple[int, ...]) -> None:
    assert spread(formats, count) == each
