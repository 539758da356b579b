"""parameters: the values of a Bind message -> Parameter in Postgres' text form."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from enclave.answer import Parameter
from pgproxy import oids, sqlstate
from pgproxy.binaryform import EPOCH_US
from pgproxy.codec import bad_utf8, utf8
from pgproxy.textform import EPOCH_DAYS, date_text, float_text, timestamp_text
from rewriter.refusal import Refusal

_NUMERIC_SIGNS: Final = {0: "", 0x4000: "-"}
_NUMERIC_SPECIAL: Final = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}
_DAY_MAX: Final = 2_147_483_494 - 2_451_545
"""The last day of Postgres' date type, counted from 2000-01-01 (DATE_END_JULIAN)."""


def bound_parameters(
    types: tuple[int, ...], formats: tuple[int, ...], values: tuple[bytes | None, ...]
) -> tuple[Parameter, ...]:
    """Read the values of a Bind.

    Args:
        types: OID of each parameter, 0 where nobody said.
        formats: none (all text), one for all, or one for each; 0 text, 1 binary.
        values: as many as `types`.

    Raises:
        Refusal: 22P03 bytes that are not of the type, 22021 not UTF-8, 0A000 a type without binary form here,
            22023 an unknown format, 08P01 a wrong number of formats.
    """
    if len(formats) > 1 and len(formats) != len(values):
        words = f"bind message has {len(formats)} parameter formats but {len(values)} parameters"
        raise Refusal(sqlstate.PROTOCOL_VIOLATION, words)
    each = spread(formats, len(values))
    return tuple(_parameter(number, *given) for number, given in enumerate(zip(types, each, values, strict=True), 1))


def spread(formats: tuple[int, ...], count: int) -> tuple[int, ...]:
    """One format code for each of `count` values or columns (Postgres docs, Bind).

    Raises:
        Refusal: 22023, a code is neither 0 nor 1.
    """
    for code in formats:
        if code not in (0, 1):
            raise Refusal(sqlstate.INVALID_PARAMETER_VALUE, f"unsupported format code: {code}")
    if len(formats) == count:
        return formats
    return (formats[0] if formats else 0,) * count


def _parameter(number: int, oid: int, format_code: int, raw: bytes | None) -> Parameter:
    if raw is None:
        return Parameter(oid, None)
    if format_code == 0:
        return Parameter(oid, _text(raw))
    decode = _text if oid == 0 or oid in oids.TEXTUAL else _BINARY.get(oid)
    if decode is None:
        raise Refusal(
            sqlstate.FEATURE_NOT_SUPPORTED,
            f"no binary input function available for the type with OID {oid}",
            hint=f"Send parameter ${number} in text format, or with another type.",
        )
    try:
        return Parameter(oid, decode(raw))
    except (struct.error, ValueError):
        words = f"incorrect binary data format in bind parameter {number}"
        raise Refusal(sqlstate.INVALID_BINARY_REPRESENTATION, words) from None


def _text(raw: bytes) -> str:
    if b"\x00" in raw:
        raise bad_utf8(0)
    return utf8(raw)


def _bool(raw: bytes) -> str:
    (value,) = struct.unpack("!B", raw)
    return "t" if value else "f"


def _integer(layout: str) -> Callable[[bytes], str]:
    return lambda raw: str(struct.unpack(layout, raw)[0])


def _float(layout: str, digits_fixed: int) -> Callable[[bytes], str]:
    return lambda raw: float_text(struct.unpack(layout, raw)[0], digits_fixed)


def _numeric(raw: bytes) -> str:
    """numeric_recv: value = sum of digit[i] * 10000^(weight - i), printed with dscale fraction digits."""
    count, weight, sign, scale = struct.unpack_from("!HhHH", raw)
    groups = struct.unpack_from(f"!{count}h", raw, 8)
    if len(raw) != 8 + 2 * count:
        raise ValueError("length")
    if sign in _NUMERIC_SPECIAL:
        return _NUMERIC_SPECIAL[sign]
    # Postgres' own bounds are wider; nothing a policy declares comes near these.
    if not all(0 <= group < 10_000 for group in groups) or not -100 <= weight <= 100 or scale > 400:
        raise ValueError("out of range")
    before = range(weight + 1)
    whole = "".join(f"{_group(groups, place):04}" for place in before).lstrip("0") or "0"
    after = range(weight + 1, weight + 1 + (scale + 3) // 4)
    fraction = "".join(f"{_group(groups, place):04}" for place in after)[:scale]
    return f"{_NUMERIC_SIGNS[sign]}{whole}{'.' if scale else ''}{fraction}" if sign in _NUMERIC_SIGNS else _bad()


def _group(groups: tuple[int, ...], place: int) -> int:
    return groups[place] if 0 <= place < len(groups) else 0


def _bad() -> str:
    raise ValueError("sign")


def _date(raw: bytes) -> str:
    (days,) = struct.unpack("!i", raw)
    if days in (2**31 - 1, -(2**31)):
        return "infinity" if days > 0 else "-infinity"
    if not -2_451_545 <= days <= _DAY_MAX:
        raise ValueError("date out of range")
    return date_text(days + EPOCH_DAYS)


def _timestamp(offset: str) -> Callable[[bytes], str]:
    def decode(raw: bytes) -> str:
        (micros,) = struct.unpack("!q", raw)
        if micros in (2**63 - 1, -(2**63)):
            return "infinity" if micros > 0 else "-infinity"
        return timestamp_text(micros + EPOCH_US, offset)

    return decode


_BINARY: Final[dict[int, Callable[[bytes], str]]] = {
    oids.BOOL: _bool,
    oids.INT2: _integer("!h"),
    oids.INT4: _integer("!i"),
    oids.INT8: _integer("!q"),
    oids.OID: _integer("!I"),
    oids.FLOAT4: _float("!f", 6),
    oids.FLOAT8: _float("!d", 15),
    oids.NUMERIC: _numeric,
    oids.DATE: _date,
    oids.TIMESTAMP: _timestamp(""),
    oids.TIMESTAMPTZ: _timestamp("+00"),
}
