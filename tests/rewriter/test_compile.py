from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import duckdb
import pytest
from edges import call, const, lit, num
from room import BILLS, FACTS, MEMBERS, NATIONS, POLICY, REGIONS, VISITS, inner, outer, refused, where
from rows import raw, vault

from policies.sqltype import BIGINT, INTEGER, NUMERIC, TEXT
from rewriter import compile as compiler
from rewriter.cost import coordinates
from rewriter.plan import (
    Axis,
    Column,
    Expression,
    KeyValues,
    Measure,
    NoisyGroups,
    PublicGroups,
    PublicRows,
    Relation,
    Release,
    Scan,
    Values,
)

ID, WARD, SEX = Column("v", "id"), Column("v", "ward"), Column("m", "sex")
SAME = call("=", Column("m", "id"), ID)
HOME = call("=", Column("m", "nation"), Column("n", "nation"))


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = vault()
    yield connection
    connection.close()


def release(
    source: Relation, keys: tuple[Expression, ...], *measures: Measure, axes: tuple[Axis, ...] | None = None
) -> Release:
    groups = NoisyGroups(1) if axes is None else PublicGroups(axes, ())
    return Release("person", source, keys, groups, measures)


def partials(
    engine: duckdb.DuckDBPyConnection, source: Relation, keys: tuple[Expression, ...], *measures: Measure
) -> list[Any]:
    plan = release(source, keys, *measures)
    return engine.execute(compiler.partials(plan, coordinates(plan, POLICY, FACTS), POLICY)).fetchall()


def groups(
    engine: duckdb.DuckDBPyConnection, source: Relation, keys: tuple[Expression, ...], *axes: Axis
) -> list[Any]:
    return engine.execute(compiler.groups(release(source, keys, axes=axes), POLICY)).fetchall()


# partial sums


def test_partial_sums_are_those_of_each_units_own_rows(engine: duckdb.DuckDBPyConnection) -> None:
    measures = (
        Measure("count", None),
        Measure("count", WARD),
        Measure("units", ID),
        Measure("sum", Column("v", "minutes")),
        Measure("sum", Column("v", "cost")),
        Measure("mean", Column("v", "cost")),
    )
    expected: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * 7)
    stored = engine.execute("SELECT _unit, ward, minutes, cost FROM visits").fetchall()
    for unit, ward, minutes, cost in stored:
        sums = expected[unit, ward]
        sums[0] += 1
        sums[1] += ward is not None
        sums[2] = 1
        sums[3] += minutes
        sums[4] += cost or 0
        sums[5] += cost is not None
        sums[6] += cost or 0
    found = {tuple(row[:2]): list(row[2:]) for row in partials(engine, VISITS, (WARD,), *measures)}
    assert found == expected


def test_a_sum_over_no_value_is_zero(engine: duckdb.DuckDBPyConnection) -> None:
    none = where(VISITS, call("is null", Column("v", "cost")))
    assert {row[1] for row in partials(engine, none, (), Measure("sum", Column("v", "cost")))} == {0}


def test_a_unit_without_rows_that_pass_has_no_partial_sum(engine: duckdb.DuckDBPyConnection) -> None:
    assert partials(engine, where(VISITS, call("<", WARD, num("0"))), (), Measure("count", None)) == []


def test_floating_sums_are_of_whole_units(engine: duckdb.DuckDBPyConnection) -> None:
    rows = partials(engine, MEMBERS, (), Measure("sum", Column("m", "height")))
    stored = dict(engine.execute("SELECT _unit, height FROM members").fetchall())
    assert {unit: units for unit, units in rows} == {
        u: int(Fraction(h) * 2**40) if h is not None else 0 for u, h in stored.items()
    }


def rows_of(engine: duckdb.DuckDBPyConnection, source: Relation) -> Counter[int]:
    return Counter({unit: count for unit, count in partials(engine, source, (), Measure("count", None))})


