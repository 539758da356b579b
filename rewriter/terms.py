"""terms: a compiled expression: its SQL for the engine, its Postgres type and the range of its values.

Numbers have one of two forms in the engine. *Exact*: an integer of `10**-scale` units in an INTEGER, BIGINT
or HUGEINT that the range proves wide enough, so that no row can make it overflow. *Floating*: a DOUBLE, whose
row by row arithmetic gives the same bits for the same row; it is never summed as such: `units` makes integers
of it first. A floating range is exact arithmetic over the bounds, so rounding may pass it by a few ulps.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, replace
from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction
from typing import Final

from policies.model import Column as PolicyColumn
from policies.sqltype import DATE, SqlType
from rewriter.plan import Constant
from rewriter.refusal import Refusal

WIDTHS: Final = {32: "INTEGER", 64: "BIGINT", 128: "HUGEINT"}
_WIDTH_BITS: Final = {
    32: 31,
    64: 62,
    128: 126,
}  # a bit short of the type, so that a sign or a rounding never tips over
EXPONENT_MAX: Final = 300  # decimal exponent of a constant: what is beyond has no DOUBLE
DIGITS_MAX: Final = 1000  # characters of a number
_DIGITS: Final = Context(prec=DIGITS_MAX)  # Python's default would round to 28 digits
SCALE_MAX: Final = 18  # decimal digits of an exact intermediate; beyond, the term turns floating
FIXED_POINT: Final = 2**40  # units of 1 in the integer form of a floating number
UNIT_BITS_MAX: Final = 126  # a unit's whole contribution, in units, stays below 2**126


@dataclass(frozen=True, slots=True)
class Term:
    """SQL text with what is known of its value.

    Attributes:
        sql: an expression of the engine, safe to embed (parenthesised where needed).
        type: its Postgres type.
        nullable: False only if no row can make it NULL.
        scale: decimal digits of an exact number, None for every other term.
        low, high: least and greatest value of a number, None where unbounded (floating) or not a number.
        width: bits of the engine's integer for an exact number.
    """

    sql: str
    type: SqlType
    nullable: bool
    scale: int | None = None
    low: Fraction | None = None
    high: Fraction | None = None
    width: int = 64

    @property
    def magnitude(self) -> Fraction | None:
        """The largest absolute value, None where unbounded."""
        return None if self.low is None or self.high is None else max(abs(self.low), abs(self.high))


def quote(identifier: str) -> str:
    """Quote an identifier for the engine: always, since `at` and others are reserved words there."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: str) -> str:
    """Quote a text literal for the engine."""
    return "'" + value.replace("'", "''") + "'"


def exact(sql: str, type_: SqlType, nullable: bool, scale: int, low: Fraction, high: Fraction, width: int) -> Term:
    """An exact number whose `sql` is an integer of 10**-scale units of that width."""
    return Term(sql, type_, nullable, scale, low, high, width)


def width_for(scale: int, low: Fraction, high: Fraction) -> int | None:
    """The narrowest integer width for a range at a scale, None if no width holds it."""
    units = max(abs(low), abs(high)) * 10**scale
    return next((width for width, bits in _WIDTH_BITS.items() if units < 2**bits), None)


def column(sql: str, declared: PolicyColumn, nullable: bool) -> Term:
    """The term of a stored column: its range is what loading enforces."""
    if not declared.type.is_numeric:
        return Term(sql, declared.type, nullable)
    low, high = declared_range(declared)
    if declared.type.is_floating:
        return Term(sql, declared.type, nullable, None, low, high)
    assert low is not None
    assert high is not None
    return exact(sql, declared.type, nullable, declared.type.scale or 0, low, high, stored_width(declared.type))


def declared_range(declared: PolicyColumn) -> tuple[Fraction | None, Fraction | None]:
    """Declared bounds, the span of declared values, or the range of the type; None where there is none."""
    if declared.bounds is not None and declared.type.is_numeric:
        return Fraction(declared.bounds[0]), Fraction(declared.bounds[1])  # type: ignore[arg-type]
    if declared.values is not None and declared.type.is_numeric:
        numbers = [Fraction(str(value)) for value in declared.values]
        return min(numbers), max(numbers)
    return type_range(declared.type)


def type_range(type_: SqlType) -> tuple[Fraction, Fraction] | tuple[None, None]:
    """The least and greatest value of an exact type; None for floating ones and a numeric without precision."""
    bits = {"smallint": 15, "integer": 31, "bigint": 63}.get(type_.name)
    if bits is not None:
        return Fraction(-(2**bits)), Fraction(2**bits - 1)
    if type_.name == "numeric" and type_.precision is not None:
        top = Fraction(10**type_.precision - 1, 10 ** (type_.scale or 0))
        return -top, top
    return None, None


