from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pytest
from edges import call, const, lit, num, to
from hypothesis import given, settings
from hypothesis import strategies as st
from room import FACTS, MEMBERS, NATIONS, POLICY, REGIONS, VISITS, Facts, inner, outer, where
from rows import facts, vault

from rewriter import compile as compiler
from rewriter.bound import scope
from rewriter.domains import GROUPS_MAX, public_groups
from rewriter.moments import FIELDS, TRUNCATIONS
from rewriter.plan import (
    Axis,
    Column,
    Expression,
    KeyValues,
    Measure,
    PublicGroups,
    PublicRows,
    Relation,
    Release,
    Values,
    scans,
)
from rewriter.refusal import Refusal


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = vault()
    yield connection
    connection.close()


def domain(source: Relation, *keys: Expression, sizes: Any = FACTS) -> PublicGroups | None:
    return public_groups(keys, source, scope(source, POLICY), sizes)


def axes(source: Relation, *keys: Expression) -> tuple[Axis, ...]:
    found = domain(source, *keys)
    assert found is not None
    return found.axes


def values(source: Relation, key: Expression) -> tuple[str | None, ...] | None:
    """The values of the one axis of a key, None if it is not public."""
    found = domain(source, key)
    if found is None:
        return None
    [axis] = found.axes
    assert isinstance(axis, Values | KeyValues)
    return axis.values


def m(name: str) -> Column:
    return Column("m", name)


def v(name: str) -> Column:
    return Column("v", name)


def n(name: str) -> Column:
    return Column("n", name)


DAYS = ("2023-12-30", "2023-12-31", *(f"2024-01-0{day}" for day in range(1, 9)))
HOURS = const("timestamp", "2024-01-01 06:00")
JANUARY = where(
    VISITS,
    call(">=", v("at"), const("timestamp", "2024-01-01")),
    call("<", v("at"), const("timestamp", "2024-01-03")),
)


