"""catalog_tables: a policy and an analyst -> the rows of pg_catalog and information_schema.

Nothing here is derived from data: no row counts, no sizes, no statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

from enclave.answer import DATABASE
from enclave.public.catalog_data import fixed_rows, relations
from enclave.public.catalog_objects import (
    BOOTSTRAP_ROLE_OID,
    DATABASE_OID,
    PUBLIC_OID,
    SCHEMA_COMMENTS,
    SCHEMA_OIDS,
    CatalogColumn,
    CatalogTable,
    foreign_key_name,
    key_name,
    role_oids,
    shown_name,
    system_tables,
    tables_of,
)
from enclave.public.catalog_schema import information_schema_rows
from enclave.public.catalog_settings import settings_rows
from enclave.public.catalog_types import PgType, quote_ident, type_of
from policies.model import Policy

Row: TypeAlias = dict[str, Any]

_HEAP, _BTREE = 2, 403


def rows(policy: Policy, analyst: str) -> dict[str, list[Row]]:
    """Rows that depend on the policy and the analyst, by the mirror's name."""
    tables, roles = tables_of(policy, analyst), role_oids(policy, analyst)
    return {
        **_relation_rows(tables),
        "pg_catalog.pg_index": [_index_row(table) for table in tables if table.key],
        "pg_catalog.pg_constraint": list(_constraint_rows(tables)),
        "pg_catalog.pg_description": list(_description_rows(tables)),
        "pg_catalog.pg_database": [_database_row(DATABASE)],
        "pg_catalog.pg_roles": [_role_row(name, oid, analyst) for name, oid in roles.items()],
        "pg_catalog.pg_user": [_user_row(name, oid) for name, oid in roles.items() if name == analyst],
        "pg_catalog.pg_indexes": [_pg_indexes_row(table) for table in tables if table.key],
        **information_schema_rows(DATABASE, analyst, tables),
        REG_NAMES: [*_table_names(tables), *_role_names(roles)],
        DEFINITIONS: list(_definition_rows(tables)),
    }


def shared_rows() -> dict[str, list[Row]]:
    """Rows that every analyst sees, by the mirror's name, but for those that PostgreSQL itself gave."""
    tables = system_tables()
    return {
        **_relation_rows(tables),
        "pg_catalog.pg_description": _schema_description_rows(),
        "pg_catalog.pg_namespace": list(_namespace_rows()),
        "pg_catalog.pg_settings": settings_rows(),
        REG_NAMES: [*_table_names(tables), *_fixed_names()],
        TYPE_NAMES: [_type_name_row(kind) for kind in _types()],
    }


def _relation_rows(tables: Sequence[CatalogTable]) -> dict[str, list[Row]]:
    return {
        "pg_catalog.pg_class": list(_class_rows(tables)),
        "pg_catalog.pg_attribute": list(_attribute_rows(tables)),
        "pg_catalog.pg_tables": [_pg_tables_row(table) for table in tables if table.relkind == "r"],
    }


REG_NAMES: Final = "own.names"
"""Mirror of our own: OID -> name as regclass, regtype, ... print it, and whether the search path finds it."""
DEFINITIONS: Final = "own.definitions"
"""Mirror of our own: the texts that pg_get_constraintdef and pg_get_indexdef answer."""
PRETTY: Final = -1
"""The `number` of an index definition that leaves out schemas the search path finds."""
TYPE_NAMES: Final = "own.types"
"""Mirror of our own: what format_type needs."""


def _class_rows(tables: Iterable[CatalogTable]) -> Iterator[Row]:
    for table in tables:
        yield _class_row(table, table.oid, table.name, table.relkind, len(table.columns))
        if table.key:
            yield _class_row(table, table.oid + 1, key_name(table), "i", len(table.key))


def _class_row(table: CatalogTable, oid: int, name: str, relkind: str, natts: int) -> Row:
    return {
        "oid": oid,
        "relname": name,
        "relnamespace": SCHEMA_OIDS[table.schema],
        "relowner": table.owner_oid,
        "relam": {"i": _BTREE, "r": _HEAP}.get(relkind, 0),
        "relfilenode": 0 if relkind == "v" else oid,
        "reltuples": -1.0,
        "relhasindex": bool(table.key) and relkind == "r",
        "relhasrules": relkind == "v",
        "relpersistence": "p",
        "relkind": relkind,
        "relnatts": natts,
        "relispopulated": True,
        "relreplident": "d" if relkind == "r" and table.schema == "public" else "n",
        # A foreign key brings triggers on both sides.
        "relhastriggers": relkind == "r" and (table.foreign is not None or table.referenced),
        "relacl": [f"{table.grantee}=r/{table.owner}"] if table.grantee and relkind == "r" else None,
    }


