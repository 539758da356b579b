"""textform: Arrow columns and single values -> Postgres' text form, as its output functions print them.

Arrow prints most values alike; where it does not (exponents, infinities, trailing zeros, years outside 1 to 9999)
the differences are mended for the whole column at once, or value by value where such values are rare.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pgproxy import oids

Column: TypeAlias = "pa.Array[Any]"
Mask: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

EPOCH_DAYS: Final = 10_957
"""Days from 1970-01-01, where Arrow counts from, to 2000-01-01, where Postgres does."""

_DAY_US: Final = 86_400_000_000
# 0001-01-01 and 9999-12-31 in days: Arrow prints years in between as Postgres does.
_COMMON_DAYS: Final = (-719_162, 2_932_896)


def text_column(column: Column, oid: int) -> Column:
    """The text form of every value, as an Arrow string column with the same NULLs.

    Args:
        column: of the Arrow type that enclave.answer.Answer names for the OID, or already text.
        oid: type of the result column.
    """
    kind = column.type
    if pa.types.is_string(kind):
        return column
    if pa.types.is_null(kind) or _is_text(kind):
        return column.cast(pa.string())
    if pa.types.is_boolean(kind):
        letters: Column = pc.if_else(column, "t", "f")
        return letters
    if pa.types.is_floating(kind):
        return _floats(column, 15 if kind == pa.float64() else 6)
    if pa.types.is_decimal(kind):
        return _decimals(column)
    if pa.types.is_date(kind):
        return _dates(column.cast(pa.date32()))
    if pa.types.is_timestamp(kind):
        return _timestamps(column, "+00" if oid == oids.TIMESTAMPTZ else "")
    return column.cast(pa.string())


def float_text(value: float, digits_fixed: int = 15) -> str:
    """A double (digits_fixed 15) or a real (6) as float8out and float4out print it with extra_float_digits 1."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return _placed(_shortest(value, digits_fixed), digits_fixed)


def date_text(days: int) -> str:
    """Days since 1970-01-01 as date_out prints them in ISO style."""
    year, month, day = _civil(days)
    return f"{_year(year)}-{month:02}-{day:02}{_era(year)}"


def timestamp_text(micros: int, offset: str = "") -> str:
    """Microseconds since 1970-01-01 as timestamp_out (offset "") and timestamptz_out (e.g. "+00") print them."""
    days, rest = divmod(micros, _DAY_US)
    year, month, day = _civil(days)
    seconds, fraction = divmod(rest, 1_000_000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    tail = f".{fraction:06}".rstrip("0") if fraction else ""
    return f"{_year(year)}-{month:02}-{day:02} {clock}{tail}{offset}{_era(year)}"


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type) or pa.types.is_string(kind.value_type)
    return pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _floats(column: Column, digits_fixed: int) -> Column:
    """Both print the shortest digits that read back; they differ in when an exponent appears, and in its form."""
    text = column.cast(pa.string())
    size = np.abs(column.fill_null(1).to_numpy(zero_copy_only=False))
    with np.errstate(invalid="ignore"):
        plain = (size >= 1e-4) & (size < (1e9 if digits_fixed == 15 else 1e6)) | (size == 0)
    return _mended(text, plain, lambda row: float_text(column[row].as_py(), digits_fixed))


def _decimals(column: Column) -> Column:
    """Arrow turns to exponents for small values (1.000E-7), Postgres never does."""
    text = column.cast(pa.string())
    plain = ~pc.match_substring(text, "E").fill_null(False).to_numpy(zero_copy_only=False)
    return _mended(text, plain, lambda row: f"{column[row].as_py():f}")


def _dates(column: Column) -> Column:
    days = column.cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False)
    plain = (days >= _COMMON_DAYS[0]) & (days <= _COMMON_DAYS[1])
    return _mended(column.cast(pa.string()), plain, lambda row: date_text(int(days[row])))


def _timestamps(column: Column, offset: str) -> Column:
    micros_column = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())
    micros = micros_column.fill_null(0).to_numpy(zero_copy_only=False)
    plain = (micros >= _COMMON_DAYS[0] * _DAY_US) & (micros < (_COMMON_DAYS[1] + 1) * _DAY_US)
    text = micros_column.cast(pa.timestamp("us")).cast(pa.string())
    trimmed = pc.utf8_rtrim(pc.utf8_rtrim(text, "0"), ".")
    if offset:
        trimmed = pc.binary_join_element_wise(trimmed, pa.scalar(offset), pa.scalar(""))  # type: ignore[call-overload]
    return _mended(trimmed, plain, lambda row: timestamp_text(int(micros[row]), offset))


def _mended(text: Column, plain: Mask, mend: Callable[[int], str]) -> Column:
    """Replace the values that are not plain, one by one."""
    rows = np.flatnonzero(~plain)
    if not len(rows):
        return text
    mask = pa.array(~plain)
    valid = text.is_valid().to_numpy(zero_copy_only=False)
    mended = pa.array([mend(row) if valid[row] else None for row in rows.tolist()], pa.string())
    result: Column = pc.replace_with_mask(text, mask, mended)
    return result


def _shortest(value: float, digits_fixed: int) -> str:
    """The shortest digits between, and never on, the middles to the neighbouring floats.

    Python accepts a middle where rounding to even brings it back; Postgres does not (STRICTLY_SHORTEST in d2s.c is
    0): 68004168354023696 keeps all its digits. Below 2^53 (2^24) a middle has too many digits to be met.
    """
    double = digits_fixed == 15
    digits = repr(value) if double else str(np.float32(value))
    if abs(value) < (2**53 if double else 2**24):
        return digits
    exact, neighbour = Fraction(abs(value)), math.nextafter if double else _next_real
    below = (exact + Fraction(neighbour(abs(value), 0.0))) / 2
    beyond = neighbour(abs(value), math.inf)
    above = (exact + Fraction(beyond)) / 2 if math.isfinite(beyond) else 2 * exact - below
    candidates = (digits, *(f"{value:.{count}e}" for count in range(17)))
    return next(text for text in candidates if below < abs(Fraction(text)) < above)


def _next_real(value: float, towards: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.nextafter(np.float32(value), np.float32(towards)))


def _placed(digits: str, digits_fixed: int) -> str:
    """Put point and exponent of the shortest digits where double_to_shortest_decimal_buf (d2s.c) does."""
    sign, figures, exponent = Decimal(digits).as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, figures)).rstrip("0") or "0"
    point = len(figures) + exponent  # digits before the point
    minus = "-" if sign else ""
    if text == "0":
        return minus + "0"
    if not -4 <= point - 1 < digits_fixed:
        mantissa = text[0] + ("." + text[1:] if len(text) > 1 else "")
        return f"{minus}{mantissa}e{'-' if point < 1 else '+'}{abs(point - 1):02}"
    if point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    if len(text) <= point:
        return minus + text.ljust(point, "0")
    return f"{minus}{text[:point]}.{text[point:]}"


def _civil(days: int) -> tuple[int, int, int]:
    """Proleptic Gregorian year (0 is 1 BC), month and day (Hinnant, "chrono-Compatible Date Algorithms")."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1


def _year(year: int) -> str:
    return f"{year if year > 0 else 1 - year:04}"


def _era(year: int) -> str:
    return "" if year > 0 else " BC"
