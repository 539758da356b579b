"""A LIKE whose escape fails on some rows only: the error tells, without noise, that such a row exists.

The engine raises "pattern must not end with escape character" when a row's text matches as far as the escape. ILIKE
folds the pattern before it looks for the escape, so `'SecretX' ESCAPE 'x'` ends in an escape after all. An escape of
one character but several bytes is refused by the engine when, and only when, a row gets as far as the LIKE.
"""

from __future__ import annotations

import pytest
from attack_room import room

from rewriter.refusal import Refusal

TABLES = """
[tables.people]
unit = { name = "person", column = "id" }
rows_per_unit = 1
[tables.people.columns]
id = { type = "bigint" }
name = { type = "text" }
"""
NEIGHBOURS = [[(1, "bob"), (2, "secret santa")], [(1, "bob")], [(1, None)], []]
ATTACKS = {
    "ilike folds the pattern": "SELECT count(*) FROM people WHERE name ILIKE 'secretX' ESCAPE 'x'",
    "ilike folds the escape": "SELECT count(*) FROM people WHERE name ILIKE 'secretx' ESCAPE 'X'",
    "ilike in a sum": "SELECT sum(CASE WHEN name ILIKE 'secretX' ESCAPE 'x' THEN 1 ELSE 0 END) FROM people",
    "an escape of two bytes": "SELECT count(*) FROM people WHERE id = 2 AND name LIKE 'a%' ESCAPE 'é'",
    "an escape of two bytes, ilike": "SELECT count(*) FROM people WHERE id = 2 AND name ILIKE 'a%' ESCAPE 'é'",
    "an escape at the end": r"SELECT count(*) FROM people WHERE name LIKE 'secret\'",
    "an escape within": r"SELECT count(*) FROM people WHERE name LIKE 's\ecret%'",
    "no escape": "SELECT count(*) FROM people WHERE name LIKE 'secret%' ESCAPE ''",
    "an escaped escape": r"SELECT count(*) FROM people WHERE name ILIKE 'secret\\'",
}


@pytest.mark.parametrize("sql", ATTACKS.values(), ids=ATTACKS.keys())
def test_a_like_fails_on_all_data_or_on_none(sql: str) -> None:
    outcomes = set()
    for people in NEIGHBOURS:
        try:
            outcomes.add(room(TABLES, {"people": people}).outcome(sql))
        except Refusal as refusal:
            outcomes.add(refusal.sqlstate)
    assert len(outcomes) == 1
    assert "error" not in outcomes
