from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest
from edges import COLUMNS, Edges, call, col, const, lit, num, term, to
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import sqltype
from policies.sqltype import BIGINT, DOUBLE, INTEGER, NUMERIC, TEXT, TIMESTAMP, TIMESTAMPTZ
from rewriter.arithmetic import equates_exactly
from rewriter.functions import ARITY, LIST_MAX, OPERATORS, SQL_MAX, evaluate
from rewriter.moments import FIELDS, TRUNCATIONS
from rewriter.plan import Column, Expression, columns
from rewriter.refusal import Refusal
from rewriter.terms import Term

TYPES = (
    "boolean", "smallint", "integer", "bigint", "numeric(5,2)", "numeric(30,0)", "numeric(30,29)", "numeric", "real",
    "double precision", "text", "varchar(2)", "char(3)", "date", "timestamp", "timestamptz",
)  # fmt: skip
ONE = [name for name, arity in ARITY.items() if arity == (1, 1)]
TWO = [name for name, arity in ARITY.items() if arity[0] == 2 and name not in ("date_trunc", "in")]


@pytest.fixture(scope="module")
def edges() -> Iterator[Edges]:
    found = Edges()
    yield found
    found.connection.close()


def accepted(expressions: list[Expression]) -> list[Expression]:
    """Those that are not refused; a refusal has a state and words."""
    kept, states = [], set()
    for expression in expressions:
        try:
            term(expression)
            kept.append(expression)
        except Refusal as refusal:
            states.add(refusal.sqlstate)
    assert states <= {"42883", "42846", "42804", "54001"}
    return kept


def refused(expression: Expression) -> str:
    with pytest.raises(Refusal) as caught:
        term(expression)
    return caught.value.sqlstate


@pytest.mark.parametrize("name", COLUMNS)
def test_operators_of_one_argument_are_total_and_in_range(edges: Edges, name: str) -> None:
    units = [call("date_trunc", lit(unit), col(name)) for unit in TRUNCATIONS]
    found = accepted([*(call(operator, col(name)) for operator in ONE), *units])
    assert found
    assert edges.values(found)


@pytest.mark.parametrize("name", COLUMNS)
def test_casts_are_total_and_in_range(edges: Edges, name: str) -> None:
    found = accepted([to(kind, col(name)) for kind in TYPES])
    assert found
    assert edges.values(found)


@pytest.mark.parametrize("left", COLUMNS)
def test_operators_of_two_arguments_are_total_and_in_range(edges: Edges, left: str) -> None:
    for right in COLUMNS:
        found = accepted([call(operator, col(left), col(right)) for operator in [*TWO, "in", "coalesce"]])
        if found:
            assert edges.values(found)


@pytest.mark.parametrize("left", COLUMNS)
def test_cases_over_two_types_are_total_and_in_range(edges: Edges, left: str) -> None:
    for right in COLUMNS:
        found = accepted(
            [call("case", call("is null", col(left)), col(right), col(left)), call("nullif", col(left), col(right))]
        )
        if found:
            assert edges.values(found)


