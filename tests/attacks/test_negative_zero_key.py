"""A group key that is equal but not identical: the text of the key tells, without noise, whose row came first.

-0.0 and 0.0 are one group. The engine shows the group as the first of its rows has it, rows come in the order of
units, and WHERE may start at any unit: so an attacker asks whether one chosen person fulfils one chosen condition.
"""

from __future__ import annotations

import pytest
from attack_room import Rows, room

TABLES = """
[tables.people]
unit = { name = "person", column = "id" }
rows_per_unit = 1
[tables.people.columns]
id = { type = "bigint" }
ill = { type = "boolean" }
score = { type = "double precision" }
"""
CROWD = [(i, "f", "1.5") for i in range(1001, 1300)]
ATTACKS = {
    "a product with zero": "SELECT (CASE WHEN ill THEN -1 ELSE 1 END) * (score * 0) AS k, count(*) "
    "FROM people WHERE id >= 1000 GROUP BY 1",
    "a negated zero": "SELECT CASE WHEN ill THEN -(score - 1.5::float8) ELSE score - 1.5::float8 END, count(*) "
    "FROM people WHERE id >= 1000 GROUP BY 1",
    "beside another key": "SELECT ill IS NULL, -abs(score * 0) * (CASE WHEN ill THEN -1 ELSE 1 END), count(*) "
    "FROM people WHERE id >= 1000 GROUP BY 1, 2",
}


def keys(people: Rows, sql: str, threads: int) -> tuple[tuple[str | None, ...], ...]:
    return room(TABLES, {"people": [*people, *CROWD]}, threads).ask(sql).keys


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("sql", ATTACKS.values(), ids=ATTACKS.keys())
def test_the_shown_key_does_not_tell_of_one_person(sql: str, threads: int) -> None:
    healthy, ill = [(1000, "f", "1.5")], [(1000, "t", "1.5")]
    assert keys(healthy, sql, threads) == keys(ill, sql, threads)


@pytest.mark.parametrize("value", ["-0.0", "0.0"])
def test_a_stored_zero_has_one_form(value: str) -> None:
    people = [(i, "f", value if i == 1000 else "0.0") for i in range(1000, 1300)]
    found = room(TABLES, {"people": people}).ask("SELECT score, count(*) FROM people WHERE id >= 1000 GROUP BY 1")
    assert found.keys in ((("0.0",),), (("0",),))
