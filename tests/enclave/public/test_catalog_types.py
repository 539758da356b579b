from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave.public.catalog_text import text
from enclave.public.catalog_types import literal, parse_array, type_named, type_of, unify
from rewriter.refusal import Refusal

TEXT_ARRAY = 1009


def no_name(kind: int, name: str) -> int:
    raise AssertionError((kind, name))


def sqlstate(call: Callable[[], object]) -> str:
    """How the call was refused, or nothing."""
    try:
        call()
    except Refusal as refusal:
        return refusal.sqlstate
    return ""


def shown(kind: int, oid: int) -> str:
    return f"{kind}/{oid}"


@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_characters="\0", codec="utf-8")))))
def test_arrays_of_text_read_back_as_they_were_written(items: list[str | None]) -> None:
    assert parse_array(text(items, TEXT_ARRAY, shown), "text") == items


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_an_array_or_refused(value: str) -> None:
    assert sqlstate(lambda: parse_array(value, "text")) in ("", "22P02", "0A000")


@given(st.sampled_from([16, 18, 19, 20, 21, 23, 25, 26, 700, 701, 1082, 1114, 1184, 1700, 1009, 1028]), st.text())
def test_any_literal_is_read_or_refused(oid: int, value: str) -> None:
    found = sqlstate(lambda: literal(value, oid, no_name))
    assert found in ("", "22P02", "22003", "22007", "22021", "0A000")


@pytest.mark.parametrize(
    ("name", "oid"),
    [
        ("int4", 23),
        ("integer", 23),
        ("bigint[]", 1016),
        ("_text", 1009),
        ("name", 19),
        ('"char"', 18),
        ("char", 1042),
    ],
)
def test_types_are_found_by_both_of_their_names(name: str, oid: int) -> None:
    found = type_named(name)
    assert found is not None
    assert found.oid == oid


def test_a_type_nobody_knows_is_none() -> None:
    assert type_named("nope") is None
    assert type_named("nope[]") is None


@pytest.mark.parametrize(
    ("oids", "common"),
    [
        ([705, 705], 25),
        ([705, 19], 19),
        ([19, 25], 19),  # both cast to each other: the first stays
        ([25, 19], 25),
        ([18, 25], 25),
        ([21, 23, 20], 20),
        ([23, 26], 26),
        ([23, 1700], 1700),
        ([23, 25], None),
        ([16, 705], 16),
    ],
)
def test_branches_find_the_type_that_postgres_finds(oids: list[int], common: int | None) -> None:
    assert unify(oids) == common


@pytest.mark.parametrize(
    ("value", "oid", "expected"),
    [
        ([1, 2], 22, "1 2"),
        ([True, None], 1000, "{t,NULL}"),
        (["NULL", "", 'a"b'], 1009, '{"NULL","","a\\"b"}'),
        ({"a": 1, "b": None, "c": "x y"}, 2249, '(1,,"x y")'),
        ((14, 3, -90_000_000_000), 1186, "1 year 2 mons 3 days -00:01:30"),
        ((0, 0, 0), 1186, "00:00:00"),
        (42, 2205, "2205/42"),
    ],
)
def test_values_are_written_as_postgres_writes_them(value: object, oid: int, expected: str) -> None:
    assert text(value, oid, shown) == expected


def test_sql_names_are_those_of_format_type() -> None:
    assert type_of(1184).sql_name == "timestamp with time zone"
    assert type_of(1016).sql_name == "bigint[]"