# (expression, what PostgreSQL 15 says)
POSTGRES: list[tuple[Expression, Any]] = [
    (call("/", num("7"), num("2")), 3),
    (call("/", num("-7"), num("2")), -3),
    (call("/", num("7"), num("-2")), -3),
    (call("/", num("7.0"), num("2")), 3.5),
    (call("/", const("bigint", str(-(2**63))), num("-1")), 2**63),  # out of range in Postgres, exact here
    (call("/", num("1"), num("0")), None),
    (call("/", num("1"), num("0.0")), None),
    (call("%", num("7"), num("3")), 1),
    (call("%", num("-7"), num("3")), -1),
    (call("%", num("7"), num("-3")), 1),
    (call("%", num("-7.5"), num("2")), Fraction(-3, 2)),
    (call("%", const("bigint", str(-(2**63))), num("-1")), 0),
    (call("%", num("1"), num("0")), None),
    (call("*", num("1.5"), num("-2.25")), Fraction(-27, 8)),
    (call("+", num("0.1"), num("0.2")), Fraction(3, 10)),
    (call("-", num("0.1"), num("0.25")), Fraction(-15, 100)),
    (call("negate", const("bigint", str(-(2**63)))), 2**63),
    (call("negate", const("double precision", "1.5")), -1.5),
    (call("abs", num("-2147483648.5")), Fraction(4294967297, 2)),
    (call("abs", const("double precision", "-1e308")), 1e308),
    (to("integer", num("2.5")), 3),
    (to("integer", num("-2.5")), -3),
    (to("integer", num("3.5")), 4),
    (to("integer", num("2.49")), 2),
    (to("integer", const("double precision", "2.5")), 2),
    (to("integer", const("double precision", "-2.5")), -2),
    (to("integer", const("double precision", "3.5")), 4),
    (to("integer", const("double precision", "1e300")), None),
    (to("bigint", const("double precision", "9.3e18")), None),
    (to("smallint", num("32767")), 32767),
    (to("smallint", num("32768")), None),
    (to("smallint", num("32767.5")), None),
    (to("smallint", const("double precision", "-32769")), None),
    (to("numeric(5,2)", num("999.995")), None),
    (to("numeric(5,2)", num("999.994")), Fraction(99999, 100)),
    (to("numeric(5,2)", num("-0.125")), Fraction(-13, 100)),
    (to("numeric(5,2)", num("1000")), None),
    (to("numeric(5,2)", const("double precision", "1e9")), None),
    (to("numeric", num("7")), 7),
    (to("double precision", num("0.1")), 0.1),
    (to("integer", const("boolean", "true")), 1),
    (to("text", num("-7")), "-7"),
    (to("text", const("boolean", "false")), "false"),
    (to("varchar(2)", num("-712")), "-7"),
    (to("text", const("date", "2024-02-29")), "2024-02-29"),
    (to("varchar(2)", lit("héllo")), "hé"),
    (to("char(3)", lit("a   b")), "a"),
    (to("integer", lit(" 12 ")), 12),
    (to("integer", lit("+12")), 12),
    (to("integer", lit("1.5")), None),
    (to("integer", lit("1e3")), None),
    (to("integer", lit("")), None),
    (to("integer", lit("2147483648")), None),
    (to("smallint", lit("32768")), None),
    (to("double precision", lit("1e3")), 1000.0),
    (to("double precision", lit("x")), None),
    (to("boolean", lit("yes")), True),
    (to("boolean", lit(" ON ")), True),
    (to("boolean", lit("of")), False),
    (to("boolean", lit("o")), None),
    (to("boolean", lit("2")), None),
    (to("date", lit("2023-02-29")), None),
    (to("date", lit("infinity")), None),
    (call("=", to("timestamp", lit("2024-02-29 10:00")), const("timestamp", "2024-02-29 10:00")), True),
    (call("=", to("date", const("timestamp", "2024-02-29 23:59:59.9")), const("date", "2024-02-29")), True),
    (call("=", const("date", "2024-02-29"), const("timestamp", "2024-02-29")), True),
    (call("<", const("date", "2024-02-29"), const("timestamptz", "2024-02-29 00:00:00.1+00")), True),
    (call("=", const("char(3)", "a  "), lit("a")), True),
    (call("=", num("1"), num("1.00")), True),
    (call("=", const("bigint", str(2**53 + 1)), const("bigint", "9007199254740992")), False),
    (call("<>", num("1"), num("2")), True),
    (call("in", num("2"), num("1"), num("2.0")), True),
    (call("in", num("2"), num("1"), const("integer", None)), None),
    (call("and", const("boolean", None), const("boolean", "false")), False),
    (call("or", const("boolean", None), const("boolean", "true")), True),
    (call("not", const("boolean", None)), None),
    (call("is true", const("boolean", None)), False),
    (call("is null", const("boolean", None)), True),
    (call("case", const("boolean", None), num("1"), num("2.5")), Fraction(5, 2)),
    (call("case", const("boolean", "true"), num("1"), num("2.5")), 1),
    (call("case", const("boolean", "false"), num("1"), const("integer", None)), None),
    (call("coalesce", const("integer", None), num("2.5"), num("1")), Fraction(5, 2)),
    (call("nullif", num("2"), num("2.0")), None),
    (call("nullif", num("2"), num("3")), 2),
    (call("like", lit("abc"), lit("a%"), lit("\\")), True),
    (call("like", lit("a%c"), lit("a\\%c"), lit("\\")), True),
    (call("like", lit("abc"), lit("a\\%c"), lit("\\")), False),
    (call("like", lit("a\\c"), lit("a\\c"), lit("")), True),
    (call("like", lit("a%c"), lit("a!%c"), lit("!")), True),
    (call("like", lit("a\nb"), lit("a_b"), lit("\\")), True),
    (call("like", lit("it's"), lit("%'s"), lit("\\")), True),
    (call("like", lit("ABC"), lit("a%"), lit("\\")), False),
    (call("ilike", lit("ABC"), lit("a%"), lit("\\")), True),
    (call("ilike", lit("É"), lit("é"), lit("\\")), True),
    (call("like", lit("a"), lit(None), lit("\\")), None),
    (call("lower", lit("ÀB")), "àb"),
    (call("upper", lit("àb")), "ÀB"),
    (call("length", lit("日本語")), 3),
    (call("length", lit("")), 0),
    (call("-", const("date", "2024-03-01"), const("date", "2024-02-28")), 2),
]