def test_joins_have_the_rows_that_their_sql_says(engine: duckdb.DuckDBPyConnection) -> None:
    def counted(sql: str) -> Counter[int]:
        return Counter(dict(engine.execute(f"SELECT _unit, count(*) FROM ({sql}) GROUP BY 1").fetchall()))

    inner_sql = "SELECT m._unit FROM members m JOIN visits v ON m.id = v.id"
    left_sql = "SELECT v._unit FROM visits v LEFT JOIN members m ON m.id = v.id AND m.sex = 'f'"
    assert rows_of(engine, inner(MEMBERS, VISITS, SAME)) == counted(inner_sql)
    assert rows_of(engine, outer(VISITS, MEMBERS, SAME, call("=", SEX, lit("f")))) == counted(left_sql)
    through = inner(VISITS, BILLS, call("=", Column("b", "visit"), Column("v", "visit")))
    assert rows_of(engine, through) == counted("SELECT v._unit FROM visits v JOIN bills b ON b.visit = v.visit")
    public = inner(MEMBERS, NATIONS, HOME)
    assert rows_of(engine, public) == counted("SELECT m._unit FROM members m JOIN nations n ON m.nation = n.nation")
    cross = inner(MEMBERS, NATIONS)
    assert rows_of(engine, cross) == counted("SELECT m._unit FROM members m, nations n")


def test_a_join_on_a_padded_unit_keeps_no_row_without_a_match(engine: duckdb.DuckDBPyConnection) -> None:
    padded = outer(MEMBERS, VISITS, SAME, call("=", WARD, num("1")))
    again = inner(padded, Scan("visits", "w"), call("=", ID, Column("w", "id")))
    sql = (
        "SELECT m._unit, count(*) FROM members m LEFT JOIN visits v ON m.id = v.id AND v.ward = 1 "
        "JOIN visits w ON v.id = w.id GROUP BY 1"
    )
    assert rows_of(engine, again) == Counter(dict(engine.execute(sql).fetchall()))


def test_a_join_compares_units_as_dense_numbers_too() -> None:
    plan = release(inner(MEMBERS, VISITS, SAME, call("<", Column("m", "age"), WARD)), ())
    sql = compiler.partials(plan, (), POLICY)
    assert '"m"._unit = "v"._unit AND ("m"."age" < "v"."ward")' in sql
    assert '"m"."id" = "v"."id"' not in sql


def test_removing_one_unit_changes_no_other_units_partial_sums() -> None:
    measures = (Measure("count", None), Measure("sum", Column("v", "minutes")), Measure("sum", Column("v", "cost")))
    source = outer(where_free := inner(VISITS, MEMBERS, SAME), NATIONS, HOME)
    assert where_free
    whole, rest = (
        {(names[unit], *row): sums for (unit, *row, _), sums in found}
        for names, found in (
            _with_sums(raw(20), source, measures),
            _with_sums(_without(raw(20), "3"), source, measures),
        )
    )
    assert rest == {key: sums for key, sums in whole.items() if key[0] != "3"}


def _with_sums(
    given: dict[str, list[list[Any]]], source: Relation, measures: tuple[Measure, ...]
) -> tuple[dict[int, str], list[Any]]:
    engine = vault(given)
    names = dict(engine.execute("SELECT _unit, value FROM _units_person").fetchall())
    keys = (WARD, Column("n", "name"))
    rows = partials(engine, source, keys, *measures)
    return names, [((*row[:3], None), tuple(row[3:])) for row in rows]


def _without(given: dict[str, list[list[Any]]], person: str) -> dict[str, list[list[Any]]]:
    gone = {row[0] for row in given["visits"] if row[1] == person}
    return {
        **given,
        "members": [row for row in given["members"] if row[0] != person],
        "visits": [row for row in given["visits"] if row[1] != person],
        "bills": [row for row in given["bills"] if row[1] not in gone],
    }


def test_a_filter_below_a_join_is_refused() -> None:
    plan = release(inner(where(MEMBERS, call("=", SEX, lit("f"))), VISITS, SAME), ())
    assert refused(compiler.partials, plan, (), POLICY).sqlstate == "0A000"


def test_filters_on_top_of_each_other_all_hold(engine: duckdb.DuckDBPyConnection) -> None:
    both = where(where(VISITS, call("=", WARD, num("1"))), call(">", Column("v", "minutes"), num("0")))
    [(count,)] = engine.execute("SELECT count(*) FROM visits WHERE ward = 1 AND minutes > 0").fetchall()
    assert sum(rows_of(engine, both).values()) == count


def test_zeros_of_either_sign_are_one_key(engine: duckdb.DuckDBPyConnection) -> None:
    sign = call(
        "*",
        Column("m", "height"),
        call("case", call("=", SEX, lit("f")), const("double precision", "0"), const("double precision", "-0.0")),
    )
    keys = [row[1] for row in partials(engine, MEMBERS, (sign,), Measure("count", None)) if row[1] is not None]
    assert set(map(str, keys)) == {"0.0"}


# groups


