from __future__ import annotations

import pytest
from edges import call, const, num, to
from room import (
    BILLS,
    FACTS,
    ITEMS,
    MEMBERS,
    NATIONS,
    PAIRS,
    POLICY,
    REGIONS,
    SHIFTS,
    VISITS,
    Facts,
    inner,
    outer,
    refused,
    where,
)

from rewriter.bound import (
    ROWS_PER_UNIT_MAX,
    Property,
    Protected,
    Public,
    groups_max,
    implies_equal_units,
    is_determined,
    property_of,
    scope,
    unit_alias,
)
from rewriter.plan import Column, Expression, Join, Measure, NoisyGroups, Relation, Release, Scan

M, V, B, N = Column("m", "id"), Column("v", "id"), Column("b", "visit"), Column("n", "nation")
SAME = call("=", M, V)
HOME = call("=", Column("m", "nation"), N)
OTHER = Scan("visits", "w")


def found(relation: Relation, facts: Facts = FACTS) -> Property:
    return property_of(relation, POLICY, facts)


@pytest.mark.parametrize(
    ("relation", "expected"),
    [
        (MEMBERS, Protected("person", "m", 1)),
        (VISITS, Protected("person", "v", 5)),
        (SHIFTS, Protected("doctor", "s", 1000)),
        (NATIONS, Public(4)),
        (where(VISITS, call("=", Column("v", "ward"), num("1"))), Protected("person", "v", 5)),
        (where(NATIONS, call("=", N, num("1"))), Public(4)),
        # with a public side: once over its whole key, else as often as it has rows
        (inner(MEMBERS, NATIONS, HOME), Protected("person", "m", 1)),
        (inner(NATIONS, MEMBERS, call("=", N, Column("m", "nation"))), Protected("person", "m", 1)),
        (inner(MEMBERS, NATIONS), Protected("person", "m", 4)),
        (inner(NATIONS, MEMBERS), Protected("person", "m", 4)),
        (inner(VISITS, NATIONS, call(">", Column("v", "ward"), N)), Protected("person", "v", 20)),
        (inner(MEMBERS, NATIONS, call("or", HOME, call("=", N, num("1")))), Protected("person", "m", 4)),
        (inner(MEMBERS, NATIONS, call("not", HOME)), Protected("person", "m", 4)),
        (
            inner(MEMBERS, NATIONS, call("=", Column("m", "nation"), Column("n", "region"))),
            Protected("person", "m", 4),
        ),
        (inner(MEMBERS, NATIONS, call("=", N, num("1"))), Protected("person", "m", 1)),
        (inner(MEMBERS, NATIONS, call("=", N, N)), Protected("person", "m", 4)),
        (inner(MEMBERS, NATIONS, call("=", call("+", N, num("1")), num("2"))), Protected("person", "m", 4)),
        (
            inner(MEMBERS, NATIONS, call("=", N, call("+", Column("m", "nation"), num("1")))),
            Protected("person", "m", 1),
        ),
        (outer(MEMBERS, NATIONS, HOME), Protected("person", "m", 1)),
        (outer(VISITS, NATIONS), Protected("person", "v", 20)),
        (inner(MEMBERS, PAIRS, call("=", Column("p", "a"), M)), Protected("person", "m", 6)),
        (
            inner(MEMBERS, PAIRS, call("=", Column("p", "a"), M), call("=", num("1"), Column("p", "b"))),
            Protected("person", "m", 1),
        ),
        (inner(MEMBERS, where(NATIONS), HOME), Protected("person", "m", 4)),
        (inner(MEMBERS, inner(NATIONS, REGIONS), HOME), Protected("person", "m", 8)),
        (inner(NATIONS, REGIONS), Public(8)),
        (outer(NATIONS, REGIONS), Public(8)),
        # with another protected side: over a key at most as often as the other has rows
        (inner(MEMBERS, VISITS, SAME), Protected("person", "m", 5)),
        (inner(VISITS, MEMBERS, SAME), Protected("person", "v", 5)),
        (outer(MEMBERS, VISITS, SAME), Protected("person", "m", 5)),
        (outer(VISITS, MEMBERS, SAME), Protected("person", "v", 5)),
        (inner(VISITS, OTHER, call("=", V, Column("w", "id"))), Protected("person", "v", 25)),
        (inner(VISITS, OTHER, call("=", Column("w", "visit"), Column("v", "visit"))), Protected("person", "v", 5)),
        (inner(VISITS, BILLS, call("=", B, Column("v", "visit"))), Protected("person", "v", 10)),
        (outer(VISITS, BILLS, call("=", B, Column("v", "visit"))), Protected("person", "v", 14)),
        (outer(BILLS, VISITS, call("=", B, Column("v", "visit"))), Protected("person", "b", 10)),
        (inner(BILLS, Scan("bills", "c"), call("=", B, Column("c", "visit"))), Protected("person", "b", 100)),
        (inner(BILLS, ITEMS, call("=", Column("i", "bill"), Column("b", "bill"))), Protected("person", "b", 20)),
        (
            inner(inner(MEMBERS, VISITS, SAME), BILLS, call("=", B, Column("v", "visit"))),
            Protected("person", "m", 50),
        ),
        (inner(inner(MEMBERS, NATIONS, HOME), VISITS, SAME), Protected("person", "m", 5)),
        (inner(where(MEMBERS), VISITS, SAME), Protected("person", "m", 5)),
    ],
)
def test_a_relation_has_the_property_that_follows_from_its_parts(relation: Relation, expected: Property) -> None:
    assert found(relation) == expected


