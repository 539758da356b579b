"""checks: a well-formed policy -> what in it contradicts itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from policies import fit
from policies.model import Policy, Table, UnitRef
from policies.problem import Finding, Path
from policies.sqltype import SqlType

NAME_LENGTH_MAX: Final = 63
"""Postgres docs, Identifiers: NAMEDATALEN - 1; longer names would be cut."""
PATH_LENGTH_MAX: Final = 8
"""Steps from a row to its unit. Each one is a join at load."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
# Postgres docs, System Columns: CREATE TABLE refuses these.
_SYSTEM_COLUMNS: Final = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
# Postgres docs, CREATE ROLE; `attest` is the user who may ask for evidence before any log-in.
_RESERVED_ANALYSTS: Final = frozenset({"public", "none", "attest"})


def contradictions(policy: Policy) -> Iterator[Finding]:
    """Run every check; an empty result means that the policy can be enforced."""
    for check in CHECKS:
        yield from check(policy)


def names(policy: Policy) -> Iterator[Finding]:
    """Names are plain lower-case identifiers of at most 63 characters, so that nobody need quote them.

    None starts with `_` or `pg_` or is `dp`: those are the room's own.
    """
    named: list[tuple[Path, str]] = [(("room", "name"), policy.room.name)]
    for section in ("owners", "units", "tables", "roles", "analysts"):
        named += [((section, name), name) for name in getattr(policy, section)]
    for table, rules in policy.tables.items():
        named += [(("tables", table, "columns", name), name) for name in rules.columns]
    for path, name in named:
        for message in misnamed(name, str(path[-2])):
            yield Finding(path, message)


def misnamed(name: str, section: str) -> Iterator[str]:
    """Say what is wrong with a name in a section of the policy, such as "analysts" or "columns"."""
    if not _NAME.fullmatch(name):
        yield "must be a lower-case letter, then lower-case letters, digits or _"
    if len(name) > NAME_LENGTH_MAX:
        yield f"must have at most {NAME_LENGTH_MAX} characters"
    if section == "columns":
        if name in _SYSTEM_COLUMNS:
            yield "is the name of a system column in Postgres"
    elif name.startswith("pg_") or name == "dp":
        yield "is a name that the room keeps for itself: not dp, nor starting with pg_"
    if section == "analysts" and name in _RESERVED_ANALYSTS:
        yield "is a name that the room keeps for itself"


def sections(policy: Policy) -> Iterator[Finding]:
    """There is at least one table, and each has at least one column."""
    if not policy.tables:
        yield Finding(("tables",), "a policy needs at least one table")
    for name, table in policy.tables.items():
        if not table.columns:
            yield Finding(("tables", name, "columns"), "a table needs at least one column")


def owners(policy: Policy) -> Iterator[Finding]:
    """A table's owner is one of `[owners]`."""
    for name, table in policy.tables.items():
        if table.owner is not None and table.owner not in policy.owners:
            yield _unknown(("tables", name, "owner"), "owner", ("owners", table.owner))


def protection(policy: Policy) -> Iterator[Finding]:
    """A table is either public or belongs to a unit; limits on units are for the latter."""
    for name, table in policy.tables.items():
        path: Path = ("tables", name)
        if table.public and table.unit is not None:
            yield Finding((*path, "unit"), "a public table protects nobody: give public = true or a unit, not both")
        if not table.public and table.unit is None:
            reads = ((*path, "unit"), (*path, "public"))
            yield Finding(path, "needs a unit, or public = true if everyone may know it", reads)
        for field in ("rows_per_unit", "groups_per_unit", "contribution"):
            if table.public and getattr(table, field):
                yield Finding((*path, field), "is a limit on a unit, and a public table has none")
        if table.groups_per_unit and table.groups_per_unit > table.rows_per_unit_max:
            text = f"a unit with {table.rows_per_unit_max} rows cannot support more groups than that"
            yield Finding((*path, "groups_per_unit"), text, ((*path, "rows_per_unit"),))


