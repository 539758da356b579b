"""A column that identifies and has bounds: loading leaves it as it is, so its range is not what bounds say.

Whatever is proven from that range is wrong: narrow integers overflow on some rows only, which tells of a row by an
error, and values fall outside the domain of a group key.
"""

from __future__ import annotations

import pytest
from attack_room import room

from policies.problem import PolicyError
from rewriter.refusal import Refusal

TABLES = """
[tables.people]
unit = { name = "person", column = "id" }
rows_per_unit = 4
key = ["visit"]
[tables.people.columns]
id = { type = "bigint", bounds = [0, 100] }
visit = { type = "bigint", bounds = [0, 100] }
[tables.bills]
unit = { name = "person", through = "people", on = "visit" }
rows_per_unit = 4
[tables.bills.columns]
visit = { type = "bigint", bounds = [0, 100] }
"""
HUGE = 2**63 - 1
FEW = [(1, 1)]
ONE_MORE = [(1, 1), (2, HUGE), (HUGE, 2)]
ATTACKS = {
    "a narrow product": "SELECT sum({c} * 90000000000000000) FROM {t}",
    "a product in WHERE": "SELECT count(*) FROM {t} WHERE {c} * 90000000000000000 > 0",
    "a sum of squares": "SELECT sum({c} * {c}) FROM {t}",
    "a sum by group": "SELECT {c} % 3, sum({c} + 1) FROM {t} GROUP BY 1",
    "a mean": "SELECT avg({c} * 1.5) FROM {t}",
}


@pytest.mark.parametrize(("table", "column"), [("people", "id"), ("people", "visit"), ("bills", "visit")])
@pytest.mark.parametrize("sql", ATTACKS.values(), ids=ATTACKS.keys())
def test_no_row_makes_an_expression_fail(sql: str, table: str, column: str) -> None:
    outcomes = set()
    for people in (FEW, ONE_MORE):
        try:
            attacked = room(TABLES, {"people": people, "bills": [(visit,) for _, visit in people]})
            outcomes.add(attacked.outcome(sql.format(t=table, c=column)))
        except (Refusal, PolicyError):
            outcomes.add("refused")
    assert len(outcomes) == 1
    assert "error" not in outcomes


@pytest.mark.parametrize(("table", "column"), [("people", "visit"), ("bills", "visit")])
def test_no_row_falls_outside_a_declared_domain(table: str, column: str) -> None:
    try:
        attacked = room(TABLES, {"people": ONE_MORE, "bills": [(visit,) for _, visit in ONE_MORE]})
        found = attacked.ask(f"SELECT {column}, count(*) FROM {table} GROUP BY 1").coordinates[0]
    except (Refusal, PolicyError):
        return
    assert sum(value > 0 for value in found.values) == len(ONE_MORE)
