"""fields: one value of a policy's text -> one exact value, or a sentence on what it must be."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Final

from pydantic import PlainValidator

from policies import sqltype
from policies.sqltype import SqlType

ROWS_PER_UNIT_MAX: Final = 1_000_000
"""A unit's rows in any intermediate result stay below this, so that its 128-bit sums cannot overflow."""
EPSILON_MAX: Final = Decimal(1000)
"""Above this nothing is protected any more; it is taken for a typing error."""
VERSION_MAX: Final = 2**31 - 1
NUMBER_MAX: Final = Decimal(10) ** 30
DECIMALS_MAX: Final = 60
"""Digits after the point. Keeps exact arithmetic short: `1e-999999` would be a million digits."""
ITERATIONS_MIN: Final = 4096
"""RFC 7677, section 4: SCRAM-SHA-256 iterates at least 4096 times."""
ITERATIONS_MAX: Final = 1_000_000
"""The client does this work at every log-in."""
SALT_BYTES_MAX: Final = 64
SHA256_BYTES: Final = 32
ED25519_BYTES: Final = 32

_NUMBER: Final = re.compile(r"[0-9]{1,31}(?:\.[0-9]{1,60})?(?:[eE][+-]?[0-9]{1,2})?")
_VERIFIER: Final = re.compile(r"SCRAM-SHA-256\$([0-9]{1,9}):([^$:]*)\$([^$:]*):([^$:]*)")
_CERTIFICATE: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Says:
    """How the reference names a type in words."""

    words: str


def _number(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError('must be a number, such as "0.5"')
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError('must be a number in plain digits, such as "0.5" or "1e-6"')
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError("must be a finite number of ordinary size")
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -DECIMALS_MAX:
        raise ValueError(f"must have at most {DECIMALS_MAX} digits after the point")
    return number


def _positive(value: object) -> Decimal:
    if isinstance(value, dict):
        raise ValueError('must be a number; a name with a dot needs quotes, such as "sum.minutes"')
    number = _number(value)
    if not 0 < number <= NUMBER_MAX:
        raise ValueError("must be above 0 and at most 1e30")
    return number


def _epsilon(value: object) -> Decimal:
    number = _number(value)
    if not 0 < number <= EPSILON_MAX:
        raise ValueError(f"must be above 0 and at most {EPSILON_MAX}")
    return number


def _epsilon_or_none(value: object) -> Decimal | None:
    return None if value is None else _epsilon(value)


def _delta(value: object) -> Decimal:
    number = _number(value)
    if not 0 <= number < 1:
        raise ValueError("must be at least 0 and below 1")
    return number


def _type(value: object) -> SqlType:
    if isinstance(value, SqlType):
        return value
    if not isinstance(value, str):
        raise ValueError('must be a type by its name, such as "integer"')
    return sqltype.parse(value)


def _value(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be a text or a whole number")
    return value


def _bound(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | date):
        raise ValueError("must be a number or a date, without quotes")
    return value


def _whole(low: int, high: int) -> PlainValidator:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("must be a whole number, without quotes")
        if not low <= value <= high:
            raise ValueError(f"must be {low} to {high}")
        return value

    return PlainValidator(check)


def _date(value: object) -> date:
    if isinstance(value, datetime) or not isinstance(value, date):
        raise ValueError("must be a date without quotes or time, such as 2027-06-30")
    return value


def _base64(text: str) -> bytes | None:
    """Decode, or None. What would encode differently is refused: equal keys must be equal texts."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if base64.b64encode(decoded).decode("ascii") == text else None


def _key(value: object) -> str:
    if isinstance(value, str) and value.startswith("ed25519:"):
        decoded = _base64(value.removeprefix("ed25519:"))
        if decoded is not None and len(decoded) == ED25519_BYTES:
            return value
    raise ValueError('must be "ed25519:" and the 32 bytes of a public key in base64')


def _verifier(value: object) -> str:
    match = _VERIFIER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            'must be "SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY"; `cleanroom user NAME` makes one'
        )
    if not ITERATIONS_MIN <= int(match[1]) <= ITERATIONS_MAX or match[1].startswith("0"):
        raise ValueError(f"the iterations of a verifier are {ITERATIONS_MIN} to {ITERATIONS_MAX}")
    salt, *keys = (_base64(part) for part in match.groups()[1:])
    if not salt or len(salt) > SALT_BYTES_MAX:
        raise ValueError(f"the salt of a verifier is base64 of 1 to {SALT_BYTES_MAX} bytes")
    if any(key is None or len(key) != SHA256_BYTES for key in keys):
        raise ValueError("the two keys of a verifier are base64 of 32 bytes each")
    return match[0]


def _certificate(value: object) -> str:
    if not isinstance(value, str) or not _CERTIFICATE.fullmatch(value):
        raise ValueError('must be "sha256:" and 64 lower-case hexadecimal digits')
    return value


Epsilon = Annotated[Decimal, PlainValidator(_epsilon), Says('number, such as `"0.5"`')]
MaybeEpsilon = Annotated[Decimal | None, PlainValidator(_epsilon_or_none), Says('number, such as `"8"`')]
Delta = Annotated[Decimal, PlainValidator(_delta), Says('number, such as `"1e-6"`')]
Positive = Annotated[Decimal, PlainValidator(_positive), Says("number above 0")]
Rows = Annotated[int, _whole(1, ROWS_PER_UNIT_MAX), Says("whole number")]
Version = Annotated[int, _whole(1, VERSION_MAX), Says("whole number")]
Day = Annotated[date, PlainValidator(_date), Says("date")]
Type = Annotated[SqlType, PlainValidator(_type), Says("type name")]
Value = Annotated[str | int, PlainValidator(_value), Says("text or whole number")]
Bound = Annotated[Decimal | int | date, PlainValidator(_bound), Says("number or date")]
PublicKey = Annotated[str, PlainValidator(_key), Says("`ed25519:BASE64`")]
Verifier = Annotated[str, PlainValidator(_verifier), Says("`SCRAM-SHA-256$4096:...`")]
Certificate = Annotated[str, PlainValidator(_certificate), Says("`sha256:HEX`")]