def test_an_outer_join_with_an_empty_public_table_keeps_its_rows() -> None:
    assert found(outer(MEMBERS, NATIONS), Facts(nations=0)) == Protected("person", "m", 1)
    assert found(outer(NATIONS, REGIONS), Facts(regions=0)) == Public(4)


@pytest.mark.parametrize(
    ("relation", "state", "words"),
    [
        (inner(MEMBERS, VISITS), "0A000", "does not match each person with itself"),
        (inner(MEMBERS, VISITS, call("or", SAME, SAME)), "0A000", "does not match each person with itself"),
        (inner(MEMBERS, VISITS, call("not", SAME)), "0A000", "does not match"),
        (inner(MEMBERS, VISITS, call("<", M, V)), "0A000", "does not match"),
        (inner(MEMBERS, VISITS, call("=", M, call("+", V, num("0")))), "0A000", "does not match"),
        (inner(MEMBERS, VISITS, call("=", to("integer", M), to("integer", V))), "0A000", "does not match"),
        (inner(MEMBERS, VISITS, call("=", M, Column("v", "visit"))), "0A000", "does not match"),
        (inner(MEMBERS, VISITS, call("=", M, M)), "0A000", "does not match"),
        (inner(MEMBERS, VISITS, call("=", V, num("1"))), "0A000", "does not match"),
        (inner(MEMBERS, VISITS, call("=", Column("m", "nation"), Column("v", "minutes"))), "0A000", "does not match"),
        (inner(VISITS, BILLS, call("=", Column("b", "bill"), Column("v", "visit"))), "0A000", "does not match"),
        (inner(VISITS, ITEMS, call("=", Column("i", "bill"), Column("v", "visit"))), "0A000", "does not match"),
        (inner(MEMBERS, inner(VISITS, BILLS, call("=", B, Column("v", "visit"))), HOME), "42703", "does not exist"),
        (inner(MEMBERS, SHIFTS, call("=", M, Column("s", "id"))), "0A000", "about a person with rows about a doctor"),
        (outer(NATIONS, MEMBERS, HOME), "0A000", "keeps every row of a public table"),
        (where(MEMBERS, Column("m", "age")), "42804", "must be type boolean, not type smallint"),
        (inner(MEMBERS, NATIONS, N), "42804", "must be type boolean"),
        (Scan("secrets", "x"), "42P01", 'relation "secrets" does not exist'),
        (inner(MEMBERS, Scan("visits", "m"), SAME), "42712", 'table name "m" specified more than once'),
        (where(MEMBERS, call("is null", Column("m", "nothing"))), "42703", 'column "nothing" does not exist'),
        (where(MEMBERS, call("is null", Column("z", "id"))), "42703", 'column "id" does not exist'),
    ],
)
def test_a_relation_without_a_property_is_refused(relation: Relation, state: str, words: str) -> None:
    refusal = refused(found, relation)
    assert refusal.sqlstate == state
    assert words in refusal.message


