"""compile: a release -> the engine's SQL for its partial sums and for its public groups.

The clear engine calls this itself, on a plan it has checked; no SQL of an analyst comes this far. Tables of the
vault have a dense `_unit` beside their columns (`enclave/clear/vault.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, assert_never

from policies.model import Policy
from policies.sqltype import DATE, NUMERIC
from rewriter import terms
from rewriter.bound import Scope, scope, unit_alias
from rewriter.cost import Coordinate
from rewriter.functions import evaluate
from rewriter.plan import (
    Axis,
    Call,
    Column,
    Constant,
    Expression,
    Filter,
    Join,
    KeyValues,
    PublicGroups,
    PublicRows,
    Relation,
    Release,
    Scan,
    Values,
    key_column,
)
from rewriter.refusal import Refusal
from rewriter.terms import Term, quote

_LISTED_MAX: Final = 100
"""Values of an axis that are written out one by one."""


def partials(release: Release, coordinates: Sequence[Coordinate], policy: Policy) -> str:
    """One row per (unit, group): `_unit`, keys `k0...`, and per coordinate an integer `s0...`.

    Ensures: a row of the result is a function of the rows of its own unit and of public tables.
    """
    names = scope(release.source, policy)
    alias = unit_alias(release.source, policy)
    assert alias is not None
    keys = [_identical(names.term(key)) for key in release.keys]
    sums = [_partial(coordinate, names) for coordinate in coordinates]
    selected = [f"{quote(alias)}._unit AS _unit", *_named("k", keys), *_named("s", sums)]
    source, where = _source(release.source, names, policy)
    grouped = ", ".join(str(place) for place in range(1, len(keys) + 2))
    return f"SELECT {', '.join(selected)} FROM {source}{_where(where)} GROUP BY {grouped}"


def groups(release: Release, policy: Policy) -> str:
    """The groups of a public domain, in the order in which they are answered: `k0...`, distinct, NULLs last."""
    domain = release.groups
    assert isinstance(domain, PublicGroups)
    names = scope(release.source, policy)
    columns: dict[Column, Term] = {}
    axes = [_axis(axis, f"a{number}", release, names, columns) for number, axis in enumerate(domain.axes)]

    def column(wanted: Column) -> Term:
        if wanted not in columns:
            raise Refusal("42703", f'column "{wanted.name}" does not exist')
        return columns[wanted]

    keys = [_key_over_axes(number, key, columns, column) for number, key in enumerate(release.keys)]
    where = [evaluate(condition, column).sql for condition in domain.where]
    order = ", ".join(f"{place} NULLS LAST" for place in range(1, len(keys) + 1))
    source = " CROSS JOIN ".join(axes) or "(SELECT 1)"
    return f"SELECT DISTINCT {', '.join(_named('k', keys))} FROM {source}{_where(where)} ORDER BY {order}"


def key_terms(release: Release, policy: Policy) -> list[Term]:
    """Type and scale of each key, as `partials` and `groups` return it."""
    names = scope(release.source, policy)
    return [names.term(key) for key in release.keys]


def _identical(key: Term) -> str:
    """A key whose equal values are the same bytes: 0.0 and -0.0 are one group, shown as its first row has it."""
    return f"({key.sql} + 0.0::DOUBLE)" if key.type.is_numeric and key.scale is None else key.sql


def _partial(coordinate: Coordinate, names: Scope) -> str:
    argument = coordinate.argument
    match coordinate.kind:
        case "rows":
            return "count(*)"
        case "arguments":
            assert argument is not None
            return f"count({names.term(argument).sql})"
        case "units":
            assert argument is not None
            term = names.term(argument)
            return f"max(CASE WHEN {term.sql} IS NULL THEN 0 ELSE 1 END)" if term.nullable else "CAST(1 AS BIGINT)"
        case "sum" | "centred":
            assert coordinate.value is not None
            return f"coalesce(sum({coordinate.value.sql}), 0)"
        case _:
            assert_never(coordinate.kind)


def _source(relation: Relation, names: Scope, policy: Policy) -> tuple[str, list[str]]:
    """The FROM clause and the conjuncts of WHERE. A plan filters at its top, where inner joins have moved theirs."""
    if isinstance(relation, Filter):
        source, where = _source(relation.input, names, policy)
        return source, [*where, *(names.term(condition).sql for condition in relation.where)]
    return _joined(relation, names, policy), []


def _joined(relation: Relation, names: Scope, policy: Policy) -> str:
    match relation:
        case Scan(table, alias):
            return f"{_stored(table)} AS {quote(alias)}"
        case Join(kind, left, right, _):
            word = "LEFT JOIN" if kind == "left" else "JOIN"
            on = " AND ".join(_on(relation, names, policy)) or "TRUE"
            return f"({_joined(left, names, policy)} {word} {_joined(right, names, policy)} ON {on})"
        case Filter():
            raise Refusal("0A000", "a filter below a join is not supported")
        case _:
            assert_never(relation)


def _stored(table: str) -> str:
    """A table of the vault by its full name: a release makes temporary tables, which would go before it."""
    return f"memory.main.{quote(table)}"


def _on(join: Join, names: Scope, policy: Policy) -> list[str]:
    """The join's condition. Where both sides have a unit, equal units are part of it whatever else it says.

    That is implied already (bound.py refuses otherwise), and comparing dense ids is cheaper than the columns.
    """
    left, right = unit_alias(join.left, policy), unit_alias(join.right, policy)
    if left is None or right is None:
        return [names.term(condition).sql for condition in join.on]
    others = [condition for condition in join.on if not _equates_units(condition, names)]
    return [f"{quote(left)}._unit = {quote(right)}._unit", *(names.term(condition).sql for condition in others)]


def _equates_units(condition: Expression, names: Scope) -> bool:
    """True for `a.unit = b.unit` of columns that no outer join pads: then comparing `_unit` says the same."""
    match condition:
        case Call("=", (Column() as a, Column() as b)):
            units = [names.table(column.alias).unit for column in (a, b)]
            padded = {a.alias, b.alias} & names.null_supplied
            return not padded and all(
                u is not None and u.column == c.name for u, c in zip(units, (a, b), strict=True)
            )
        case _:
            return False


def _axis(axis: Axis, name: str, release: Release, names: Scope, columns: dict[Column, Term]) -> str:
    """The SQL of one axis; adds the terms of its columns."""
    match axis:
        case Values(column, _, values):
            term = names.column(column)
            columns[column] = _over(term, name, "v")
            return _listed(name, term, [Constant(term.type, value) for value in values])
        case KeyValues(key, _, values):
            if not 0 <= key < len(release.keys):
                raise Refusal("0A000", "groups can be listed for a key of the release alone")
            term = names.term(release.keys[key])
            columns[key_column(key)] = _over(term, name, "v")
            return _listed(name, term, [Constant(term.type, value) for value in values])
        case PublicRows(scan, used, nullable):
            _check_public(scan, names)
            for number, wanted in enumerate(used):
                columns[Column(scan.alias, wanted)] = _over(
                    names.column(Column(scan.alias, wanted)), name, f"v{number}"
                )
            picked = ", ".join(_named("v", [quote(column) for column in used])) or "1 AS v0"
            padding = f" UNION ALL SELECT {', '.join(['NULL'] * max(1, len(used)))}" if nullable else ""
            return f"(SELECT DISTINCT {picked} FROM {_stored(scan.table)}{padding}) AS {name}"
        case _:
            assert_never(axis)


def _check_public(scan: Scan, names: Scope) -> None:
    """An axis reads a public table that the release joins: a forged plan must not list protected rows as groups."""
    if names.names.get(scan.alias) != scan.table or not names.table(scan.alias).public:
        raise Refusal("0A000", "groups can be listed from public tables alone")


def _key_over_axes(number: int, key: Expression, columns: dict[Column, Term], column: object) -> str:
    listed = columns.get(key_column(number))
    assert callable(column)
    return listed.sql if listed is not None else evaluate(key, column).sql


def _over(term: Term, alias: str, name: str) -> Term:
    """A column's term read from an axis, where anything may be NULL."""
    return Term(f"{alias}.{name}", term.type, True, term.scale, term.low, term.high, term.width)


