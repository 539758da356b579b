"""bound: what one unit can contribute to a relation and to each coordinate of a release.

Claim: let two admissible data sets differ in all rows of one unit. Then every row of a relation whose property is
`Protected(unit, rows_max)` belongs to exactly one unit (the `_unit` of the scan `alias`), the rows of every other
unit are the same rows in both, and the differing unit has at most `rows_max` rows.

The property of each relation follows from those of its inputs (Qrlew's lattice, Grislain et al. 2023):

    scan of a unit's table      Protected, rows_per_unit of the policy, which loading enforces
    filter                      as its input
    join with a public side     Protected; rows times how many public rows one row can meet
    join of two Protected       same unit, and the condition must imply equal units: otherwise one person's rows
                                would meet another's, and removing one would change the other's
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

from policies.model import Policy, Table
from policies.sqltype import BOOLEAN
from rewriter import terms
from rewriter.arithmetic import equates_exactly
from rewriter.functions import evaluate
from rewriter.plan import (
    Call,
    Cast,
    Column,
    Constant,
    Expression,
    Filter,
    Join,
    Relation,
    Release,
    Scan,
    columns,
    null_supplied,
    scans,
)
from rewriter.refusal import Refusal, not_private
from rewriter.terms import Term

ROWS_PER_UNIT_MAX: Final = 10**6
"""Rows one unit may have in any intermediate: with it, sums of 2**105 a row stay below 2**126."""


_WIDE: Final = ("length", "extract year", "extract isoyear", "extract epoch")
"""Operators whose results lie in a small part of their range: 2,024 years of 300,000."""


class Facts(Protocol):
    """What is known of public tables; nothing of it comes from protected rows."""

    def rows(self, table: str) -> int:
        """Rows of a public table."""
        ...


@dataclass(frozen=True, slots=True)
class Public:
    """A relation that no unit can change."""

    rows_max: int


@dataclass(frozen=True, slots=True)
class Protected:
    """A relation each of whose rows belongs to one unit: the `_unit` of the scan under `alias`."""

    unit: str
    alias: str
    rows_max: int


Property = Public | Protected


@dataclass(frozen=True, slots=True)
class Scope:
    """The columns that a relation's expressions may read."""

    policy: Policy
    names: Mapping[str, str]
    null_supplied: frozenset[str]

    def table(self, alias: str) -> Table:
        """The policy's table that a scan reads."""
        return self.policy.tables[self.names[alias]]

    def column(self, column: Column) -> Term:
        """The term of a column.

        Raises:
            Refusal: 42703, no such column: a plan that a parser wrote never asks for one.
        """
        declared = self.table(column.alias).columns.get(column.name) if column.alias in self.names else None
        if declared is None:
            raise Refusal("42703", f'column "{column.name}" does not exist')
        sql = f"{terms.quote(column.alias)}.{terms.quote(column.name)}"
        nullable = not declared.not_null or column.alias in self.null_supplied
        return terms.column(sql, declared, nullable)

    def term(self, expression: Expression) -> Term:
        """Compile an expression over this scope."""
        return evaluate(expression, self.column)

    def known_range(self, expression: Expression) -> bool:
        """True if the range of a number follows from declared bounds, values or constants, not just from its type.

        A mean is then taken around the middle of the range, which must not be the middle of what a type can hold.
        """
        match expression:
            case Column(alias, name):
                declared = self.table(alias).columns[name]
                return declared.bounds is not None or declared.values is not None or not declared.type.is_numeric
            case Constant():
                return True
            case Cast(argument, type_):
                return self.known_range(argument) and (not type_.is_numeric or self._is_number(argument))
            case Call("case", arguments):
                return all(map(self.known_range, (*arguments[1:-1:2], arguments[-1])))
            case Call(operator, arguments):
                wide = operator in _WIDE or (operator == "-" and not all(map(self._is_number, arguments)))
                return not wide and all(map(self.known_range, arguments))

    def _is_number(self, expression: Expression) -> bool:
        return self.term(expression).type.is_numeric or self.term(expression).type == BOOLEAN