def test_an_inner_public_side_may_stand_on_either_side_of_an_outer_join() -> None:
    kept = outer(inner(NATIONS, MEMBERS, HOME), VISITS, SAME)
    assert found(kept) == Protected("person", "m", 5)


def test_a_unit_with_too_many_rows_is_refused() -> None:
    many = inner(SHIFTS, Scan("shifts", "t"), call("=", Column("s", "doctor"), Column("t", "doctor")))
    assert found(many) == Protected("doctor", "s", ROWS_PER_UNIT_MAX)
    more = inner(many, NATIONS)
    refusal = refused(found, more)
    assert refusal.sqlstate == "54001"
    assert "4000000 rows" in refusal.message
    assert found(Scan("log", "l"), Facts(log=10**9)) == Public(10**9)


def test_a_public_key_is_not_met_once_by_a_comparison_in_floating_point() -> None:
    for other in (Column("m", "height"), to("double precision", M), const("double precision", "1")):
        pair = inner(MEMBERS, PAIRS, call("=", Column("p", "a"), other), call("=", Column("p", "b"), num("1")))
        assert found(pair) == Protected("person", "m", 6)
    rounded = inner(MEMBERS, NATIONS, call("=", N, to("integer", Column("m", "height"))))
    assert found(rounded) == Protected("person", "m", 1)


def _join(left: Relation, right: Relation, condition: Expression) -> bool:
    join = Join("inner", left, right, (condition,))
    return implies_equal_units(condition, join, scope(join, POLICY))


@pytest.mark.parametrize(
    ("left", "right", "condition", "expected"),
    [
        (MEMBERS, VISITS, SAME, True),
        (MEMBERS, VISITS, call("=", V, M), True),
        (VISITS, BILLS, call("=", Column("v", "visit"), B), True),
        (BILLS, Scan("bills", "c"), call("=", Column("c", "visit"), B), True),
        (VISITS, OTHER, call("=", Column("v", "visit"), Column("w", "visit")), True),
        (VISITS, BILLS, call("=", Column("v", "id"), B), False),
        (MEMBERS, NATIONS, HOME, False),
        (MEMBERS, VISITS, call("=", M, M), False),
        (MEMBERS, VISITS, call("and", SAME, SAME), False),
        (MEMBERS, VISITS, call("=", M, num("1")), False),
        (MEMBERS, VISITS, num("1"), False),
    ],
)
def test_equal_units_follow_from_columns_that_identify_them_alike(
    left: Relation, right: Relation, condition: Expression, expected: bool
) -> None:
    assert _join(left, right, condition) is expected


def test_the_unit_of_a_row_is_that_of_the_leftmost_protected_scan() -> None:
    assert unit_alias(inner(NATIONS, inner(MEMBERS, VISITS, SAME)), POLICY) == "m"
    assert unit_alias(outer(VISITS, MEMBERS, SAME), POLICY) == "v"
    assert unit_alias(NATIONS, POLICY) is None


BOTH = inner(MEMBERS, VISITS, SAME)


