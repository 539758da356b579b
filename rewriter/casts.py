"""casts: a term of one type -> a term of another; what cannot be cast is NULL."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Final

from policies.sqltype import (
    BOOLEAN,
    DATE,
    INTEGER,
    NUMERIC,
    TIMESTAMP,
    SqlType,
)
from rewriter.refusal import Refusal
from rewriter.terms import (
    WIDTHS,
    Term,
    exact,
    floating,
    rescale,
    stored_type,
    stored_width,
    truth,
    type_range,
    widen,
    width_for,
)


def cast(term: Term, target: SqlType) -> Term:
    """`CAST(term AS target)`; a value that cannot be cast is NULL.

    Raises:
        Refusal: 42846, Postgres has no such cast or this engine none that is total.
    """
    source = term.type
    if source == target:
        return term
    if target.is_numeric and source.is_numeric:
        return _cast_number(term, target)
    if target.is_numeric and source == BOOLEAN and target == INTEGER:
        return exact(f"CAST({term.sql} AS INTEGER)", target, term.nullable, 0, Fraction(0), Fraction(1), 32)
    if target.is_text and source.is_text:
        return replace(term, sql=_as_text(term.sql, target), type=target)
    if target.is_text and (source.is_integer or source in (DATE, BOOLEAN)):
        return Term(_as_text(f"CAST({term.sql} AS VARCHAR)", target), target, term.nullable)
    if target.is_temporal and source.is_temporal:
        if stored_type(source) == stored_type(target):
            return replace(term, type=target)
        return Term(f"CAST({term.sql} AS {stored_type(target)})", target, term.nullable)
    if source.is_text and (target.is_integer or target in (DATE, TIMESTAMP, BOOLEAN) or target.is_floating):
        return _cast_text(term, target)
    raise Refusal("42846", f"cannot cast type {source} to {target}")


def _as_text(sql: str, target: SqlType) -> str:
    """Cut to the length of a varchar(n) or char(n); spaces at the end of a char(n) do not count."""
    cut = f"left({sql}, {target.precision})" if target.precision else sql
    return f"rtrim({cut})" if target.name == "char" else cut


def _cast_number(term: Term, target: SqlType) -> Term:
    """Rounds half away from zero from exact sources, half to even from floating ones, as Postgres does."""
    if target.is_floating:
        return replace(floating(term), type=target)
    if target == NUMERIC:
        return replace(term, type=target)
    scale = target.scale or 0
    if term.scale is not None and term.scale > scale:
        return _round_exact(term, scale, target)
    finer = None if term.scale is None else rescale(term, scale)
    if finer is not None:
        return _in_range(replace(finer, type=target))
    width = stored_width(target)
    number = floating(term).sql
    sql = f"TRY_CAST(round_even({number} * 1e{scale}, 0) AS {WIDTHS[width]})"
    low, high = Fraction(-(2 ** (width - 1)), 10**scale), Fraction(2 ** (width - 1) - 1, 10**scale)
    return _in_range(exact(sql, target, True, scale, low, high, width))


def _in_range(term: Term) -> Term:
    """NULL where an exact number is beyond its type: Postgres fails there, and that would tell of a row."""
    low, high = type_range(term.type)
    assert low is not None and high is not None and term.low is not None and term.high is not None  # noqa: PT018
    if low <= term.low and term.high <= high:
        return term
    least, most = (f"CAST({end * 10 ** (term.scale or 0)} AS HUGEINT)" for end in (low, high))
    sql = f"(CASE WHEN {term.sql} BETWEEN {least} AND {most} THEN {term.sql} END)"
    clip = (max(low, min(high, end)) for end in (term.low, term.high))
    return replace(term, sql=sql, nullable=True, low=next(clip), high=next(clip))


def _round_exact(term: Term, scale: int, target: SqlType) -> Term:
    assert term.scale is not None
    assert term.low is not None
    assert term.high is not None
    unit, step = 10 ** (term.scale - scale), Fraction(1, 10**scale)
    half, low, high = unit // 2, term.low - step, term.high + step
    width = width_for(term.scale, low, high)
    if width is None:
        return _cast_number(floating(term), target)
    width = max(width, term.width)
    sql = f"(({widen(term, width)} + (CASE WHEN {term.sql} < 0 THEN -{half} ELSE {half} END)) // {unit})"
    return _in_range(exact(sql, target, term.nullable, scale, low, high, width))


_WHOLE: Final = r"\s*[+-]?[0-9]+\s*"  # the engine alone would read '1.5', '1e3' and '0x1f' as integers too


def _cast_text(term: Term, target: SqlType) -> Term:
    sql = f"TRY_CAST({term.sql} AS {stored_type(target)})"
    if target.is_integer:
        whole = f"(CASE WHEN regexp_full_match({term.sql}, '{_WHOLE}') THEN {sql} END)"
        top, width = Fraction(2 ** (stored_width(target) - 1)), stored_width(target)
        return _in_range(exact(whole, target, True, 0, -top, top - 1, width))
    if target == BOOLEAN:
        sql = truth(term.sql)
    if target.is_temporal:  # the engine reads 'infinity', and years that overflow once cast to TIMESTAMP
        sql = f"(CASE WHEN {sql} BETWEEN '0001-01-01' AND '{_LAST[target.name]}' THEN {sql} END)"
    return Term(sql, target, True)


_LAST: Final = {"date": "9999-12-31", "timestamp": "9999-12-31 23:59:59.999999"}
