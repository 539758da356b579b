"""A row that passes WHERE and has a key outside the public groups: it vanishes, though the domain claims all.

Not a leak, as the groups stay what the policy says, but an answer that is silently wrong.
"""

from __future__ import annotations

import pytest
from attack_room import room

from rewriter.plan import PublicGroups
from rewriter.refusal import Refusal

TABLES = """
[tables.visits]
unit = { name = "person", column = "id" }
rows_per_unit = 1
[tables.visits.columns]
id = { type = "bigint" }
age = { type = "integer", bounds = [-10, 10] }
day = { type = "date", bounds = [0001-01-01, 2100-12-31] }
at = { type = "timestamp", bounds = [1890-01-01T00:00:00, 2100-12-31T00:00:00] }
noted = { type = "text" }
kind = { type = "char(4)", values = ["a", "b"] }
sure = { type = "text", values = ["a", "b"], not_null = true }
"""
CELLS = [
    ("-3", "0005-06-01", "2000-06-01 12:00:00", "2020-01-05", "a  "),
    ("2", "0001-01-01", "1900-12-31 23:59:59", "zzz", "b"),
    ("10", "2100-12-31", "2001-01-01 00:00:00", "infinity", "a"),
    ("-10", "1999-12-31", "2100-12-31 00:00:00", None, None),
    (None, None, None, "2020-02-30", "c"),
    ("2147483647", "0001-01-01", "1800-01-01 00:00:00", "10000-01-01", "b "),
]
QUESTIONS = (
    "SELECT kind LIKE NULL::text, count(*) AS m FROM visits WHERE kind > '' GROUP BY 1",
    "SELECT sure LIKE NULL::text FROM visits GROUP BY 1",
    "SELECT sure ILIKE 'a%' FROM visits GROUP BY 1",
    "SELECT sure = 'a' OR age > 1 FROM visits GROUP BY 1",
    "SELECT nullif(sure, 'a') = 'b' FROM visits GROUP BY 1",
    "SELECT age / age FROM visits WHERE age > -20 GROUP BY 1",
    "SELECT age % age FROM visits WHERE age <> 7 GROUP BY 1",
    "SELECT (age + 0.5)::integer FROM visits GROUP BY 1",
    "SELECT age * 2 - 1 FROM visits WHERE 3 >= age GROUP BY 1",
    "SELECT age FROM visits WHERE age < 2.5 GROUP BY 1",
    "SELECT age FROM visits WHERE age < -2.5 GROUP BY 1",
    "SELECT age FROM visits WHERE age <= 1.5 AND age > -3.5 GROUP BY 1",
    "SELECT age FROM visits WHERE 2.5 > age GROUP BY 1",
    "SELECT age FROM visits WHERE age < 2.5::float8 GROUP BY 1",
    "SELECT age FROM visits WHERE age IN (2, 10, 11) GROUP BY 1",
    "SELECT age FROM visits WHERE age = 2 OR age IS NULL GROUP BY 1",
    "SELECT age % 4 FROM visits WHERE age <> 0 GROUP BY 1",
    "SELECT abs(age) FROM visits GROUP BY 1",
    "SELECT age / 3 FROM visits GROUP BY 1",
    "SELECT -age FROM visits GROUP BY 1",
    "SELECT nullif(age, 2) FROM visits WHERE age > -20 GROUP BY 1",
    "SELECT coalesce(age, 99) FROM visits GROUP BY 1",
    "SELECT CASE WHEN age > 1 THEN 'x' WHEN age < 0 THEN NULL ELSE 'y' END FROM visits GROUP BY 1",
    "SELECT CASE WHEN age > 1 THEN 'x' END FROM visits WHERE age > -20 GROUP BY 1",
    "SELECT age > 1 FROM visits GROUP BY 1",
    "SELECT day > '2000-01-01' AND age IS NULL FROM visits WHERE day > '0001-01-01' GROUP BY 1",
    "SELECT extract(year FROM day) FROM visits GROUP BY 1",
    "SELECT extract(year FROM at) FROM visits WHERE at < '2001-01-01' GROUP BY 1",
    "SELECT extract(dow FROM day) FROM visits GROUP BY 1",
    "SELECT extract(week FROM at) FROM visits GROUP BY 1",
    "SELECT extract(quarter FROM at) FROM visits GROUP BY 1",
    "SELECT extract(dow FROM noted::date) FROM visits GROUP BY 1",
    "SELECT extract(dow FROM noted::date) FROM visits WHERE noted > '' GROUP BY 1",
    "SELECT extract(hour FROM noted::timestamp) FROM visits WHERE noted <> 'a' GROUP BY 1",
    "SELECT date_trunc('decade', day) FROM visits GROUP BY 1",
    "SELECT date_trunc('decade', at) FROM visits GROUP BY 1",
    "SELECT date_trunc('century', day) FROM visits GROUP BY 1",
    "SELECT date_trunc('century', at) FROM visits GROUP BY 1",
    "SELECT date_trunc('year', day) FROM visits GROUP BY 1",
    "SELECT date_trunc('quarter', day) FROM visits GROUP BY 1",
    "SELECT date_trunc('month', at) FROM visits WHERE at >= '1999-12-31' GROUP BY 1",
    "SELECT date_trunc('week', at) FROM visits GROUP BY 1",
    "SELECT date_trunc('day', at) FROM visits GROUP BY 1",
    "SELECT at::date FROM visits GROUP BY 1",
    "SELECT at::date FROM visits WHERE at < '2000-06-01 12:00:01' GROUP BY 1",
    "SELECT day FROM visits WHERE day < '1999-12-31 00:00:01'::timestamp GROUP BY 1",
    "SELECT kind FROM visits GROUP BY 1",
    "SELECT kind FROM visits WHERE kind = 'a ' GROUP BY 1",
    "SELECT kind || '' = 'a', age FROM visits GROUP BY 1, 2",
    "SELECT length(kind) FROM visits GROUP BY 1",
    "SELECT age + 1, kind FROM visits WHERE kind IN ('a', 'b') GROUP BY 1, 2",
)


@pytest.mark.parametrize("sql", QUESTIONS)
def test_every_row_that_passes_is_in_a_group(sql: str) -> None:
    attacked = room(TABLES, {"visits": [(i, *cells, "ab"[i % 2]) for i, cells in enumerate(CELLS)]})
    try:
        plan = attacked.plan(sql.replace(" FROM visits", ", count(*) AS n FROM visits"))
    except Refusal as refusal:
        pytest.skip(f"refused: {refusal.sqlstate}")
    if not isinstance(plan.groups, PublicGroups):
        pytest.skip("no public groups")
    where = sql.partition(" WHERE ")[2].partition(" GROUP BY ")[0]
    whole = attacked.ask("SELECT count(*) AS n FROM visits" + (f" WHERE {where}" if where else ""))
    by_group = attacked.ask(plan)
    assert sum(by_group.coordinates[0].values) == sum(whole.coordinates[0].values)
