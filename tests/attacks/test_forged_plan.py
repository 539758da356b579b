"""A forged plan from a broken public worker: the clear engine must refuse it, whatever it says.

The public worker handles analysts' text, so it is the process that an attacker takes over first. All it can do then
is write plans; each of these would carry clear rows out without noise.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import duckdb
import pytest
from attack_room import Attacked, room

from policies.sqltype import BIGINT, BOOLEAN, TEXT, TIMESTAMP, SqlType
from rewriter.plan import (
    Call,
    Cast,
    Column,
    Constant,
    Expression,
    Filter,
    Join,
    Measure,
    NoisyGroups,
    PublicGroups,
    PublicRows,
    Release,
    Scan,
    decode,
    encode,
)
from rewriter.refusal import Refusal

TABLES = """
[tables.people]
unit = { name = "person", column = "id" }
rows_per_unit = 1
[tables.people.columns]
id = { type = "bigint" }
name = { type = "text" }
born = { type = "timestamp" }
[tables.places]
public = true
[tables.places.columns]
name = { type = "text" }
value = { type = "text" }
k0 = { type = "text" }
"""
PEOPLE = [(1, "alice", "2000-01-01"), (2, "bob", "2001-01-01")]
PLACES = [("here", "x", "y")]
SOURCE = Scan("people", "t0")
NAME, BORN = Column("t0", "name"), Column("t0", "born")
COUNT = (Measure("count", None),)


@pytest.fixture
def attacked() -> Attacked:
    return room(TABLES, {"people": PEOPLE, "places": PLACES})


def plan(keys: tuple[Expression, ...], groups: Any, where: tuple[Expression, ...] = ()) -> Release:
    return Release("person", Filter(SOURCE, where) if where else SOURCE, keys, groups, COUNT)


def forged(release: Release) -> Release:
    """Through JSON, as the worker sends it; a plan that cannot even be decoded is refused as well."""
    found = decode(encode(release))
    assert isinstance(found, Release)
    return found


def assert_refused(attacked: Attacked, release: Release) -> None:
    with pytest.raises((Refusal, ValueError)):
        attacked.ask(forged(release))


@pytest.mark.parametrize("table", ["people", "_units_person", "p"])
def test_public_groups_are_not_read_from_protected_rows(attacked: Attacked, table: str) -> None:
    assert_refused(attacked, plan((NAME,), PublicGroups((PublicRows(Scan(table, "t0"), ("name",), False),), ())))


def test_an_axis_reads_the_table_of_its_alias(attacked: Attacked) -> None:
    """`places` has a column `value`, and so has the vault's own table of units' values."""
    source = Join("inner", SOURCE, Scan("places", "t1"), ())
    axis = PublicRows(Scan("_units_person", "t1"), ("value",), False)
    assert_refused(attacked, Release("person", source, (Column("t1", "value"),), PublicGroups((axis,), ()), COUNT))


def test_an_axis_does_not_read_the_partial_sums(attacked: Attacked) -> None:
    source = Join("inner", SOURCE, Scan("places", "t1"), ())
    axis = PublicRows(Scan("p", "t1"), ("k0",), False)
    assert_refused(attacked, Release("person", source, (Column("t1", "k0"),), PublicGroups((axis,), ()), COUNT))


def test_a_type_carries_no_sql(attacked: Attacked) -> None:
    """The precision of varchar is written into `left(x, n)`: as text it would be SQL of the attacker's own."""
    everyone = "1) || (SELECT string_agg(name, ',') FROM people)::VARCHAR || left('x', 1"
    name = Cast(NAME, SqlType("varchar", everyone))  # type: ignore[arg-type]
    assert_refused(attacked, plan((name,), NoisyGroups(1)))


@pytest.mark.parametrize("field", ["precision", "scale", "name"])
@pytest.mark.parametrize("type_", [SqlType("varchar", 3), SqlType("numeric", 10, 2), SqlType("char", 2), BIGINT])
def test_a_type_has_fields_of_its_kind(attacked: Attacked, type_: SqlType, field: str) -> None:
    bad: Any = ["0); DROP TABLE people; --"] if field == "name" else "1); DROP TABLE people; --"
    with pytest.raises(ValueError, match=r".*"):
        decode(encode(dataclasses.replace(type_, **{field: bad if field != "name" else 7})))


@pytest.mark.parametrize("type_", [SqlType("varchar", -1), SqlType("nonsense"), SqlType("numeric", 10**6, 10**6)])
def test_a_type_is_one_that_a_policy_could_declare(attacked: Attacked, type_: SqlType) -> None:
    assert_refused(attacked, plan((Cast(NAME, type_),), NoisyGroups(1)))


def outcome(release: Release, people: list[tuple[int, str, str]]) -> str:
    try:
        return room(TABLES, {"people": people, "places": PLACES}).outcome(forged(release))
    except ValueError:
        return "refused"


PER_ROW = {
    "a LIKE pattern from a column": Call("like", (Constant(TEXT, "alice"), NAME, Constant(TEXT, "e"))),
    "a LIKE pattern that ends in its escape": Call("like", (NAME, Constant(TEXT, "alicee"), Constant(TEXT, "e"))),
    "an ILIKE pattern that ends in its escape": Call("ilike", (NAME, Constant(TEXT, "alicE"), Constant(TEXT, "e"))),
    "an escape from a column": Call("like", (NAME, Constant(TEXT, "a%"), NAME)),
    "an escape of two characters": Call("like", (NAME, Constant(TEXT, "a%"), Constant(TEXT, "ee"))),
    "a unit from a column": Call("is null", (Call("date_trunc", (NAME, BORN)),)),
    "a unit that does not exist": Call("is null", (Call("date_trunc", (Constant(TEXT, "x"), BORN)),)),
}


@pytest.mark.parametrize("condition", PER_ROW.values(), ids=PER_ROW.keys())
def test_an_argument_that_must_be_constant_is(condition: Expression) -> None:
    release = plan((), PublicGroups((), ()), (condition,))
    outcomes = {
        outcome(release, people) for people in (PEOPLE, [(1, "e", "2000-01-01")], [(3, "z", "2000-01-01")], [])
    }
    assert "error" not in outcomes
    assert len(outcomes) == 1


@pytest.mark.parametrize("per_unit", [0, -1, 2**70])
def test_a_threshold_is_for_a_sane_number_of_groups(attacked: Attacked, per_unit: int) -> None:
    assert_refused(attacked, plan((NAME,), NoisyGroups(per_unit)))


def test_another_type_of_field_is_refused() -> None:
    with pytest.raises(ValueError, match="type"):
        decode(["NoisyGroups", True])


def test_a_forged_plan_does_not_reach_the_engine_as_its_own_error(attacked: Attacked) -> None:
    """Arity and positions: whatever fails, fails as a refusal or a ValueError, never in the engine."""
    condition = Constant(BOOLEAN, "true")
    for bad in (
        Call("case", ()),
        Call("not", ()),
        Call("is null", ()),
        Call("in", (NAME,)),
        Call("nullif", (NAME,)),
        Call("coalesce", ()),
        Call("like", (NAME, NAME)),
        Call("date_trunc", (BORN,)),
        Call("and", ()),
        Call("lower", (NAME, NAME)),
        Cast(Constant(TIMESTAMP, "2000-01-01"), SqlType("varchar", 0)),
    ):
        try:
            attacked.ask(plan((), PublicGroups((), ()), (Call("is null", (bad,)), condition)))
        except (Refusal, ValueError):
            continue
        except duckdb.Error as error:
            raise AssertionError(f"{bad} reached the engine") from error
