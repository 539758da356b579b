"""plan: the structured form of what runs over clear rows, and its JSON.

A plan is data, not SQL: the public worker writes it, the clear engine reads it, derives every bound of it anew
and compiles it itself. Nothing in it is a claim that must be believed.

    Release
      source    relation of rows that belong to one kind of unit (Scan, Join, Filter)
      keys      expressions of the group key, and how the groups are known (PublicGroups, NoisyGroups)
      measures  what is summed per group
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import rfc8785

from policies import sqltype
from policies.sqltype import NUMERIC, SqlType

PLAN_DEPTH_MAX: Final = 200
"""Nesting of a plan's JSON; the parser allows less, so only a forged plan is deeper."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the scan or axis that has this alias."""

    alias: str
    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A typed constant; `value` is Postgres' text form, None is NULL."""

    type: SqlType
    value: str | None


@dataclass(frozen=True, slots=True)
class Call:
    """An operator of `functions.OPERATORS` over arguments."""

    operator: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Cast:
    """`CAST(argument AS type)`, total: what cannot be cast is NULL."""

    argument: Expression
    type: SqlType


Expression = Column | Constant | Call | Cast


@dataclass(frozen=True, slots=True)
class Scan:
    """All rows of a policy table, under an alias unique in the plan."""

    table: str
    alias: str


@dataclass(frozen=True, slots=True)
class Join:
    """Inner or left join; `on` holds the conjuncts of its condition."""

    kind: Literal["inner", "left"]
    left: Relation
    right: Relation
    on: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """The rows for which every conjunct is true."""

    input: Relation
    where: tuple[Expression, ...]


Relation = Scan | Join | Filter


@dataclass(frozen=True, slots=True)
class Values:
    """An axis of a public domain: what one protected column can hold, NULL included where it can."""

    column: Column
    type: SqlType
    values: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class KeyValues:
    """An axis that lists what key number `key` (from 0) can be: its function has few results (extract, CASE)."""

    key: int
    type: SqlType
    values: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class PublicRows:
    """An axis: the distinct rows of some columns of a public table; `nullable` adds an outer join's row of NULLs."""

    scan: Scan
    columns: tuple[str, ...]
    nullable: bool


Axis = Values | KeyValues | PublicRows


@dataclass(frozen=True, slots=True)
class PublicGroups:
    """Groups known without the data: the distinct keys over the product of axes, narrowed by `where`."""

    axes: tuple[Axis, ...]
    where: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class NoisyGroups:
    """Groups that appear when their noisy count of units reaches a threshold.

    `per_unit` is how many groups one unit may support (k): 1 where the unit determines the group.
    """

    per_unit: int


