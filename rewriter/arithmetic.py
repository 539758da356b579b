"""arithmetic: + - * / % over terms, exact where an integer holds every result, total everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from policies.sqltype import (
    BIGINT,
    DATE,
    DOUBLE,
    INTEGER,
    NUMERIC,
    SqlType,
)
from rewriter.plan import Constant
from rewriter.refusal import Refusal
from rewriter.terms import (
    SCALE_MAX,
    Term,
    constant,
    exact,
    floating,
    rescale,
    widen,
    width_for,
)


def equates_exactly(left: Term, right: Term) -> bool:
    """True if `left = right` can hold for one value of either side only, given the other.

    Comparing a whole number with a double, or numerics too wide for one scale, compares doubles: then one value
    equals many keys, and a join on a declared key meets several rows.
    """
    if not (left.type.is_numeric and right.type.is_numeric):
        return True
    return (left.scale is None and right.scale is None) or same_numbers((left, right))[1]


def same_numbers(terms: Sequence[Term]) -> tuple[list[Term], bool]:
    """Bring numbers to one form: exact at the finest scale where every one fits, else floating."""
    if all(term.scale is not None for term in terms):
        scale = max(term.scale or 0 for term in terms)
        finer = [rescale(term, scale) for term in terms]
        if all(term is not None for term in finer):
            return [term for term in finer if term is not None], True
    return [floating(term) for term in terms], False


def number_type(terms: Sequence[Term]) -> SqlType:
    """Postgres' result type of arithmetic over these numbers."""
    if any(term.type.is_floating for term in terms):
        return DOUBLE
    if any(term.type.name == "numeric" for term in terms):
        return NUMERIC
    return BIGINT if any(term.type == BIGINT for term in terms) else INTEGER


def check_numbers(name: str, terms: Sequence[Term], arity: int) -> None:
    """Refuse an operator that is not over this many numbers (42883)."""
    if len(terms) != arity or not all(term.type.is_numeric for term in terms):
        raise no_operator(name, terms)


def no_operator(name: str, terms: Sequence[Term]) -> Refusal:
    """Postgres' words for an operator that these types do not have."""
    types = ", ".join(str(term.type) for term in terms)
    return Refusal("42883", f"operator does not exist: {name} ({types})", hint="Add an explicit type cast.")


def add(terms: Sequence[Term], sign: str) -> Term:
    """`a + b` or `a - b` of numbers, `date - date` in days, `date + days`."""
    if sign == "-" and len(terms) == 2 and all(term.type == DATE for term in terms):
        days = Fraction(20_000_000)
        return exact(f"({terms[0].sql} - {terms[1].sql})", INTEGER, any_null(terms), 0, -days, days, 64)
    if len(terms) == 2 and terms[0].type == DATE and terms[1].type.is_integer:
        return _shift_date(terms[0], terms[1], sign)
    check_numbers(sign, terms, 2)
    (left, right), is_exact = same_numbers(terms)
    low = high = None
    if None not in (left.low, left.high, right.low, right.high):
        assert left.low is not None and right.low is not None and left.high is not None and right.high is not None  # noqa: PT018
        low = left.low + right.low if sign == "+" else left.low - right.high
        high = left.high + right.high if sign == "+" else left.high - right.low
    return _arithmetic(sign, left, right, is_exact, left.scale or 0, low, high, number_type(terms))


def _shift_date(date: Term, days: Term, sign: str) -> Term:
    """A date moved by at most 100,000 days: fifty of these on end stay in the engine's range of timestamps."""
    moved = f"CAST(greatest(least({days.sql}, 100000), -100000) AS INTEGER)"
    sql = f"CASE WHEN {days.sql} IS NULL THEN NULL ELSE {date.sql} {sign} {moved} END"
    return Term(f"({sql})", DATE, any_null((date, days)))


