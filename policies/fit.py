"""fit: do declared values and bounds fit the type of their column?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from policies.fields import DECIMALS_MAX
from policies.model import Column, Policy
from policies.problem import Finding, Path
from policies.sqltype import SqlType

VALUES_MAX: Final = 100_000
"""Groups that an answer over declared keys may have at most."""
INTEGER_BITS: Final = {"smallint": 16, "integer": 32, "bigint": 64}
FLOATING_BITS: Final = 86
"""Doubles are held in fixed point: |value| * 2^40 must stay below 2^126."""


def values(policy: Policy) -> Iterator[Finding]:
    """Declared values are of the column's type, each once, on text and integer columns."""
    for path, column in _columns(policy):
        if column.values is not None:
            yield from _values((*path, "values"), column.type, column.values)


def bounds(policy: Policy) -> Iterator[Finding]:
    """Declared bounds are of the column's type and in its range, lower one first, on numbers and times."""
    for path, column in _columns(policy):
        if column.bounds is not None:
            yield from _bounds((*path, "bounds"), column.type, column.bounds)


def type_range(kind: SqlType) -> tuple[int | Decimal, int | Decimal] | None:
    """Give the lowest and highest number of a type, or None if it is no number."""
    if kind.is_integer:
        half = 2 ** (INTEGER_BITS[kind.name] - 1)
        return -half, half - 1
    if kind.is_floating:
        return Decimal(-(2**FLOATING_BITS) + 1), Decimal(2**FLOATING_BITS - 1)
    if kind.name == "numeric" and kind.precision is not None:
        # A tuple, not arithmetic: that would round to the context's 28 digits.
        nines = (9,) * kind.precision
        return Decimal((1, nines, -(kind.scale or 0))), Decimal((0, nines, -(kind.scale or 0)))
    return None


def _columns(policy: Policy) -> Iterator[tuple[Path, Column]]:
    for table_name, table in policy.tables.items():
        for name, column in table.columns.items():
            yield ("tables", table_name, "columns", name), column


def _values(path: Path, kind: SqlType, given: tuple[str | int, ...]) -> Iterator[Finding]:
    reads = ((*path[:-1], "type"),)
    if not (kind.is_text or kind.is_integer):
        hint = "its values are known" if kind.name == "boolean" else "give bounds"
        yield Finding(path, f"are for text and integer columns, not {kind}: {hint}", reads)
        return
    if not 1 <= len(given) <= VALUES_MAX:
        yield Finding(path, f"must be 1 to {VALUES_MAX} values")
    seen: set[str | int] = set()
    for position, value in enumerate(given):
        misfit = _text_misfit(kind, value) if kind.is_text else _number_misfit(kind, value)
        if misfit is not None:
            yield Finding((*path, position), misfit, reads)
        elif value in seen:
            yield Finding((*path, position), "is in the list twice")
        seen.add(value)


def _bounds(path: Path, kind: SqlType, given: tuple[object, object]) -> Iterator[Finding]:
    reads = ((*path[:-1], "type"),)
    if not (kind.is_numeric or kind.is_temporal):
        yield Finding(path, f"are for numbers, dates and timestamps, not {kind}: give values", reads)
        return
    misfits = [_time_misfit(kind, bound) if kind.is_temporal else _number_misfit(kind, bound) for bound in given]
    for position, misfit in enumerate(misfits):
        if misfit is not None:
            yield Finding((*path, position), misfit, reads)
    low, high = given
    if misfits == [None, None] and low > high:  # type: ignore[operator] # both fit one type
        yield Finding(path, "the lower bound comes first")


def _text_misfit(kind: SqlType, value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be a text in quotes, as the column is {kind}"
    if "\0" in value:
        return "a text in Postgres cannot hold the character NUL"
    if kind.precision is not None and len(value) > kind.precision:
        return f"is longer than {kind} allows"
    return None


def _number_misfit(kind: SqlType, value: object) -> str | None:
    wanted = int if kind.is_integer else Decimal
    if not isinstance(value, wanted):
        return f"must be a {'whole ' if kind.is_integer else ''}number without quotes, as the column is {kind}"
    if isinstance(value, Decimal) and not value.is_finite():
        return "must be a finite number of ordinary size"
    limits = type_range(kind)
    if limits is None or not limits[0] <= value <= limits[1]:
        return f"is outside the range of {kind}"
    if isinstance(value, Decimal) and decimals(value) > (kind.scale if kind.scale is not None else DECIMALS_MAX):
        return f"has more digits after the point than {kind} allows"
    return None


def decimals(value: Decimal) -> int:
    """Count the digits after the point that matter, of a finite number: 2 for 1.250."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if not value:
        return 0
    digits = "".join(map(str, value.as_tuple().digits))
    return max(0, -exponent - (len(digits) - len(digits.rstrip("0"))))


def _time_misfit(kind: SqlType, value: object) -> str | None:
    match kind.name, value:
        case "timestamp", datetime() if value.tzinfo is None:
            return None
        case "timestamptz", datetime() if value.tzinfo is not None:
            return None
        case "date", date() if not isinstance(value, datetime):
            return None
    example = {
        "date": "2020-12-31",
        "timestamp": "2020-12-31T23:59:59",
        "timestamptz": "2020-12-31T23:59:59Z",
    }[kind.name]
    return f"must be like {example} without quotes, as the column is {kind}"
