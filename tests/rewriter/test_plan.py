from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import sqltype
from policies.sqltype import BIGINT, NUMERIC, TEXT, SqlType
from rewriter.plan import (
    PLAN_DEPTH_MAX,
    Call,
    Cast,
    Column,
    Constant,
    Expression,
    Filter,
    Join,
    KeyValues,
    Measure,
    Node,
    NoisyGroups,
    PublicGroups,
    PublicRows,
    Release,
    Scan,
    Values,
    canonical,
    columns,
    conjuncts,
    decode,
    encode,
    fingerprint,
    key_column,
    null_supplied,
    scans,
    substitute,
)

NAMES = st.text(max_size=5)
TYPES = st.sampled_from(
    [
        NUMERIC,
        *map(sqltype.parse, ("boolean", "bigint", "numeric(30,29)", "real", "varchar(3)", "char", "timestamptz")),
    ]
)
COLUMNS = st.builds(Column, NAMES, NAMES)
EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    COLUMNS | st.builds(Constant, TYPES, st.none() | NAMES),
    lambda inner: st.builds(Call, NAMES, st.lists(inner, max_size=3).map(tuple)) | st.builds(Cast, inner, TYPES),
    max_leaves=5,
)
SEVERAL = st.lists(EXPRESSIONS, max_size=3).map(tuple)
SCANS = st.builds(Scan, NAMES, NAMES)
RELATIONS: Any = st.recursive(
    SCANS,
    lambda inner: (
        st.builds(Join, st.sampled_from(["inner", "left"]), inner, inner, SEVERAL) | st.builds(Filter, inner, SEVERAL)
    ),
    max_leaves=4,
)
TEXTS = st.lists(st.none() | NAMES, max_size=3).map(tuple)
AXES = (
    st.builds(Values, COLUMNS, TYPES, TEXTS)
    | st.builds(KeyValues, st.integers(0, 9), TYPES, TEXTS)
    | st.builds(PublicRows, SCANS, st.lists(NAMES, max_size=2).map(tuple), st.booleans())
)
GROUPS = st.builds(NoisyGroups, st.integers(1, 99)) | st.builds(
    PublicGroups, st.lists(AXES, max_size=2).map(tuple), SEVERAL
)
MEASURES = st.builds(Measure, st.sampled_from(["count", "units", "sum", "mean"]), st.none() | EXPRESSIONS)
RELEASES = st.builds(Release, NAMES, RELATIONS, SEVERAL, GROUPS, st.lists(MEASURES, max_size=2).map(tuple))

A, B, C = Column("a", "x"), Column("b", "x"), Column("c", "x")
ONE = Constant(sqltype.INTEGER, "1")
SIMPLE = Release("u", Scan("t", "a"), (A,), NoisyGroups(1), (Measure("count", None),))


@settings(deadline=None)
@given(RELEASES)
def test_what_is_encoded_is_decoded_as_it_was(release: Release) -> None:
    assert decode(json.loads(json.dumps(encode(release)))) == release