def units(policy: Policy) -> Iterator[Finding]:
    """A unit is one of `[units]`; its column exists and can identify someone; a kind has one type."""
    first: dict[str, tuple[str, Path, SqlType]] = {}
    for name, table, unit in _protected(policy):
        path = ("tables", name, "unit")
        ways = tuple((*path, way) for way in ("column", "through", "on"))
        if unit.name not in policy.units:
            yield _unknown((*path, "name"), "unit", ("units", unit.name))
        if (unit.column is None) == (unit.through is None and unit.on is None):
            yield Finding(path, "needs either column, or through and on", ways)
        elif unit.column is None and (unit.through is None or unit.on is None):
            yield Finding(path, "through and on go together", ways)
        if unit.column is None:
            continue
        if unit.column not in table.columns:
            yield _no_column((*path, "column"), name, unit.column)
            continue
        column = table.columns[unit.column]
        read: Path = ("tables", name, "columns", unit.column, "type")
        if not (column.type.is_integer or column.type.is_text or column.type.is_temporal):
            yield Finding(
                (*path, "column"), f"a {column.type} cannot identify a unit: use an integer or text", (read,)
            )
        where, other, type_ = first.setdefault(unit.name, (name, read, column.type))
        if type_ != column.type:
            text = f"is {column.type}, and in {where} the same unit is {type_}: one unit, one type"
            yield Finding((*path, "column"), text, (read, other, (*path, "name"), ("tables", where, "unit", "name")))


def paths(policy: Policy) -> Iterator[Finding]:
    """`through` leads by `on`, the far table's whole declared key, to a table of the same unit, in no circle."""
    for name, table, unit in _protected(policy):
        if unit.through is None or unit.on is None:
            continue
        path = ("tables", name, "unit")
        here = table.columns.get(unit.on)
        if here is None:
            yield _no_column((*path, "on"), name, unit.on)
        far = policy.tables.get(unit.through)
        if far is None:
            yield _unknown((*path, "through"), "table", ("tables", unit.through))
            continue
        yield from _step(path, unit, far)
        there = far.columns.get(unit.on)
        if here is not None and there is not None and here.type != there.type:
            reads = tuple(("tables", table, "columns", unit.on, "type") for table in (name, unit.through))
            yield Finding((*path, "on"), f"is {here.type} here and {there.type} in {unit.through}", reads)
        yield from _walk(policy, name)


def keys(policy: Policy) -> Iterator[Finding]:
    """A declared key names columns of its table, each once."""
    for name, table in policy.tables.items():
        for position, column in enumerate(table.key):
            path = ("tables", name, "key", position)
            if column not in table.columns:
                yield _no_column(path, name, column)
            if column in table.key[:position]:
                yield Finding(path, "is in the key twice")


def identifiers(policy: Policy) -> Iterator[Finding]:
    """Columns that tell rows or units apart have neither bounds nor values: clipping would merge two people."""
    for name, table, unit in _protected(policy):
        for column in dict.fromkeys(c for c in (*table.key, unit.column, unit.on) if c is not None):
            declared = table.columns.get(column)
            for field in ("bounds", "values"):
                if declared is not None and getattr(declared, field) is not None:
                    text = "are not for a column that identifies rows or units: leave them out"
                    yield Finding(("tables", name, "columns", column, field), text)


def contributions(policy: Policy) -> Iterator[Finding]:
    """A declared contribution is for `count`, `units` or `sum.COLUMN`, the column being a number."""
    for name, table in policy.tables.items():
        for measure in table.contribution:
            path = ("tables", name, "contribution", measure)
            column = measure.removeprefix("sum.")
            if measure in ("count", "units"):
                continue
            if column == measure:
                yield Finding(path, 'is not a measure: "count", "units" or "sum.COLUMN", in quotes')
            elif column not in table.columns:
                yield _no_column(path, name, column)
            elif not table.columns[column].type.is_numeric:
                reads = (("tables", name, "columns", column, "type"),)
                yield Finding(path, f"a {table.columns[column].type} has no sum", reads)


def budgets(policy: Policy) -> Iterator[Finding]:
    """Every unit has a budget and every budget a unit. `zcdp` needs a delta above 0."""
    for name in policy.units.keys() - policy.budgets.keys():
        yield Finding(("units", name), f"has no budget: add [budgets.{name}]", (("budgets", name),))
    unlimited = policy.test is not None and policy.test.epsilon == "unlimited"
    for name, budget in policy.budgets.items():
        if name not in policy.units:
            yield _unknown(("budgets", name), "unit", ("units", name))
        if budget.epsilon is None and not unlimited:
            yield Finding(("budgets", name, "epsilon"), "is missing", (("test", "epsilon"),))
        if budget.accountant == "zcdp" and budget.delta == 0:
            text = 'must be above 0 with accountant = "zcdp"'
            yield Finding(("budgets", name, "delta"), text, (("budgets", name, "accountant"),))


