"""oids: Postgres' built-in types by their OIDs (pg_type.dat), as far as the wire needs to know them."""

from __future__ import annotations

from typing import Final

BOOL: Final = 16
BYTEA: Final = 17
CHAR: Final = 18  # "char", one byte
NAME: Final = 19
INT8: Final = 20
INT2: Final = 21
INT2VECTOR: Final = 22
INT4: Final = 23
REGPROC: Final = 24
TEXT: Final = 25
OID: Final = 26
XID: Final = 28
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
UUID: Final = 2950

TEXTUAL: Final = frozenset({CHAR, NAME, TEXT, JSON, UNKNOWN, BPCHAR, VARCHAR})
"""Types whose binary form is their text form in UTF-8."""

ELEMENTS: Final = {
    INT2VECTOR: INT2,
    OIDVECTOR: OID,
    1000: BOOL,
    1002: CHAR,
    1003: NAME,
    1005: INT2,
    1007: INT4,
    1009: TEXT,
    1014: BPCHAR,
    1015: VARCHAR,
    1016: INT8,
    1021: FLOAT4,
    1022: FLOAT8,
    1028: OID,
    1115: TIMESTAMP,
    1182: DATE,
    1185: TIMESTAMPTZ,
    1231: NUMERIC,
    2210: REGCLASS,
    2211: REGTYPE,
}
"""Array type -> type of its elements."""

_BYTES: Final = {
    BOOL: 1,
    CHAR: 1,
    NAME: 64,
    INT8: 8,
    INT2: 2,
    INT4: 4,
    REGPROC: 4,
    OID: 4,
    XID: 4,
    FLOAT4: 4,
    FLOAT8: 8,
    UNKNOWN: -2,
    DATE: 4,
    TIME: 8,
    TIMESTAMP: 8,
    TIMESTAMPTZ: 8,
    INTERVAL: 16,
    REGCLASS: 4,
    REGTYPE: 4,
    UUID: 16,
}


def type_bytes(oid: int) -> int:
    """pg_type.typlen: bytes of a value, -1 where they vary, -2 for a C string."""
    return _BYTES.get(oid, -1)