def stored_width(type_: SqlType) -> int:
    """Bits of the integer in which the vault stores an exact type."""
    if type_.name in ("smallint", "integer"):
        return 32
    return 64 if type_.name == "bigint" or (type_.precision or 0) <= 18 else 128


def stored_type(type_: SqlType) -> str:
    """The engine's type for a column of a policy type. Times are stored in UTC, numerics in units."""
    if type_.name == "numeric" or type_.is_integer:
        return WIDTHS[stored_width(type_)]
    names = {"boolean": "BOOLEAN", "date": "DATE", "timestamp": "TIMESTAMP", "timestamptz": "TIMESTAMP"}
    return "DOUBLE" if type_.is_floating else names.get(type_.name, "VARCHAR")


def constant(node: Constant) -> Term:
    """The term of a typed constant.

    Raises:
        Refusal: 22P02 or 22008, the text is not a value of the type.
    """
    if node.value is None:
        return Term(f"CAST(NULL AS {stored_type(node.type)})", node.type, True, *_null_range(node.type))
    value = node.value
    if node.type.name == "boolean":
        return Term("TRUE" if value == "true" else "FALSE", node.type, False)
    if node.type.is_floating:
        number = _finite(value, node.type)
        return Term(f"CAST('{number!r}' AS DOUBLE)", node.type, False, None, Fraction(number), Fraction(number))
    if node.type.is_numeric:
        return _exact_constant(value, node.type)
    if node.type.is_temporal:
        return Term(_temporal(value, node.type), node.type, False)
    # Spaces at the end of a char(n) do not count (Postgres docs, Character Types); the vault stores none.
    return Term(text(value.rstrip(" ") if node.type.name == "char" else value), node.type, False)


def parse_date(value: str) -> dt.date:
    """Read an ISO date, or refuse in Postgres' words (22007)."""
    try:
        return dt.date.fromisoformat(value.strip())
    except ValueError:
        raise Refusal("22007", f'invalid input syntax for type date: "{value}"', hint="Write YYYY-MM-DD.") from None


def parse_timestamp(value: str) -> dt.datetime:
    """Read an ISO timestamp as UTC without a zone, or refuse in Postgres' words (22007)."""
    try:
        moment = dt.datetime.fromisoformat(value.strip())
    except ValueError:
        raise Refusal(
            "22007",
            f'invalid input syntax for type timestamp: "{value}"',
            hint="Write YYYY-MM-DD HH:MM:SS.",
        ) from None
    try:
        return moment if moment.tzinfo is None else moment.astimezone(dt.UTC).replace(tzinfo=None)
    except OverflowError:
        raise Refusal("22008", f'timestamp out of range: "{value}"', hint="Years are 1 to 9999.") from None


_TRUE: Final = ("t", "tr", "tru", "true", "y", "ye", "yes", "on", "1")  # Postgres docs, Boolean Type
_FALSE: Final = ("f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0")


def truth(sql: str) -> str:
    """SQL that reads a text as Postgres reads a boolean, NULL where it is none."""
    true, false = (", ".join(map(text, words)) for words in (_TRUE, _FALSE))
    word = f"lower(trim({sql}))"
    return f"(CASE WHEN {word} IN ({true}) THEN TRUE WHEN {word} IN ({false}) THEN FALSE END)"


def widen(term: Term, width: int) -> str:
    """The SQL of an exact term in an integer of at least that width."""
    return term.sql if term.width >= width else f"CAST({term.sql} AS {WIDTHS[width]})"


def rescale(term: Term, scale: int) -> Term | None:
    """An exact term in finer units, None if no integer holds it."""
    assert term.scale is not None
    assert term.low is not None
    assert term.high is not None
    if scale == term.scale:
        return term
    width = width_for(scale, term.low, term.high)
    if width is None or not term.scale <= scale <= SCALE_MAX:
        return None
    sql = f"({widen(term, width)} * {10 ** (scale - term.scale)})"
    return replace(term, sql=sql, scale=scale, width=max(width, term.width))


def floating(term: Term) -> Term:
    """A number as a DOUBLE; its type stays what Postgres says."""
    if term.scale is None:
        return term
    sql = f"CAST({term.sql} AS DOUBLE)"
    return replace(term, sql=f"({sql} / 1e{term.scale})" if term.scale else sql, scale=None)


@dataclass(frozen=True, slots=True)
class Units:
    """A number as an integer that can be summed: `sql` is NULL where the number is.

    Ensures: |sql| <= magnitude on every row, whatever the row holds; `per_one` units make 1.
    """

    sql: str
    per_one: int
    magnitude: int


