"""catalog_mirrors: rows as Python values -> Arrow tables shaped like the relations they mirror."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import pyarrow as pa

from enclave.public.catalog_data import RelationColumn, fixed_rows, relations
from enclave.public.catalog_sources import column_type, columns_of
from enclave.public.catalog_tables import DEFINITIONS, REG_NAMES, TYPE_NAMES, Row, rows, shared_rows
from enclave.public.catalog_types import PgType, parse_array, type_of
from policies.model import Policy

_OWN: Final[Mapping[str, tuple[RelationColumn, ...]]] = {
    REG_NAMES: (
        RelationColumn("kind", "text"),
        RelationColumn("oid", "oid"),
        RelationColumn("name", "text"),
        RelationColumn("visible", "bool"),
    ),
    DEFINITIONS: (
        RelationColumn("oid", "oid"),
        RelationColumn("number", "int4"),
        RelationColumn("definition", "text"),
    ),
    TYPE_NAMES: (
        RelationColumn("oid", "oid"),
        RelationColumn("base", "text"),
        RelationColumn("suffix", "text"),
        RelationColumn("form", "text"),
    ),
}
_ARROW: Final[Mapping[str, pa.DataType]] = {
    "BOOLEAN": pa.bool_(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
    "INTERVAL": pa.month_day_nano_interval(),
}


def mirrors(policy: Policy, analyst: str) -> dict[str, pa.Table]:
    """Every relation that has rows for this analyst, by the mirror's name."""
    shared = _shared()
    own = {name: _table(name, given) for name, given in rows(policy, analyst).items() if given or name in _OWN}
    both = {name: pa.concat_tables([shared[name], own[name]]) for name in shared.keys() & own.keys()}
    return {**shared, **own, **both}


@cache
def _shared() -> dict[str, pa.Table]:
    """What all analysts share, made once in a process."""
    fixed = {f"pg_catalog.{name}": _parsed(name) for name in fixed_rows()}
    made = shared_rows()
    names = fixed.keys() | made.keys()
    return {name: _table(name, fixed.get(name, []) + made.get(name, [])) for name in names}


def _columns(name: str) -> tuple[RelationColumn, ...]:
    if name in _OWN:
        return _OWN[name]
    schema, _, relation = name.partition(".")
    found = relations().get((schema, relation))
    return found.columns if found else columns_of(relation)


def _table(name: str, given: Sequence[Row]) -> pa.Table:
    columns = _columns(name)
    kinds = [type_of(column_type(column)) for column in columns]
    arrays = [_array(column, kind, given) for column, kind in zip(columns, kinds, strict=True)]
    return pa.Table.from_arrays(arrays, names=[column.name for column in columns])


def _array(column: RelationColumn, kind: PgType, given: Sequence[Row]) -> pa.Array[Any]:
    default = _default(kind) if column.not_null else None
    return pa.array([row.get(column.name, default) for row in given], type=_arrow(kind))


def _arrow(kind: PgType) -> pa.DataType:
    if kind.element:
        return pa.list_(_arrow(type_of(kind.element)))
    return _ARROW.get(kind.duck, pa.string())


def _default(kind: PgType) -> object:
    """What stands in a NOT NULL column where nothing is to be said."""
    if kind.element:
        return []
    if kind.duck == "BOOLEAN":
        return False
    return 0 if kind.duck in _ARROW else ""


def _parsed(name: str) -> list[Row]:
    columns = {column.name: type_of(column_type(column)) for column in _columns(f"pg_catalog.{name}")}
    return [
        {key: None if text is None else _value(text, columns[key]) for key, text in row.items()}
        for row in fixed_rows()[name]
    ]


def _value(text: str, kind: PgType) -> object:
    if kind.element:
        vector = not kind.name.startswith("_")
        items = text.split() if vector else parse_array(text, kind.sql_name)
        return [None if item is None else _value(item, type_of(kind.element)) for item in items]
    match kind.duck:
        case "BOOLEAN":
            return text == "t"
        case "SMALLINT" | "INTEGER" | "BIGINT":
            return int(text) if text.lstrip("-").isdigit() else _procedure(text)
        case "FLOAT" | "DOUBLE":
            return float(text)
        case _:
            return text


@cache
def _procedures() -> dict[str, int]:
    return {str(row["proname"]): int(str(row["oid"])) for row in fixed_rows()["pg_proc"]}


def _procedure(name: str) -> int:
    """The OID of a function that COPY wrote by its name, as it does for regproc columns."""
    return _procedures().get(name.removeprefix("pg_catalog."), 0)