def test_groups_are_distinct_and_in_order_with_null_last(engine: duckdb.DuckDBPyConnection) -> None:
    axis = Values(WARD, POLICY.tables["visits"].columns["ward"].type, ("3", None, "1", "1"))
    assert groups(engine, VISITS, (WARD,), axis) == [(1,), (3,), (None,)]
    half = call("/", WARD, num("2"))
    assert groups(engine, VISITS, (half,), axis) == [(0,), (1,), (None,)]


def test_keys_of_a_domain_have_the_type_they_have_in_the_rows(engine: duckdb.DuckDBPyConnection) -> None:
    cost = Column("v", "cost")
    kind = POLICY.tables["visits"].columns["cost"].type
    assert groups(engine, VISITS, (cost,), Values(cost, kind, ("-5.50", "0.01", None))) == [(-550,), (1,), (None,)]
    label = call("case", call("=", WARD, num("1")), num("1"), num("2.5"))
    assert groups(engine, VISITS, (label,), KeyValues(0, NUMERIC, ("1", "2.5"))) == [(10,), (25,)]
    far = call("+", WARD, num("2147483647"))
    assert groups(engine, VISITS, (far,), KeyValues(0, INTEGER, ("2147483650",))) == [(2147483650,)]
    moved = call("+", Column("m", "weight"), num("0"))
    assert groups(engine, MEMBERS, (moved,), KeyValues(0, NUMERIC, ("0.5", None))) == [(0.5,), (None,)]


def test_an_axis_without_values_gives_no_group(engine: duckdb.DuckDBPyConnection) -> None:
    assert groups(engine, VISITS, (WARD,), Values(WARD, INTEGER, ())) == []


def test_public_rows_come_from_their_table(engine: duckdb.DuckDBPyConnection) -> None:
    source = outer(MEMBERS, inner(NATIONS, REGIONS), HOME)
    region = Column("n", "region")
    assert groups(engine, source, (region,), PublicRows(NATIONS, ("region",), False)) == [(10,), (20,), (None,)]
    title = Column("r", "title")
    assert groups(engine, source, (title,), PublicRows(REGIONS, ("title",), True)) == [("east",), ("west",), (None,)]
    both = groups(engine, source, (title,), PublicRows(REGIONS, ("title",), False), PublicRows(NATIONS, (), False))
    assert both == [("east",), ("west",)]


@pytest.mark.parametrize(
    ("axis", "key", "state"),
    [
        (PublicRows(Scan("members", "m"), ("sex",), False), SEX, "0A000"),
        (PublicRows(Scan("members", "n"), ("sex",), False), SEX, "0A000"),
        (PublicRows(Scan("nations", "m"), ("name",), False), SEX, "0A000"),
        (PublicRows(Scan("regions", "r"), ("title",), False), SEX, "0A000"),
        (PublicRows(NATIONS, ("secret",), False), SEX, "42703"),
        (KeyValues(1, TEXT, ("f",)), SEX, "0A000"),
        (KeyValues(-1, TEXT, ("f",)), SEX, "0A000"),
        (Values(Column("m", "age"), BIGINT, ("1",)), SEX, "42703"),
        (Values(SEX, TEXT, ("f",)), Column("m", "city"), "42703"),
        (Values(Column("m", "age"), BIGINT, ("x",)), Column("m", "age"), "22P02"),
        (Values(Column("m", "age"), BIGINT, ("1.5",)), Column("m", "age"), "22003"),
        (Values(Column("m", "born"), TEXT, ("1.5",)), Column("m", "born"), "22007"),
    ],
)
def test_a_forged_axis_is_refused(axis: Axis, key: Expression, state: str) -> None:
    plan = release(inner(MEMBERS, NATIONS, HOME), (key,), axes=(axis,))
    assert refused(compiler.groups, plan, POLICY).sqlstate == state


def test_a_condition_of_a_domain_reads_its_axes_alone() -> None:
    plan = Release(
        "person",
        MEMBERS,
        (SEX,),
        PublicGroups((Values(SEX, TEXT, ("f",)),), (call("is null", Column("m", "city")),)),
        (),
    )
    assert refused(compiler.groups, plan, POLICY).sqlstate == "42703"


def test_key_terms_are_those_of_the_keys() -> None:
    found = compiler.key_terms(
        release(VISITS, (WARD, Column("v", "cost"), call("extract year", Column("v", "at")))), POLICY
    )
    assert [(term.type.name, term.scale) for term in found] == [("smallint", 0), ("numeric", 2), ("numeric", 0)]
