from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from edges import call, num
from hypothesis import given, settings
from hypothesis import strategies as st
from room import BILLS, FACTS, ITEMS, MEMBERS, NATIONS, POLICY, SHIFTS, VISITS, inner, outer, refused

from rewriter.accountant import laplace_epsilon
from rewriter.cost import Coordinate, Price, coordinates, noise_of, noise_scale, places, stages, threshold
from rewriter.plan import Column, Expression, Groups, Measure, NoisyGroups, PublicGroups, Relation, Release
from rewriter.terms import FIXED_POINT

ALL = PublicGroups((), ())
MINUTES, COST, WEIGHT, HEIGHT = (
    Column("v", "minutes"),
    Column("v", "cost"),
    Column("m", "weight"),
    Column("m", "height"),
)
BOTH = inner(MEMBERS, VISITS, call("=", Column("m", "id"), Column("v", "id")))


def release(
    source: Relation,
    *measures: Measure,
    keys: tuple[Expression, ...] = (),
    groups: Groups = ALL,
    unit: str = "person",
) -> Release:
    return Release(unit, source, keys, groups, measures)


def found(source: Relation, *measures: Measure, **parts: Any) -> tuple[Coordinate, ...]:
    return coordinates(release(source, *measures, **parts), POLICY, FACTS)


def one(source: Relation, kind: Any, argument: Expression | None = None, **parts: Any) -> Coordinate:
    [coordinate] = found(source, Measure(kind, argument), **parts)
    return coordinate


def test_a_count_is_bounded_by_the_rows_of_a_unit() -> None:
    rows = one(BILLS, "count")
    assert (rows.kind, rows.static_max, rows.per_one, rows.declared, rows.is_found) == ("rows", 10, 1, None, True)
    arguments = one(BILLS, "count", Column("b", "amount"))
    assert (arguments.kind, arguments.static_max, arguments.argument) == ("arguments", 10, Column("b", "amount"))


def test_a_bound_of_one_needs_no_search() -> None:
    assert not one(MEMBERS, "count").is_found
    assert one(MEMBERS, "count").static_max == 1


def test_what_an_owner_declares_is_taken_as_the_bound() -> None:
    assert (one(VISITS, "count").declared, one(VISITS, "count").is_found) == (4, False)
    assert one(VISITS, "units", Column("v", "id")).declared == 1
    assert one(VISITS, "sum", MINUTES).declared == 600
    assert one(VISITS, "count", COST).declared is None
    assert one(VISITS, "sum", COST).declared is None
    assert one(VISITS, "sum", call("+", MINUTES, num("1"))).declared is None
    assert one(BOTH, "count").declared == 4


def test_two_declarations_of_one_measure_cancel() -> None:
    twice = inner(VISITS, type(VISITS)("visits", "w"), call("=", Column("v", "visit"), Column("w", "visit")))
    assert one(twice, "count").declared is None


def test_units_are_bounded_by_the_groups_a_unit_can_be_in() -> None:
    assert one(BOTH, "units", Column("m", "id")).static_max == 1
    assert one(BOTH, "units", Column("m", "id"), keys=(Column("m", "sex"),)).static_max == 1
    assert one(BOTH, "units", Column("m", "id"), keys=(Column("v", "ward"),)).static_max == 5


def test_a_sum_is_bounded_by_rows_times_the_range_in_its_units() -> None:
    minutes = one(VISITS, "sum", MINUTES)
    assert (minutes.static_max, minutes.per_one) == (5 * 240, 1)
    cost = one(VISITS, "sum", COST)
    assert (cost.static_max, cost.per_one) == (5 * (10**12 - 1), 100)
    height = one(MEMBERS, "sum", HEIGHT)
    assert height.per_one == FIXED_POINT
    assert height.static_max == int(2.5 * FIXED_POINT)
    assert one(ITEMS, "sum", Column("i", "price")).static_max == 1  # nothing but zeros still needs a bound above 0


def test_a_mean_with_a_declared_range_is_taken_around_its_middle() -> None:
    count, centred = found(VISITS, Measure("mean", MINUTES))
    assert (count.static_max, centred.kind, centred.twice_centre) == (5, "centred", 240)
    assert (centred.static_max, centred.per_one) == (5 * 240, 2)
    assert centred.count == 0


def test_a_mean_without_a_declared_range_has_its_centre_found() -> None:
    for source, argument in ((VISITS, COST), (MEMBERS, WEIGHT), (VISITS, call("length", Column("v", "note")))):
        _, centred = found(source, Measure("mean", argument))
        assert centred.twice_centre is None
        assert centred.value is not None
        assert centred.static_max < 2**127


@pytest.mark.parametrize(
    "argument", [MINUTES, COST, WEIGHT, HEIGHT, call("*", COST, COST), call("*", WEIGHT, WEIGHT)]
)
@pytest.mark.parametrize("kind", ["sum", "mean"])
def test_no_bound_reaches_what_a_128_bit_sum_can_hold(kind: Any, argument: Expression) -> None:
    wide = inner(BOTH, BILLS, call("=", Column("b", "visit"), Column("v", "visit")))
    for coordinate in found(wide, Measure(kind, argument)):
        assert 1 <= coordinate.static_max < 2**127


