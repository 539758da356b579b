"""domains: what group keys can be, told by the policy, public tables and the text of the query alone.

Claim: the groups that a `PublicGroups` describes do not depend on any protected row, and no protected row that
passes the query's conditions has a key outside them (loading enforces declared values, bounds and not_null).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, prod
from typing import Final, Protocol

from policies.sqltype import BOOLEAN, DATE, SqlType
from rewriter import terms
from rewriter.bound import Scope
from rewriter.plan import (
    Axis,
    Call,
    Cast,
    Column,
    Constant,
    Expression,
    KeyValues,
    PublicGroups,
    PublicRows,
    Relation,
    Values,
    columns,
    conjuncts,
    key_column,
    scans,
    substitute,
)

GROUPS_MAX: Final = 100_000
"""Cells of a public domain; beyond it, groups must earn their place by a noisy threshold."""


class PublicCounts(Protocol):
    """Sizes of public tables."""

    def distinct(self, table: str, columns: tuple[str, ...]) -> int:
        """Distinct combinations of some columns of a public table."""
        ...


def public_groups(
    keys: Sequence[Expression], source: Relation, names: Scope, counts: PublicCounts
) -> PublicGroups | None:
    """The public domain of a list of keys, or None if some key can be anything or there are too many cells."""
    conditions = tuple(conjuncts(source))
    axes: dict[object, Axis] = {}
    for number, key in enumerate(keys):
        found = _axes_of(number, key, source, names, conditions)
        if found is None:
            return None
        axes |= {_identity(axis): axis for axis in found}
    axes = _with_neighbours(axes, source, names, conditions)
    axes = _with_columns(axes, keys, conditions)
    if prod(_size(axis, counts) for axis in axes.values()) > GROUPS_MAX:
        return None
    listed = {keys[axis.key]: key_column(axis.key) for axis in axes.values() if isinstance(axis, KeyValues)}
    bound = _bound_columns(axes.values())
    narrowing = [substitute(condition, listed) for condition in conditions]
    return PublicGroups(tuple(axes.values()), tuple(c for c in narrowing if set(columns(c)) <= bound))


def _axes_of(
    number: int, key: Expression, source: Relation, names: Scope, conditions: tuple[Expression, ...]
) -> list[Axis] | None:
    """The axes over which one key is computed; over the columns if all are finite, else over the key's results."""
    axes = [_column_axis(column, source, names, conditions) for column in columns(key)]
    found = [axis for axis in axes if axis is not None]
    if len(found) == len(axes):
        return found
    results = _results(key, names, conditions)
    if results is None:
        return None
    nullable = names.term(key).nullable and not _restricted(key, conditions)
    values = (*results.values, None) if nullable and None not in results.values else results.values
    return [KeyValues(number, results.type, values)]


def _column_axis(column: Column, source: Relation, names: Scope, conditions: tuple[Expression, ...]) -> Axis | None:
    nullable = column.alias in names.null_supplied
    if names.table(column.alias).public:
        scan = next(scan for scan in scans(source) if scan.alias == column.alias)
        return PublicRows(scan, (column.name,), nullable)
    declared = names.table(column.alias).columns[column.name]
    values = _listed(column, conditions, declared.type)
    if values is None and declared.values is not None:
        values = tuple(str(value) for value in declared.values)
    if values is None and declared.type == BOOLEAN:
        values = ("false", "true")
    if values is None and (declared.type.is_integer or declared.type == DATE):
        values = _span(declared.type, *_limits(column, names, conditions))
    if values is None:
        return None
    if (nullable or not declared.not_null) and not _restricted(column, conditions):
        return Values(column, declared.type, (*values, None))
    return Values(column, declared.type, values)


@dataclass(frozen=True, slots=True)
class _Results:
    type: SqlType
    values: tuple[str | None, ...]