@pytest.mark.parametrize(("expression", "expected"), POSTGRES)
def test_values_are_those_of_postgres(edges: Edges, expression: Expression, expected: Any) -> None:
    found = edges.value(expression)
    assert (found, type(found) is bool) == (expected, type(expected) is bool)


EXTRACTED = [
    ("year", "2024-02-29 23:59:59.5", 2024),
    ("quarter", "2024-12-31", 4),
    ("month", "2024-02-29", 2),
    ("day", "2024-02-29", 29),
    ("week", "2021-01-03", 53),
    ("week", "2021-01-04", 1),
    ("dow", "2021-01-03", 0),
    ("isodow", "2021-01-03", 7),
    ("doy", "2024-12-31", 366),
    ("isoyear", "2021-01-03", 2020),
    ("hour", "2024-02-29 23:59:59.5", 23),
    ("minute", "2024-02-29 23:59:59.5", 59),
    ("second", "2024-02-29 23:59:59.5", Fraction(119, 2)),
    ("epoch", "1970-01-01", 0),
    ("epoch", "1969-12-31 23:59:59.5", Fraction(-1, 2)),
    ("epoch", "2021-01-03 12:34:56.789", Fraction(1609677296789, 1000)),
]
TRUNCATED = [
    ("microseconds", "2024-02-29 23:59:59.123456", "2024-02-29 23:59:59.123456"),
    ("milliseconds", "2024-02-29 23:59:59.123456", "2024-02-29 23:59:59.123"),
    ("second", "2024-02-29 23:59:59.5", "2024-02-29 23:59:59"),
    ("minute", "2024-02-29 23:59:59.5", "2024-02-29 23:59:00"),
    ("hour", "2024-02-29 23:59:59.5", "2024-02-29 23:00:00"),
    ("day", "2024-02-29 23:59:59.5", "2024-02-29"),
    ("week", "2021-01-03 12:00", "2020-12-28"),
    ("month", "2024-02-29", "2024-02-01"),
    ("quarter", "2024-06-30", "2024-04-01"),
    ("year", "2024-06-30", "2024-01-01"),
    ("decade", "1999-06-30", "1990-01-01"),
    ("century", "2000-12-31", "1901-01-01"),
    ("century", "2001-01-01", "2001-01-01"),
    ("century", "2004-02-29", "2001-01-01"),
]