def roles(policy: Policy) -> Iterator[Finding]:
    """A role names existing tables, each once, and no question costs more than its limit or the share."""
    for name, role in policy.roles.items():
        path = ("roles", name)
        for position, table in enumerate(role.tables):
            if table not in policy.tables:
                yield _unknown((*path, "tables", position), "table", ("tables", table))
            if table in role.tables[:position]:
                yield Finding((*path, "tables", position), "is in the list twice")
        limit, share, most = role.query_epsilon_max, (*path, "epsilon"), (*path, "query_epsilon_max")
        if limit is not None and limit > role.epsilon:
            yield Finding(most, "is above epsilon, the share it comes out of", (share,))
        if role.query_epsilon > role.epsilon:
            yield Finding((*path, "query_epsilon"), "is above epsilon, the share it comes out of", (share,))
        elif limit is not None and role.query_epsilon > limit:
            yield Finding((*path, "query_epsilon"), "is above query_epsilon_max", (most,))


def analysts(policy: Policy) -> Iterator[Finding]:
    """An analyst has one of `[roles]` and a way to log in."""
    for name, analyst in policy.analysts.items():
        path = ("analysts", name)
        if analyst.role not in policy.roles:
            yield _unknown((*path, "role"), "role", ("roles", analyst.role))
        if analyst.verifier is None and analyst.certificate is None:
            reads = ((*path, "verifier"), (*path, "certificate"))
            yield Finding(path, f"needs a verifier (`cleanroom user {name}` makes one) or a certificate", reads)


def environment(policy: Policy) -> Iterator[Finding]:
    """Production needs owners' keys, an owner for each table that is not public, an expiry, and no `[test]`."""
    if policy.room.environment != "production":
        return
    if policy.test is not None:
        yield Finding(("test",), "is for development alone; remove it or set environment")
    if policy.room.expires is None:
        yield Finding(("room", "expires"), "is missing, and production demands it")
    if not policy.owners:
        yield Finding(("owners",), "production demands at least one owner")
    for name, owner in policy.owners.items():
        if owner.key is None:
            yield Finding(("owners", name, "key"), "is missing, and production demands it")
    for name, table, _unit in _protected(policy):
        if table.owner is None:
            yield Finding(("tables", name, "owner"), "is missing, and production demands it")


CHECKS: Final[tuple[Callable[[Policy], Iterator[Finding]], ...]] = (
    names,
    sections,
    owners,
    protection,
    units,
    paths,
    keys,
    identifiers,
    fit.values,
    fit.bounds,
    contributions,
    budgets,
    roles,
    analysts,
    environment,
)
"""Each one's docstring is its line in docs/policy.md."""


def _protected(policy: Policy) -> Iterator[tuple[str, Table, UnitRef]]:
    for name, table in policy.tables.items():
        if table.unit is not None:
            yield name, table, table.unit


def _step(path: Path, unit: UnitRef, far: Table) -> Iterator[Finding]:
    """Judge one step of a path, without what lies beyond the far table."""
    assert unit.through is not None
    assert unit.on is not None
    there: Path = ("tables", unit.through)
    if far.unit is None:
        yield Finding((*path, "through"), f"{unit.through} has no unit to lead to", ((*there, "unit"),))
        return
    if far.unit.name != unit.name:
        text = f"{unit.through} belongs to another unit, {far.unit.name}"
        yield Finding((*path, "through"), text, ((*path, "name"), (*there, "unit", "name")))
    if far.key != (unit.on,):
        text = f'must be the declared key of {unit.through}, so that a row has one unit: key = ["{unit.on}"]'
        yield Finding((*path, "on"), text, ((*there, "key"),))


def _walk(policy: Policy, start: str) -> Iterator[Finding]:
    """Follow the whole path: it must end at a column, soon."""
    path = ("tables", start, "unit", "through")
    name, steps = start, 0
    while (table := policy.tables.get(name)) is not None and table.unit is not None:
        if table.unit.through is None:
            return
        name, steps = table.unit.through, steps + 1
        if name == start:
            yield Finding(path, f"leads in a circle back to {start}")
            return
        if steps > PATH_LENGTH_MAX:
            yield Finding(path, f"takes more than {PATH_LENGTH_MAX} steps to reach a unit column, or never does")
            return


def _unknown(path: Path, kind: str, wanted: Path) -> Finding:
    section, name = wanted
    return Finding(path, f"there is no {kind} {name!r} in [{section}]", (wanted,))


def _no_column(path: Path, table: str, column: str) -> Finding:
    return Finding(path, f"table {table} has no column {column!r}", (("tables", table, "columns", column),))
