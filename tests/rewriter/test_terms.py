from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from edges import COLUMNS, Edges, col, const, term
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from policies import sqltype
from policies.model import Column as PolicyColumn
from policies.sqltype import DOUBLE, INTEGER, NUMERIC
from rewriter import terms
from rewriter.refusal import Refusal
from rewriter.terms import FIXED_POINT, SCALE_MAX, UNIT_BITS_MAX, Term, exact, units

NUMBERS = [name for name, (kind, _, _) in COLUMNS.items() if sqltype.parse(kind).is_numeric]
ROWS = (1, 5, 1000, 10**6)


@pytest.fixture(scope="module")
def edges() -> Iterator[Edges]:
    found = Edges()
    yield found
    found.connection.close()


def run(edges: Edges, sql: str) -> Any:
    [(found,)] = edges.connection.execute(f"SELECT {sql}").fetchall()
    return found


# constants


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("integer", "-7", -7),
        ("integer", " 7 ", 7),
        ("integer", "2147483647", 2147483647),
        ("integer", "-2147483648", -(2**31)),
        ("bigint", str(-(2**63)), -(2**63)),
        ("bigint", "1e3", 1000),
        ("numeric", "0.10", Fraction(1, 10)),
        ("numeric", "1e-5", Fraction(1, 100000)),
        ("numeric", "9" * 37, 10**37 - 1),
        ("numeric", "0e999", 0),
        ("numeric(5,2)", "123.456", Fraction(12346, 100)),
        ("numeric(5,2)", "-0.005", Fraction(-1, 100)),
        ("numeric(5,2)", "0.0049999", 0),
        ("double precision", "1e308", 1e308),
        ("double precision", "-0.1", -0.1),
        ("real", "5e-324", 5e-324),
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("text", "it's", "it's"),
        ("text", "", ""),
        ("text", 'a"b\\c\n日', 'a"b\\c\n日'),
        ("varchar(2)", "ab ", "ab "),
        ("char(3)", "ab  ", "ab"),
        ("date", "0001-01-01", dt.date(1, 1, 1)),
        ("date", "2024-02-29", dt.date(2024, 2, 29)),
        ("timestamp", "9999-12-31 23:59:59.999999", dt.datetime.fromisoformat("9999-12-31 23:59:59.999999")),
        ("timestamptz", "2024-01-01 00:00:00+02", dt.datetime.fromisoformat("2023-12-31 22:00")),
        *((kind, None, None) for kind in ("integer", "numeric", "numeric(30,2)", "real", "text", "date", "boolean")),
    ],
)
def test_a_constant_has_its_value(edges: Edges, kind: str, value: str | None, expected: Any) -> None:
    assert edges.value(const(kind, value)) == expected


@pytest.mark.parametrize(
    ("kind", "value", "state"),
    [
        ("integer", "x", "22P02"),
        ("integer", "", "22P02"),
        ("integer", "1.5", "22P02"),
        ("integer", "2147483648", "22003"),
        ("smallint", "-32769", "22003"),
        ("bigint", "1e999999999", "22003"),
        ("numeric", "1e999999999", "22003"),
        ("numeric", "1e-999999999", "22003"),
        ("numeric", "1" * 2000, "22003"),
        ("numeric", "NaN", "22003"),
        ("numeric", "Infinity", "22003"),
        ("numeric(5,2)", "999.995", "22003"),
        ("double precision", "1e400", "22003"),
        ("double precision", "nan", "22003"),
        ("double precision", "one", "22P02"),
        ("date", "2023-02-29", "22007"),
        ("date", "infinity", "22007"),
        ("date", "10000-01-01", "22007"),
        ("timestamp", "2024-01-01 25:00", "22007"),
        ("timestamptz", "0001-01-01 00:00:00+14:00", "22008"),
        ("timestamptz", "9999-12-31 23:59:59-12:00", "22008"),
    ],
)
def test_a_text_that_is_no_value_of_its_type_is_refused(kind: str, value: str, state: str) -> None:
    with pytest.raises(Refusal) as caught:
        terms.constant(const(kind, value))
    assert caught.value.sqlstate == state


@settings(deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**45), max_value=10**45))
def test_a_number_is_exact_where_an_integer_holds_it(value: Decimal) -> None:
    found = terms.constant(const("numeric", str(value)))
    assert found.low is not None
    assert found.low == found.high == Fraction(value)
    if found.scale is None:
        denominator = Fraction(value).denominator
        digits = next(n for n in range(100) if 10**n % denominator == 0)
        assert digits > SCALE_MAX or abs(Fraction(value)) * 10**digits >= 2**126


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_survives_quoting(edges: Edges, value: str) -> None:
    assert run(edges, terms.text(value)) == value
    name = value or "x"
    assert run(edges, f"{terms.quote(name)} FROM (SELECT 1 AS {terms.quote(name)})") == 1


