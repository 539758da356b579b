"""catalog_data: two data files -> the relations, functions and fixed rows of PostgreSQL 15's catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

_SHAPE: Final = Path(__file__).with_name("catalog_shape.tsv")
_ROWS: Final = Path(__file__).with_name("catalog_rows.tsv")
_ESCAPES: Final = {"\\n": "\n", "\\t": "\t", "\\r": "\r", "\\\\": "\\"}


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A column of a catalogue relation; `type_name` is a `pg_type.typname`."""

    name: str
    type_name: str
    not_null: bool = False


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view of pg_catalog or information_schema, as PostgreSQL 15 has it."""

    schema: str
    name: str
    oid: int
    kind: str
    columns: tuple[RelationColumn, ...]

    @property
    def physical(self) -> str:
        """The name of its mirror in the engine: one schema there, so ours is part of the name."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class KnownFunction:
    """A function of pg_catalog that is answered with NULL, or with no rows: only its result has a meaning."""

    name: str
    type_name: str
    returns_set: bool
    columns: tuple[RelationColumn, ...]


@cache
def relations() -> dict[tuple[str, str], Relation]:
    """Every relation of pg_catalog and information_schema by (schema, name)."""
    found = (_relation(fields) for fields in _shape("relation"))
    return {(relation.schema, relation.name): relation for relation in found}


@cache
def known_functions() -> dict[str, KnownFunction]:
    """The functions of pg_catalog whose result type is all we know."""
    return {fields[1]: _known_function(fields) for fields in _shape("function")}


@cache
def fixed_rows() -> dict[str, list[dict[str, str | None]]]:
    """Rows that do not depend on a policy, by relation of pg_catalog, in the text form of COPY."""
    rows: dict[str, list[dict[str, str | None]]] = {}
    names: list[str] = []
    current: list[dict[str, str | None]] = []
    for line in _lines(_ROWS):
        if line.startswith("@"):
            relation, *names = line[1:].split(" ")
            current = rows.setdefault(relation, [])
        else:
            current.append(dict(zip(names, map(_unescape, line.split("\t")), strict=True)))
    return rows


def _shape(kind: str) -> Iterator[list[str]]:
    return (fields for line in _lines(_SHAPE) if (fields := line.split("\t"))[0] == kind)


def _lines(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    return (line for line in text.split("\n") if line and not line.startswith("#"))


def _relation(fields: list[str]) -> Relation:
    _, schema, name, oid, kind, columns = fields
    return Relation(schema, name, int(oid), kind, _columns(columns))


def _known_function(fields: list[str]) -> KnownFunction:
    _, name, result, *columns = fields
    returns_set, type_name = result.startswith("setof "), result.removeprefix("setof ")
    return KnownFunction(name, type_name, returns_set, _columns(columns[0]) if columns else ())


def _columns(text: str) -> tuple[RelationColumn, ...]:
    pairs = (column.rsplit(":", 1) for column in text.split(" "))
    return tuple(RelationColumn(name, _type_name(kind.rstrip("!")), kind.endswith("!")) for name, kind in pairs)


def _type_name(typname: str) -> str:
    """The one-byte type is `"char"` everywhere else: `char` is SQL's."""
    return '"char"' if typname == "char" else typname


def _unescape(field: str) -> str | None:
    if field == "\\N":
        return None
    if "\\" not in field:
        return field
    parts, at = [], 0
    while at < len(field):
        pair = field[at : at + 2]
        parts.append(_ESCAPES.get(pair, pair[:1]))
        at += 2 if pair in _ESCAPES else 1
    return "".join(parts)