@pytest.mark.parametrize(("field", "moment", "expected"), EXTRACTED)
def test_extract_gives_postgres_fields(edges: Edges, field: str, moment: str, expected: Any) -> None:
    assert edges.value(call(f"extract {field}", const("timestamp", moment))) == expected


@pytest.mark.parametrize(("unit", "moment", "expected"), TRUNCATED)
def test_date_trunc_gives_postgres_starts(edges: Edges, unit: str, moment: str, expected: str) -> None:
    truncated = call("date_trunc", lit(unit), const("timestamp", moment))
    assert edges.value(call("=", truncated, const("timestamp", expected))) is True


def test_every_field_and_unit_is_tried() -> None:
    assert {field for field, _, _ in EXTRACTED} == set(FIELDS)
    assert {unit for unit, _, _ in TRUNCATED} == set(TRUNCATIONS)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (call("+", col("i4"), col("i8")), BIGINT),
        (call("+", col("i4"), col("i4")), INTEGER),
        (call("*", col("i8"), col("n62")), NUMERIC),
        (call("*", col("f8"), col("n62")), DOUBLE),
        (call("/", col("n62"), col("i4")), NUMERIC),
        (call("case", col("b"), col("i4"), col("f8")), DOUBLE),
        (call("coalesce", col("v2"), col("c3")), TEXT),
        (call("coalesce", col("d"), col("ts")), TIMESTAMP),
        (call("coalesce", col("d"), col("tz")), TIMESTAMPTZ),
        (call("nullif", col("d"), col("ts")), sqltype.DATE),
        (call("date_trunc", lit("day"), col("d")), TIMESTAMPTZ),
        (call("date_trunc", lit("day"), col("ts")), TIMESTAMP),
        (call("extract year", col("d")), NUMERIC),
        (call("-", col("d"), col("d")), INTEGER),
        (call("+", col("d"), col("i4")), sqltype.DATE),
        (call("length", col("s")), INTEGER),
        (call("lower", col("v2")), TEXT),
    ],
)
def test_result_types_are_those_of_postgres(expression: Expression, expected: sqltype.SqlType) -> None:
    assert term(expression).type == expected


def test_null_does_not_unbound_a_case() -> None:
    found = term(call("case", col("b"), col("fb"), const("double precision", None)))
    assert (found.low, found.high, found.nullable) == (0, Fraction(5, 2), True)


def test_ranges_follow_arithmetic() -> None:
    both = term(call("*", call("+", col("days"), num("1")), call("negate", col("days"))))
    assert (both.low, both.high, both.nullable) == (-15 * 14, 15 * 3, False)
    assert (term(call("abs", col("days"))).low, term(call("abs", col("days"))).high) == (0, 14)
    assert term(call("%", col("i8"), col("days"))).magnitude == 14
    assert term(call("/", col("days"), col("i8"))).magnitude == 14


def test_arithmetic_turns_floating_where_no_integer_is_wide_enough() -> None:
    product: Expression = col("i4")
    for width in (32, 128, 128, 128, None):
        found = term(product)
        assert (found.width if found.scale == 0 else None) == width
        product = call("*", product, col("i4"))


def test_a_division_of_integers_that_turned_floating_is_still_total(edges: Edges) -> None:
    huge = call("*", call("*", col("i8"), col("i8")), col("i8"))
    assert edges.values([call("/", huge, col("i8")), to("text", huge), to("bigint", huge), call("+", col("d"), huge)])


