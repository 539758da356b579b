"""A public column declared not_null that holds NULL: what relies on the word must not count it as the limit."""

from __future__ import annotations

from attack_room import room

from enclave.tables import LoadError

TABLES = """
[tables.people]
unit = { name = "person", column = "id" }
rows_per_unit = 1
[tables.people.columns]
id = { type = "bigint" }
place = { type = "integer" }
[tables.places]
public = true
key = ["place"]
[tables.places.columns]
place = { type = "integer" }
weight = { type = "double precision", bounds = [0.0, 100.0], not_null = true }
"""


def test_a_null_in_a_not_null_column_adds_nothing() -> None:
    try:
        attacked = room(TABLES, {"people": [(1, 1), (2, 2)], "places": [(1, None), (2, None)]})
    except LoadError:
        return
    found = attacked.ask("SELECT sum(weight) FROM people p JOIN places q ON p.place = q.place").coordinates[0]
    assert found.values == (0,)