def _as(term: Term, constant: Constant) -> str:
    """A constant in the engine's form of a term: the same type, scale and width."""
    if term.scale is not None:
        constant = replace(constant, type=NUMERIC)  # `abs(i)` is an integer that has no place in type integer
    value = terms.constant(constant)
    if term.scale is None:
        return terms.floating(value).sql if term.type.is_numeric else value.sql
    scaled = terms.rescale(value, term.scale)
    if scaled is None:
        raise Refusal("22003", "a declared value is out of range")
    return f"CAST({scaled.sql} AS {terms.WIDTHS[term.width]})"


def _listed(name: str, term: Term, values: Sequence[Constant]) -> str:
    if not values:
        return f"(SELECT {_as(term, Constant(term.type, None))} AS v WHERE FALSE) AS {name}"
    if len(values) > _LISTED_MAX and (term.type.is_temporal or term.scale is not None):
        return _split(name, term, values)
    return f"(VALUES {', '.join(f'({_as(term, value)})' for value in values)}) AS {name}(v)"


def _split(name: str, term: Term, values: Sequence[Constant]) -> str:
    """A long list as one text that the engine splits: it plans 77,000 rows of VALUES in seconds, this at once."""
    texts = [_bare(term, value) for value in values if value.value is not None]
    type_ = terms.WIDTHS[term.width] if term.scale is not None else terms.stored_type(term.type)
    split = f"SELECT CAST(unnest(string_split({terms.text('|'.join(texts))}, '|')) AS {type_}) AS v"
    null = " UNION ALL SELECT NULL" if len(texts) < len(values) else ""
    return f"({split}{null}) AS {name}"


def _bare(term: Term, constant: Constant) -> str:
    """A constant's text in the engine's form of a date, time or exact number."""
    value = constant.value or ""
    if term.type.is_temporal:
        return str(terms.parse_date(value) if term.type == DATE else terms.parse_timestamp(value))
    scaled = terms.rescale(terms.constant(replace(constant, type=NUMERIC)), term.scale or 0)
    if scaled is None or scaled.low is None or scaled.scale is None:
        raise Refusal("22003", "a declared value is out of range")
    return str(int(scaled.low * 10**scaled.scale))


def _named(prefix: str, expressions: Sequence[str]) -> list[str]:
    return [f"{expression} AS {prefix}{number}" for number, expression in enumerate(expressions)]


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