def test_counts_of_the_same_rows_are_bought_once() -> None:
    asked = (
        Measure("mean", MINUTES),
        Measure("count", None),
        Measure("count", MINUTES),
        Measure("sum", COST),
        Measure("mean", COST),
    )
    assert places(release(VISITS, *asked), POLICY, FACTS) == ((0, 1), (0,), (0,), (2,), (3, 4))
    assert [c.kind for c in found(VISITS, *asked)] == ["rows", "centred", "sum", "arguments", "centred"]


@pytest.mark.parametrize(
    ("source", "measure", "unit", "state"),
    [
        (NATIONS, Measure("count", None), "person", "0A000"),
        (SHIFTS, Measure("count", None), "person", "0A000"),
        (VISITS, Measure("sum", None), "person", "0A000"),
        (VISITS, Measure("mean", None), "person", "0A000"),
        (VISITS, Measure("sum", Column("v", "note")), "person", "42883"),
        (VISITS, Measure("mean", Column("v", "at")), "person", "42883"),
        (VISITS, Measure("units", None), "person", "0A000"),
        (VISITS, Measure("units", Column("v", "ward")), "person", "0A000"),
        (VISITS, Measure("units", call("+", Column("v", "id"), num("1"))), "person", "0A000"),
        (BILLS, Measure("units", Column("b", "visit")), "person", "0A000"),
        (SHIFTS, Measure("units", Column("s", "id")), "doctor", "0A000"),
        (VISITS, Measure("units", Column("z", "id")), "person", "0A000"),
        (VISITS, Measure("sum", Column("v", "nothing")), "person", "42703"),
        (inner(MEMBERS, VISITS), Measure("count", None), "person", "0A000"),
    ],
)
def test_what_cannot_be_bounded_is_refused(source: Relation, measure: Measure, unit: str, state: str) -> None:
    assert refused(coordinates, release(source, measure, unit=unit), POLICY, FACTS).sqlstate == state


def test_the_type_in_a_refusal_is_that_of_the_argument() -> None:
    asked = release(VISITS, Measure("mean", Column("v", "note")))
    assert refused(coordinates, asked, POLICY, FACTS).message == "function avg(text) does not exist"


MEASURES = st.lists(
    st.sampled_from(
        [
            Measure("count", None),
            Measure("count", COST),
            Measure("units", Column("v", "id")),
            Measure("sum", MINUTES),
            Measure("sum", COST),
            Measure("mean", MINUTES),
            Measure("mean", COST),
            Measure("mean", WEIGHT),
        ]
    ),
    max_size=6,
)
AMOUNTS = st.fractions(Fraction(1, 10**12), 1000)


@settings(max_examples=200, deadline=None)
@given(MEASURES, AMOUNTS, st.booleans(), st.sampled_from(["pure", "zcdp"]))
def test_stages_make_up_the_price_exactly(
    asked: list[Measure], amount: Fraction, noisy: bool, accountant: Any
) -> None:
    source = outer(VISITS, MEMBERS, call("=", Column("v", "id"), Column("m", "id")))
    plan = release(source, *asked, keys=(Column("v", "code"),), groups=NoisyGroups(3) if noisy else ALL)
    layout = coordinates(plan, POLICY, FACTS)
    divided = stages(plan, layout, Price(accountant, amount, Fraction(1, 10**9)))
    assert divided.total == amount
    assert (divided.keys > 0) == (noisy or not layout)
    assert set(divided.sums) == set(range(len(layout)))
    assert set(divided.bounds) == {i for i, c in enumerate(layout) if c.is_found}
    assert set(divided.centres) == {i for i, c in enumerate(layout) if c.kind == "centred" and c.twice_centre is None}
    assert all(part > 0 for part in (*divided.sums.values(), *divided.bounds.values(), *divided.centres.values()))


def test_noise_is_gaussian_under_zcdp_alone() -> None:
    assert (noise_of("zcdp"), noise_of("pure")) == ("gaussian", "laplace")
    assert noise_scale("pure", Fraction(1, 10), 2.0) == pytest.approx(20)
    assert noise_scale("zcdp", Fraction(1, 200), 2.0) == pytest.approx(20)


def test_a_pure_threshold_is_laplace_with_its_whole_amount() -> None:
    assert threshold(Price("pure", Fraction(1), Fraction(0)), Fraction(1, 4), 16) == ("laplace", Fraction(1, 4))


@settings(deadline=None)
@given(AMOUNTS, st.integers(1, 1000), st.fractions(Fraction(1, 10**15), Fraction(1, 100)))
def test_a_threshold_is_the_better_of_two_that_cost_the_same(
    amount: Fraction, per_unit: int, delta: Fraction
) -> None:
    kind, parameter = threshold(Price("zcdp", amount * 4, delta), amount, per_unit)
    if kind == "gaussian":
        assert parameter == amount
    else:
        assert parameter == laplace_epsilon(amount)
        assert parameter**2 / 2 <= amount


def test_a_threshold_is_gaussian_unless_its_delta_is_large() -> None:
    small, large = (Price("zcdp", Fraction(1, 200), delta) for delta in (Fraction(1, 10**8), Fraction(1, 2)))
    assert threshold(small, small.amount, 1)[0] == "gaussian"
    assert threshold(large, large.amount, 1)[0] == "laplace"
    assert math.isfinite(float(threshold(small, small.amount, 10**6)[1]))
