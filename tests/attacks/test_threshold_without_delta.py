"""A threshold where there is no delta: it would have to hide a lone group for certain, which no noise does.

A budget of the pure accountant may have delta = 0. A question that needs a threshold must then be refused, before
anything is charged, and not fail half-way with a bug's error.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
from attack_room import room

from rewriter.cost import Price
from rewriter.refusal import Refusal

TABLES = """
[tables.people]
unit = { name = "person", column = "id" }
rows_per_unit = 1
[tables.people.columns]
id = { type = "bigint" }
town = { type = "text" }
"""


@pytest.mark.parametrize("delta", [Fraction(0), Fraction(1, 10**400)])
def test_unknown_groups_without_delta_are_refused(delta: Fraction) -> None:
    attacked = room(TABLES, {"people": [(1, "Ulm"), (2, "Ulm")]})
    plan = attacked.plan("SELECT town, count(*) FROM people GROUP BY 1")
    with pytest.raises(Refusal):
        attacked.engine.release(plan, Price("pure", Fraction(1, 2), delta))
    assert attacked.sampler.asked == []
