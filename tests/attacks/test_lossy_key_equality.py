"""An equality that is true of several keys: a row of one person meets many public rows where one was proven.

Whole numbers beyond 2^53 that are compared with a double (or numerics too wide for one scale) become doubles, so one
value equals many keys. The join then multiplies, though it equates the whole declared key: the bound on rows,
the claim that a person determines the group, and with it the threshold's sensitivity are all too small.
"""

from __future__ import annotations

import pytest
from attack_room import Attacked, room

from rewriter import compile as compiler
from rewriter.bound import Protected, property_of
from rewriter.cost import coordinates
from rewriter.plan import NoisyGroups
from rewriter.refusal import Refusal

TABLES = """
[tables.people]
unit = { name = "person", column = "id" }
rows_per_unit = 1
[tables.people.columns]
id = { type = "bigint" }
account = { type = "double precision" }
town = { type = "text" }
wide = { type = "numeric(30,10)" }
[tables.accounts]
public = true
key = ["number"]
[tables.accounts.columns]
number = { type = "bigint" }
label = { type = "text" }
[tables.registry]
public = true
key = ["number"]
[tables.registry.columns]
number = { type = "numeric(30,0)" }
label = { type = "text" }
"""
FIRST = 2**60
PEOPLE = [(1, float(FIRST), "Ulm", f"{10**19}.5")]
ACCOUNTS = [(FIRST + i, f"label {i}") for i in range(40)]
REGISTRY = [(10**19 + i, f"label {i}") for i in range(-20, 20)]
ATTACKS = {
    "bigint and double": "accounts a ON a.number = p.account",
    "bigint and a double expression": "accounts a ON a.number = p.account + 0",
    "numeric and double": "registry a ON a.number = p.account * 8",
    "numerics of two scales": "registry a ON a.number = p.wide",
    "bigint and a rounding expression": f"accounts a ON a.number - p.account = 0 AND a.number = {FIRST + 1}",
}


@pytest.fixture(scope="module")
def attacked() -> Attacked:
    return room(TABLES, {"people": PEOPLE, "accounts": ACCOUNTS, "registry": REGISTRY})


@pytest.mark.parametrize("join", ATTACKS.values(), ids=ATTACKS.keys())
def test_a_unit_supports_no_more_groups_than_its_threshold_hides(attacked: Attacked, join: str) -> None:
    sql = f"SELECT p.town, lower(a.label), count(*) FROM people p JOIN {join} GROUP BY 1, 2"
    attacked.sampler.asked.clear()
    try:
        plan = attacked.plan(sql)
        attacked.ask(plan)
    except Refusal:
        return
    assert isinstance(plan.groups, NoisyGroups)
    _, counts, sensitivity = attacked.sampler.asked[0]
    supported = sum(counts)  # one person is all the data there are
    assert supported <= plan.groups.per_unit
    assert sensitivity**2 >= supported


@pytest.mark.parametrize("join", ATTACKS.values(), ids=ATTACKS.keys())
def test_a_unit_has_no_more_rows_than_proven(attacked: Attacked, join: str) -> None:
    try:
        plan = attacked.plan(f"SELECT count(*) FROM people p JOIN {join}")
    except Refusal:
        return
    found = property_of(plan.source, attacked.policy, attacked.engine.facts)
    assert isinstance(found, Protected)
    wanted = coordinates(plan, attacked.policy, attacked.engine.facts)
    rows = attacked.engine._connection.cursor().execute(compiler.partials(plan, wanted, attacked.policy)).fetchall()
    assert sum(row[1] for row in rows) <= found.rows_max