def multiply(terms: Sequence[Term]) -> Term:
    """`a * b` of numbers."""
    check_numbers("*", terms, 2)
    left, right = terms
    low = high = None
    if None not in (left.low, left.high, right.low, right.high):
        corners = [a * b for a in (left.low, left.high) for b in (right.low, right.high)]  # type: ignore[operator]
        low, high = min(corners), max(corners)
    scale = (left.scale or 0) + (right.scale or 0)
    is_exact = left.scale is not None and right.scale is not None and scale <= SCALE_MAX
    if not is_exact:
        left, right = floating(left), floating(right)
    return _arithmetic("*", left, right, is_exact, scale, low, high, number_type(terms))


def _arithmetic(
    sign: str,
    left: Term,
    right: Term,
    is_exact: bool,
    scale: int,
    low: Fraction | None,
    high: Fraction | None,
    type_: SqlType,
) -> Term:
    """Write `left sign right`, exact where an integer holds every possible result, else in DOUBLE."""
    nullable = left.nullable or right.nullable
    if is_exact and low is not None and high is not None:
        width = width_for(scale, low, high)
        if width is not None:
            width = max(width, left.width, right.width)
            sql = f"({widen(left, width)} {sign} {widen(right, width)})"
            return exact(sql, type_, nullable, scale, low, high, width)
    left, right = floating(left), floating(right)
    return Term(f"({left.sql} {sign} {right.sql})", type_, nullable, None, low, high)


def divide(terms: Sequence[Term]) -> Term:
    """Postgres' `/`: integers truncate toward zero. By zero it is NULL: an error would tell of a row."""
    check_numbers("/", terms, 2)
    left, right = terms
    if left.type.is_integer and right.type.is_integer and left.scale == 0 and right.scale == 0:
        magnitude = left.magnitude or Fraction(0)
        width = _roomy(left, right)
        sql = f"(CASE WHEN {right.sql} = 0 THEN NULL ELSE {widen(left, width)} // {widen(right, width)} END)"
        return exact(sql, number_type(terms), True, 0, -magnitude, magnitude, width)
    a, b = floating(left), floating(right)
    sql = f"(CASE WHEN {b.sql} = 0 THEN NULL ELSE {a.sql} / {b.sql} END)"
    return Term(sql, number_type(terms), True)


def modulo(terms: Sequence[Term]) -> Term:
    """`a % b`, with the sign of a as in Postgres. By zero it is NULL."""
    check_numbers("%", terms, 2)
    (left, right), is_exact = same_numbers(terms)
    if not is_exact:
        raise no_operator("%", terms)
    assert right.scale is not None
    width, magnitude = _roomy(left, right), right.magnitude or Fraction(0)
    sql = f"(CASE WHEN {right.sql} = 0 THEN NULL ELSE {widen(left, width)} % {widen(right, width)} END)"
    return exact(sql, number_type(terms), True, right.scale, -magnitude, magnitude, width)


def negate(terms: Sequence[Term]) -> Term:
    """`-a`."""
    zero = Constant(INTEGER, "0")
    check_numbers("-", terms, 1)
    return add([constant(zero), terms[0]], "-") if not terms[0].type.is_floating else _negate_double(terms[0])


def _negate_double(term: Term) -> Term:
    low = None if term.high is None else -term.high
    high = None if term.low is None else -term.low
    return replace(term, sql=f"(-{term.sql})", low=low, high=high)


def absolute(terms: Sequence[Term]) -> Term:
    """`abs(a)`."""
    check_numbers("abs", terms, 1)
    term = terms[0]
    if term.scale is None:
        return replace(term, sql=f"abs({term.sql})", low=Fraction(0), high=term.magnitude)
    width = _roomy(term)
    return replace(term, sql=f"abs({widen(term, width)})", low=Fraction(0), high=term.magnitude, width=width)


def _roomy(*terms: Term) -> int:
    """A width in which the operands' negatives exist too: abs, // and % of the least BIGINT overflow in BIGINT."""
    needed = [width_for(t.scale or 0, t.low or Fraction(0), t.high or Fraction(0)) or 128 for t in terms]
    return max(64, *needed, *(term.width for term in terms))


def any_null(terms: Sequence[Term]) -> bool:
    """True if one of the terms can be NULL."""
    return any(term.nullable for term in terms)
