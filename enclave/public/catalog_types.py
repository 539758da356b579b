"""catalog_types: Postgres types <-> what stands for them in the catalogue's engine, and values in text form."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Final

from enclave.public.catalog_data import fixed_rows
from rewriter.refusal import Refusal

BOOL: Final = 16
CHAR: Final = 18
NAME: Final = 19
INT8: Final = 20
INT2: Final = 21
INT2VECTOR: Final = 22
INT4: Final = 23
REGPROC: Final = 24
TEXT: Final = 25
OID: Final = 26
TID: Final = 27
XID: Final = 28
CID: Final = 29
OIDVECTOR: Final = 30
JSON: Final = 114
FLOAT4: Final = 700
FLOAT8: Final = 701
UNKNOWN: Final = 705
BPCHAR: Final = 1042
VARCHAR: Final = 1043
DATE: Final = 1082
TIME: Final = 1083
TIMESTAMP: Final = 1114
TIMESTAMPTZ: Final = 1184
INTERVAL: Final = 1186
NUMERIC: Final = 1700
REGCLASS: Final = 2205
REGTYPE: Final = 2206
RECORD: Final = 2249
REGNAMESPACE: Final = 4089
REGROLE: Final = 4096
REG_TYPES: Final = frozenset({REGPROC, 2202, 2203, 2204, REGCLASS, REGTYPE, 3734, 3769, REGNAMESPACE, REGROLE, 4191})

NAME_BYTES_MAX: Final = 63
"""NAMEDATALEN - 1: Postgres cuts longer names (Postgres docs, Identifiers)."""

_DUCK: Final = {
    BOOL: "BOOLEAN",
    INT2: "SMALLINT",
    INT4: "INTEGER",
    INT8: "BIGINT",
    OID: "BIGINT",
    XID: "BIGINT",
    CID: "BIGINT",
    FLOAT4: "FLOAT",
    FLOAT8: "DOUBLE",
    NUMERIC: "DECIMAL(38,9)",
    DATE: "DATE",
    TIME: "TIME",
    TIMESTAMP: "TIMESTAMP",
    TIMESTAMPTZ: "TIMESTAMPTZ",
    INTERVAL: "INTERVAL",
}
_SQL_NAMES: Final = {
    "bool": "boolean",
    "char": '"char"',
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bpchar": "character",
    "varchar": "character varying",
    "time": "time without time zone",
    "timetz": "time with time zone",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "bit": "bit",
    "varbit": "bit varying",
}
_ALIASES: Final = {
    **{sql: name for name, sql in _SQL_NAMES.items() if name != "char"},
    "int": "int4",
    "decimal": "numeric",
    "float": "float8",
    "double": "float8",
    "char": "bpchar",
}
_TRUE: Final = frozenset({"t", "true", "y", "yes", "on", "1"})
_FALSE: Final = frozenset({"f", "false", "n", "no", "off", "0"})
_INTEGER_MAX: Final = {INT2: 2**15, INT4: 2**31, INT8: 2**63, OID: 2**32, XID: 2**32, CID: 2**32}


@dataclass(frozen=True, slots=True)
class PgType:
    """A row of pg_type, as far as typing needs it.

    Attributes:
        name: typname, such as `_int4`.
        category: typcategory; S strings, N numbers, A arrays, B boolean, D dates, T intervals, others.
        element: OID of an array's (or vector's) element, else 0.
        array: OID of the array of this type, else 0.
        sql_name: as format_type prints it without modifiers.
    """

    oid: int
    name: str
    category: str
    element: int
    array: int
    sql_name: str

    @property
    def duck(self) -> str:
        """The engine's type that holds it; text forms for whatever has none."""
        if self.element:
            return type_of(self.element).duck + "[]"
        if self.oid in REG_TYPES:
            return "BIGINT"
        return _DUCK.get(self.oid, "VARCHAR")


@cache
def types() -> dict[int, PgType]:
    """Every type of pg_catalog that a value can have, by OID."""
    rows = {int(str(row["oid"])): row for row in fixed_rows()["pg_type"]}
    return {oid: _pg_type(oid, row, rows) for oid, row in rows.items()}