@pytest.mark.parametrize(
    ("key", "relation", "expected"),
    [
        (Column("m", "sex"), MEMBERS, True),
        (Column("v", "ward"), VISITS, False),
        (num("1"), VISITS, True),
        (call("lower", Column("m", "city")), where(MEMBERS), True),
        (Column("m", "sex"), BOTH, True),
        (Column("v", "ward"), BOTH, False),
        (call("=", Column("v", "ward"), Column("m", "age")), BOTH, False),
        (Column("n", "name"), inner(MEMBERS, NATIONS, HOME), True),
        (Column("n", "name"), inner(NATIONS, MEMBERS, HOME), True),
        (Column("n", "name"), inner(MEMBERS, NATIONS), False),
        (Column("n", "name"), inner(VISITS, NATIONS, call("=", N, Column("v", "ward"))), False),
        (
            Column("n", "name"),
            inner(MEMBERS, NATIONS, call("=", Column("n", "region"), Column("m", "nation"))),
            False,
        ),
        (Column("n", "name"), outer(MEMBERS, NATIONS, HOME), False),
        (Column("m", "sex"), outer(MEMBERS, VISITS, SAME), True),
        (Column("m", "sex"), outer(VISITS, MEMBERS, SAME), False),
        (
            Column("r", "title"),
            inner(inner(MEMBERS, NATIONS, HOME), REGIONS, call("=", Column("r", "region"), Column("n", "region"))),
            True,
        ),
        (
            Column("r", "title"),
            inner(inner(VISITS, NATIONS), REGIONS, call("=", Column("r", "region"), Column("n", "region"))),
            False,
        ),
        (Column("p", "label"), inner(MEMBERS, PAIRS, call("=", Column("p", "a"), M)), False),
        (
            Column("p", "label"),
            inner(MEMBERS, PAIRS, call("=", Column("p", "a"), M), call("=", Column("p", "b"), num("1"))),
            True,
        ),
    ],
)
def test_a_key_is_determined_where_all_rows_of_a_unit_have_one_value(
    key: Expression, relation: Relation, expected: bool
) -> None:
    assert is_determined(key, relation, POLICY) is expected


def test_a_unit_is_in_one_group_of_determined_keys_else_in_as_many_as_it_has_rows() -> None:
    def groups(*keys: Expression) -> int:
        return groups_max(Release("person", BOTH, keys, NoisyGroups(1), (Measure("count", None),)), 5, POLICY)

    assert groups() == 1
    assert groups(Column("m", "sex"), Column("m", "age")) == 1
    assert groups(Column("m", "sex"), Column("v", "ward")) == 5


def test_columns_of_an_outer_joins_right_side_can_be_null() -> None:
    names = scope(outer(VISITS, MEMBERS, SAME), POLICY)
    assert names.column(Column("m", "sex")).nullable
    assert not names.column(Column("v", "minutes")).nullable
    assert scope(MEMBERS, POLICY).column(Column("m", "sex")).sql == '"m"."sex"'
    assert names.table("v") == POLICY.tables["visits"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (Column("v", "minutes"), True),
        (call("*", Column("v", "minutes"), Column("v", "ward")), True),
        (Column("v", "cost"), False),
        (call("+", Column("v", "minutes"), Column("v", "cost")), False),
        (call("length", Column("v", "note")), False),
        (call("extract year", Column("v", "at")), False),
        (call("extract month", Column("v", "at")), True),
        (call("-", to("date", Column("v", "at")), to("date", Column("v", "at"))), False),
        (call("-", Column("v", "minutes"), Column("v", "ward")), True),
        (call("case", call("is null", Column("v", "note")), num("1"), num("0")), True),
        (call("case", call(">", Column("v", "cost"), num("9")), num("1"), num("0")), True),
        (call("case", call("is null", Column("v", "note")), num("1"), Column("v", "cost")), False),
        (to("integer", Column("v", "note")), False),
        (to("double precision", Column("v", "minutes")), True),
    ],
)
def test_a_range_is_known_where_the_policy_declares_it(expression: Expression, expected: bool) -> None:
    assert scope(VISITS, POLICY).known_range(expression) is expected