def units(term: Term, rows_max: int) -> Units:
    """The integer form of a number of which one unit sums at most `rows_max`, clipped where that could overflow.

    Floating numbers are put on the grid of 2**-40 toward zero: casts of the engine round, so `trunc` goes first.
    NaN counts as the greatest number, as in Postgres, and is clipped like infinities.
    """
    limit = 2**UNIT_BITS_MAX // (2 * max(1, rows_max)) - 1
    magnitude = term.magnitude
    if term.scale is not None:
        assert magnitude is not None
        whole = int(magnitude * 10**term.scale)
        if whole <= limit:
            return Units(term.sql, 10**term.scale, whole)
        sql = f"greatest(least({term.sql}, CAST({limit} AS HUGEINT)), CAST(-{limit} AS HUGEINT))"
        return Units(_keep_null(term, sql), 10**term.scale, limit)
    bound = Fraction(limit, FIXED_POINT) if magnitude is None else min(magnitude, Fraction(limit, FIXED_POINT))
    edge = _float_at_most(bound)
    top = int(Fraction(edge) * FIXED_POINT)
    width = "BIGINT" if top < 2**62 else "HUGEINT"
    clipped = f"greatest(least({term.sql}, {edge!r}::DOUBLE), {-edge!r}::DOUBLE)"
    sql = f"CAST(trunc({clipped} * {FIXED_POINT}::DOUBLE) AS {width})"
    return Units(_keep_null(term, sql), FIXED_POINT, top)


def _keep_null(term: Term, sql: str) -> str:
    """The engine's least and greatest ignore NULL: without this a NULL would count as the limit."""
    return f"(CASE WHEN {term.sql} IS NULL THEN NULL ELSE {sql} END)" if term.nullable else f"({sql})"


def _float_at_most(bound: Fraction) -> float:
    value = float(bound)
    return value if Fraction(value) <= bound else math.nextafter(value, -math.inf)


def _null_range(type_: SqlType) -> tuple[int | None, Fraction | None, Fraction | None, int]:
    """The range of nothing but NULLs; that of a number is [0, 0], so that NULL does not unbound a CASE."""
    if type_.is_integer or type_.name == "numeric":
        return type_.scale or 0, Fraction(0), Fraction(0), stored_width(type_)
    zero = Fraction(0) if type_.is_floating else None
    return None, zero, zero, 64


def _finite(value: str, type_: SqlType) -> float:
    try:
        number = float(value)
    except ValueError:
        raise Refusal("22P02", f'invalid input syntax for type {type_}: "{value}"') from None
    if number - number != 0:
        raise Refusal("22003", f'"{value}" is out of range for type {type_}')
    return number


def _exact_constant(value: str, type_: SqlType) -> Term:
    number = _decimal(value, type_)
    digits = number.normalize(_DIGITS).as_tuple().exponent
    assert isinstance(digits, int)
    if type_.is_integer and digits < 0:
        raise Refusal("22P02", f'invalid input syntax for type {type_}: "{value}"')
    exact_value = _rounded(Fraction(number), type_)
    low, high = type_range(type_)
    if low is not None and high is not None and not low <= exact_value <= high:
        raise Refusal("22003", f'value "{value}" is out of range for type {type_}')
    scale = max(0, -digits) if type_.scale is None else min(max(0, -digits), type_.scale)
    width = width_for(scale, exact_value, exact_value) if scale <= SCALE_MAX else None
    if width is None:
        return Term(f"CAST('{float(number)!r}' AS DOUBLE)", type_, False, None, exact_value, exact_value)
    units = exact_value * 10**scale
    return exact(f"CAST({units} AS {WIDTHS[width]})", type_, False, scale, exact_value, exact_value, width)


def _decimal(value: str, type_: SqlType) -> Decimal:
    """Read a number of ordinary size: 1e999999999 would be a gigabyte as an integer."""
    try:
        number = Decimal(value.strip())
    except InvalidOperation:
        raise Refusal("22P02", f'invalid input syntax for type {type_}: "{value}"') from None
    if not number.is_finite() or (number and abs(number.adjusted()) > EXPONENT_MAX) or len(value) > DIGITS_MAX:
        raise Refusal("22003", f"a value is out of range for type {type_}")
    return number


def _rounded(number: Fraction, type_: SqlType) -> Fraction:
    """Round half away from zero to the digits of a numeric(p,s)."""
    if type_.name != "numeric" or type_.scale is None:
        return number
    size = (abs(number) * 10**type_.scale + Fraction(1, 2)) // 1
    return Fraction(size if number >= 0 else -size, 10**type_.scale)


def _temporal(value: str, type_: SqlType) -> str:
    if type_ == DATE:
        return f"DATE {text(parse_date(value).isoformat())}"
    return f"TIMESTAMP {text(parse_timestamp(value).isoformat(sep=' '))}"