@pytest.mark.parametrize(
    ("expression", "state"),
    [
        (call("frobnicate", col("i4")), "42883"),
        (call("+", col("i4"), col("s")), "42883"),
        (call("+", col("i4")), "42883"),
        (call("in", col("i4")), "42883"),
        (call("and"), "42883"),
        (call("is null", col("i4"), col("i4")), "42883"),
        (call("case", col("b"), num("1")), "42883"),
        (call("case", col("b"), num("1"), num("2"), num("3")), "42883"),
        (call("%", col("f8"), col("f8")), "42883"),
        (call("=", col("i4"), col("s")), "42883"),
        (call("length", col("i4")), "42883"),
        (call("lower", col("i4")), "42883"),
        (call("like", col("i4"), lit("a"), lit("\\")), "42883"),
        (call("date_trunc", lit("day"), col("s")), "42883"),
        (call("date_trunc", lit("fortnight"), col("ts")), "22023"),
        (call("date_trunc", col("s"), col("ts")), "22023"),
        (call("extract year", col("s")), "42883"),
        (call("and", col("b"), col("i4")), "42804"),
        (call("not", col("i4")), "42804"),
        (call("is true", col("i4")), "42804"),
        (call("case", col("i4"), num("1"), num("2")), "42804"),
        (call("case", col("b"), num("1"), lit("a")), "42804"),
        (call("coalesce", col("b"), lit("a")), "42804"),
        (call("like", col("s"), col("s"), lit("\\")), "0A000"),
        (call("like", col("s"), lit("a"), col("s")), "0A000"),
        (call("like", col("s"), lit("a"), lit("xx")), "22025"),
        (call("like", col("s"), lit("a\\"), lit("\\")), "22025"),
        (call("like", col("s"), lit("a!!!"), lit("!")), "22025"),
        (to("date", col("i4")), "42846"),
        (to("boolean", col("f8")), "42846"),
        (to("numeric(5,2)", col("s")), "42846"),
        (to("text", col("f8")), "42846"),
        (to("bigint", col("b")), "42846"),
        (const("integer", "x"), "22P02"),
        (call("in", num("1"), *[num("1")] * LIST_MAX), "54000"),
    ],
)
def test_what_cannot_be_bounded_is_refused(expression: Expression, state: str) -> None:
    assert refused(expression) == state


def test_a_pattern_may_end_in_an_escaped_escape() -> None:
    assert term(call("like", col("s"), lit("a!!"), lit("!"))).nullable
    assert term(call("like", col("s"), lit("a\\"), lit(""))).nullable


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("division", lambda e: call("/", num("1"), e)),
        ("nullif", lambda e: call("nullif", e, num("1"))),
        ("cast", lambda e: to("integer", to("text", e))),
    ],
)
def test_text_that_doubles_with_each_level_is_refused(name: str, step: Callable[[Expression], Expression]) -> None:
    expression: Expression = col("i4")
    for _ in range(40):
        expression = step(expression)
    assert refused(expression) == "54001"


def test_a_list_as_long_as_allowed_fits() -> None:
    found = term(call("in", col("i8"), *(const("bigint", str(2**62 + n)) for n in range(LIST_MAX - 1))))
    assert len(found.sql) < SQL_MAX


def test_columns_are_asked_for_by_name() -> None:
    asked: list[Column] = []

    def column(wanted: Column) -> Term:
        asked.append(wanted)
        return Term("x", TEXT, True)

    evaluate(call("lower", Column("a", "b")), column)
    assert asked == [Column("a", "b")]


def _leaf(*names: str) -> st.SearchStrategy[Expression]:
    return st.sampled_from([col(name) for name in names])