def test_a_boolean_is_false_unless_it_is_true() -> None:
    assert terms.constant(const("boolean", "forged")).sql == "FALSE"


# columns


@pytest.mark.parametrize(
    ("kind", "parts", "low", "high"),
    [
        ("smallint", {}, -(2**15), 2**15 - 1),
        ("integer", {}, -(2**31), 2**31 - 1),
        ("bigint", {}, -(2**63), 2**63 - 1),
        ("numeric(5,2)", {}, Fraction(-99999, 100), Fraction(99999, 100)),
        ("numeric(30,0)", {}, 1 - 10**30, 10**30 - 1),
        ("integer", {"bounds": (-3, 14)}, -3, 14),
        ("numeric(5,2)", {"bounds": (Decimal("0.5"), Decimal("1.25"))}, Fraction(1, 2), Fraction(5, 4)),
        ("double precision", {"bounds": (Decimal("0.1"), Decimal(2))}, Fraction(1, 10), 2),
        ("integer", {"values": (3, 1, 2)}, 1, 3),
        ("double precision", {}, None, None),
        ("real", {}, None, None),
        ("text", {"values": ("a", "b")}, None, None),
        ("date", {"bounds": (dt.date(2000, 1, 1), dt.date(2001, 1, 1))}, None, None),
    ],
)
def test_a_column_has_the_range_that_loading_enforces(kind: str, parts: dict[str, Any], low: Any, high: Any) -> None:
    found = terms.column("c", PolicyColumn(type=sqltype.parse(kind), **parts), True)
    assert (found.sql, found.nullable, found.low, found.high) == ("c", True, low, high)


@pytest.mark.parametrize(
    ("kind", "stored", "width"),
    [
        ("smallint", "INTEGER", 32),
        ("integer", "INTEGER", 32),
        ("bigint", "BIGINT", 64),
        ("numeric(18,2)", "BIGINT", 64),
        ("numeric(19,2)", "HUGEINT", 128),
        ("real", "DOUBLE", None),
        ("boolean", "BOOLEAN", None),
        ("date", "DATE", None),
        ("timestamptz", "TIMESTAMP", None),
        ("char(3)", "VARCHAR", None),
    ],
)
def test_stored_types_hold_every_value(kind: str, stored: str, width: int | None) -> None:
    type_ = sqltype.parse(kind)
    assert terms.stored_type(type_) == stored
    if width is not None:
        assert terms.stored_width(type_) == width
        low, high = terms.type_range(type_)
        assert low is not None
        assert high is not None
        assert -(2 ** (width - 1)) <= low * 10 ** (type_.scale or 0)
        assert high * 10 ** (type_.scale or 0) < 2 ** (width - 1)


# widths and scales


def test_the_narrowest_width_has_a_bit_to_spare() -> None:
    assert terms.width_for(0, Fraction(0), Fraction(2**31 - 1)) == 32
    assert terms.width_for(0, Fraction(-(2**31)), Fraction(0)) == 64
    assert terms.width_for(0, Fraction(2**62), Fraction(0)) == 128
    assert terms.width_for(2, Fraction(2**126 - 1, 100), Fraction(0)) == 128
    assert terms.width_for(0, Fraction(2**126), Fraction(0)) is None


def test_rescaling_keeps_the_value_or_gives_up(edges: Edges) -> None:
    cents = term(col("n62"))
    finer = terms.rescale(cents, 10)
    assert finer is not None
    assert (finer.scale, finer.low, finer.high) == (10, cents.low, cents.high)
    assert terms.rescale(cents, 2) is cents
    assert terms.rescale(cents, 1) is None
    assert terms.rescale(cents, SCALE_MAX + 1) is None
    assert terms.rescale(term(col("n30")), 18) is None
    one = terms.rescale(terms.constant(const("integer", "-1")), 18)
    assert one is not None
    assert run(edges, one.sql) == -(10**18)


def test_widening_never_narrows(edges: Edges) -> None:
    assert terms.widen(term(col("i8")), 32) == term(col("i8")).sql
    assert run(edges, f"typeof({terms.widen(terms.constant(const('integer', '1')), 128)})") == "HUGEINT"


