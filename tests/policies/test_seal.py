from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import document, seal
from policies.document import read
from policies.seal import SealError, canonical, complete, digest, from_canonical

EXAMPLES = {
    file.stem: file.read_text(encoding="utf-8")
    for file in (Path(document.__file__).parent / "examples").glob("*.toml")
}
EVERYTHING = EXAMPLES["everything"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_round_trip_is_exact(name: str) -> None:
    policy = read(EXAMPLES[name])
    content = canonical(policy)
    again = from_canonical(content)
    assert again == complete(policy)
    assert canonical(again) == content
    assert list(again.tables) == list(policy.tables)
    assert [list(table.columns) for table in again.tables.values()] == [
        list(table.columns) for table in policy.tables.values()
    ]


def test_the_digest_is_the_hash_of_the_canonical_form() -> None:
    policy = read(EVERYTHING)
    assert digest(policy) == hashlib.sha256(canonical(policy)).hexdigest()


def test_json_numbers_are_small_counts_alone() -> None:
    counts = {"version", "rows_per_unit", "groups_per_unit"}

    def visit(value: Any, key: str) -> None:
        match value:
            case dict():
                for name, item in value.items():
                    visit(item, name)
            case list():
                for item in value:
                    visit(item, key)
            case bool() | str() | None:
                pass
            case _:
                assert isinstance(value, int)
                assert key in counts

    visit(json.loads(canonical(read(EVERYTHING))), "")


def test_the_canonical_form_is_rfc_8785() -> None:
    content = canonical(read(EVERYTHING))
    assert rfc8785.dumps(json.loads(content)) == content


SAME = [
    ("comments", "[room]", "# nothing\n[room]"),
    ("numbers in quotes", "epsilon = 4\n", 'epsilon = "4.00"\n'),
    ("exponents", '"1e-6"', '"0.0000010"'),
    ("type aliases", 'type = "bigint"', 'type = "int8"'),
    ("defaults of fields", 'accountant = "zcdp"\n', ""),
    ("defaults of booleans", "fallback = true\n", ""),
    ("defaults of sections", '[answers]\ncounts = "whole"', '[answers]\ncounts = "whole" # given'),
    ("time zones", "2029-12-31T23:59:59+02:00", "2029-12-31T21:59:59Z"),
    ("whole bounds of numerics", "bounds = [0, 5000]", "bounds = [0.0, 5000.00]"),
    ("order of a role's tables", '["patients", "visits", "payments", "shifts", "wards"]',
     '["wards", "visits", "payments", "shifts", "patients"]'),
    ("order of sections", '[synthetic]\nepsilon = "0.2"\n\n[test]\nreuse_answers = false\nepsilon = "unlimited"',
     '[test]\nreuse_answers = false\nepsilon = "unlimited"\n[synthetic]\nepsilon = "0.2"'),
    ("budgets that do not count", 'epsilon = "8"', 'epsilon = "9"'),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), [case[1:] for case in SAME], ids=[case[0] for case in SAME])
def test_equal_meaning_gives_equal_bytes(old: str, new: str) -> None:
    assert old in EVERYTHING
    assert canonical(read(EVERYTHING.replace(old, new))) == canonical(read(EVERYTHING))


def test_written_defaults_are_equal_to_defaults() -> None:
    default = EXAMPLES["everything"].replace("rows_per_unit = 50\ngroups_per_unit = 8\n", "")
    written = EXAMPLES["everything"].replace(
        "rows_per_unit = 50\ngroups_per_unit = 8\n", "rows_per_unit = 1000\ngroups_per_unit = 16\n"
    )
    assert canonical(read(default)) == canonical(read(written))


DIFFERENT = [
    ("reuse_answers = false", "reuse_answers = true"),
    ("delta = \"1e-6\"", "delta = \"1.000000000000000000000000000001e-6\""),
    ("bounds = [0, 240]", "bounds = [0, 241]"),
    ("values = [1, 2, 3]", "values = [1, 3, 2]"),
    ('values = ["f", "m", "x"], not_null = true', 'values = ["f", "m", "x"]'),
    ("visit_id = { type = \"bigint\", not_null = true }\npatient_id = { type = \"bigint\", not_null = true }",
     "patient_id = { type = \"bigint\", not_null = true }\nvisit_id = { type = \"bigint\", not_null = true }"),
    ("a payment knows", "A payment knows"),
    ("2030-12-31 ", "2030-12-30 "),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), DIFFERENT)