Groups = PublicGroups | NoisyGroups
MeasureKind = Literal["count", "units", "sum", "mean"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One aggregate: rows, non-NULL arguments, distinct units, a sum, or a mean (a count and a centred sum)."""

    kind: MeasureKind
    argument: Expression | None


@dataclass(frozen=True, slots=True)
class Release:
    """One noisy table about units of one kind."""

    unit: str
    source: Relation
    keys: tuple[Expression, ...]
    groups: Groups
    measures: tuple[Measure, ...]


Node = (
    Column
    | Constant
    | Call
    | Cast
    | Scan
    | Join
    | Filter
    | Values
    | KeyValues
    | PublicRows
    | PublicGroups
    | NoisyGroups
    | Measure
    | Release
    | SqlType
)
_CLASSES: Final = {cls.__name__: cls for cls in get_args(Node)}


def encode(node: Node) -> Any:
    """Turn a plan into JSON values: `[class name, field, ...]`, lists marked by an empty class name."""
    return _encode(node)


def decode(value: Any) -> Node:
    """Read what `encode` wrote.

    Raises:
        ValueError: an unknown class, a wrong number or type of fields, or too deep a nesting.
    """
    node = _decode(value, 0)
    if not isinstance(node, get_args(Node)):
        raise ValueError("a plan is a node")
    return node  # type: ignore[no-any-return]


def canonical(node: Node) -> bytes:
    """The RFC 8785 bytes of a plan: equal for plans that mean the same and were normalised the same way."""
    return rfc8785.dumps(encode(node))


def fingerprint(node: Node) -> str:
    """SHA-256 of the canonical bytes, in hex."""
    return hashlib.sha256(canonical(node)).hexdigest()


def columns(expression: Expression) -> Iterator[Column]:
    """Every column an expression reads, in order of appearance."""
    match expression:
        case Column():
            yield expression
        case Cast(argument, _):
            yield from columns(argument)
        case Call(_, arguments):
            for argument in arguments:
                yield from columns(argument)
        case Constant():
            return


def key_column(key: int) -> Column:
    """How the conditions of a public domain refer to a KeyValues axis; no scan has an empty alias."""
    return Column("", f"k{key}")


def substitute(expression: Expression, replacements: Mapping[Expression, Expression]) -> Expression:
    """Replace every occurrence of some subexpressions, the outermost first."""
    if expression in replacements:
        return replacements[expression]
    match expression:
        case Cast(argument, type_):
            return Cast(substitute(argument, replacements), type_)
        case Call(operator, arguments):
            return Call(operator, tuple(substitute(argument, replacements) for argument in arguments))
        case _:
            return expression


def scans(relation: Relation) -> Iterator[Scan]:
    """Every scan of a relation, left to right."""
    match relation:
        case Scan():
            yield relation
        case Join(_, left, right, _):
            yield from scans(left)
            yield from scans(right)
        case Filter(source, _):
            yield from scans(source)


def conjuncts(relation: Relation) -> Iterator[Expression]:
    """Every conjunct that all rows of a relation satisfy: WHERE and inner joins, not the ON of an outer join."""
    match relation:
        case Scan():
            return
        case Join(kind, left, right, on):
            yield from conjuncts(left)
            if kind == "inner":
                yield from conjuncts(right)
                yield from on
        case Filter(source, where):
            yield from conjuncts(source)
            yield from where


def null_supplied(relation: Relation) -> frozenset[str]:
    """Aliases whose columns may all be NULL because an outer join found no match."""
    match relation:
        case Scan():
            return frozenset()
        case Join(kind, left, right, _):
            outer = {scan.alias for scan in scans(right)} if kind == "left" else set()
            return null_supplied(left) | null_supplied(right) | outer
        case Filter(source, _):
            return null_supplied(source)


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return [type(value).__name__, *(_encode(getattr(value, f.name)) for f in dataclasses.fields(value))]
    if isinstance(value, tuple):
        return ["", *map(_encode, value)]
    return value


def _decode(value: Any, depth: int) -> Any:
    if depth > PLAN_DEPTH_MAX:
        raise ValueError("plan is nested too deeply")
    if value is None or isinstance(value, str | bool | int):
        return value
    if not isinstance(value, list) or not value or not isinstance(value[0], str):
        raise ValueError("a plan holds text, integers and nodes alone")
    fields = [_decode(field, depth + 1) for field in value[1:]]
    if value[0] == "":
        return tuple(fields)
    cls = _CLASSES.get(value[0])
    if cls is None or len(fields) != len(dataclasses.fields(cls)):
        raise ValueError("unknown plan node")
    node = cls(*fields)
    _check_fields(node)
    return node


_EXPRESSION: Final = get_args(Expression)
_RELATION: Final = get_args(Relation)
_MODIFIER: Final = (int, type(None))
_FIELDS: Final[dict[tuple[str, str], tuple[type, ...]]] = {
    ("SqlType", "name"): (str,),
    ("SqlType", "precision"): _MODIFIER,
    ("SqlType", "scale"): _MODIFIER,
    ("Call", "operator"): (str,),
    ("Cast", "argument"): _EXPRESSION,
    ("Cast", "type"): (SqlType,),
    ("Constant", "type"): (SqlType,),
    ("Constant", "value"): (str, type(None)),
    ("Values", "column"): (Column,),
    ("Values", "type"): (SqlType,),
    ("KeyValues", "type"): (SqlType,),
    ("KeyValues", "key"): (int,),
    ("PublicRows", "scan"): (Scan,),
    ("PublicRows", "nullable"): (bool,),
    ("NoisyGroups", "per_unit"): (int,),
    ("Measure", "kind"): (str,),
    ("Measure", "argument"): (*_EXPRESSION, type(None)),
    ("Release", "unit"): (str,),
    ("Release", "source"): _RELATION,
    ("Release", "groups"): get_args(Groups),
    ("Join", "kind"): (str,),
    ("Join", "left"): _RELATION,
    ("Join", "right"): _RELATION,
    ("Filter", "input"): _RELATION,
    ("Scan", "table"): (str,),
    ("Scan", "alias"): (str,),
    ("Column", "alias"): (str,),
    ("Column", "name"): (str,),
}
_ELEMENTS: Final[dict[tuple[str, str], tuple[type, ...]]] = {
    ("Call", "arguments"): _EXPRESSION,
    ("Join", "on"): _EXPRESSION,
    ("Filter", "where"): _EXPRESSION,
    ("Values", "values"): (str, type(None)),
    ("KeyValues", "values"): (str, type(None)),
    ("PublicRows", "columns"): (str,),
    ("PublicGroups", "axes"): get_args(Axis),
    ("PublicGroups", "where"): _EXPRESSION,
    ("Release", "keys"): _EXPRESSION,
    ("Release", "measures"): (Measure,),
}
_WORDS: Final = {("Join", "kind"): ("inner", "left"), ("Measure", "kind"): get_args(MeasureKind)}


def _check_fields(node: Any) -> None:
    """Refuse a node whose fields are not of their kind: a forged plan must fail here, not deep in a compiler."""
    name = type(node).__name__
    for field in dataclasses.fields(node):
        value, place = getattr(node, field.name), (name, field.name)
        wanted, elements = _FIELDS.get(place), _ELEMENTS.get(place)
        if wanted is not None and type(value) not in wanted:  # not isinstance: True is no number of groups
            raise ValueError(f"{name}.{field.name} is not of its type")
        if elements is not None and not (isinstance(value, tuple) and all(type(v) in elements for v in value)):
            raise ValueError(f"{name}.{field.name} is not of its type")
        if place in _WORDS and value not in _WORDS[place]:
            raise ValueError(f"{name}.{field.name} is not of its type")
    if isinstance(node, SqlType) and node != NUMERIC and sqltype.parse(str(node)) != node:
        # Modifiers reach the engine's SQL: only a type that a policy could declare may pass.
        raise ValueError("not a type")
