"""binaryform: Arrow columns and single values -> Postgres' binary form, as its send functions write them."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from pgproxy import oids, sqlstate
from pgproxy.textform import EPOCH_DAYS, Column, text_column
from rewriter.refusal import Refusal

EPOCH_US: Final = EPOCH_DAYS * 86_400_000_000
"""Microseconds from 1970-01-01 to 2000-01-01."""

Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_NUMERIC_SPECIAL: Final = {"NaN": 0xC000, "Infinity": 0xD000, "-Infinity": 0xF000}
_FIXED: Final = {
    oids.BOOL: ">u1",
    oids.INT2: ">i2",
    oids.INT4: ">i4",
    oids.INT8: ">i8",
    oids.OID: ">u4",
    oids.FLOAT4: ">f4",
    oids.FLOAT8: ">f8",
}


def binary_column(column: Column, oid: int) -> Column:
    """The binary form of every value, as an Arrow binary column with the same NULLs.

    Raises:
        Refusal: 0A000, this type has a text form only.
    """
    kind = column.type
    if pa.types.is_null(kind) or oid in oids.TEXTUAL:
        return text_column(column, oid).cast(pa.binary())
    if oid == oids.NUMERIC and pa.types.is_decimal128(kind):
        return _decimals(column)
    numbers = _numbers(column, oid)
    if numbers is not None:
        return _fixed(numbers, column)
    encode = _encoder(oid)
    values = text_column(column, oid).to_pylist()
    return pa.array([None if text is None else encode(text) for text in values], pa.binary())


def numeric_binary(text: str) -> bytes:
    """A numeric in text form as numeric_send writes it: groups of four digits around the decimal point.

    Raises:
        ValueError: not a number.
    """
    if text in _NUMERIC_SPECIAL:
        return struct.pack("!hhHH", 0, 0, _NUMERIC_SPECIAL[text], 0)
    try:
        sign, figures, exponent = Decimal(text).as_tuple()
    except InvalidOperation:
        raise ValueError("not a number") from None
    assert isinstance(exponent, int)
    scale = max(0, -exponent)
    digits = "".join(map(str, figures)) + "0" * max(0, exponent)
    whole, fraction = (digits[:-scale], digits[-scale:].rjust(scale, "0")) if scale else (digits, "")
    whole = whole.rjust(-(-len(whole) // 4) * 4, "0")
    joined = whole + fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int(joined[i : i + 4]) for i in range(0, len(joined), 4)]
    weight = len(whole) // 4 - 1
    while groups and groups[0] == 0:
        groups, weight = groups[1:], weight - 1
    while groups and groups[-1] == 0:
        groups.pop()
    head = (len(groups), weight if groups else 0, 0x4000 if sign and groups else 0, scale)
    return struct.pack(f"!hhHH{len(groups)}h", *head, *groups)


def _numbers(column: Column, oid: int) -> Numbers | None:
    """Big-endian numbers of a column of fixed width, 0 where NULL; None if it is not one."""
    kind = column.type
    if oid in _FIXED and not pa.types.is_string(kind):
        return column.fill_null(pa.scalar(0).cast(kind)).to_numpy(zero_copy_only=False).astype(_FIXED[oid])
    if oid == oids.DATE and pa.types.is_date(kind):
        days = column.cast(pa.date32()).cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False)
        return (days - EPOCH_DAYS).astype(">i4")
    if oid in (oids.TIMESTAMP, oids.TIMESTAMPTZ) and pa.types.is_timestamp(kind):
        micros = column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64()).fill_null(0)
        return (micros.to_numpy(zero_copy_only=False) - EPOCH_US).astype(">i8")
    return None


def _fixed(numbers: Numbers, column: Column) -> Column:
    return _binary(np.ascontiguousarray(numbers).view(np.uint8), np.full(len(numbers), numbers.itemsize), column)


def _binary(data: Numbers, lengths: Numbers, like: Column) -> Column:
    """An Arrow binary column over `data`, value by value; NULL where `like` is."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    valid = None
    if like.null_count:
        bits = np.packbits(like.is_valid().to_numpy(zero_copy_only=False), bitorder="little")
        valid = pa.py_buffer(bits.tobytes())
    buffers = [valid, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data.tobytes())]
    return pa.Array.from_buffers(pa.binary(), len(lengths), buffers)