@pytest.mark.parametrize(
    ("source", "key", "expected"),
    [
        # declared values, booleans, spans of bounds; NULL unless the policy or WHERE excludes it
        (MEMBERS, m("sex"), ("f", "m")),
        (MEMBERS, m("age"), (*map(str, range(10)), None)),
        (MEMBERS, m("born"), (*DAYS, None)),
        (MEMBERS, m("smokes"), ("false", "true", None)),
        (VISITS, v("ward"), ("1", "2", "3", None)),
        (MEMBERS, m("city"), None),
        (MEMBERS, m("nation"), None),
        (MEMBERS, m("height"), None),
        (VISITS, v("cost"), None),
        (VISITS, v("at"), None),
        (outer(VISITS, MEMBERS, call("=", m("id"), v("id"))), m("sex"), ("f", "m", None)),
        # WHERE
        (where(MEMBERS, call("in", m("city"), lit("a"), lit("b"), lit("a"))), m("city"), ("a", "b")),
        (where(MEMBERS, call("=", m("city"), lit("a"))), m("city"), ("a",)),
        (where(MEMBERS, call("in", m("city"), lit("a"), m("sex"))), m("city"), None),
        (where(MEMBERS, call("in", m("city"), lit("a"), lit(None))), m("city"), None),
        (where(MEMBERS, call("not", call("=", m("city"), lit("a")))), m("city"), None),
        (where(MEMBERS, call("or", call("=", m("city"), lit("a")), m("smokes"))), m("city"), None),
        (where(MEMBERS, call("=", m("nation"), num("7"))), m("nation"), ("7",)),
        (where(MEMBERS, call(">", m("age"), num("7"))), m("age"), ("8", "9")),
        (where(MEMBERS, call(">=", num("1"), m("age"))), m("age"), ("0", "1", None)),
        (where(MEMBERS, call("<", m("age"), num("2.5"))), m("age"), ("0", "1", "2")),
        (where(MEMBERS, call("<", m("age"), num("2"))), m("age"), ("0", "1")),
        (where(MEMBERS, call(">", m("age"), num("6.5"))), m("age"), ("7", "8", "9")),
        (where(MEMBERS, call("<=", m("age"), num("-0.5"))), m("age"), ()),
        (where(MEMBERS, call("<>", m("age"), num("2"))), m("age"), tuple(map(str, range(10)))),
        (
            where(MEMBERS, call(">=", m("nation"), num("1")), call("<", m("nation"), num("3"))),
            m("nation"),
            ("1", "2"),
        ),
        (where(MEMBERS, call(">=", m("nation"), num("1"))), m("nation"), None),
        (where(MEMBERS, call("<", m("born"), const("date", "2024-01-01"))), m("born"), DAYS[:2]),
        (where(MEMBERS, call("<", m("born"), HOURS)), m("born"), DAYS[:3]),
        (where(MEMBERS, call("<", m("born"), const("date", "0001-01-01"))), m("born"), ()),
        (where(outer(VISITS, MEMBERS, call("=", m("id"), v("id"))), call("=", m("sex"), lit("f"))), m("sex"), ("f",)),
        (
            outer(VISITS, MEMBERS, call("=", m("id"), v("id")), call("=", m("sex"), lit("f"))),
            m("sex"),
            ("f", "m", None),
        ),
        # results of functions
        (MEMBERS, call("=", m("weight"), num("1")), ("false", "true", None)),
        (MEMBERS, call("is null", m("weight")), ("false", "true")),
        (MEMBERS, call("like", m("city"), lit(None), lit("")), ("false", "true", None)),
        (MEMBERS, call("case", call(">", m("weight"), num("9")), lit("fat"), lit(None)), ("fat", None)),
        (MEMBERS, call("case", call(">", m("weight"), num("9")), lit("a"), lit("a")), ("a",)),
        (MEMBERS, call("case", call(">", m("weight"), num("9")), m("city"), lit("a")), None),
        (VISITS, call("extract dow", v("at")), (*map(str, range(7)), None)),
        (VISITS, call("extract year", v("at")), ("2023", "2024", None)),
        (JANUARY, call("extract dow", v("at")), tuple(map(str, range(7)))),
        (JANUARY, call("extract year", v("at")), ("2024",)),
        (JANUARY, call("date_trunc", lit("day"), v("at")), ("2024-01-01 00:00:00", "2024-01-02 00:00:00")),
        (JANUARY, to("date", v("at")), ("2024-01-01", "2024-01-02", None)),
        (where(JANUARY, call("=", v("at"), const("timestamp", "0001-01-01"))), call("extract year", v("at")), ()),
        (
            where(JANUARY, call("<", v("at"), const("timestamp", "0001-01-01"))),
            call("date_trunc", lit("month"), v("at")),
            (),
        ),
        (where(JANUARY, call("<", v("at"), const("timestamp", "0001-01-01"))), call("extract year", v("at")), ()),
        (
            VISITS,
            call("date_trunc", lit("month"), v("at")),
            ("2023-12-01 00:00:00", "2024-01-01 00:00:00", "2024-02-01 00:00:00", None),
        ),
        (VISITS, call("date_trunc", lit("quarter"), v("at")), ("2023-10-01 00:00:00", "2024-01-01 00:00:00", None)),
        (VISITS, call("date_trunc", lit("century"), v("at")), ("2001-01-01 00:00:00", None)),
        (VISITS, call("date_trunc", lit("milliseconds"), v("at")), None),
        (VISITS, call("%", v("visit"), num("3")), ("-3", "-2", "-1", "0", "1", "2", "3", None)),
        (VISITS, call("extract second", v("at")), None),
        (VISITS, call("length", v("note")), None),
        (MEMBERS, call("extract year", to("date", m("city"))), None),
        (MEMBERS, call("extract quarter", to("date", m("city"))), ("1", "2", "3", "4", None)),
        (where(MEMBERS, call("=", m("city"), lit("x"))), call("extract quarter", to("date", m("city"))), ("x",)),
    ],
)
def test_a_key_has_the_domain_that_policy_and_text_tell(
    source: Relation, key: Expression, expected: tuple[str | None, ...] | None
) -> None:
    assert values(source, key) == expected


def test_a_decade_that_begins_before_the_year_one_is_not_listed() -> None:
    early = where(VISITS, call("<", v("at"), const("timestamp", "2024-01-01")))
    assert values(early, call("date_trunc", lit("decade"), v("at"))) == ("2020-01-01 00:00:00",)
    first = where(MEMBERS, call("=", m("born"), const("date", "0005-01-01")))
    assert domain(first, call("date_trunc", lit("decade"), m("born"))) is not None