@pytest.mark.parametrize("node", [A, ONE, Cast(A, BIGINT), TEXT, Scan("t", "a"), Measure("sum", A)])
def test_every_node_can_stand_alone(node: Node) -> None:
    assert decode(encode(node)) == node


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | NAMES
    | st.sampled_from(["Column", "Call", "Release", "SqlType", ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON)
def test_what_is_no_plan_is_refused_with_a_value_error(value: Any) -> None:
    try:
        found = decode(value)
    except ValueError:
        return
    assert encode(found) == value


def _places(value: Any, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    if not isinstance(value, list):
        return [path]
    return [path, *(place for n, item in enumerate(value) for place in _places(item, (*path, n)))]


def _replaced(value: Any, path: tuple[int, ...], new: Any) -> Any:
    if not path:
        return new
    return [_replaced(item, path[1:], new) if n == path[0] else item for n, item in enumerate(value)]


RICH = Release(
    "u",
    Filter(
        Join("left", Scan("t", "a"), Scan("p", "b"), (Call("=", (A, B)),)), (Call("is null", (Cast(A, BIGINT),)),)
    ),
    (A, Call("case", (ONE, A))),
    PublicGroups(
        (Values(A, TEXT, ("x", None)), KeyValues(1, BIGINT, ("1",)), PublicRows(Scan("p", "b"), ("x",), True)), (B,)
    ),
    (Measure("count", None), Measure("sum", A)),
)
PARTS = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1.5,
        "",
        "x",
        [],
        [""],
        ["", "x"],
        encode(A),
        encode(Scan("t", "a")),
        encode(TEXT),
        encode(SIMPLE),
        {},
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(_places(encode(RICH))), PARTS | JSON)
def test_a_plan_with_a_forged_part_is_a_plan_or_refused(place: tuple[int, ...], part: Any) -> None:
    forged = _replaced(encode(RICH), place, part)
    try:
        found = decode(forged)
    except ValueError:
        return
    assert encode(found) == forged
    assert decode(encode(found)) == found


@pytest.mark.parametrize(
    "forged",
    [
        ["Column", "a"],
        ["Column", "a", "b", "c"],
        ["Column", 1, "b"],
        ["Columns", "a", "b"],
        ["__class__", "a"],
        ["", "a"],
        "Column",
        [],
        [["Column"]],
        ["Call", "+", "x"],
        ["Call", "+", ["", ["Scan", "t", "a"]]],
        ["Cast", ["Column", "a", "b"], "bigint"],
        ["Join", "full", ["Scan", "t", "a"], ["Scan", "t", "b"], [""]],
        ["Measure", "max", None],
        ["Measure", ["Column", "a", "b"], None],
        ["NoisyGroups", True],
        ["NoisyGroups", "1"],
        ["KeyValues", True, ["SqlType", "bigint", None, None], [""]],
        ["PublicRows", ["Scan", "t", "a"], ["", None], False],
        ["PublicRows", ["Scan", "t", "a"], [""], 1],
        ["Values", ["Scan", "t", "a"], ["SqlType", "text", None, None], [""]],
        ["Filter", ["Measure", "count", None], [""]],
        ["Column", "a", 1.0],
    ],
)
def test_fields_are_of_their_kind(forged: Any) -> None:
    with pytest.raises(ValueError, match=r"plan|type|node"):
        decode(forged)


@pytest.mark.parametrize(
    ("name", "precision", "scale"),
    [
        ("varchar", "1) OR (SELECT 1", None),
        ("varchar", True, None),
        ("varchar", -1, None),
        ("varchar", 1, 1),
        ("numeric", 31, 0),
        ("numeric", 5, 6),
        ("numeric", 5, None),
        ("numeric", None, 2),
        ("numeric", "5", "2"),
        ("int4", None, None),
        ("unknown", 1, None),
        ("blob", None, None),
        ("", None, None),
        ("bigint", 3, None),
    ],
)
def test_types_are_those_a_policy_can_declare(name: str, precision: Any, scale: Any) -> None:
    with pytest.raises(ValueError, match=r"type|modifiers|precision|scale"):
        decode(["SqlType", name, precision, scale])


def test_nesting_is_limited() -> None:
    deep: Any = encode(A)
    for _ in range(PLAN_DEPTH_MAX // 2 - 1):
        deep = ["Call", "not", ["", deep]]
    assert decode(deep)
    with pytest.raises(ValueError, match="deep"):
        decode(["Call", "not", ["", ["Call", "not", ["", deep]]]])
    endless: Any = []
    endless.append(endless)
    with pytest.raises(ValueError, match="plan"):
        decode(endless)


@settings(deadline=None)
@given(RELEASES, RELEASES)
def test_equal_plans_have_equal_bytes_and_others_have_not(one: Release, other: Release) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


def test_a_number_and_its_text_have_different_fingerprints() -> None:
    assert fingerprint(Constant(TEXT, None)) != fingerprint(Constant(TEXT, "null"))
    assert fingerprint(NoisyGroups(1)) != fingerprint(NoisyGroups(2))
    assert len(fingerprint(SIMPLE)) == 64


def test_columns_come_in_order_of_appearance() -> None:
    assert list(columns(Call("case", (Cast(B, TEXT), A, ONE, A)))) == [B, A, A]


def test_substitution_takes_the_outermost() -> None:
    inner, outer = Call("lower", (A,)), Call("upper", (Call("lower", (A,)),))
    both: dict[Expression, Expression] = {inner: B, outer: C}
    assert substitute(Call("=", (outer, Cast(inner, TEXT))), both) == Call("=", (C, Cast(B, TEXT)))
    assert substitute(ONE, {A: B}) == ONE


def test_no_scan_is_taken_for_a_key() -> None:
    assert key_column(3) == Column("", "k3")


ON, WHERE = Call("=", (A, B)), Call("is null", (C,))
INNER = Join("inner", Scan("t", "a"), Scan("u", "b"), (ON,))
LEFT = Join("left", Scan("t", "a"), Filter(Scan("u", "b"), (ON,)), (WHERE,))


def test_scans_are_named_left_to_right() -> None:
    nested = Filter(Join("left", INNER, Scan("v", "c"), ()), ())
    assert [scan.alias for scan in scans(nested)] == ["a", "b", "c"]


def test_conjuncts_are_what_all_rows_satisfy() -> None:
    assert list(conjuncts(Scan("t", "a"))) == []
    assert list(conjuncts(Filter(INNER, (WHERE,)))) == [ON, WHERE]
    assert list(conjuncts(LEFT)) == []
    assert list(conjuncts(Join("inner", LEFT, Filter(Scan("v", "c"), (WHERE,)), (ON,)))) == [WHERE, ON]


def test_an_outer_join_supplies_nulls_for_all_of_its_right_side() -> None:
    assert null_supplied(Scan("t", "a")) == frozenset()
    assert null_supplied(Filter(LEFT, ())) == {"b"}
    assert null_supplied(Join("left", Scan("t", "c"), INNER, ())) == {"a", "b"}
    assert null_supplied(Join("inner", LEFT, Scan("t", "c"), ())) == {"b"}
    assert null_supplied(Join("inner", Scan("t", "c"), LEFT, ())) == {"b"}


def test_a_type_is_a_node() -> None:
    assert decode(["SqlType", "numeric", None, None]) == NUMERIC
    assert decode(["SqlType", "numeric", 5, 2]) == SqlType("numeric", 5, 2)