def _results(key: Expression, names: Scope, conditions: tuple[Expression, ...]) -> _Results | None:
    """What a function can return whatever its argument, where that is a short list."""
    term = names.term(key)
    if term.type == BOOLEAN:
        return _Results(BOOLEAN, ("false", "true"))
    match key:
        case Call("case", arguments):
            branches = [*arguments[1:-1:2], arguments[-1]]
            if all(isinstance(branch, Constant) for branch in branches):
                labels = dict.fromkeys(branch.value for branch in branches if isinstance(branch, Constant))
                return _Results(term.type, tuple(labels))
        case Call("date_trunc", (Constant(_, unit), Column() as moment)):
            found = _truncations(unit or "", *_limits(moment, names, conditions))
            return None if found is None else _Results(term.type, found)
        case Call("extract year", (Column() as moment,)):
            low, high = _limits(moment, names, conditions)
            if low is not None and high is not None:
                years = range(_moment(low).year, _moment(high).year + 1) if low <= high else range(0)
                return _Results(term.type, tuple(str(year) for year in years))
        case Cast(Column() as moment, type_) if type_ == DATE:
            low, high = _limits(moment, names, conditions)
            days = _span(DATE, low, high)
            return None if days is None else _Results(DATE, days)
        case _ if term.scale == 0 and term.low is not None and term.high is not None:
            if isinstance(key, Call) and term.high - term.low < min(GROUPS_MAX, 1000):
                numbers = range(ceil(term.low), floor(term.high) + 1)
                return _Results(term.type, tuple(str(number) for number in numbers))
        case _:
            pass
    return None


def _limits(column: Column, names: Scope, conditions: Iterable[Expression]) -> tuple[int | None, int | None]:
    """Least and greatest value of a column: declared bounds, narrowed by comparisons with constants.

    Integers as such, dates and timestamps in microseconds since 0001-01-01; None where there is no limit.
    """
    declared = names.table(column.alias).columns[column.name]
    ends = (None, None) if declared.bounds is None else declared.bounds
    lows, highs = ([number] if (number := _number(end, declared.type)) is not None else [] for end in ends)
    for operator, value in _comparisons(column, conditions, declared.type):
        if operator in (">", ">=", "="):
            lows.append(Fraction(floor(value) + 1 if operator == ">" else ceil(value)))
        if operator in ("<", "<=", "="):
            highs.append(Fraction(ceil(value) - 1 if operator == "<" else floor(value)))
    low, high = (ceil(max(lows)) if lows else None), (floor(min(highs)) if highs else None)
    return low, high


def _comparisons(column: Column, conditions: Iterable[Expression], type_: SqlType) -> Iterator[tuple[str, Fraction]]:
    flipped = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}
    for condition in conditions:
        match condition:
            case Call(operator, (one, Constant(_, str() as text))) if one == column and operator in flipped:
                found = operator, _number(text, type_)
            case Call(operator, (Constant(_, str() as text), one)) if one == column and operator in flipped:
                found = flipped[operator], _number(text, type_)
            case _:
                continue
        if found[1] is not None:
            yield found[0], found[1]


_START: Final = dt.datetime(1, 1, 1)  # noqa: DTZ001 - a Monday; all times here are UTC without a zone
_MICROSECOND: Final = dt.timedelta(microseconds=1)


def _number(value: object, type_: SqlType) -> Fraction | None:
    """A bound or constant as a number, None where the type has no such form."""
    if value is None or not (type_.is_integer or type_.is_temporal):
        return None
    if type_.is_temporal:
        return Fraction((terms.parse_timestamp(str(value)) - _START) // _MICROSECOND)
    return Fraction(str(value))


def _moment(microseconds: int) -> dt.datetime:
    return _START + microseconds * _MICROSECOND


def _span(type_: SqlType, low: int | None, high: int | None) -> tuple[str, ...] | None:
    """All integers or days between two limits, None where a limit is missing or there are too many."""
    if low is None or high is None:
        return None
    if low > high:  # WHERE contradicts itself; a limit may then lie before the year 1
        return ()
    if type_ == DATE:
        first, last = _moment(low).date(), _moment(high).date()
        count = (last - first).days + 1
        return (
            tuple((first + dt.timedelta(days=d)).isoformat() for d in range(count)) if count <= GROUPS_MAX else None
        )
    return tuple(str(number) for number in range(low, high + 1)) if high - low < GROUPS_MAX else None


_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12, "decade": 120, "century": 1200}
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}


