"""catalog_text: values that the catalogue's engine returned -> Arrow columns as an Answer carries them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from enclave.public.catalog_types import (
    BOOL,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT2VECTOR,
    INT4,
    INT8,
    INTERVAL,
    OID,
    OIDVECTOR,
    REG_TYPES,
    TIMESTAMP,
    TIMESTAMPTZ,
    type_of,
)

_ARROW: Final[Mapping[int, pa.DataType]] = {
    BOOL: pa.bool_(),
    INT2: pa.int16(),
    INT4: pa.int32(),
    INT8: pa.int64(),
    OID: pa.int64(),
    FLOAT4: pa.float32(),
    FLOAT8: pa.float64(),
    DATE: pa.date32(),
    TIMESTAMP: pa.timestamp("us"),
    TIMESTAMPTZ: pa.timestamp("us", tz="UTC"),
}
_PLAIN_ELEMENT: Final = re.compile(r'[^\s",{}\\]+')


def arrow_type(oid: int) -> pa.DataType:
    """The Arrow type that an Answer's column of this type has."""
    return _ARROW.get(oid, pa.string())


def column(values: pa.ChunkedArray[Any], oid: int, reg_out: Callable[[int, int], str]) -> pa.Array[Any]:
    """Turn the engine's column into an Answer's.

    Args:
        values: as the engine returned it.
        oid: the Postgres type.
        reg_out: (reg type, OID) -> its name, for regclass and its kin.
    """
    target = arrow_type(oid)
    if target != pa.string():
        return values.combine_chunks().cast(target)
    texts = [None if value is None else text(value, oid, reg_out) for value in values.to_pylist()]
    return pa.array(texts, type=pa.string())


def text(value: object, oid: int, reg_out: Callable[[int, int], str]) -> str:
    """Write one value as Postgres' output function of its type does."""
    kind = type_of(oid)
    match value:
        case list():
            return _vector(value) if oid in (INT2VECTOR, OIDVECTOR) else _array(value, kind.element, reg_out)
        case dict():
            return "(" + ",".join(_field(item) for item in value.values()) + ")"
        case bool():
            return "t" if value else "f"
        case int() if oid in REG_TYPES:
            return reg_out(oid, value)
        case Decimal():
            return _decimal(value)
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        case datetime():
            return value.isoformat(" ")
        case tuple() if oid == INTERVAL:
            return _interval(*value)
        case _:
            return str(value)


def _vector(values: list[object]) -> str:
    return " ".join(str(value) for value in values)


def _array(values: list[object], element: int, reg_out: Callable[[int, int], str]) -> str:
    return "{" + ",".join(_element(value, element, reg_out) for value in values) + "}"


def _element(value: object, oid: int, reg_out: Callable[[int, int], str]) -> str:
    if value is None:
        return "NULL"
    shown = text(value, oid, reg_out)
    if _PLAIN_ELEMENT.fullmatch(shown) and shown.upper() != "NULL":
        return shown
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _field(value: object) -> str:
    """A field of a composite value (Postgres docs, Composite Types)."""
    if value is None:
        return ""
    shown = ("t" if value else "f") if isinstance(value, bool) else str(value)
    return shown if re.fullmatch(r'[^\s",()\\]+', shown) else '"' + shown.replace('"', '""') + '"'


def _decimal(value: Decimal) -> str:
    return f"{value:f}"


def _interval(months: int, days: int, nanoseconds: int) -> str:
    """IntervalStyle postgres (Postgres docs, Interval Output)."""
    years, months = int(months / 12), months - 12 * int(months / 12)
    parts = [
        f"{count} {unit}{'' if count == 1 else 's'}"
        for count, unit in ((years, "year"), (months, "mon"), (days, "day"))
        if count
    ]
    if nanoseconds or not parts:
        seconds, micro = divmod(abs(nanoseconds) // 1000, 1_000_000)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        fraction = f".{micro:06}".rstrip("0") if micro else ""
        parts.append(("-" if nanoseconds < 0 else "") + clock + fraction)
    return " ".join(parts)