NUMBERS: st.SearchStrategy[Expression] = st.deferred(
    lambda: (
        _leaf("i2", "i4", "i8", "days", "n62", "n30", "n29", "n55", "f8", "fb")
        | st.sampled_from([num("0"), num("-1"), num("2.5"), num("1e-9"), const("integer", None)])
        | st.builds(call, st.sampled_from(["+", "-", "*", "/", "%", "nullif", "coalesce"]), NUMBERS, NUMBERS)
        | st.builds(call, st.sampled_from(["negate", "abs"]), NUMBERS)
        | st.builds(call, st.sampled_from([f"extract {field}" for field in FIELDS]), MOMENTS)
        | st.builds(to, st.sampled_from([t for t in TYPES[1:10]]), NUMBERS)
        | st.builds(to, st.sampled_from(["integer", "bigint", "double precision"]), WORDS)
        | st.builds(call, st.just("length"), WORDS)
        | st.builds(call, st.just("-"), DAYS, DAYS)
        | st.builds(call, st.just("case"), TRUTHS, NUMBERS, NUMBERS)
    )
)
DAYS: st.SearchStrategy[Expression] = st.deferred(
    lambda: (
        _leaf("d")
        | st.builds(to, st.just("date"), MOMENTS | WORDS)
        | st.builds(call, st.sampled_from("+-"), DAYS, INTEGERS)
    )
)
INTEGERS = _leaf("i2", "i4", "i8", "days") | st.builds(to, st.just("bigint"), NUMBERS)
MOMENTS: st.SearchStrategy[Expression] = st.deferred(
    lambda: (
        DAYS
        | _leaf("ts", "tz")
        | st.builds(lambda unit, e: call("date_trunc", lit(unit), e), st.sampled_from(TRUNCATIONS), MOMENTS)
        | st.builds(call, st.sampled_from(["nullif", "coalesce"]), MOMENTS, MOMENTS)
        | st.builds(to, st.sampled_from(["timestamp", "timestamptz", "date"]), MOMENTS)
    )
)
WORDS: st.SearchStrategy[Expression] = st.deferred(
    lambda: (
        _leaf("s", "v2", "c3")
        | st.builds(call, st.sampled_from(["lower", "upper"]), WORDS)
        | st.builds(to, st.sampled_from(["text", "varchar(2)", "char(3)"]), WORDS | DAYS | TRUTHS | INTEGERS)
        | st.builds(call, st.sampled_from(["coalesce", "nullif"]), WORDS, WORDS)
    )
)
TRUTHS: st.SearchStrategy[Expression] = st.deferred(
    lambda: (
        _leaf("b")
        | st.one_of(*(st.builds(call, SIGNS, side, side) for side in (NUMBERS, MOMENTS, WORDS)))
        | st.builds(call, st.sampled_from(["and", "or"]), TRUTHS, TRUTHS)
        | st.builds(call, st.sampled_from(["not", "is true"]), TRUTHS)
        | st.builds(call, st.just("is null"), NUMBERS | WORDS | MOMENTS)
        | st.builds(lambda e, p: call("like", e, lit(p), lit("\\")), WORDS, st.sampled_from(["", "%", "a_", "%\\%%"]))
    )
)
SQL_TRIED_MAX = 10_000  # the engine binds and runs longer texts too, but not in a moment
SIGNS = st.sampled_from(["=", "<>", "<", "<=", ">", ">=", "in"])


@settings(max_examples=60, deadline=None)
@given(st.lists(NUMBERS | MOMENTS | WORDS | TRUTHS, min_size=1, max_size=8))
def test_nested_expressions_are_total_and_in_range(edges: Edges, drawn: list[Expression]) -> None:
    kept = [e for e in accepted([e for e in drawn if list(columns(e))]) if len(term(e).sql) < SQL_TRIED_MAX]
    if kept:
        edges.values(kept, source="wide")


def test_every_operator_has_an_arity_or_takes_any_number() -> None:
    assert set(ARITY) | {"and", "or", "coalesce"} == set(OPERATORS)
    assert set(ONE) | set(TWO) < set(OPERATORS)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (col("i4"), col("i8"), True),
        (col("i8"), col("n62"), True),
        (col("f8"), col("fb"), True),
        (col("s"), col("v2"), True),
        (col("d"), col("ts"), True),
        (col("i8"), col("f8"), False),
        (col("f8"), col("i8"), False),
        (col("n30"), col("n29"), False),
    ],
)
def test_equality_is_exact_unless_it_compares_doubles_of_exact_numbers(
    left: Column, right: Column, expected: bool
) -> None:
    assert equates_exactly(term(left), term(right)) is expected


def test_a_number_with_too_many_digits_to_round_exactly_is_rounded_as_a_double(edges: Edges) -> None:
    wide = call("+", call("*", col("n29"), num("1e-7")), col("n30"))
    assert edges.values([to("numeric(5,2)", col("n29")), to("bigint", wide), to("numeric(30,0)", col("n30"))])
