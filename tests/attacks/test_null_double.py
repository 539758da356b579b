"""A NULL in a double column: least() and greatest() ignore NULL, so an unguarded clip turns it into the limit.

Not a leak by itself, but it makes a person out of rows that belong to nobody and 1e308 out of nothing.
"""

from __future__ import annotations

import pytest
from attack_room import room

TABLES = """
[tables.people]
unit = { name = "person", column = "id" }
rows_per_unit = 2
[tables.people.columns]
id = { type = "bigint" }
score = { type = "double precision" }
share = { type = "real", bounds = [0.0, 1.0] }
"""
PEOPLE = [(1, "1.5", "0.5"), (1, None, None), (2, "nan", "nan"), (3, "abc", "abc")]


@pytest.mark.parametrize("column", ["score", "share"])
def test_null_stays_null_at_load(column: str) -> None:
    attacked = room(TABLES, {"people": PEOPLE})
    found = attacked.ask(f"SELECT count(*) FROM people WHERE {column} IS NULL").coordinates[0]
    assert found.values[0] * found.step == 3