def _attribute_rows(tables: Iterable[CatalogTable]) -> Iterator[Row]:
    for table in tables:
        for number, column in enumerate(table.columns, 1):
            yield _attribute_row(table.oid, number, column)
        by_name = {column.name: column for column in table.columns}
        for number, name in enumerate(table.key, 1):
            yield _attribute_row(table.oid + 1, number, by_name[name]) | {"attnotnull": False}


@cache
def _layouts() -> dict[int, tuple[int, bool, str, str, int]]:
    """typlen, typbyval, typalign, typstorage and typcollation by type."""
    return {
        int(str(row["oid"])): (
            int(str(row["typlen"])),
            row["typbyval"] == "t",
            str(row["typalign"]),
            str(row["typstorage"]),
            int(str(row["typcollation"])),
        )
        for row in fixed_rows()["pg_type"]
    }


def _attribute_row(oid: int, number: int, column: CatalogColumn) -> Row:
    length, by_value, align, storage, collation = _layouts()[column.kind.oid]
    return {
        "attrelid": oid,
        "attname": column.name,
        "atttypid": column.kind.oid,
        "attstattarget": -1,
        "attlen": length,
        "attnum": number,
        "attndims": 1 if column.kind.name.startswith("_") else 0,
        "attcacheoff": -1,
        "atttypmod": column.typmod,
        "attbyval": by_value,
        "attalign": align,
        "attstorage": storage,
        "attnotnull": column.not_null,
        "attislocal": True,
        "attcollation": collation,
    }


def _index_row(table: CatalogTable) -> Row:
    count = len(table.key)
    kinds = {column.name: column.kind for column in table.columns}
    return {
        "indexrelid": table.oid + 1,
        "indrelid": table.oid,
        "indnatts": count,
        "indnkeyatts": count,
        "indisunique": True,
        "indisprimary": True,
        "indimmediate": True,
        "indisvalid": True,
        "indisready": True,
        "indislive": True,
        "indkey": [table.attnums[name] for name in table.key],
        "indcollation": [_layouts()[kinds[name].oid][4] for name in table.key],
        "indclass": [_operator_classes().get(kinds[name].oid, 0) for name in table.key],
        "indoption": [0] * count,
    }


@cache
def _operator_classes() -> dict[int, int]:
    """The default btree operator class by type."""
    classes = (row for row in fixed_rows()["pg_opclass"] if row["opcmethod"] == "403" and row["opcdefault"] == "t")
    found = {int(str(row["opcintype"])): int(str(row["oid"])) for row in classes}
    return found | {1043: found[25]}  # varchar is binary coercible to text


def _constraint_rows(tables: Iterable[CatalogTable]) -> Iterator[Row]:
    for table in tables:
        base = {
            "connamespace": PUBLIC_OID,
            "convalidated": True,
            "conrelid": table.oid,
            "conislocal": True,
            "connoinherit": True,
        }
        if table.key:
            yield base | {
                "oid": table.oid + 2,
                "conname": key_name(table),
                "contype": "p",
                "conindid": table.oid + 1,
                "conkey": [table.attnums[name] for name in table.key],
                "confupdtype": " ",
                "confdeltype": " ",
                "confmatchtype": " ",
            }
        if table.foreign:
            column, target = table.foreign
            yield base | {
                "oid": table.oid + 3,
                "conname": foreign_key_name(table, column),
                "contype": "f",
                "conindid": target.oid + 1,
                "confrelid": target.oid,
                "conkey": [table.attnums[column]],
                "confkey": [target.attnums[column]],
                "confupdtype": "a",
                "confdeltype": "a",
                "confmatchtype": "s",
            }


def _schema_description_rows() -> list[Row]:
    classoid = relations()["pg_catalog", "pg_namespace"].oid
    return [
        {"objoid": SCHEMA_OIDS[schema], "classoid": classoid, "objsubid": 0, "description": comment}
        for schema, comment in SCHEMA_COMMENTS.items()
    ]


def _description_rows(tables: Iterable[CatalogTable]) -> Iterator[Row]:
    classoid = relations()["pg_catalog", "pg_class"].oid
    for table in tables:
        texts = [table.comment, *(column.comment for column in table.columns)]
        for number, comment in enumerate(texts):
            if comment:
                yield {"objoid": table.oid, "classoid": classoid, "objsubid": number, "description": comment}


def _namespace_rows() -> Iterator[Row]:
    for name, oid in (*SCHEMA_OIDS.items(), ("pg_toast", 99)):
        yield {"oid": oid, "nspname": name, "nspowner": BOOTSTRAP_ROLE_OID}