def scope(relation: Relation, policy: Policy) -> Scope:
    """The scope of a relation; aliases must be unique in it.

    Raises:
        Refusal: 42P01, a scan of a table the policy does not have; 42712, an alias used twice.
    """
    names: dict[str, str] = {}
    for scan in scans(relation):
        if scan.table not in policy.tables:
            raise Refusal("42P01", f'relation "{scan.table}" does not exist')
        if scan.alias in names:
            raise Refusal("42712", f'table name "{scan.alias}" specified more than once')
        names[scan.alias] = scan.table
    return Scope(policy, names, null_supplied(relation))


def property_of(relation: Relation, policy: Policy, facts: Facts) -> Property:
    """Derive the property of a relation.

    Ensures: the claim in this module's docstring.

    Raises:
        Refusal: no property can be derived (0A000), or a unit could have too many rows (54001).
    """
    found = _property(relation, policy, facts, scope(relation, policy))
    if found.rows_max > ROWS_PER_UNIT_MAX and isinstance(found, Protected):
        raise Refusal(
            "54001",
            f"one {found.unit} could contribute {found.rows_max} rows to this join, more than {ROWS_PER_UNIT_MAX}",
            hint="Join along declared keys, or ask the owner to declare rows_per_unit.",
        )
    return found


def unit_alias(relation: Relation, policy: Policy) -> str | None:
    """The scan whose `_unit` is the unit of every row: the leftmost protected one, which no outer join pads."""
    protected = (scan.alias for scan in scans(relation) if not policy.tables[scan.table].public)
    return next(protected, None)


def is_determined(expression: Expression, relation: Relation, policy: Policy) -> bool:
    """True if all rows of a unit give the same value, so that the unit is in at most one group of it.

    Never for a column of the null-supplying side of an outer join: there a unit can have a value and a NULL.
    """
    determined = _determined_aliases(relation, policy)
    return all(column.alias in determined for column in columns(expression))


def groups_max(release: Release, rows_max: int, policy: Policy) -> int:
    """How many groups of a release one unit can have rows in."""
    if all(is_determined(key, release.source, policy) for key in release.keys):
        return 1
    return rows_max


def _property(relation: Relation, policy: Policy, facts: Facts, names: Scope) -> Property:
    match relation:
        case Scan(table_name, alias):
            table = policy.tables[table_name]
            if table.public:
                return Public(facts.rows(table_name))
            assert table.unit is not None
            return Protected(table.unit.name, alias, table.rows_per_unit_max)
        case Filter(source, where):
            _check_conditions(where, names)
            return _property(source, policy, facts, names)
        case Join():
            _check_conditions(relation.on, names)
            return _join(relation, policy, facts, names)
        case _:
            assert_never(relation)


def _check_conditions(where: Iterable[Expression], names: Scope) -> None:
    for condition in where:
        if (found := names.term(condition).type) != BOOLEAN:
            raise Refusal("42804", f"argument of WHERE must be type boolean, not type {found}")


def _join(join: Join, policy: Policy, facts: Facts, names: Scope) -> Property:
    left = _property(join.left, policy, facts, names)
    right = _property(join.right, policy, facts, names)
    outer = join.kind == "left"
    match left, right:
        case Public(), Public():
            return Public(left.rows_max * max(1, right.rows_max) if outer else left.rows_max * right.rows_max)
        case Protected(), Public():
            met = 1 if _on_whole_key(join.right, join.on, names) else right.rows_max
            return Protected(left.unit, left.alias, left.rows_max * (max(1, met) if outer else met))
        case Public(), Protected():
            if outer:
                raise not_private(
                    "an outer join that keeps every row of a public table",
                    "its extra rows would belong to nobody",
                    "Write an inner join; groups with public keys are in the answer even when they are empty.",
                )
            met = 1 if _on_whole_key(join.left, join.on, names) else left.rows_max
            return Protected(right.unit, right.alias, right.rows_max * met)
        case Protected(), Protected():
            return _join_units(join, left, right, names)
        case _:
            raise AssertionError


