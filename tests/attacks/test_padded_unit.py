"""An inner join on the unit of a padded side: rows without a match must not come back by an implied equality.

`e.id = v.id` is never true where the outer join found no e. Comparing the dense id of the leftmost table keeps
such rows: one person then has rows that the query excludes.
"""

from __future__ import annotations

import pytest
from attack_room import room

TABLES = """
[tables.people]
unit = { name = "person", column = "id" }
rows_per_unit = 1
[tables.people.columns]
id = { type = "bigint" }
[tables.events]
unit = { name = "person", column = "id" }
rows_per_unit = 2
[tables.events.columns]
id = { type = "bigint" }
x = { type = "integer" }
[tables.visits]
unit = { name = "person", column = "id" }
rows_per_unit = 1
[tables.visits.columns]
id = { type = "bigint" }
"""
ROWS = {"people": [(1,), (2,)], "events": [(1, 5)], "visits": [(1,), (2,)]}
QUESTIONS = {
    "FROM people p LEFT JOIN events e ON p.id = e.id JOIN visits v ON e.id = v.id": 1,
    "FROM people p LEFT JOIN events e ON p.id = e.id JOIN visits v ON p.id = v.id AND p.id = e.id": 1,
    "FROM people p LEFT JOIN events e ON p.id = e.id JOIN visits v ON p.id = v.id WHERE p.id = e.id": 1,
    "FROM people p LEFT JOIN events e ON p.id = e.id AND e.x > 9 JOIN visits v ON e.id = v.id": 0,
    "FROM people p LEFT JOIN events e ON p.id = e.id LEFT JOIN visits v ON e.id = v.id WHERE v.id IS NULL": 1,
    "FROM people p LEFT JOIN events e ON p.id = e.id JOIN visits v ON p.id = v.id": 2,
    "FROM people p LEFT JOIN events e USING (id) JOIN visits v USING (id)": 2,
}


@pytest.mark.parametrize(("source", "rows"), QUESTIONS.items())
def test_a_row_without_a_match_does_not_pass_an_equality_on_it(source: str, rows: int) -> None:
    found = room(TABLES, ROWS).ask(f"SELECT count(*) {source}").coordinates[0]
    assert found.values[0] * found.step == rows