def type_of(oid: int) -> PgType:
    """The type with this OID; text for one we have never heard of."""
    return types().get(oid) or types()[TEXT]


def type_named(name: str) -> PgType | None:
    """Find a type by its Postgres or SQL name, such as `int4`, `bigint`, `_text` or `oid[]`, or give None."""
    name = name.strip()
    if name.endswith("[]"):
        element = type_named(name[:-2])
        return types().get(element.array) if element else None
    if name == '"char"':
        return types()[CHAR]
    return _by_name().get(_ALIASES.get(name, name))


@cache
def _by_name() -> dict[str, PgType]:
    return {kind.name: kind for kind in types().values()}


def _pg_type(oid: int, row: dict[str, str | None], rows: dict[int, dict[str, str | None]]) -> PgType:
    name, category = str(row["typname"]), str(row["typcategory"])
    element = int(str(row["typelem"])) if category == "A" else 0
    base = str(rows[element]["typname"]) if element and name.startswith("_") else name
    sql_name = _SQL_NAMES.get(base, base) + ("[]" if base != name else "")
    return PgType(oid, name, category, element, int(str(row["typarray"])), sql_name)


def unify(oids: list[int]) -> int | None:
    """The common type of CASE, COALESCE, UNION, ARRAY and VALUES, or None.

    Postgres docs, "UNION, CASE, and Related Constructs" (select_common_type): unknowns take the others' type, text
    if there are none; else the first that the earlier ones cast to implicitly.
    """
    known = [oid for oid in oids if oid != UNKNOWN]
    result = known[0] if known else TEXT
    for oid in known[1:]:
        if oid == result or result in _preferred():
            continue
        if not comparable(result, oid):
            return None
        if (result, oid) in _implicit_casts() and (oid, result) not in _implicit_casts():
            result = oid
    return result if all(comparable(result, oid) for oid in known) else None


@cache
def _implicit_casts() -> frozenset[tuple[int, int]]:
    rows = (row for row in fixed_rows()["pg_cast"] if row["castcontext"] == "i")
    return frozenset((int(str(row["castsource"])), int(str(row["casttarget"]))) for row in rows)


@cache
def _preferred() -> frozenset[int]:
    return frozenset(int(str(row["oid"])) for row in fixed_rows()["pg_type"] if row["typispreferred"] == "t")


def comparable(left: int, right: int) -> bool:
    """Whether an operator may take both without an explicit cast."""
    return left == right or _family(left) == _family(right)


def _family(oid: int) -> str:
    kind = type_of(oid)
    if kind.element:
        return "array of " + _family(kind.element)
    if oid == CHAR:
        return "S"  # "char" casts to text implicitly
    return "N" if kind.duck == "BIGINT" else kind.category


def quote(text: str) -> str:
    """Write a string literal for the engine, which knows no backslash escapes."""
    if "\0" in text:
        raise Refusal("22021", 'invalid byte sequence for encoding "UTF8": 0x00')
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Quote an identifier for the engine."""
    return '"' + name.replace('"', '""') + '"'


def quote_ident(name: str) -> str:
    """Quote an identifier as Postgres' quote_ident does: only where needed."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_$]*", name) else identifier(name)


def literal(text: str, oid: int, resolve: Callable[[int, str], int]) -> str:
    """Write `text`, the text form of a value of type `oid`, for the engine.

    Args:
        text: what a client would send.
        oid: the type.
        resolve: (reg type, name) -> OID, for regclass and its kin.

    Raises:
        Refusal: the text is no value of that type (22P02, 22003, 22007).
    """
    kind = type_of(oid)
    if kind.element:
        return f"[{', '.join(_elements(text, kind, resolve))}]::{kind.duck}"
    if oid in REG_TYPES:
        return f"{resolve(oid, text)}::BIGINT"
    if oid == BOOL:
        return _boolean(text)
    if oid in _INTEGER_MAX:
        return f"{_integer(text, kind)}::{kind.duck}"
    if oid in (FLOAT4, FLOAT8, NUMERIC):
        return _number(text, kind)
    if oid in (DATE, TIMESTAMP, TIMESTAMPTZ):
        return _moment(text, kind)
    if oid in (TIME, INTERVAL):
        return f"TRY_CAST({quote(text)} AS {kind.duck})"
    if oid == NAME:
        text = text.encode()[:NAME_BYTES_MAX].decode(errors="ignore")
    return quote(text[:1] if oid == CHAR else text)


