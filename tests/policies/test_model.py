from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from policies import model
from policies.model import Budget, Column, Policy, Table

ROOM = {"name": "r", "version": 1, "environment": "development"}


def policy(**parts: Any) -> Policy:
    return Policy.model_validate({"room": ROOM, **parts})


def with_roles() -> Policy:
    role = {"tables": ("b", "a"), "epsilon": 1, "query_epsilon": 1}
    tables = {name: {"public": True, "columns": {"x": {"type": "text"}}} for name in ("a", "b", "c")}
    return policy(tables=tables, roles={"r": role}, analysts={"ana": {"role": "r"}})


def test_visible_tables_are_in_the_order_of_the_policy() -> None:
    assert with_roles().visible_tables("ana") == ("a", "b")


def test_an_analyst_has_a_role_and_a_stranger_none() -> None:
    assert with_roles().role_of("ana").tables == ("b", "a")
    with pytest.raises(KeyError):
        with_roles().role_of("eve")
    with pytest.raises(KeyError):
        with_roles().visible_tables("eve")


def test_defaults_are_those_of_the_design() -> None:
    table = Table(columns={})
    assert (table.rows_per_unit_max, table.groups_per_unit_max) == (1000, 16)
    few = Table(columns={}, rows_per_unit=3)
    assert (few.rows_per_unit_max, few.groups_per_unit_max) == (3, 3)
    assert Table(columns={}, groups_per_unit=20).groups_per_unit_max == 20
    plain = policy()
    assert plain.answers.counts == "raw"
    assert plain.synthetic is None
    assert plain.test is None


def test_a_policy_cannot_be_changed_and_has_no_unknown_fields() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        policy().room = policy().room
    with pytest.raises(ValidationError, match="Extra inputs"):
        policy(noise=False)


def test_types_are_not_coerced() -> None:
    with pytest.raises(ValidationError, match="valid boolean"):
        Column.model_validate({"type": "text", "not_null": 1})
    with pytest.raises(ValidationError, match="valid string"):
        Column.model_validate({"type": "text", "comment": 1})


def test_equal_bounds_are_equal_values() -> None:
    price = Column.model_validate({"type": "numeric(4,2)", "bounds": (0, Decimal("1.50"))})
    assert price.bounds == (Decimal(0), Decimal("1.5"))
    assert isinstance(price.bounds[0], Decimal)
    at = datetime.fromisoformat("2020-01-01T02:00:00+02:00")
    instant = Column.model_validate({"type": "timestamptz", "bounds": (at, at)})
    assert instant.bounds is not None
    assert str(instant.bounds[0]) == "2020-01-01 00:00:00+00:00"
    whole = Column.model_validate({"type": "integer", "bounds": (0, 1)})
    assert whole.bounds is not None
    assert type(whole.bounds[0]) is int


def test_an_instant_before_the_year_one_is_refused() -> None:
    at = datetime.fromisoformat("0001-01-01T00:00:00+02:00")
    with pytest.raises(ValidationError, match="years 1 and 9999"):
        Column.model_validate({"type": "timestamptz", "bounds": (at, datetime.now(UTC))})


def test_unlimited_shows_as_a_budget_without_epsilon() -> None:
    budgets = {"u": {"epsilon": "1", "delta": "0.1"}, "v": Budget(epsilon="1", delta="0.1")}  # type: ignore[arg-type]
    unlimited = policy(budgets=budgets, test={"epsilon": "unlimited"})
    assert [budget.epsilon for budget in unlimited.budgets.values()] == [None, None]
    limited = policy(budgets=budgets, test={"reuse_answers": False})
    assert [budget.epsilon for budget in limited.budgets.values()] == [1, 1]
    assert policy(budgets=budgets, test=unlimited.test).budgets["u"].epsilon is None


@pytest.mark.parametrize("raw", [None, 3, {"test": 3}, {"test": {"epsilon": "unlimited"}, "budgets": {"u": 3}}])
def test_malformed_parts_around_unlimited_are_named_and_do_not_break(raw: object) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate(raw)


def test_pytest_does_not_collect_the_test_table() -> None:
    assert model.Test.__test__ is False