def test_different_meaning_gives_different_bytes(old: str, new: str) -> None:
    text = EVERYTHING.replace("expires = 2030-12-31", "expires = 2030-12-31 ")
    assert old in text
    assert canonical(read(text.replace(old, new))) != canonical(read(text))


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    plain = json.loads(canonical(read(EVERYTHING)))
    change(plain)
    return rfc8785.dumps(plain)


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.pop("format"),
        lambda plain: plain.update(format="cleanroom-policy-v2"),
        lambda plain: plain.update(extra=None),
        lambda plain: plain.update(tables=None),
        lambda plain: plain.update(tables={}),
        lambda plain: plain.update(tables=[3]),
        lambda plain: plain.update(room=3),
        lambda plain: plain["room"].update(expires=3),
        lambda plain: plain["room"].update(expires="20301231"),
        lambda plain: plain["room"].update(version=2**40),
        lambda plain: plain["room"].pop("expires"),
        lambda plain: plain["tables"].append(plain["tables"][0]),
        lambda plain: plain["tables"][0]["columns"].append(plain["tables"][0]["columns"][0]),
        lambda plain: plain["tables"][0]["columns"][0].update(type="json"),
        lambda plain: plain["tables"][0]["columns"][0].update(type="int8"),
        lambda plain: plain["tables"][1]["columns"][3].update(bounds=["00", "240"]),
        lambda plain: plain["tables"][1]["columns"][3].update(bounds=[0, 240]),
        lambda plain: plain["tables"][0]["columns"][3].update(bounds=["0.30", "2.5"]),
        lambda plain: plain["tables"][0]["columns"][3].update(bounds=["x", "2.5"]),
        lambda plain: plain["tables"][0]["columns"][3].update(bounds=["NaN", "2.5"]),
        lambda plain: plain["tables"][0]["columns"][3].update(bounds=["0", "1e999999"]),
        lambda plain: plain["tables"][0]["columns"][3].update(bounds=["1e-999999", "1"]),
        lambda plain: plain["tables"][0].update(rows_per_unit=None),
        lambda plain: plain["tables"][0].update(unit=None),
        lambda plain: plain["roles"]["researcher"]["tables"].reverse(),
        lambda plain: plain["roles"]["researcher"].update(epsilon="3.0"),
        lambda plain: plain["roles"]["researcher"].update(epsilon=3),
        lambda plain: plain["budgets"]["patient"].update(epsilon="8"),
        lambda plain: plain.update(test=None),
    ],
    ids=lambda change: f"line {change.__code__.co_firstlineno}",
)
def test_other_json_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(SealError):
        from_canonical(changed(change))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b" " + content,
        lambda content: content + b"\n",
        lambda content: content[:-1],
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.decode().encode("utf-16"),
        lambda content: content.replace(b'"version":1', b'"version":1.0'),
        lambda content: content.replace(b'"version":1', b'"version":' + b"1" * 5000),
        lambda content: content.replace(b"everything", b"\\u0065verything"),
        lambda content: b"[" * 100_000,
        lambda content: b"[]",
        lambda content: b"\xff",
        lambda content: b"",
        lambda content: b" " * (seal.CANONICAL_BYTES_MAX + 1),
    ],
    ids=lambda damage: f"line {damage.__code__.co_firstlineno}",
)
def test_bytes_that_are_not_canonical_are_refused(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(SealError):
        from_canonical(damage(canonical(read(EVERYTHING))))


def test_a_key_that_stands_twice_is_refused_even_with_one_value() -> None:
    content = canonical(read(EVERYTHING))
    twice = content.replace(b'{"analysts":', b'{"analysts":{},"analysts":', 1)
    with pytest.raises(SealError, match="a key twice"):
        from_canonical(twice)


def test_a_sealed_policy_is_checked_again() -> None:
    with pytest.raises(SealError, match=r"analysts\.ana\.role there is no role 'x'"):
        from_canonical(changed(lambda plain: plain["analysts"]["ana"].update(role="x")))


@settings(max_examples=200)
@given(st.integers(0, 4000), st.binary(max_size=3), st.integers(0, 3))
def test_damaged_bytes_are_refused_in_words(position: int, junk: bytes, length: int) -> None:
    content = canonical(read(EXAMPLES["bank"]))
    damaged = content[:position] + junk + content[position + length :]
    try:
        policy = from_canonical(damaged)
    except SealError:
        return
    assert canonical(policy) == damaged


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal("-1e30"), max_value=Decimal("1e30")))
def test_numbers_have_one_spelling(number: Decimal) -> None:
    text = seal.plain_number(number)
    assert Decimal(text) == number
    assert "e" not in text.lower()
    assert seal.plain_number(Decimal(text + ("0" if "." in text else ".0"))) == text


def test_minus_zero_is_zero() -> None:
    assert seal.plain_number(Decimal("-0.00")) == "0"
