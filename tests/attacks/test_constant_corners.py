"""Constants at the edge: what they do must be told by the text alone, and must not break the engine."""

from __future__ import annotations

import pytest
from attack_room import room

from rewriter.refusal import Refusal

TABLES = """
[tables.people]
unit = { name = "person", column = "id" }
rows_per_unit = 2
contribution = { count = "0.0000000000000000000000000000001", "sum.x" = "1e30" }
[tables.people.columns]
id = { type = "bigint" }
x = { type = "integer" }
zero = { type = "integer", bounds = [0, 0] }
d = { type = "double precision" }
n = { type = "numeric(30,10)" }
[tables.empty]
public = true
[tables.empty.columns]
x = { type = "integer" }
"""
NEIGHBOURS = [[], [(1, 0, 0, "0", "0")], [(1, 5, 0, "1e308", "-99999999999999999999.5"), (1, 0, 0, "-inf", None)]]
QUESTIONS = (
    "SELECT count(*) FROM people",
    "SELECT sum(0) FROM people",
    "SELECT sum(zero) FROM people",
    "SELECT avg(zero) FROM people",
    "SELECT sum(NULL::int) FROM people",
    "SELECT avg(NULL::float8) FROM people",
    "SELECT sum(x) FROM people",
    "SELECT sum(x / 0) FROM people",
    "SELECT sum(x % 0) FROM people",
    "SELECT sum(x / zero) FROM people",
    "SELECT sum(x % zero) FROM people",
    "SELECT sum(1 / zero) FROM people",
    "SELECT sum(1 / x), avg(1 % x) FROM people",
    "SELECT count(*) FROM people WHERE 1 / x > 0",
    "SELECT count(*) FROM people WHERE 1 / 0 > 0",
    "SELECT count(*) FROM people WHERE x / (x - x) = 1",
    "SELECT sum(d / 0), sum(1 / d), avg(d * d * d) FROM people",
    "SELECT sum(n * n * n * n * n * n) FROM people",
    "SELECT avg(d::numeric(30,0)), sum(abs(d::numeric(30,0)) / -1) FROM people",
    "SELECT sum(d::bigint % -1), sum(d::integer / -1), sum(-abs(d::bigint)) FROM people",
    "SELECT sum((d * 1e300)::smallint), sum((d - d)::integer) FROM people",
    "SELECT avg(x * x * x * x * x * x * x * x * x * x) FROM people",
    "SELECT count(*) FROM people, empty",
    "SELECT sum(people.x), avg(people.x) FROM people, empty",
    "SELECT count(*) FROM people LEFT JOIN empty ON people.x = empty.x",
    "SELECT empty.x, count(*) FROM people JOIN empty ON people.x = empty.x GROUP BY 1",
    "SELECT 1, 'a', count(*) FROM people GROUP BY 1, 2",
    "SELECT NULL::text, count(*) FROM people GROUP BY 1",
    "SELECT count(*) FROM people WHERE '2000-01-01'::date + x > '2000-01-01'",
    "SELECT sum('2000-01-01'::date - ('0001-01-01'::date - x)) FROM people",
    "SELECT sum(extract(year FROM '9999-12-31'::date + x + x + x)) FROM people",
    "SELECT extract(dow FROM '0001-01-01'::date - x), count(*) FROM people GROUP BY 1",
    "SELECT sum(extract(epoch FROM '9999-12-31'::date + x)) FROM people",
    "SELECT date_trunc('century', '0001-01-01'::date - 5000000 - x), count(*) FROM people GROUP BY 1",
    "SELECT sum(length(lower(upper(x::text))) * 99999999999999) FROM people",
    "SELECT sum('12x'::text::int + x), sum(x::text::float8), count((x::text || 'a')::date) FROM people",
    "SELECT count(x::text::date), count(x::text::timestamp), count(x::text::boolean) FROM people",
)


@pytest.mark.parametrize("sql", QUESTIONS)
def test_the_outcome_is_the_same_on_all_data_and_never_a_crash(sql: str) -> None:
    outcomes = set()
    for people in NEIGHBOURS:
        try:
            outcomes.add(room(TABLES, {"people": people}).outcome(sql))
        except Refusal as refusal:
            outcomes.add(refusal.sqlstate)
    assert len(outcomes) == 1
    assert "error" not in outcomes


@pytest.mark.parametrize("name", ["p", "g", "q", "u", "x", "f", "h", "raw", "groups_given", "least_of"])
@pytest.mark.parametrize("public", [True, False])
def test_a_table_may_have_any_name_that_a_policy_allows(name: str, public: bool) -> None:
    """The engine's own tables must not stand in for the policy's: `p` holds clear partial sums."""
    unit = "public = true" if public else 'unit = { name = "person", column = "k1" }\nrows_per_unit = 2'
    tables = f"""
[tables.{name}]
{unit}
[tables.{name}.columns]
k0 = {{ type = "text" }}
k1 = {{ type = "integer" }}
s0 = {{ type = "integer" }}
gid = {{ type = "integer" }}
[tables.people]
unit = {{ name = "person", column = "k1" }}
rows_per_unit = 2
[tables.people.columns]
k1 = {{ type = "integer" }}
k0 = {{ type = "text" }}
"""
    rows = {name: [("here", 1, 7, 3), ("there", 2, 8, 4)], "people": [(1, "clear"), (2, "here")]}
    attacked = room(tables, rows)
    found = attacked.ask(f"SELECT {name}.k0, count(*) FROM people JOIN {name} ON people.k1 = {name}.k1 GROUP BY 1")
    assert set(found.keys[0]) <= {"here", "there", None}
    attacked.ask(f"SELECT {name}.s0, sum({name}.gid) FROM people JOIN {name} USING (k1) GROUP BY 1")