def test_an_exact_number_turns_floating_with_its_value(edges: Edges) -> None:
    found = terms.floating(terms.constant(const("numeric", "-12.5")))
    assert (found.scale, found.type, run(edges, found.sql)) == (None, NUMERIC, -12.5)
    assert run(edges, terms.floating(terms.constant(const("integer", "7"))).sql) == 7.0
    double = terms.constant(const("double precision", "1"))
    assert terms.floating(double) is double


def test_the_magnitude_is_the_greater_end() -> None:
    assert exact("x", INTEGER, False, 0, Fraction(-7), Fraction(3), 32).magnitude == 7
    assert Term("x", DOUBLE, False, None, Fraction(1), None).magnitude is None
    assert Term("x", sqltype.TEXT, False).magnitude is None


# units


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", NUMBERS)
def test_units_are_within_their_magnitude_and_null_where_the_number_is(edges: Edges, name: str, rows: int) -> None:
    found = units(term(col(name)), rows)
    sql = f"SELECT e.{name}, {found.sql}, typeof({found.sql}) FROM t_{name} e"
    for value, whole, kind in edges.connection.execute(sql).fetchall():
        assert kind in ("INTEGER", "BIGINT", "HUGEINT")
        assert (whole is None) == (value is None)
        assert whole is None or abs(whole) <= found.magnitude
    assert rows * found.magnitude < 2 ** (UNIT_BITS_MAX - 1)


@pytest.mark.parametrize("name", NUMBERS)
def test_units_of_what_fits_are_the_number_itself(edges: Edges, name: str) -> None:
    found, number = units(term(col(name)), 10), term(col(name))
    for value, whole in edges.connection.execute(f"SELECT e.{name}, {found.sql} FROM t_{name} e").fetchall():
        if value is None:
            continue
        real = Fraction(value, 10**number.scale) if number.scale is not None else Fraction(value)
        if abs(real) * found.per_one <= found.magnitude:
            assert whole == int(real * found.per_one)  # int truncates toward zero
        else:
            assert whole == int(math.copysign(found.magnitude, real)) or abs(whole) == found.magnitude


FLOATS = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=300, deadline=None)
@given(FLOATS, st.none() | st.tuples(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30)), st.sampled_from(ROWS))
def test_floating_units_are_truncated_and_clipped(
    edges: Edges, value: float, ends: tuple[float, float] | None, rows: int
) -> None:
    low, high = (None, None) if ends is None else map(Fraction, sorted(ends))
    found = units(Term(f"'{value!r}'::DOUBLE", DOUBLE, True, None, low, high), rows)
    whole = run(edges, found.sql)
    assert abs(whole) <= found.magnitude
    assert found.per_one == FIXED_POINT
    if not math.isnan(value) and not math.isinf(value) and abs(int(Fraction(value) * FIXED_POINT)) < found.magnitude:
        assert whole == int(Fraction(value) * FIXED_POINT)
    if math.isnan(value) or value == math.inf:
        assert whole == found.magnitude  # NaN is the greatest number (Postgres docs, Numeric Types)


@settings(max_examples=200, deadline=None)
@given(st.integers(-(2**126) + 1, 2**126 - 1), st.integers(0, 18), st.sampled_from(ROWS))
def test_exact_units_are_clipped_where_a_sum_could_overflow(edges: Edges, value: int, scale: int, rows: int) -> None:
    top = Fraction(2**126 - 1, 10**scale)
    found = units(exact(f"({value})::HUGEINT", NUMERIC, True, scale, -top, top, 128), rows)
    assert abs(run(edges, found.sql)) == min(abs(value), found.magnitude)


@settings(deadline=None)
@given(st.integers(1, 10**6), st.fractions(0, 10**40))
def test_a_units_sum_stays_below_its_limit(rows: int, size: Fraction) -> None:
    for scale in (0, 2, None):
        found = units(Term("x", NUMERIC, True, scale, -size, size, 128), rows)
        assert 2 * rows * found.magnitude < 2**UNIT_BITS_MAX


def test_no_null_is_taken_for_the_limit(edges: Edges) -> None:
    assert run(edges, units(Term("NULL::DOUBLE", DOUBLE, True), 1).sql) is None
    assert (
        run(edges, units(exact("NULL::HUGEINT", NUMERIC, True, 0, Fraction(-(2**125)), Fraction(2**125), 128), 9).sql)
        is None
    )


@settings(deadline=None)
@given(st.fractions(-(10**30), 10**30))
def test_a_float_at_most_is_the_greatest_such(bound: Fraction) -> None:
    found = terms._float_at_most(bound)
    assert Fraction(found) <= bound
    assume(found != math.inf)
    assert Fraction(math.nextafter(found, math.inf)) > bound
