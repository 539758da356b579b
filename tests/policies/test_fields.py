from __future__ import annotations

import contextlib
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pgproxy.scram import make_verifier
from policies import fields
from policies.sqltype import BIGINT

VERIFIER = make_verifier("demo", b"0123456789abcdef")
KEY = "ed25519:" + "A" * 43 + "="


def accepts(kind: Any, value: object) -> Any:
    return TypeAdapter(kind).validate_python(value)


def refuses(kind: Any, value: object, match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("value", "number"),
    [("0.1", Decimal("0.1")), (Decimal("0.1"), Decimal("0.1")), (1, Decimal(1)), ("1e-6", Decimal("0.000001"))],
)
def test_numbers_stay_exact(value: object, number: Decimal) -> None:
    assert accepts(fields.Epsilon, value) == number


@pytest.mark.parametrize(
    "value", [True, 0.1, None, [], "", " 1", "1_0", "+1", "-1", "0x1", "nan", "inf", "1e999", "\u0661"]
)
def test_what_is_not_a_plain_number_is_refused(value: object) -> None:
    refuses(fields.Epsilon, value, "must be")


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "sNaN", "1e-61", "1e999999", "1e-999999"])
def test_numbers_of_absurd_size_are_refused(text: str) -> None:
    refuses(fields.Epsilon, Decimal(text), "must")
    refuses(fields.Positive, Decimal(text), "must")


def test_ranges_include_their_named_ends() -> None:
    assert accepts(fields.Epsilon, 1000) == 1000
    refuses(fields.Epsilon, "1000.1", "above 0 and at most 1000")
    refuses(fields.Epsilon, 0, "above 0")
    assert accepts(fields.Delta, 0) == 0
    refuses(fields.Delta, 1, "below 1")
    assert accepts(fields.Positive, Decimal("1e30")) == Decimal("1e30")
    refuses(fields.Positive, Decimal("1.1e30"), "at most 1e30")
    assert accepts(fields.Rows, 1_000_000) == 1_000_000
    refuses(fields.Rows, 1_000_001, "1 to 1000000")
    refuses(fields.Rows, 0, "1 to 1000000")


def test_a_measure_without_quotes_is_explained() -> None:
    refuses(fields.Positive, {"age": 1}, "needs quotes")


@pytest.mark.parametrize("value", [True, "1", Decimal(1)])
def test_counts_are_whole_numbers(value: object) -> None:
    refuses(fields.Rows, value, "whole number")
    refuses(fields.Version, value, "whole number")


def test_days_have_no_time() -> None:
    assert accepts(fields.Day, date(2027, 6, 30)) == date(2027, 6, 30)
    refuses(fields.Day, datetime(2027, 6, 30), "must be a date")  # noqa: DTZ001
    refuses(fields.Day, "2027-06-30", "must be a date")


def test_types_are_read_from_their_names() -> None:
    assert accepts(fields.Type, "int8") == BIGINT
    assert accepts(fields.Type, BIGINT) is BIGINT
    refuses(fields.Type, 8, "by its name")
    refuses(fields.Type, "json", "not supported")


def test_values_and_bounds_are_single_things() -> None:
    assert accepts(fields.Value, "a") == "a"
    refuses(fields.Value, True, "text or a whole number")
    refuses(fields.Value, Decimal("1.5"), "text or a whole number")
    assert accepts(fields.Bound, 1) == 1
    refuses(fields.Bound, "1", "without quotes")
    refuses(fields.Bound, False, "number or a date")


def test_owners_keys_are_32_bytes_spelled_in_one_way() -> None:
    assert accepts(fields.PublicKey, KEY) == KEY
    for wrong in (
        "A" * 43 + "=",
        "rsa:" + KEY,
        KEY[:-1],
        KEY[:-2] + "B=",
        KEY + "\n",
        "ed25519:AAAA",
        "ed25519:é",
        3,
    ):
        refuses(fields.PublicKey, wrong, "32 bytes")


def test_verifiers_are_taken_as_postgres_stores_them() -> None:
    assert accepts(fields.Verifier, VERIFIER) == VERIFIER


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("SCRAM-SHA-256$", "SCRAM-SHA-512$", "cleanroom user NAME"),
        ("$4096:", "$4095:", "iterations"),
        ("$4096:", "$04096:", "iterations"),
        ("$4096:", "$1000001:", "iterations"),
        ("$4096:", "$1e4:", "cleanroom user NAME"),
        ("$4096:", "$4096:A", "salt"),
        (VERIFIER.split("$")[1][5:], "", "salt"),
        ("=:", "==:", "32 bytes each"),
        (VERIFIER.rsplit(":", maxsplit=1)[1], "AAAA", "32 bytes each"),
    ],
)
def test_other_verifiers_are_refused(old: str, new: str, match: str) -> None:
    refuses(fields.Verifier, VERIFIER.replace(old, new), match)
    refuses(fields.Verifier, 1, "cleanroom user NAME")


def test_certificates_are_named_by_their_hash() -> None:
    assert accepts(fields.Certificate, "sha256:" + "0f" * 32)
    for wrong in ("0f" * 32, "sha256:" + "0F" * 32, "sha256:" + "0f" * 31, None):
        refuses(fields.Certificate, wrong, "64 lower-case")


@given(st.one_of(st.text(max_size=40), st.integers(), st.decimals(), st.none(), st.booleans(), st.dates()))
def test_any_value_is_accepted_or_refused_in_words(value: object) -> None:
    for kind in (
        fields.Epsilon,
        fields.Delta,
        fields.Positive,
        fields.Rows,
        fields.Day,
        fields.Type,
        fields.Value,
        fields.Bound,
        fields.PublicKey,
        fields.Verifier,
        fields.Certificate,
    ):
        with contextlib.suppress(ValueError):  # pydantic's ValidationError is one
            accepts(kind, value)
