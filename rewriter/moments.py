"""moments: date_trunc and extract over terms, with the units and fields that there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final

from policies.sqltype import (
    NUMERIC,
    TIMESTAMP,
    TIMESTAMPTZ,
)
from rewriter.refusal import Refusal
from rewriter.terms import (
    Term,
    exact,
)

Operator = Callable[[Sequence[Term]], Term]

TRUNCATIONS: Final = (
    "microseconds",
    "milliseconds",
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "quarter",
    "year",
    "decade",
    "century",
)


FIELDS: Final[dict[str, tuple[str, int, int, int]]] = {
    # field: SQL over {x}, scale, least, greatest value in units (Postgres docs, Date/Time Functions, 9.9.1)
    "year": ("extract(year FROM {x})", 0, -300_000, 300_000),
    "quarter": ("extract(quarter FROM {x})", 0, 1, 4),
    "month": ("extract(month FROM {x})", 0, 1, 12),
    "week": ("extract(week FROM {x})", 0, 1, 53),
    "day": ("extract(day FROM {x})", 0, 1, 31),
    "dow": ("extract(dow FROM {x})", 0, 0, 6),
    "isodow": ("extract(isodow FROM {x})", 0, 1, 7),
    "doy": ("extract(doy FROM {x})", 0, 1, 366),
    "isoyear": ("extract(isoyear FROM {x})", 0, -300_000, 300_000),
    "hour": ("extract(hour FROM {x})", 0, 0, 23),
    "minute": ("extract(minute FROM {x})", 0, 0, 59),
    "second": ("extract(microsecond FROM {x})", 6, 0, 60_000_000),
    "epoch": ("epoch_us({x})", 6, -(2**62), 2**62),
}


def date_trunc(terms: Sequence[Term]) -> Term:
    """`date_trunc(unit, x)`; of a date it is a timestamptz, as in Postgres, whose zone here is UTC."""
    unit, value = terms
    if not value.type.is_temporal:
        raise Refusal("42883", f"function date_trunc(unknown, {value.type}) does not exist")
    type_ = TIMESTAMP if value.type == TIMESTAMP else TIMESTAMPTZ
    moment = f"CAST({value.sql} AS TIMESTAMP)"
    if unit.sql == "'century'":  # Postgres' begin in 1901 and 2001, the engine's in 1900 and 2000
        shifted = f"date_trunc('century', {moment} - INTERVAL 1 YEAR)"
        return Term(f"({shifted} + INTERVAL 1 YEAR)", type_, value.nullable)
    return Term(f"date_trunc({unit.sql}, {moment})", type_, value.nullable)


def extract(field: str) -> Operator:
    """`extract(field FROM x)`: the operator of one field."""
    form, scale, low, high = FIELDS[field]

    def extract(terms: Sequence[Term]) -> Term:
        value = terms[0]
        if not value.type.is_temporal:
            raise Refusal("42883", f"function pg_catalog.extract(unknown, {value.type}) does not exist")
        sql = form.format(x=f"CAST({value.sql} AS TIMESTAMP)")
        unit = 10**scale
        return exact(sql, NUMERIC, value.nullable, scale, Fraction(low, unit), Fraction(high, unit), 64)

    return extract