def _elements(text: str, kind: PgType, resolve: Callable[[int, str], int]) -> list[str]:
    if kind.name in ("int2vector", "oidvector"):
        return [literal(item, kind.element, resolve) for item in text.split()]
    return [
        "NULL" if item is None else literal(item, kind.element, resolve) for item in parse_array(text, kind.sql_name)
    ]


def _invalid(text: str, kind: PgType, sqlstate: str = "22P02") -> Refusal:
    return Refusal(sqlstate, f'invalid input syntax for type {kind.sql_name}: "{text}"')


def _boolean(text: str) -> str:
    folded = text.strip().lower()
    if folded in _TRUE:
        return "TRUE"
    if folded in _FALSE:
        return "FALSE"
    raise _invalid(text, types()[BOOL])


def _integer(text: str, kind: PgType) -> int:
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,40}\s*", text):
        raise _invalid(text, kind)
    value, limit = int(text.strip()), _INTEGER_MAX[kind.oid]  # int() takes fewer blanks than `\s`
    if not -limit <= value < limit:
        raise Refusal("22003", f'value "{text}" is out of range for type {kind.sql_name}')
    return value


def _number(text: str, kind: PgType) -> str:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        raise _invalid(text, kind) from None
    if kind.oid != NUMERIC:
        return f"TRY_CAST({quote(str(value))} AS {kind.duck})"
    scale = max(0, -int(value.as_tuple().exponent)) if value.is_finite() else 99
    if scale > 37 or abs(value) >= Decimal(10) ** (38 - scale):
        raise Refusal("0A000", "numbers of more than 38 digits are not supported here")
    return f"CAST({quote(f'{value:f}')} AS DECIMAL(38,{scale}))"


def _moment(text: str, kind: PgType) -> str:
    try:
        moment = datetime.fromisoformat(text.strip()) if kind.oid != DATE else date.fromisoformat(text.strip()[:10])
    except ValueError:
        raise _invalid(text, kind, "22007") from None
    value = moment.isoformat(" ") if isinstance(moment, datetime) else moment.isoformat()
    zone = "+00:00" if kind.oid == TIMESTAMPTZ and not value[10:].count("+") else ""
    return f"CAST({quote(value + zone)} AS {kind.duck})"


_ARRAY_TOKEN: Final = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^",{}\\\s][^",{}\\]*))\s*(,|$)', re.S)


def parse_array(text: str, type_name: str) -> list[str | None]:
    """Read a one-dimensional array literal such as `{a,"b c",NULL}` (Postgres docs, Arrays).

    Raises:
        Refusal: 22P02 where it is malformed; 0A000 where it has more than one dimension.
    """
    stripped = text.strip()
    if not (stripped.startswith("{") and stripped.endswith("}")):
        raise Refusal("22P02", f'malformed array literal: "{text}"')
    body, items, at = stripped[1:-1], list[str | None](), 0
    if "{" in body and '"' not in body:
        raise Refusal("0A000", f"{type_name} of more than one dimension is not supported here")
    while at < len(body):
        match = _ARRAY_TOKEN.match(body, at)
        if match is None or (match[3] == "," and match.end() == len(body)):
            raise Refusal("22P02", f'malformed array literal: "{text}"')
        bare = (match[2] or "").rstrip()
        items.append(re.sub(r"\\(.)", r"\1", match[1], flags=re.S) if match[1] is not None else bare)
        if match[1] is None and bare.upper() == "NULL":
            items[-1] = None
        at = match.end()
    return items
