"""weak: a valid policy -> choices in it that are allowed and unwise."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final

from policies.fit import type_range
from policies.model import ROWS_PER_UNIT_DEFAULT, Column, Policy
from policies.problem import Finding, Path

EPSILON_WEAK: Final = Decimal(20)
"""e^20 is a likelihood ratio of half a billion; published uses with people's data stay below."""
DELTA_WEAK: Final = Decimal("1e-5")
"""Delta should be far below one in the number of units; few rooms have fewer than 10^5."""
DIGITS_WEAK: Final = 5
"""A bound with so many significant digits looks read off the data: people guess round numbers."""
SALT_BYTES_WEAK: Final = 16
"""What Postgres uses."""


def choices(policy: Policy) -> Iterator[Finding]:
    """Run every check; the policy works whatever they find."""
    for check in CHECKS:
        yield from check(policy)


def bounds(policy: Policy) -> Iterator[Finding]:
    """Bounds that nobody could know: as wide as the type, or as precise as if read off the data."""
    for table_name, table in policy.tables.items():
        if table.public:
            continue
        for name, column in table.columns.items():
            path: Path = ("tables", table_name, "columns", name)
            if column.bounds is not None:
                yield from _bounds((*path, "bounds"), column)


def rows(policy: Policy) -> Iterator[Finding]:
    """`rows_per_unit` undeclared: 1000 is assumed, and noise where rows multiply follows it."""
    for name, table in policy.tables.items():
        if not table.public and table.rows_per_unit is None:
            text = f"rows_per_unit is not declared: {ROWS_PER_UNIT_DEFAULT} is assumed, and noise grows with it"
            yield Finding(("tables", name), text)
        declared = table.contribution.get("count")
        if declared is not None and declared > table.rows_per_unit_max:
            text = f"is above rows_per_unit, {table.rows_per_unit_max}: noise for rows that cannot be"
            yield Finding(("tables", name, "contribution", "count"), text)


def budgets(policy: Policy) -> Iterator[Finding]:
    """A budget that protects little: epsilon above 20, delta above 1e-5."""
    for name, budget in policy.budgets.items():
        if budget.epsilon is not None and budget.epsilon > EPSILON_WEAK:
            yield Finding(("budgets", name, "epsilon"), f"protects little: above {EPSILON_WEAK}")
        if budget.delta > DELTA_WEAK:
            text = f"is likely enough to happen to someone: above {DELTA_WEAK:f}"
            yield Finding(("budgets", name, "delta"), text)


def shares(policy: Policy) -> Iterator[Finding]:
    """A share larger than the common budget of a unit that its role sees, or all shares together."""
    for unit, budget in policy.budgets.items():
        if budget.epsilon is None:
            continue
        seeing = {name for name, role in policy.roles.items() if unit in _units_seen(policy, role.tables)}
        for name in sorted(seeing):
            if policy.roles[name].epsilon > budget.epsilon:
                yield Finding(("roles", name, "epsilon"), f"is above the common budget of {unit}, {budget.epsilon}")
        given = [policy.roles[analyst.role].epsilon for analyst in policy.analysts.values() if analyst.role in seeing]
        if len(given) > 1 and sum(given) > budget.epsilon:
            text = f"the {len(given)} analysts' shares add to {sum(given)}: whoever asks first leaves less"
            yield Finding(("budgets", unit, "epsilon"), text)


def synthetic(policy: Policy) -> Iterator[Finding]:
    """Synthetic rows that take more than half of a budget or of a share."""
    if policy.synthetic is None:
        return
    limits = [budget.epsilon for budget in policy.budgets.values() if budget.epsilon is not None]
    limits += [role.epsilon for role in policy.roles.values()]
    if limits and policy.synthetic.epsilon * 2 > min(limits):
        yield Finding(("synthetic", "epsilon"), "takes more than half of a budget or of a share")


def unused(policy: Policy) -> Iterator[Finding]:
    """A unit without tables, a table that no role sees, a role without analysts, a room without them."""
    kinds = {table.unit.name for table in policy.tables.values() if table.unit is not None}
    seen = {name for role in policy.roles.values() for name in role.tables}
    taken = {analyst.role for analyst in policy.analysts.values()}
    for section, idle, text in (
        ("units", policy.units.keys() - kinds, "no table belongs to it"),
        ("tables", policy.tables.keys() - seen, "no role sees it"),
        ("roles", policy.roles.keys() - taken, "no analyst has it"),
    ):
        for name in idle:
            yield Finding((section, name), text)
    if not policy.analysts:
        yield Finding(("analysts",), "nobody may ask anything")


def verifiers(policy: Policy) -> Iterator[Finding]:
    """A verifier whose salt is shorter than 16 bytes or that of another analyst."""
    salts: dict[str, str] = {}
    for name, analyst in policy.analysts.items():
        if analyst.verifier is None:
            continue
        salt = analyst.verifier.split("$")[1].split(":")[1]
        path = ("analysts", name, "verifier")
        if len(base64.b64decode(salt)) < SALT_BYTES_WEAK:
            yield Finding(path, f"has a salt shorter than Postgres' {SALT_BYTES_WEAK} bytes")
        other = salts.setdefault(salt, name)
        if other != name:
            yield Finding(path, f"has the salt of {other}: one guess is tried against both")


CHECKS: Final[tuple[Callable[[Policy], Iterator[Finding]], ...]] = (
    bounds,
    rows,
    budgets,
    shares,
    synthetic,
    unused,
    verifiers,
)
"""Each one's docstring is its line in docs/policy.md."""


def _bounds(path: Path, column: Column) -> Iterator[Finding]:
    assert column.bounds is not None
    if column.bounds == type_range(column.type):
        yield Finding(path, "are as wide as the type: they say nothing, and noise grows with them; leave them out")
    elif any(_digits(bound) >= DIGITS_WEAK for bound in column.bounds):
        yield Finding(path, "look read off the data, which would publish a value: round them outward")


def _digits(bound: object) -> int:
    """Count significant digits: 2 for 12000 and for 0.12; 0 for a date."""
    if not isinstance(bound, int | Decimal):
        return 0
    return len("".join(map(str, Decimal(bound).as_tuple().digits)).strip("0"))


def _units_seen(policy: Policy, tables: tuple[str, ...]) -> frozenset[str]:
    units = (policy.tables[name].unit for name in tables)
    return frozenset(unit.name for unit in units if unit is not None)