def test_the_limits_of_a_domain_are_those_of_its_cells() -> None:
    assert domain(NATIONS_OF, n("nation"), sizes=Facts(nations=GROUPS_MAX)) is not None
    assert domain(NATIONS_OF, n("nation"), sizes=Facts(nations=GROUPS_MAX + 1)) is None
    assert domain(NATIONS_OF, n("nation"), m("sex"), sizes=Facts(nations=GROUPS_MAX // 2)) is not None
    assert domain(NATIONS_OF, n("nation"), m("age"), sizes=Facts(nations=GROUPS_MAX // 2)) is None
    wide = where(MEMBERS, call(">=", m("nation"), num("0")), call("<=", m("nation"), num(str(GROUPS_MAX))))
    assert domain(wide, m("nation")) is None
    seconds = call("date_trunc", lit("second"), v("at"))
    assert domain(VISITS, seconds) is None


HOME = call("=", m("nation"), n("nation"))
NATIONS_OF = inner(MEMBERS, NATIONS, HOME)
NEAR = call("=", n("region"), Column("r", "region"))
REGIONS_OF = inner(NATIONS_OF, REGIONS, NEAR)


def test_columns_of_one_public_table_enter_as_its_distinct_rows() -> None:
    assert axes(NATIONS_OF, n("name"), n("region")) == (PublicRows(NATIONS, ("name", "region"), False),)
    assert axes(outer(MEMBERS, NATIONS, HOME), n("name")) == (PublicRows(NATIONS, ("name",), True),)


def test_public_conditions_narrow_a_domain_and_others_never() -> None:
    title = call("=", Column("r", "title"), lit("west"))
    found = domain(
        where(REGIONS_OF, title, call(">", m("weight"), num("1")), call("=", m("sex"), lit("f"))), n("name")
    )
    assert found is not None
    assert found.axes == (
        PublicRows(NATIONS, ("name", "region"), False),
        PublicRows(REGIONS, ("region", "title"), False),
    )
    assert set(found.where) == {NEAR, title}


def test_a_condition_over_a_listed_key_narrows_it() -> None:
    key = call("extract dow", v("at"))
    found = domain(where(VISITS, call("=", key, num("3"))), key)
    assert found is not None
    assert found.where == (call("=", Column("", "k0"), num("3")),)


def test_the_on_of_an_outer_join_narrows_nothing() -> None:
    found = domain(outer(MEMBERS, NATIONS, HOME, call("=", n("name"), lit("Asia"))), n("name"))
    assert found is not None
    assert found.where == ()


def test_no_key_is_one_group_and_a_constant_too() -> None:
    assert domain(MEMBERS) == PublicGroups((), ())
    assert domain(MEMBERS, num("1")) == PublicGroups((), ())


# every admissible row has its key in the domain


def groups(
    engine: duckdb.DuckDBPyConnection, source: Relation, keys: Sequence[Expression]
) -> tuple[set[Any], list[Any]] | None:
    """The keys of the rows that pass, and the groups of the domain; None where groups are not public."""
    found = domain(source, *keys, sizes=facts(engine))
    if found is None:
        return None
    release = Release("person", source, tuple(keys), found, (Measure("count", None),))
    rows = engine.execute(compiler.partials(release, (), POLICY)).fetchall()
    return {row[1:] for row in rows}, engine.execute(compiler.groups(release, POLICY)).fetchall()


SOURCES = st.sampled_from(
    [
        MEMBERS,
        VISITS,
        NATIONS_OF,
        REGIONS_OF,
        outer(MEMBERS, NATIONS, HOME),
        outer(VISITS, MEMBERS, call("=", v("id"), m("id"))),
    ]
)
CONSTANTS = {
    "smallint": [num(c) for c in ("0", "1", "3", "-1", "2.5", "7.0", "100")],
    "integer": [num(c) for c in ("0", "1", "2", "9", "2.5", "-0.5")],
    "date": [*(const("date", c) for c in ("2023-12-31", "2024-01-07", "0001-01-01", "9999-12-31")), HOURS],
    "timestamp": [
        HOURS,
        const("timestamp", "2023-12-31 23:59:59.999999"),
        const("date", "2024-01-07"),
        const("timestamptz", "2024-02-02 12:00"),
    ],
    "text": [lit(c) for c in ("f", "Bonn", "", "west", "Asia")],
}


@st.composite
def questions(draw: st.DrawFn) -> tuple[Relation, list[Expression]]:
    source = draw(SOURCES)
    names = scope(source, POLICY)
    known = [Column(s.alias, c) for s in scans(source) for c in POLICY.tables[s.table].columns]
    kinds = {column: names.column(column).type.name for column in known}

    def condition() -> Expression:
        column = draw(st.sampled_from([c for c in known if kinds[c] in CONSTANTS]))
        constants = CONSTANTS[kinds[column]]
        sides: list[Expression] = [column, draw(st.sampled_from(constants))]
        sign = draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">=", "in"]))
        if sign == "in":
            return call(sign, column, *draw(st.lists(st.sampled_from(constants), min_size=1, max_size=3)))
        return call(sign, *(sides if draw(st.booleans()) else sides[::-1]))

    def key() -> Expression:
        column = draw(st.sampled_from(known))
        moments = kinds[column] in ("date", "timestamp")
        forms: list[Expression] = [column, column, call("is null", column), call("coalesce", column, column)]
        if moments:
            forms += [call("date_trunc", lit(draw(st.sampled_from(TRUNCATIONS))), column), to("date", column)]
            forms += [call(f"extract {draw(st.sampled_from(list(FIELDS)))}", column)]
        if kinds[column] in ("smallint", "integer", "bigint"):
            forms += [call("%", column, num("3")), call("/", column, num("60")), call("abs", column)]
            forms += [call("case", call("<", column, num("2")), lit("few"), lit(None)), call("+", column, num("1"))]
            forms += [
                call("case", call("=", column, num("2")), num("1"), num("2.5")),
                call("nullif", column, num("1")),
            ]
        if kinds[column] == "text":
            forms += [
                call("lower", column),
                call("extract month", to("date", column)),
                call("like", column, lit("B%"), lit("\\")),
            ]
        return draw(st.sampled_from(forms))

    conditions = [condition() for _ in range(draw(st.integers(0, 3)))]
    keys = [key() for _ in range(draw(st.integers(1, 2)))]
    if draw(st.booleans()):
        conditions.append(call("=", keys[0], keys[0]))
    return where(source, *conditions) if conditions else source, keys


@settings(max_examples=150, deadline=None)
@given(questions())
def test_no_row_that_passes_has_a_key_outside_its_domain(
    engine: duckdb.DuckDBPyConnection, question: tuple[Relation, list[Expression]]
) -> None:
    source, keys = question
    try:
        found = groups(engine, source, keys)
    except Refusal as refusal:
        refused = refusal.sqlstate
    else:
        refused = ""
        if found is not None:
            passing, listed = found
            assert passing <= set(listed)
            assert len(listed) == len(set(listed))
    assert refused in ("", "42883")


@pytest.mark.parametrize(
    ("source", "keys", "expected"),
    [
        (MEMBERS, [m("sex")], [("f",), ("m",)]),
        (where(REGIONS_OF, call("=", Column("r", "title"), lit("west"))), [n("name")], [("Europe",), (None,)]),
        (where(VISITS, call("=", call("extract dow", v("at")), num("3"))), [call("extract dow", v("at"))], [(3,)]),
        (where(MEMBERS, call("<", m("age"), num("2")), call(">", m("age"), num("0"))), [m("age")], [(1,)]),
        (where(VISITS, call("=", v("ward"), num("9"))), [v("ward")], []),
        (MEMBERS, [num("1")], [(1,)]),
        (outer(MEMBERS, NATIONS, HOME), [n("region")], [(10,), (20,), (None,)]),
    ],
)
def test_groups_are_what_the_domain_says_in_a_fixed_order(
    engine: duckdb.DuckDBPyConnection, source: Relation, keys: list[Expression], expected: list[Any]
) -> None:
    found = groups(engine, source, keys)
    assert found is not None
    assert found[1] == expected
