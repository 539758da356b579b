"""catalog_sources: functions that return rows -> the list the engine unnests for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from enclave.public.catalog_data import RelationColumn, known_functions
from enclave.public.catalog_functions import SERIES_MAX
from enclave.public.catalog_scope import Bound
from enclave.public.catalog_types import (
    INT2VECTOR,
    INT4,
    INT8,
    OIDVECTOR,
    RECORD,
    TEXT,
    UNKNOWN,
    type_named,
    type_of,
)
from rewriter.refusal import Refusal

TOO_LONG: Final = "own: too long a series"
"""What the engine says where a series has more than SERIES_MAX rows."""
SET_FUNCTIONS: Final = frozenset({"unnest", "generate_series", "generate_subscripts", "_pg_expandarray"})


@dataclass(frozen=True, slots=True)
class RowList:
    """A list in the engine, one element a row; `fields` where the element is composite."""

    sql: str
    oid: int
    fields: tuple[tuple[str, int], ...] = ()


def returns_rows(name: str) -> bool:
    """Whether a function is one of those that return rows."""
    known = known_functions().get(name)
    return name in SET_FUNCTIONS or (known is not None and known.returns_set)


def row_list(name: str, arguments: list[Bound]) -> RowList | None:
    """The rows of a call, or None for one that has none here (see `columns_of`).

    Raises:
        Refusal: 42883 where the arguments do not fit.
    """
    if name not in SET_FUNCTIONS:
        return None
    if name == "generate_series":
        return _series(arguments)
    if not arguments or not type_of(arguments[0].oid).element:
        raise Refusal("42883", f"function {name}({_names(arguments)}) does not exist")
    array = arguments[0]
    element = type_of(array.oid).element
    if name == "unnest":
        return RowList(array.sql, element)
    if name == "generate_subscripts":
        return _subscripts(array)
    fields = (("x", element), ("n", INT4))
    return RowList(
        f'list_transform({array.sql}, lambda x, i: struct_pack("x" := x, "n" := CAST(i AS INTEGER)))', RECORD, fields
    )


def columns_of(name: str) -> tuple[RelationColumn, ...]:
    """The columns of a function of pg_catalog that returns no rows here."""
    known = known_functions().get(name)
    if known is None:
        return (RelationColumn(name, "text"),)
    return known.columns or (RelationColumn(name, known.type_name),)


def column_type(column: RelationColumn) -> int:
    """The type of a catalogue column; text for what no value can have."""
    kind = type_named(column.type_name)
    return kind.oid if kind else TEXT


def _subscripts(array: Bound) -> RowList:
    shift = 1 if array.oid in (INT2VECTOR, OIDVECTOR) else 0
    return RowList(f"list_transform({array.sql}, lambda x, i: CAST(i AS INTEGER) - {shift})", INT4)


def _series(arguments: list[Bound]) -> RowList:
    if len(arguments) not in (2, 3) or any(type_of(bound.oid).category != "N" for bound in arguments):
        raise Refusal("42883", f"function generate_series({_names(arguments)}) does not exist")
    wide = any(bound.oid == INT8 for bound in arguments)
    kind = "BIGINT" if wide else "INTEGER"
    start, stop = arguments[0].sql, arguments[1].sql
    step = arguments[2].sql if len(arguments) == 3 else "1"
    many = f"abs(CAST({stop} AS HUGEINT) - {start}) > {SERIES_MAX} * abs(CAST({step} AS HUGEINT))"
    last = f"CASE WHEN {many} THEN CAST(error('{TOO_LONG}') AS BIGINT) ELSE {stop} END"
    series = f"generate_series(CAST({start} AS BIGINT), {last}, CAST({step} AS BIGINT))"
    return RowList(f"CAST({series} AS {kind}[])", INT8 if wide else INT4)


def _names(arguments: list[Bound]) -> str:
    return ", ".join("unknown" if bound.oid == UNKNOWN else type_of(bound.oid).sql_name for bound in arguments)
