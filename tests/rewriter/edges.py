"""edges: one column of every type, filled with the values at which arithmetic goes wrong, on the real engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import duckdb

from enclave import tables
from enclave.clear.vault import connect
from policies import sqltype
from policies.model import Column as PolicyColumn
from rewriter.functions import evaluate
from rewriter.plan import Call, Cast, Column, Constant, Expression, columns
from rewriter.terms import WIDTHS, Term, quote, text
from rewriter.terms import column as column_term

MOMENTS: Final = (
    "0001-01-01",
    "0001-12-31",
    "1899-12-31",
    "1900-03-01",
    "1969-12-31 23:59:59.999999",
    "1970-01-01",
    "2000-12-31",
    "2001-01-01 00:00:00.000001",
    "2021-01-03 12:34:56.789",
    "2024-02-29 23:59:59.5",
    "9999-12-31 23:59:59.999999",
    None,
)
TEXTS: Final = (
    None, "", "a", "ab", "abc", "it's", 'q"', "é", "日本語", "%", "_", "a%b", "a\\b", "A", " 12 ", "-7", "1.5", "1e3",
    "0x1f", "9223372036854775807", "9223372036854775808", "2024-02-29", "2023-02-29", "infinity", "-infinity", "nan",
    "1e400", "true", "YES", "of", "o", "0", "2021-01-03 12:34:56", "99999-01-01", "a  ",
)  # fmt: skip
FLOATS: Final = (
    "0",
    "-0.0",
    "1",
    "-1",
    "0.5",
    "1.5",
    "2.5",
    "-2.5",
    "0.1",
    "1e308",
    "-1e308",
    "5e-324",
    "1e17",
    None,
)

# column: type, bounds, raw values
COLUMNS: Final[Mapping[str, tuple[str, tuple[Any, Any] | None, Sequence[str | None]]]] = {
    "i2": ("smallint", None, ("0", "1", "-1", "7", "-7", "32767", "-32768", None)),
    "i4": ("integer", None, ("0", "1", "-1", "7", "-7", "2147483647", "-2147483648", None)),
    "i8": ("bigint", None, ("0", "1", "-1", "3", str(2**53 + 1), str(2**63 - 1), str(-(2**63)), None)),
    "days": ("integer", (-3, 14), ("0", "1", "-1", "7", "-3", "14")),
    "n62": ("numeric(6,2)", None, ("0", "0.01", "-0.01", "0.5", "2.5", "-2.5", "9999.99", "-9999.99", None)),
    "n30": ("numeric(30,0)", None, ("0", "1", "-1", "9" * 30, "-" + "9" * 30, None)),
    "n29": ("numeric(30,29)", None, ("0", "0." + "0" * 28 + "1", "9." + "9" * 29, "-9." + "9" * 29, None)),
    "n55": ("numeric(5,5)", None, ("0", "0.99999", "-0.99999", "0.50000", None)),
    "f8": ("double precision", None, FLOATS),
    "fb": ("double precision", (Decimal("0.3"), Decimal("2.5")), ("0.3", "2.5", "0.7", "1")),
    "s": ("text", None, TEXTS),
    "v2": ("varchar(2)", None, TEXTS),
    "c3": ("char(3)", None, TEXTS),
    "d": ("date", None, [None if moment is None else moment[:10] for moment in MOMENTS]),
    "ts": ("timestamp", None, MOMENTS),
    "tz": ("timestamptz", None, MOMENTS),
    "b": ("boolean", None, ("true", "false", None)),
}
DECLARED: Final = {
    name: PolicyColumn(type=sqltype.parse(kind), bounds=bounds, not_null=None not in values)  # type: ignore[arg-type]
    for name, (kind, bounds, values) in COLUMNS.items()
}


def col(name: str) -> Column:
    return Column("e", name)


def const(kind: str, value: str | None) -> Constant:
    return Constant(sqltype.NUMERIC if kind == "numeric" else sqltype.parse(kind), value)


def lit(value: str | None) -> Constant:
    return const("text", value)


def num(value: str) -> Constant:
    """A number as the parser types it."""
    return const("numeric" if "." in value or "e" in value else "integer", value)


def call(operator: str, *arguments: Expression) -> Call:
    return Call(operator, arguments)


def to(kind: str, argument: Expression) -> Cast:
    return Cast(argument, sqltype.NUMERIC if kind == "numeric" else sqltype.parse(kind))


def term(expression: Expression) -> Term:
    return evaluate(
        expression, lambda c: column_term(f"e.{quote(c.name)}", DECLARED[c.name], not DECLARED[c.name].not_null)
    )


class Edges:
    """The columns on an engine: one table for each, and `wide`, which has them all side by side."""

    def __init__(self) -> None:
        self.connection: duckdb.DuckDBPyConnection = connect(threads=1)
        height = 3 * max(len(values) for _, _, values in COLUMNS.values())
        for name, (kind, _, values) in COLUMNS.items():
            rows = ", ".join(f"({'NULL' if v is None else text(v)})" for v in values)
            stored = tables.stored("v", sqltype.parse(kind))
            self.connection.execute(
                f"CREATE TABLE t_{name} AS SELECT {stored} AS {quote(name)} FROM (VALUES {rows}) t(v)"
            )
            # strides that share no factor with the lengths put every two columns together in many ways
            stride = 1 + len(self.connection.execute("SHOW TABLES").fetchall()) % 5
            wide = ", ".join(f"({n}, {(n * stride) % len(values)})" for n in range(height))
            self.connection.execute(
                f"CREATE TABLE w_{name} AS SELECT w.n, t.{quote(name)} FROM (VALUES {wide}) w(n, place) "
                f"JOIN (SELECT row_number() OVER () - 1 AS place, * FROM t_{name}) t USING (place)"
            )
        joined = " JOIN ".join(f"w_{name}" + (" USING (n)" if place else "") for place, name in enumerate(COLUMNS))
        self.connection.execute(f"CREATE TABLE wide AS SELECT * FROM {joined}")

    def values(self, expressions: Sequence[Expression], source: str = "") -> list[tuple[Any, ...]]:
        """The value of each expression in each row, once it has been held against what its term says of it."""
        terms = [term(expression) for expression in expressions]
        used = sorted({column.name for expression in expressions for column in columns(expression)})
        product = " CROSS JOIN ".join(f"t_{name}" for name in used) or "(SELECT 1)"
        checked = ", ".join(f"{t.sql}, typeof({t.sql})" for t in terms)
        rows = self.connection.execute(f"SELECT {checked} FROM (SELECT * FROM {source or product}) e").fetchall()
        return [tuple(_value(t, row[2 * i], row[2 * i + 1]) for i, t in enumerate(terms)) for row in rows]

    def value(self, expression: Expression) -> Any:
        """The value of an expression without columns."""
        [(found,)] = self.values([expression])
        return found


def _value(found: Term, value: Any, engine_type: str) -> Any:
    """Hold a value against its term: type, range, NULL."""
    if value is None:
        assert found.nullable, found
        return None
    if found.scale is not None:
        assert isinstance(value, int), found
        number = Fraction(value, 10**found.scale)
        assert found.low is not None
        assert found.high is not None
        assert found.low <= number <= found.high, (found, value)
        sizes = {"INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
        assert sizes[engine_type] >= 32
        assert WIDTHS[found.width]
        assert abs(value) <= 2 ** (found.width - 1), found
        return number
    if found.type.is_numeric:
        assert engine_type == "DOUBLE", found
        _check_float(found, value)
    return value


def _check_float(found: Term, value: float) -> None:
    if found.low is None and found.high is None:
        return
    assert not math.isnan(value) or not _ordinary(found), found
    for end, sign in ((found.low, 1), (found.high, -1)):
        if end is not None and not math.isnan(value) and not math.isinf(value):
            assert sign * (Fraction(value) - end) >= -abs(found.magnitude or 0) / 10**12, (found, value)


def _ordinary(found: Term) -> bool:
    return found.magnitude is not None and found.magnitude < 10**300