def _database_row(name: str) -> Row:
    return {
        "oid": DATABASE_OID,
        "datname": name,
        "datdba": BOOTSTRAP_ROLE_OID,
        "encoding": 6,
        "datlocprovider": "c",
        "datallowconn": True,
        "datconnlimit": -1,
        "dattablespace": 1663,
        "datcollate": "C.UTF-8",
        "datctype": "C.UTF-8",
    }


def _role_row(name: str, oid: int, analyst: str) -> Row:
    return {
        "oid": oid,
        "rolname": name,
        "rolsuper": False,
        "rolinherit": True,
        "rolcreaterole": False,
        "rolcreatedb": False,
        "rolreplication": False,
        "rolbypassrls": False,
        "rolcanlogin": name == analyst,
        "rolconnlimit": -1,
        "rolpassword": "********",
    }


def _user_row(name: str, oid: int) -> Row:
    return {"usename": name, "usesysid": oid, **_POWERLESS, "passwd": "********"}


_POWERLESS: Final = {"usecreatedb": False, "usesuper": False, "userepl": False, "usebypassrls": False}


def _pg_tables_row(table: CatalogTable) -> Row:
    return {
        "schemaname": table.schema,
        "tablename": table.name,
        "tableowner": table.owner,
        "hasindexes": bool(table.key),
        "hasrules": False,
        "hastriggers": table.foreign is not None or table.referenced,
        "rowsecurity": False,
    }


def _pg_indexes_row(table: CatalogTable) -> Row:
    return {
        "schemaname": table.schema,
        "tablename": table.name,
        "indexname": key_name(table),
        "indexdef": _index_definition(table, pretty=False),
    }


def _index_definition(table: CatalogTable, *, pretty: bool) -> str:
    columns = ", ".join(map(quote_ident, table.key))
    owner = table.shown if pretty else f"{quote_ident(table.schema)}.{quote_ident(table.name)}"
    return f"CREATE UNIQUE INDEX {quote_ident(key_name(table))} ON {owner} USING btree ({columns})"


def _definition_rows(tables: Iterable[CatalogTable]) -> Iterator[Row]:
    for table in tables:
        columns = ", ".join(map(quote_ident, table.key))
        if table.key:
            yield {"oid": table.oid + 1, "number": 0, "definition": _index_definition(table, pretty=False)}
            yield {"oid": table.oid + 1, "number": PRETTY, "definition": _index_definition(table, pretty=True)}
            yield {"oid": table.oid + 2, "number": 0, "definition": f"PRIMARY KEY ({columns})"}
        for number, name in enumerate(table.key, 1):
            yield {"oid": table.oid + 1, "number": number, "definition": quote_ident(name)}
        if table.foreign:
            column, target = quote_ident(table.foreign[0]), table.foreign[1].shown
            text = f"FOREIGN KEY ({column}) REFERENCES {target}({column})"
            yield {"oid": table.oid + 3, "number": 0, "definition": text}


def _table_names(tables: Iterable[CatalogTable]) -> Iterator[Row]:
    for table in tables:
        visible = table.schema in ("pg_catalog", "public")
        yield {"kind": "class", "oid": table.oid, "name": table.shown, "visible": visible}
        if table.key:
            shown = shown_name(table.schema, key_name(table))
            yield {"kind": "class", "oid": table.oid + 1, "name": shown, "visible": visible}


def _role_names(roles: Mapping[str, int]) -> Iterator[Row]:
    for name, oid in roles.items():
        yield {"kind": "role", "oid": oid, "name": quote_ident(name), "visible": True}


def _fixed_names() -> Iterator[Row]:
    for kind in _types():
        yield {"kind": "type", "oid": kind.oid, "name": kind.sql_name, "visible": True}
        yield {"kind": "type alias", "oid": kind.oid, "name": kind.name, "visible": True}
    for name, oid in SCHEMA_OIDS.items():
        yield {"kind": "namespace", "oid": oid, "name": quote_ident(name), "visible": True}
    for row in fixed_rows()["pg_proc"]:
        yield {"kind": "proc", "oid": int(str(row["oid"])), "name": row["proname"], "visible": True}


def _types() -> list[PgType]:
    return [type_of(int(str(row["oid"]))) for row in fixed_rows()["pg_type"]]


def _type_name_row(kind: PgType) -> Row:
    element = type_of(kind.element) if kind.element and kind.name.startswith("_") else kind
    array = "[]" if element is not kind else ""
    form = {"varchar": "length", "bpchar": "length", "numeric": "scale"}.get(element.name, "none")
    return {"oid": kind.oid, "base": element.sql_name, "suffix": array, "form": form}
