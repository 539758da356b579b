from __future__ import annotations

import pytest
from edges import call, num
from room import BILLS, FACTS, MEMBERS, NATIONS, POLICY, SHIFTS, VISITS, Facts, inner, outer, where

from rewriter.bound import Protected, property_of
from rewriter.domains import GROUPS_MAX
from rewriter.keys import groups_for, groups_per_unit
from rewriter.plan import Column, Expression, Groups, NoisyGroups, PublicGroups, PublicRows, Relation, Values

SEX, WARD, CITY, CODE = Column("m", "sex"), Column("v", "ward"), Column("m", "city"), Column("v", "code")
BOTH = inner(MEMBERS, VISITS, call("=", Column("m", "id"), Column("v", "id")))
HOME = call("=", Column("m", "nation"), Column("n", "nation"))


def protected(source: Relation) -> Protected:
    found = property_of(source, POLICY, FACTS)
    assert isinstance(found, Protected)
    return found


def groups(source: Relation, *keys: Expression, facts: Facts = FACTS) -> Groups:
    return groups_for(keys, source, protected(source), POLICY, facts)


def test_no_key_is_one_group() -> None:
    assert groups(VISITS) == PublicGroups((), ())


def test_keys_that_the_policy_lists_are_public() -> None:
    found = groups(BOTH, SEX, WARD)
    assert isinstance(found, PublicGroups)
    assert [type(axis) for axis in found.axes] == [Values, Values]


def test_one_key_that_can_be_anything_makes_all_unknown() -> None:
    assert groups(BOTH, SEX, CODE) == NoisyGroups(3)


def test_too_many_cells_make_a_public_table_unknown() -> None:
    source = inner(MEMBERS, NATIONS, HOME)
    assert groups(source, Column("n", "name")) == PublicGroups((PublicRows(NATIONS, ("name",), False),), ())
    assert groups(source, Column("n", "name"), facts=Facts(nations=GROUPS_MAX + 1)) == NoisyGroups(1)


@pytest.mark.parametrize(
    ("source", "keys", "expected"),
    [
        (MEMBERS, (CITY,), 1),
        (BOTH, (CITY,), 1),
        (BOTH, (CITY, Column("m", "weight")), 1),
        (VISITS, (CODE,), 3),
        (BOTH, (CITY, CODE), 3),
        (where(VISITS, call("=", WARD, num("1"))), (CODE,), 3),
        (BILLS, (Column("b", "amount"),), 10),
        (SHIFTS, (Column("s", "hours"),), 16),
        (outer(VISITS, MEMBERS, call("=", Column("m", "id"), Column("v", "id"))), (CITY,), 3),
        (inner(MEMBERS, NATIONS, HOME), (Column("n", "name"), CITY), 1),
        (inner(MEMBERS, NATIONS), (Column("n", "name"), CITY), 1),
    ],
)
def test_a_unit_supports_one_group_where_it_determines_it_else_what_the_policy_says(
    source: Relation, keys: tuple[Expression, ...], expected: int
) -> None:
    assert groups_per_unit(keys, source, protected(source), POLICY) == expected


def test_a_unit_supports_no_more_groups_than_it_has_rows() -> None:
    few = Protected("person", "v", 2)
    assert groups_per_unit((CODE,), VISITS, few, POLICY) == 2
