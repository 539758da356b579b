"""catalog_scope: what the names of a catalogue query stand for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from enclave.public.catalog_types import CID, OID, TID, XID, identifier
from rewriter.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Bound:
    """An expression ready for the engine.

    Attributes:
        sql: the engine's text.
        oid: its Postgres type; UNKNOWN for a literal whose type its surroundings decide.
        literal: the text of such a literal, None for NULL.
        parameter: n if it is `$n` without a declared type.
        typmod: as RowDescription sends it.
        fields: names and types of a composite value.
    """

    sql: str
    oid: int
    literal: str | None = None
    parameter: int = 0
    typmod: int = -1
    fields: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """A column of a query or source: its Postgres name, the engine's name, and its type."""

    name: str
    engine_name: str
    oid: int
    typmod: int = -1
    fields: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """A bound query: text for the engine and its columns."""

    sql: str
    columns: tuple[OutputColumn, ...]


SYSTEM_COLUMNS: Final = {
    "xmin": (XID, "CAST(1 AS BIGINT)"),
    "xmax": (XID, "CAST(0 AS BIGINT)"),
    "cmin": (CID, "CAST(0 AS BIGINT)"),
    "cmax": (CID, "CAST(0 AS BIGINT)"),
    "ctid": (TID, "'(0,1)'"),
}
"""System columns of a catalogue table (Postgres docs, System Columns); tableoid is the relation's own."""


@dataclass(slots=True)
class Source:
    """An entry of FROM.

    Attributes:
        alias: how the query calls it.
        schema: the schema if a relation was named without alias, else "".
        engine_alias: how the engine calls it.
        table_oid: the relation's OID, 0 for what is no relation.
        merged: columns that USING made one with those of an earlier entry.
        open_ended: True for a relation we know nothing of: any column is there, text and empty.
    """

    alias: str
    engine_alias: str
    columns: tuple[OutputColumn, ...]
    schema: str = ""
    table_oid: int = 0
    merged: frozenset[str] = frozenset()
    open_ended: bool = False

    def bind(self, column: OutputColumn) -> Bound:
        """Refer to one of the columns."""
        sql = f"{self.engine_alias}.{identifier(column.engine_name)}"
        return Bound(sql, column.oid, typmod=column.typmod, fields=column.fields)

    def find(self, name: str) -> Bound | None:
        """Refer to a column by its Postgres name, system columns included.

        Raises:
            Refusal: 42702 where two columns have the name.
        """
        found = [column for column in self.columns if column.name == name]
        if len(found) > 1:
            raise Refusal("42702", f'column reference "{name}" is ambiguous')
        if found:
            return self.bind(found[0])
        if self.table_oid and name == "tableoid":
            return Bound(f"CAST({self.table_oid} AS BIGINT)", OID)
        if self.table_oid and name in SYSTEM_COLUMNS:
            oid, sql = SYSTEM_COLUMNS[name]
            return Bound(sql, oid)
        return Bound("CAST(NULL AS VARCHAR)", 25) if self.open_ended else None


@dataclass(slots=True)
class Scope:
    """The names one SELECT can see; `parent` is the query around it."""

    parent: Scope | None = None
    sources: list[Source] = field(default_factory=list)
    ctes: dict[str, tuple[str, tuple[OutputColumn, ...]]] = field(default_factory=dict)
    references: list[tuple[Source, str]] = field(default_factory=list)
    in_aggregate: bool = False

    def child(self) -> Scope:
        """The scope of a subquery."""
        return Scope(parent=self)

    def chain(self) -> Iterator[Scope]:
        """This scope and those around it, inside out."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def cte(self, name: str) -> tuple[str, tuple[OutputColumn, ...]] | None:
        """A WITH query by name."""
        return next((scope.ctes[name] for scope in self.chain() if name in scope.ctes), None)

    def column(self, name: str) -> Bound | None:
        """Find an unqualified column, innermost scope first.

        Raises:
            Refusal: 42702 where two sources of one scope have it.
        """
        for scope in self.chain():
            found = [(s, b) for s in scope.sources if name not in s.merged and (b := _ordinary(s, name))]
            found = found or [(s, b) for s in scope.sources if name not in s.merged and (b := s.find(name))]
            if len(found) > 1 and not all(source.open_ended for source, _ in found):
                found = [pair for pair in found if not pair[0].open_ended]
            if len(found) > 1:
                raise Refusal("42702", f'column reference "{name}" is ambiguous')
            if found:
                return scope.noted(*found[0])
        return None

    def qualified(self, table: str, schema: str, name: str) -> Bound | None:
        """Find `table.name`, or `schema.table.name`.

        Raises:
            Refusal: 42P01 where no entry of FROM is called so.
        """
        for scope in self.chain():
            for source in scope.sources:
                if source.alias == table and schema in ("", source.schema):
                    bound = source.find(name)
                    return scope.noted(source, bound) if bound else None
        raise Refusal("42P01", f'missing FROM-clause entry for table "{table}"')

    def source(self, alias: str) -> Source | None:
        """An entry of FROM by name."""
        return next((s for scope in self.chain() for s in scope.sources if s.alias == alias), None)

    def noted(self, source: Source, bound: Bound) -> Bound:
        """Remember a reference outside of aggregates: GROUP BY may have to name it."""
        if not self.in_aggregate:
            self.references.append((source, bound.sql))
        return bound


def _ordinary(source: Source, name: str) -> Bound | None:
    return source.find(name) if any(column.name == name for column in source.columns) else None


class Environment(Protocol):
    """What binding needs to know about the analyst's catalogue."""

    def resolve(self, reg_type: int, name: str) -> int:
        """Find the OID of what a name given to regclass or its kin stands for; a Refusal where there is none."""

    def filled(self, physical: str) -> bool:
        """Whether a mirror of this name has rows; the others are not made."""
