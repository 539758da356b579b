"""sqltype: the SQL types a policy may declare, by their Postgres names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

NUMERIC_PRECISION_MAX: Final = 30
"""Digits of a numeric column. 10^30 < 2^100, so that a unit's 10^6 rows of it still sum below 2^126."""

_ALIASES: Final = {
    "bool": "boolean",
    "int2": "smallint",
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float": "double precision",
    "float8": "double precision",
    "double": "double precision",
    "decimal": "numeric",
    "character varying": "varchar",
    "character": "char",
    "bpchar": "char",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
}
_NAMES: Final = frozenset(
    {
        "boolean",
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "real",
        "double precision",
        "text",
        "varchar",
        "char",
        "date",
        "timestamp",
        "timestamptz",
    }
)
_FORM: Final = re.compile(r"^([a-z][a-z0-9 ]*?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?$")


@dataclass(frozen=True, slots=True)
class SqlType:
    """A Postgres type: its canonical name and, for numeric, varchar and char, its modifiers."""

    name: str
    precision: int | None = None
    scale: int | None = None

    @property
    def is_integer(self) -> bool:
        """True for smallint, integer and bigint."""
        return self.name in ("smallint", "integer", "bigint")

    @property
    def is_floating(self) -> bool:
        """True for real and double precision."""
        return self.name in ("real", "double precision")

    @property
    def is_numeric(self) -> bool:
        """True for every type that has arithmetic."""
        return self.is_integer or self.is_floating or self.name == "numeric"

    @property
    def is_text(self) -> bool:
        """True for text, varchar and char."""
        return self.name in ("text", "varchar", "char")

    @property
    def is_temporal(self) -> bool:
        """True for date, timestamp and timestamptz."""
        return self.name in ("date", "timestamp", "timestamptz")

    def __str__(self) -> str:
        if self.precision is None:
            return self.name
        if self.scale is None:
            return f"{self.name}({self.precision})"
        return f"{self.name}({self.precision},{self.scale})"


BOOLEAN: Final = SqlType("boolean")
SMALLINT: Final = SqlType("smallint")
INTEGER: Final = SqlType("integer")
BIGINT: Final = SqlType("bigint")
DOUBLE: Final = SqlType("double precision")
NUMERIC: Final = SqlType("numeric")
TEXT: Final = SqlType("text")
DATE: Final = SqlType("date")
TIMESTAMP: Final = SqlType("timestamp")
TIMESTAMPTZ: Final = SqlType("timestamptz")


def parse(text: str) -> SqlType:
    """Read a type as a policy spells it, such as `bigint` or `numeric(12,2)`.

    Raises:
        ValueError: the name is unknown, or a modifier is missing, out of range or does not belong there.
    """
    match = _FORM.match(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a type")
    name = _ALIASES.get(match[1], match[1])
    if name not in _NAMES:
        raise ValueError(f"type {text!r} is not supported; one of {', '.join(sorted(_NAMES))}")
    first = None if match[2] is None else int(match[2])
    second = None if match[3] is None else int(match[3])
    if name == "numeric":
        return _numeric(text, first, second)
    if first is not None and (name not in ("varchar", "char") or second is not None or first < 1):
        raise ValueError(f"{text!r}: {name} does not take these modifiers")
    return SqlType(name, first)


def _numeric(text: str, precision: int | None, scale: int | None) -> SqlType:
    if precision is None:
        raise ValueError(f"{text!r} needs a precision and a scale, such as numeric(12,2)")
    if not 1 <= precision <= NUMERIC_PRECISION_MAX:
        raise ValueError(f"{text!r}: the precision is 1 to {NUMERIC_PRECISION_MAX}")
    if not 0 <= (scale or 0) <= precision:
        raise ValueError(f"{text!r}: the scale is 0 to the precision")
    return SqlType("numeric", precision, scale or 0)
