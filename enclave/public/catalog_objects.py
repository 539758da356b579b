"""catalog_objects: a policy and an analyst -> the tables and roles that its catalogue describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from enclave.public.catalog_data import Relation, relations
from enclave.public.catalog_types import PgType, quote_ident, type_named, type_of
from policies.model import Policy, Table
from policies.sqltype import SqlType

PUBLIC_OID: Final = 2200
DP_OID: Final = 14_999
DATABASE_OID: Final = 5
BOOTSTRAP_ROLE: Final = "cleanroom"
BOOTSTRAP_ROLE_OID: Final = 10
ROLE_OID_MIN: Final = 15_000
"""Below FirstNormalObjectId: no table's OID depends on how many roles there are."""
TABLE_OID_MIN: Final = 16_384
"""FirstNormalObjectId (Postgres, access/transam.h): clients take smaller OIDs for the system's."""
TABLE_OID_STEP: Final = 16
"""A table's OID, then its index (+1), its primary key (+2) and its foreign key (+3)."""
SCHEMA_OIDS: Final = {"pg_catalog": 11, "public": PUBLIC_OID, "information_schema": 13_288, "dp": DP_OID}
SCHEMA_COMMENTS: Final = {"dp": "what the room tells about itself"}


@dataclass(frozen=True, slots=True)
class CatalogColumn:
    """A column as pg_attribute describes it."""

    name: str
    kind: PgType
    typmod: int
    not_null: bool
    comment: str = ""


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """A table as the catalogue describes it.

    Attributes:
        foreign: (column, table it refers to) of a foreign key.
        referenced: whether another table's foreign key points here.
        grantee: the analyst who may read it.
    """

    oid: int
    schema: str
    name: str
    relkind: str
    owner_oid: int
    owner: str
    comment: str
    columns: tuple[CatalogColumn, ...]
    key: tuple[str, ...] = ()
    foreign: tuple[str, CatalogTable] | None = None
    referenced: bool = False
    grantee: str = ""

    @property
    def attnums(self) -> Mapping[str, int]:
        """Positions of the columns, from 1."""
        return {column.name: number for number, column in enumerate(self.columns, 1)}

    @property
    def shown(self) -> str:
        """The name as regclass prints it: qualified where the search path does not find it."""
        return shown_name(self.schema, self.name)


def shown_name(schema: str, name: str) -> str:
    """Print a name as regclass does under the search path pg_catalog, public."""
    bare = quote_ident(name)
    return bare if schema in ("pg_catalog", "public") else f"{quote_ident(schema)}.{bare}"


def tables_of(policy: Policy, analyst: str) -> tuple[CatalogTable, ...]:
    """What this analyst may see, with OIDs by position among it: a gap would tell of a hidden table."""
    visible = policy.visible_tables(analyst)
    owners = role_oids(policy, analyst)
    tables: dict[str, CatalogTable] = {}
    for position, name in enumerate(visible):
        oid = TABLE_OID_MIN + TABLE_OID_STEP * position
        tables[name] = _table(oid, name, policy.tables[name], owners)
    linked = [_with_foreign_key(table, policy.tables[table.name], tables) for table in tables.values()]
    targets = {table.foreign[1].name for table in linked if table.foreign}
    return tuple(replace(table, referenced=table.name in targets, grantee=analyst) for table in linked)


def role_oids(policy: Policy, analyst: str) -> dict[str, int]:
    """The roles an analyst may see: themselves, and the owners of the tables they may see."""
    owners = (policy.tables[name].owner for name in policy.visible_tables(analyst))
    names = dict.fromkeys([analyst, *(owner for owner in owners if owner)])
    numbered = {name: ROLE_OID_MIN + number for number, name in enumerate(names)}
    return {BOOTSTRAP_ROLE: BOOTSTRAP_ROLE_OID} | numbered


def key_name(table: CatalogTable) -> str:
    """The name Postgres would choose for a primary key's index."""
    return f"{table.name}_pkey"


def foreign_key_name(table: CatalogTable, column: str) -> str:
    """The name Postgres would choose for a foreign key."""
    return f"{table.name}_{column}_fkey"


@cache
def system_tables() -> tuple[CatalogTable, ...]:
    """pg_catalog and information_schema themselves, which list themselves."""
    return tuple(_system_table(relation) for relation in relations().values())


def _system_table(relation: Relation) -> CatalogTable:
    columns = tuple(
        CatalogColumn(column.name, type_named(column.type_name) or type_of(25), -1, column.not_null)
        for column in relation.columns
    )
    name, owner = relation.name, BOOTSTRAP_ROLE
    return CatalogTable(relation.oid, relation.schema, name, relation.kind, BOOTSTRAP_ROLE_OID, owner, "", columns)


def _table(oid: int, name: str, table: Table, owners: Mapping[str, int]) -> CatalogTable:
    columns = tuple(
        CatalogColumn(
            column_name,
            pg_type_of(column.type),
            typmod_of(column.type),
            column.not_null or column_name in table.key,
            column.comment,
        )
        for column_name, column in table.columns.items()
    )
    owner = table.owner or BOOTSTRAP_ROLE
    return CatalogTable(oid, "public", name, "r", owners[owner], owner, table.comment, columns, table.key)


def _with_foreign_key(table: CatalogTable, declared: Table, tables: Mapping[str, CatalogTable]) -> CatalogTable:
    unit = declared.unit
    if unit is None or unit.on is None or unit.through is None or unit.through not in tables:
        return table
    target = tables[unit.through]
    if target.key != (unit.on,) or unit.on not in table.attnums:
        return table
    return replace(table, foreign=(unit.on, target))


def pg_type_of(declared: SqlType) -> PgType:
    """The Postgres type of a policy's type."""
    found = type_named(declared.name)
    assert found is not None, declared
    return found


def typmod_of(declared: SqlType) -> int:
    """The type modifier as pg_attribute stores it: lengths count four bytes of header, numeric packs both."""
    if declared.precision is None:
        return 5 if declared.name == "char" else -1
    if declared.name == "numeric":
        return (declared.precision << 16 | (declared.scale or 0)) + 4
    return declared.precision + 4