def _truncations(unit: str, low: int | None, high: int | None) -> tuple[str, ...] | None:
    """Every result of date_trunc(unit, x) for x between two limits in microseconds."""
    if low is None or high is None:
        return None
    if low > high:
        return ()
    if unit in _SECONDS:
        step = _SECONDS[unit] * 1_000_000
        steps = range(low // step, high // step + 1)
        return tuple(str(_moment(number * step)) for number in steps) if len(steps) <= GROUPS_MAX else None
    return _month_starts(_MONTHS[unit], _moment(low), _moment(high)) if unit in _MONTHS else None


def _month_starts(months: int, low: dt.datetime, high: dt.datetime) -> tuple[str, ...] | None:
    # Centuries start in year 1, decades and the rest in year 0 (Postgres docs, 9.9.2).
    shift = 12 if months == 1200 else 0
    first = (low.year * 12 + low.month - 1 - shift) // months
    last = (high.year * 12 + high.month - 1 - shift) // months
    starts = [number * months + shift for number in range(first, last + 1)]
    if starts and starts[0] < 12:
        return None  # the decade of the year 5 starts in 1 BC
    return tuple(f"{start // 12:04d}-{start % 12 + 1:02d}-01 00:00:00" for start in starts)


def _listed(column: Column, conditions: Iterable[Expression], type_: SqlType) -> tuple[str, ...] | None:
    """The constants to which an equality or an IN list limits a column."""
    for condition in conditions:
        match condition:
            case Call("=" | "in", (one, *others)) if one == column:
                values = [other.value for other in others if isinstance(other, Constant) and other.value is not None]
                same = all(isinstance(o, Constant) and (o.type.is_text or o.type == type_) for o in others)
                if same and len(values) == len(others) and (type_.is_text or type_.is_integer):
                    return tuple(dict.fromkeys(values))
            case _:
                pass
    return None


def _restricted(expression: Expression, conditions: Iterable[Expression]) -> bool:
    """True if some conjunct compares one of the expression's columns, so that a NULL in it never passes."""
    read = set(columns(expression))
    if len(read) != 1:
        return False
    for condition in conditions:
        match condition:
            case Call("=" | "<>" | "<" | "<=" | ">" | ">=" | "in", (Column() as one, *_)) if one in read:
                return expression == one or _is_strict(expression)
            case _:
                pass
    return False


def _is_strict(expression: Expression) -> bool:
    """True if the expression is NULL only where its column is."""
    match expression:
        case Column():
            return True
        case Cast():
            return False  # a text that is no date is NULL
        case Call(operator, arguments):
            total = operator == "date_trunc" or operator.startswith("extract ")
            return total and all(isinstance(a, Constant) or _is_strict(a) for a in arguments)
        case Constant():
            return False


def _identity(axis: Axis) -> object:
    match axis:
        case Values(column, _, _):
            return column
        case KeyValues(key, _, _):
            return key
        case PublicRows(scan, _, _):
            return scan.alias


def _with_neighbours(
    axes: dict[object, Axis], source: Relation, names: Scope, conditions: tuple[Expression, ...]
) -> dict[object, Axis]:
    """Add public tables that conditions tie to public axes: `r_name = 'ASIA'` narrows nations through regions."""
    public = {s.alias: s for s in scans(source) if names.table(s.alias).public and s.alias not in names.null_supplied}
    included = dict(axes)
    grown = True
    while grown:
        grown = False
        for condition in conditions:
            aliases = {column.alias for column in columns(condition)}
            if (
                len(aliases) > 1
                and aliases <= set(public)
                and aliases & set(included)
                and not aliases <= set(included)
            ):
                for alias in sorted(aliases - set(included)):
                    included[alias] = PublicRows(public[alias], (), False)
                grown = True
    return included


def _with_columns(
    axes: dict[object, Axis], keys: Sequence[Expression], conditions: tuple[Expression, ...]
) -> dict[object, Axis]:
    """Give each public axis all the columns that keys and conditions over axes read."""
    public = {axis.scan.alias for axis in axes.values() if isinstance(axis, PublicRows)}
    bound = _bound_columns(axes.values())
    over = [e for e in (*keys, *conditions) if all(c in bound or c.alias in public for c in columns(e))]
    read = {column for key in keys for column in columns(key)} | {c for e in over for c in columns(e)}
    full = dict(axes)
    for identity, axis in axes.items():
        if isinstance(axis, PublicRows):
            used = sorted(column.name for column in read if column.alias == axis.scan.alias)
            full[identity] = PublicRows(axis.scan, tuple(used), axis.nullable)
    return full


def _bound_columns(axes: Iterable[Axis]) -> set[Column]:
    """The columns for which the axes have values."""
    found: set[Column] = set()
    for axis in axes:
        match axis:
            case Values(column, _, _):
                found.add(column)
            case KeyValues(key, _, _):
                found.add(key_column(key))
            case PublicRows(scan, names, _):
                found |= {Column(scan.alias, name) for name in names}
    return found


def _size(axis: Axis, counts: PublicCounts) -> int:
    if isinstance(axis, PublicRows):
        return counts.distinct(axis.scan.table, axis.columns) + axis.nullable
    return len(axis.values)