def _join_units(join: Join, left: Protected, right: Protected, names: Scope) -> Protected:
    if left.unit != right.unit:
        raise not_private(
            f"a join of rows about a {left.unit} with rows about a {right.unit}",
            "no single person would own a joined row",
            "Aggregate each side on its own, then join the results.",
        )
    if not any(implies_equal_units(condition, join, names) for condition in join.on):
        raise not_private(
            f"a join that does not match each {left.unit} with itself",
            "one person's rows would meet another's",
            f"Add a condition that equates the {left.unit} of both tables, or join along declared keys.",
        )
    options = [left.rows_max * right.rows_max]
    if _on_whole_key(join.right, join.on, names):
        options.append(left.rows_max)
    if _on_whole_key(join.left, join.on, names):
        # A left row without a match stays one row: at most left - 1 of them beside the matched ones.
        options.append(right.rows_max + (left.rows_max - 1 if join.kind == "left" else 0))
    return Protected(left.unit, left.alias, min(options))


def implies_equal_units(condition: Expression, join: Join, names: Scope) -> bool:
    """True for `a = b` between bare columns, one of each side, that identify the unit in the same way.

    A column identifies the unit if it is the unit column, a table's whole declared key, or the column through
    which a table finds its unit in another one. Such columns hold the value the owner gave: no clipping.
    """
    left = {scan.alias for scan in scans(join.left)}
    right = {scan.alias for scan in scans(join.right)}
    for a, b in _equated(condition):
        if isinstance(b, Column) and a.alias in left and b.alias in right:
            same = equates_exactly(names.column(a), names.column(b))
            return same and bool(_handles(a, names) & _handles(b, names))
    return False


def _equated(condition: Expression) -> Iterator[tuple[Column, Expression]]:
    """The pairs (column, other side) of an equality, both ways round."""
    if isinstance(condition, Call) and condition.operator == "=" and len(condition.arguments) == 2:
        for one, other in (condition.arguments, condition.arguments[::-1]):
            if isinstance(one, Column):
                yield one, other


def _handles(column: Column, names: Scope) -> frozenset[tuple[str, str]]:
    """The ways in which a column identifies a unit: ("unit", kind) or ("row of", table)."""
    table = names.table(column.alias)
    if table.public or table.unit is None:
        return frozenset()
    found = set()
    if table.unit.column == column.name:
        found.add(("unit", table.unit.name))
    if table.unit.on == column.name and table.unit.through is not None:
        found.add(("row of", table.unit.through))
    if table.key == (column.name,):
        found.add(("row of", names.names[column.alias]))
    return frozenset(found)


def _on_whole_key(side: Relation, on: Iterable[Expression], names: Scope) -> bool:
    """True if the condition equates the whole declared key of a side that is one scan with the other side."""
    if not isinstance(side, Scan):
        return False
    key = names.table(side.alias).key
    equated = {
        one.name
        for condition in on
        for one, other in _equated(condition)
        if one.alias == side.alias
        and all(column.alias != side.alias for column in columns(other))
        and equates_exactly(names.column(one), names.term(other))
    }
    return bool(key) and set(key) <= equated


def _determined_aliases(relation: Relation, policy: Policy) -> frozenset[str]:
    """Scans of which all rows of one unit show the same row."""
    match relation:
        case Scan(table_name, alias):
            table = policy.tables[table_name]
            return frozenset({alias}) if not table.public and table.rows_per_unit_max == 1 else frozenset()
        case Filter(source, _):
            return _determined_aliases(source, policy)
        case Join(kind, left, right, on):
            known = _determined_aliases(left, policy)
            if kind == "left":
                return known
            known |= _determined_aliases(right, policy)
            names = scope(relation, policy)
            met = {side.alias for side in (left, right) if isinstance(side, Scan) and _met_by(side, on, known, names)}
            return known | met
        case _:
            assert_never(relation)


def _met_by(side: Scan, on: Iterable[Expression], known: frozenset[str], names: Scope) -> bool:
    """True if the whole key of a public scan is equated with values that the unit determines."""
    fixed = [
        condition
        for condition in on
        for one, other in _equated(condition)
        if one.alias == side.alias and all(column.alias in known for column in columns(other))
    ]
    return names.table(side.alias).public and _on_whole_key(side, fixed, names)
