"""catalog_schema: tables of the catalogue -> rows of information_schema (Postgres docs, chapter 37)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from enclave.public.catalog_objects import (
    BOOTSTRAP_ROLE,
    SCHEMA_OIDS,
    CatalogColumn,
    CatalogTable,
    foreign_key_name,
    key_name,
)

Row: TypeAlias = dict[str, Any]

_INTEGER_BITS: Final = {"int2": 16, "int4": 32, "int8": 64}
_FLOAT_BITS: Final = {"float4": 24, "float8": 53}
_TIME_PRECISION: Final = {"date": 0, "time": 6, "timetz": 6, "timestamp": 6, "timestamptz": 6, "interval": 6}
_OCTETS_PER_CHARACTER: Final = 4
_OCTETS_MAX: Final = 1_073_741_824


def information_schema_rows(database: str, analyst: str, tables: Sequence[CatalogTable]) -> dict[str, list[Row]]:
    """Rows of information_schema, by the mirror's name; the catalogue's own relations are not listed."""
    found = {
        "information_schema_catalog_name": [{"catalog_name": database}],
        "schemata": [_schema_row(database, name) for name in SCHEMA_OIDS],
        "tables": [_table_row(database, table) for table in tables],
        "columns": [row for table in tables for row in _column_rows(database, table)],
        "table_constraints": [row for table in tables for row in _constraint_rows(database, table)],
        "key_column_usage": [row for table in tables for row in _key_usage_rows(database, table)],
        "constraint_column_usage": [row for table in tables for row in _constraint_usage_rows(database, table)],
        "referential_constraints": [row for table in tables for row in _referential_rows(database, table)],
        "table_privileges": [_privilege_row(database, analyst, table) for table in tables],
        "role_table_grants": [_privilege_row(database, analyst, table) for table in tables],
        "enabled_roles": [{"role_name": analyst}],
    }
    return {f"information_schema.{name}": rows for name, rows in found.items()}


def _schema_row(database: str, name: str) -> Row:
    return {"catalog_name": database, "schema_name": name, "schema_owner": BOOTSTRAP_ROLE}


def _place(database: str, table: CatalogTable) -> Row:
    return {"table_catalog": database, "table_schema": table.schema, "table_name": table.name}


def _table_row(database: str, table: CatalogTable) -> Row:
    kind = "VIEW" if table.relkind == "v" else "BASE TABLE"
    return _place(database, table) | {"table_type": kind, "is_insertable_into": "NO", "is_typed": "NO"}


def _column_rows(database: str, table: CatalogTable) -> Iterator[Row]:
    for number, column in enumerate(table.columns, 1):
        yield _place(database, table) | _column_row(database, number, column)


def _column_row(database: str, number: int, column: CatalogColumn) -> Row:
    return {
        "column_name": column.name,
        "ordinal_position": number,
        "is_nullable": "NO" if column.not_null else "YES",
        "data_type": "ARRAY" if column.kind.element else column.kind.sql_name,
        **_sizes(column),
        "datetime_precision": _TIME_PRECISION.get(column.kind.name),
        "udt_catalog": database,
        "udt_schema": "pg_catalog",
        "udt_name": column.kind.name,
        "dtd_identifier": str(number),
        "is_self_referencing": "NO",
        "is_identity": "NO",
        "identity_cycle": "NO",
        "is_generated": "NEVER",
        "is_updatable": "NO",
    }


def _sizes(column: CatalogColumn) -> Row:
    name, typmod = column.kind.name, column.typmod
    if name in ("varchar", "bpchar") and typmod >= 0:
        length = typmod - 4
        return {"character_maximum_length": length, "character_octet_length": length * _OCTETS_PER_CHARACTER}
    if name in ("text", "varchar"):
        return {"character_octet_length": _OCTETS_MAX}
    if name == "numeric":
        precision, scale = ((typmod - 4) >> 16, (typmod - 4) & 0xFFFF) if typmod >= 0 else (None, None)
        return {"numeric_precision": precision, "numeric_precision_radix": 10, "numeric_scale": scale}
    if name in _INTEGER_BITS:
        return {"numeric_precision": _INTEGER_BITS[name], "numeric_precision_radix": 2, "numeric_scale": 0}
    if name in _FLOAT_BITS:
        return {"numeric_precision": _FLOAT_BITS[name], "numeric_precision_radix": 2}
    return {}


def _constraint(database: str, table: CatalogTable, name: str) -> Row:
    return {
        "constraint_catalog": database,
        "constraint_schema": table.schema,
        "constraint_name": name,
    }


def _constraint_rows(database: str, table: CatalogTable) -> Iterator[Row]:
    fixed = _place(database, table) | {
        "is_deferrable": "NO",
        "initially_deferred": "NO",
        "enforced": "YES",
    }
    if table.key:
        name = key_name(table)
        distinct = {"constraint_type": "PRIMARY KEY"}
        yield _constraint(database, table, name) | fixed | distinct
    if table.foreign:
        name = foreign_key_name(table, table.foreign[0])
        yield _constraint(database, table, name) | fixed | {"constraint_type": "FOREIGN KEY"}


def _key_usage_rows(database: str, table: CatalogTable) -> Iterator[Row]:
    place = _place(database, table)
    for number, column in enumerate(table.key, 1):
        used = {"column_name": column, "ordinal_position": number}
        yield _constraint(database, table, key_name(table)) | place | used
    if table.foreign:
        column, _ = table.foreign
        used = {"column_name": column, "ordinal_position": 1, "position_in_unique_constraint": 1}
        yield _constraint(database, table, foreign_key_name(table, column)) | place | used


def _constraint_usage_rows(database: str, table: CatalogTable) -> Iterator[Row]:
    for column in table.key:
        name = key_name(table)
        yield _constraint(database, table, name) | _place(database, table) | {"column_name": column}
    if table.foreign:
        column, target = table.foreign
        name = foreign_key_name(table, column)
        yield _constraint(database, table, name) | _place(database, target) | {"column_name": column}


def _referential_rows(database: str, table: CatalogTable) -> Iterator[Row]:
    if table.foreign:
        column, target = table.foreign
        yield _constraint(database, table, foreign_key_name(table, column)) | {
            "unique_constraint_catalog": database,
            "unique_constraint_schema": target.schema,
            "unique_constraint_name": key_name(target),
            "match_option": "NONE",
            "update_rule": "NO ACTION",
            "delete_rule": "NO ACTION",
        }


def _privilege_row(database: str, analyst: str, table: CatalogTable) -> Row:
    granted = {"grantor": table.owner, "grantee": analyst, "privilege_type": "SELECT"}
    return granted | _place(database, table) | {"is_grantable": "NO", "with_hierarchy": "YES"}