def _decimals(column: Column) -> Column:
    """numeric_send for a whole column; values beyond 64 bits go one by one."""
    scale = column.type.scale
    pad = -scale % 4
    filled = column.fill_null(pa.scalar(Decimal(0)).cast(column.type))
    buffer = filled.buffers()[1]
    assert buffer is not None
    limbs = np.frombuffer(memoryview(buffer), "<i8").reshape(-1, 2)
    limbs = limbs[filled.offset : filled.offset + len(filled)]
    low = limbs[:, 0]
    small = (limbs[:, 1] == low >> 63) & (np.abs(low // 2) < 2**61 // 10**pad)
    if not small.all():
        values = [None if value is None else numeric_binary(f"{value:f}") for value in column.to_pylist()]
        return pa.array(values, pa.binary())
    return _small_decimals(low * 10**pad, scale, column)


def _small_decimals(unscaled: Numbers, scale: int, like: Column) -> Column:
    """Split 64-bit numbers into groups of four digits, drop zero groups at both ends, add the heads."""
    rest, count = np.abs(unscaled), len(unscaled)
    groups = np.zeros((count, 5), ">i2")
    for place in range(4, -1, -1):
        rest, groups[:, place] = np.divmod(rest, 10_000)
    filled = groups != 0
    first = np.where(filled.any(1), filled.argmax(1), 5)
    after = np.where(filled.any(1), 5 - filled[:, ::-1].argmax(1), 5)
    digits = after - first
    # The last group holds the lowest four fraction digits, so the one before the point is `fraction` to its left.
    fraction = (scale + 3) // 4
    heads = np.zeros((count, 4), ">i2")
    heads[:, 0] = digits
    heads[:, 1] = np.where(digits > 0, 4 - fraction - first, 0)
    heads[:, 2] = np.where(unscaled < 0, 0x4000, 0)
    heads[:, 3] = scale
    places = np.arange(5)
    kept = (places >= first[:, None]) & (places < after[:, None])
    mask = np.concatenate([np.ones((count, 4), np.bool_), kept], axis=1)
    # concatenate() gives native byte order, whatever it is given.
    data = np.concatenate([heads, groups], axis=1)[mask].astype(">i2")
    return _binary(data.view(np.uint8), 8 + 2 * digits, like)


def _encoder(oid: int) -> Callable[[str], bytes]:
    element = oids.ELEMENTS.get(oid)
    if element is not None:
        encode = _encoder(element)
        if oid in (oids.INT2VECTOR, oids.OIDVECTOR):
            return lambda text: _array(list(text.split()), element, encode, lower_bound=0)
        return lambda text: _array(_elements(text), element, encode, lower_bound=1)
    if oid in oids.TEXTUAL:
        return str.encode
    if oid not in _VALUES:
        raise Refusal(
            sqlstate.FEATURE_NOT_SUPPORTED,
            f"no binary output function available for the type with OID {oid}",
            hint="Ask for this column in text format, or cast it to text.",
        )
    return _VALUES[oid]


_VALUES: Final[dict[int, Callable[[str], bytes]]] = {
    oids.BOOL: lambda text: b"\x01" if text[:1] in "tT1" else b"\x00",
    oids.INT2: lambda text: struct.pack("!h", int(text)),
    oids.INT4: lambda text: struct.pack("!i", int(text)),
    oids.INT8: lambda text: struct.pack("!q", int(text)),
    oids.OID: lambda text: struct.pack("!I", int(text)),
    oids.XID: lambda text: struct.pack("!I", int(text)),
    oids.FLOAT4: lambda text: struct.pack("!f", float(text)),
    oids.FLOAT8: lambda text: struct.pack("!d", float(text)),
    oids.NUMERIC: numeric_binary,
    oids.UUID: lambda text: bytes.fromhex(text.replace("-", "")),
    oids.BYTEA: lambda text: bytes.fromhex(text.removeprefix("\\x")),
}

# One element of array_out: quoted with backslashes, or plain up to the next comma or brace.
_ELEMENT: Final = re.compile(r'(?:"((?:[^"\\]|\\.)*+)"|([^",{}]+))(?:,(?=.)|\}$)', re.DOTALL)


def _elements(text: str) -> list[str | None]:
    """The elements of a one-dimensional array in text form."""
    found: list[str | None] = []
    position = 1
    while text != "{}" and position < len(text):
        match = _ELEMENT.match(text, position)
        if match is None:
            raise Refusal(
                sqlstate.FEATURE_NOT_SUPPORTED,
                "arrays of several dimensions have no binary form here",
                hint="Ask for this column in text format.",
            )
        quoted, plain = match.groups()
        if quoted is not None:
            found.append(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        else:
            found.append(None if plain == "NULL" else plain)
        position = match.end()
    return found


def _array(
    values: list[str | None] | list[str], element: int, encode: Callable[[str], bytes], lower_bound: int
) -> bytes:
    """array_send: dimensions, NULLs?, element type, length and lower bound, then the elements."""
    dimensions = struct.pack("!ii", len(values), lower_bound) if values or not lower_bound else b""
    head = struct.pack("!iiI", 1 if dimensions else 0, None in values, element)
    parts = [_counted(None if value is None else encode(value)) for value in values]
    return head + dimensions + b"".join(parts)


def _counted(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else struct.pack("!i", len(value)) + value
