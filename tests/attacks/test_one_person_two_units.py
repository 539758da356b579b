"""One person under two stored values: the budget of one then protects half of a person.

A unit column cut to other lengths in other tables, or a key of another scale, turns one value of the owner into two
units, or one person's rows into another's. Removing the person then changes two units.
"""

from __future__ import annotations

from typing import Any

from attack_room import Attacked, room

from policies.problem import PolicyError

CUT = """
[tables.people]
unit = { name = "person", column = "id" }
rows_per_unit = 1
[tables.people.columns]
id = { type = "varchar(3)" }
[tables.visits]
unit = { name = "person", column = "id" }
rows_per_unit = 1
[tables.visits.columns]
id = { type = "varchar(5)" }
"""
SCALED = """
[tables.visits]
unit = { name = "person", column = "id" }
rows_per_unit = 1
key = ["visit"]
[tables.visits.columns]
id = { type = "bigint" }
visit = { type = "numeric(10,2)" }
[tables.bills]
unit = { name = "person", through = "visits", on = "visit" }
rows_per_unit = 1
[tables.bills.columns]
visit = { type = "numeric(10,0)" }
"""


def units(attacked: Attacked, table: str) -> set[Any]:
    """The owners' values of the units that have a row in a table."""
    sql = f'SELECT u.value FROM "{table}" t JOIN _units_person u USING (_unit)'
    return {value for (value,) in attacked.engine._connection.cursor().execute(sql).fetchall()}


def test_a_value_is_one_unit_in_every_table() -> None:
    try:
        attacked = room(CUT, {"people": [("alice",)], "visits": [("alice",)]})
    except PolicyError:
        return
    assert units(attacked, "people") == units(attacked, "visits")


def test_a_value_is_not_cut_into_another_persons() -> None:
    try:
        attacked = room(CUT, {"people": [("ann",), ("anna",)], "visits": []})
    except PolicyError:
        return
    assert len(units(attacked, "people")) != 1


def test_a_bill_belongs_to_whom_its_visit_belongs() -> None:
    visits = [(1, "1.00"), (2, "100.00")]
    try:
        attacked = room(SCALED, {"visits": visits, "bills": [("100",)]})
    except PolicyError:
        return
    assert units(attacked, "bills") == {"2"}
