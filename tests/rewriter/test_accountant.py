"""The accountant against Google's dp-accounting, which computes in doubles and by other code."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from math import exp, log, sqrt

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from rewriter.accountant import (
    DELTA_MIN,
    EPSILON_MAX,
    NOTHING,
    UNLIMITED_SHARE,
    Accountant,
    Cost,
    capacity,
    charge,
    epsilon_of,
    epsilons_below,
    key_delta,
    laplace_epsilon,
    questions_left,
)

MILLIONTH = Fraction(1, 10**6)
TENTH = Fraction(1, 10)
DOUBLES = 1 + 1e-9  # the oracle's own rounding

accountants = st.sampled_from(("zcdp", "pure"))
epsilons = st.fractions(Fraction(1, 1000), 40, max_denominator=1000)
deltas = st.integers(2, 60).map(lambda bits: Fraction(1, 2**bits))
rhos = st.fractions(Fraction(1, 10**6), 50, max_denominator=10**6)


def oracle_epsilon(rho: Fraction, delta: Fraction) -> float:
    """The same corollary in Google's code, on a dense grid of orders."""
    orders = [1 + exp(x / 100) for x in range(-600, 1500)]
    accountant = RdpAccountant(orders=orders)
    accountant.compose(dp_accounting.GaussianDpEvent(sqrt(1 / (2 * rho))))
    return float(accountant.get_epsilon(float(delta)))


def test_a_budget_of_8_holds_201_questions_of_a_tenth_under_zcdp_and_80_under_pure() -> None:
    common = capacity("zcdp", Fraction(8), MILLIONTH)
    assert questions_left(common, NOTHING, charge("zcdp", TENTH)) == 201
    assert questions_left(capacity("pure", Fraction(8), MILLIONTH), NOTHING, charge("pure", TENTH)) == 80


def test_a_share_of_3_holds_rho_0_176_and_35_questions_of_a_tenth() -> None:
    share = capacity("zcdp", Fraction(3), MILLIONTH)
    assert float(share.amount) == pytest.approx(0.176, abs=0.0005)
    assert questions_left(share, NOTHING, charge("zcdp", TENTH)) == 35


def test_a_question_of_a_tenth_alone_means_0_45_at_delta_5e_7() -> None:
    assert round(float(epsilon_of("zcdp", charge("zcdp", TENTH), MILLIONTH / 2)), 2) == 0.45


def test_charges_are_exact() -> None:
    assert charge("zcdp", TENTH) == Cost(Fraction(1, 200))
    assert charge("pure", TENTH) == Cost(TENTH)


@settings(deadline=None, max_examples=60)
@given(rhos, deltas)
def test_the_conversion_is_that_of_the_oracle_at_the_best_order(rho: Fraction, delta: Fraction) -> None:
    ours = float(epsilon_of("zcdp", Cost(rho), delta))
    theirs = oracle_epsilon(rho, delta)
    assert ours <= theirs * DOUBLES + 1e-12
    assert theirs <= ours * 1.01 + 1e-3  # a grid of orders loses a little, never more


@settings(deadline=None, max_examples=15)
@given(
    st.fractions(Fraction(1, 1000), 2, max_denominator=1000),
    st.integers(2, 30).map(lambda bits: Fraction(1, 2**bits)),  # below, the oracle's cut-off tails count
)
def test_what_we_claim_for_a_gaussian_is_never_below_its_exact_privacy_loss(rho: Fraction, delta: Fraction) -> None:
    exact = PLDAccountant(value_discretization_interval=1e-3)
    exact.compose(dp_accounting.GaussianDpEvent(sqrt(1 / (2 * rho))))
    # The oracle rounds its discretised loss up by at most one interval.
    assert exact.get_epsilon(float(delta)) <= float(epsilon_of("zcdp", Cost(rho), delta)) + 1e-3


@settings(deadline=None, max_examples=12)
@given(
    st.sampled_from((Fraction(1, 2), Fraction(1), Fraction(3), Fraction(8))),
    st.sampled_from((Fraction(1, 20), TENTH, Fraction(1, 4), Fraction(1, 2))),
    st.sampled_from((MILLIONTH, Fraction(1, 10**9))),
    st.integers(0, 4),
)
def test_a_full_budget_of_laplace_and_gaussian_stages_stays_within_epsilon_at_half_of_delta(
    epsilon: Fraction, each: Fraction, delta: Fraction, quarters: int
) -> None:
    whole = capacity("zcdp", epsilon, delta)
    price = charge("zcdp", each)
    count = questions_left(whole, NOTHING, price)
    laplace = count * quarters // 4
    exact = PLDAccountant(value_discretization_interval=1e-3)
    if laplace:
        scale = 1 / float(laplace_epsilon(price.amount))
        exact.compose(dp_accounting.LaplaceDpEvent(scale), laplace)
    if count - laplace:
        exact.compose(dp_accounting.GaussianDpEvent(sqrt(1 / (2 * price.amount))), count - laplace)
    assert exact.get_epsilon(float(delta / 2)) <= float(epsilon) + 1e-3


def test_the_analytic_gaussian_conversion_would_be_tighter_and_is_not_what_we_claim() -> None:
    exact = PLDAccountant(value_discretization_interval=1e-3)
    exact.compose(dp_accounting.GaussianDpEvent(sqrt(1 / 2)))
    assert exact.get_epsilon(1e-6) + 0.2 < float(epsilon_of("zcdp", Cost(Fraction(1)), MILLIONTH))


@given(epsilons, deltas)
def test_a_capacity_spent_in_full_means_at_most_the_budgets_epsilon(epsilon: Fraction, delta: Fraction) -> None:
    whole = capacity("zcdp", epsilon, delta)
    meaning = epsilon_of("zcdp", whole, delta / 2)
    assert meaning <= epsilon + Fraction(1, 10**18)  # two roundings, each in the safe direction
    assert meaning >= epsilon * (1 - Fraction(1, 10**9))  # and next to nothing is lost


@given(epsilons, deltas, st.integers(3, 400).map(lambda tenths: 1 + Fraction(tenths, 10)))
def test_no_order_admits_more_than_the_capacity(epsilon: Fraction, delta: Fraction, order: Fraction) -> None:
    a = float(order)
    penalty = log(1 - 1 / a) + (log(2 / float(delta)) - log(a)) / (a - 1)
    assert (float(epsilon) - penalty) / a <= float(capacity("zcdp", epsilon, delta).amount) * DOUBLES


@given(epsilons, epsilons, deltas)
def test_capacity_grows_with_epsilon_and_delta(one: Fraction, other: Fraction, delta: Fraction) -> None:
    low, high = sorted((one, other))
    assert capacity("zcdp", low, delta) <= capacity("zcdp", high, delta)
    assert capacity("zcdp", low, delta / 2) <= capacity("zcdp", low, delta)


@given(rhos, rhos, deltas)
def test_a_dearer_release_means_a_larger_epsilon(one: Fraction, other: Fraction, delta: Fraction) -> None:
    low, high = sorted((one, other))
    assert epsilon_of("zcdp", Cost(low), delta) <= epsilon_of("zcdp", Cost(high), delta)


@given(epsilons, deltas)
def test_results_have_a_bounded_size(epsilon: Fraction, delta: Fraction) -> None:
    rho = capacity("zcdp", epsilon, delta).amount
    for value in (rho, epsilon_of("zcdp", Cost(rho), delta), laplace_epsilon(rho)):
        assert value.denominator.bit_length() <= 256
        assert value.numerator.bit_length() <= 256


@pytest.mark.parametrize("epsilon", [Fraction(1, 10**9), Fraction(EPSILON_MAX)])
@pytest.mark.parametrize("delta", [2 * DELTA_MIN, Fraction(1, 2), Fraction(999, 1000)])
def test_the_corners_of_the_range_stay_on_the_safe_side(epsilon: Fraction, delta: Fraction) -> None:
    whole = capacity("zcdp", epsilon, delta)
    assert whole.amount > 0
    assert epsilon_of("zcdp", whole, delta / 2) <= epsilon * (1 + Fraction(1, 10**15))


def test_the_callers_decimal_context_changes_nothing() -> None:
    expected = capacity("zcdp", Fraction(77, 13), Fraction(1, 12345))
    with localcontext() as context:
        context.prec = 3
        capacity.__globals__["_zcdp_capacity"].cache_clear()
        assert capacity("zcdp", Fraction(77, 13), Fraction(1, 12345)) == expected


@given(accountants, epsilons, deltas, st.lists(st.integers(1, 1000), min_size=1, max_size=20))
def test_the_thresholds_parts_sum_to_their_half_of_delta_at_most(
    accountant: Accountant, epsilon: Fraction, delta: Fraction, weights: list[int]
) -> None:
    whole = capacity(accountant, epsilon, delta)
    costs = [whole * Fraction(weight, sum(weights)) for weight in weights]
    assert sum(costs, NOTHING) == whole
    total = sum(key_delta(accountant, cost, whole, delta) for cost in costs)
    bound = delta / 2 if accountant == "zcdp" else delta
    assert bound * (1 - Fraction(1, 10**18)) <= total <= bound


def test_an_unlimited_room_has_a_fixed_part_for_thresholds_and_no_capacity() -> None:
    assert capacity("zcdp", None, MILLIONTH) is None
    assert capacity("pure", None, MILLIONTH) is None
    assert key_delta("zcdp", Cost(Fraction(9)), None, MILLIONTH) == MILLIONTH / 2 * UNLIMITED_SHARE


def test_a_charge_above_the_capacity_has_no_part_of_delta() -> None:
    with pytest.raises(ValueError, match="exceeds"):
        key_delta("pure", Cost(Fraction(2)), Cost(Fraction(1)), MILLIONTH)


def test_nothing_costs_nothing() -> None:
    assert epsilon_of("zcdp", NOTHING, MILLIONTH) == 0
    assert key_delta("zcdp", NOTHING, NOTHING, MILLIONTH) == 0
    assert laplace_epsilon(Fraction(0)) == 0


@given(st.fractions(0, 10**6, max_denominator=10**30))
def test_the_root_is_never_above_and_next_to_exact(rho: Fraction) -> None:
    root = laplace_epsilon(rho)
    assert root * root / 2 <= rho
    assert (root * (1 + Fraction(1, 2**63))) ** 2 / 2 >= rho


@given(st.fractions(0, 10**6, max_denominator=10**9))
def test_the_root_of_an_undivided_charge_is_the_epsilon_it_came_from(epsilon: Fraction) -> None:
    assert laplace_epsilon(epsilon * epsilon / 2) == epsilon


@given(rhos, rhos, rhos)
def test_questions_left_is_the_last_number_that_fits(whole: Fraction, spent: Fraction, each: Fraction) -> None:
    left = questions_left(Cost(whole), Cost(spent), Cost(each))
    assert left >= 0
    assert left == 0 or spent + left * each <= whole
    assert spent + (left + 1) * each > whole


def test_costs_add_scale_and_compare_exactly() -> None:
    cost = Cost(TENTH)
    assert cost + cost == cost * 2 == Fraction(2) * cost
    assert cost * Fraction(15, 100) < cost
    assert Cost(Fraction(1)).without(cost) == Cost(Fraction(9, 10))
    assert cost.without(Cost(Fraction(1))) == NOTHING


def test_a_cost_is_never_a_float_and_never_negative() -> None:
    with pytest.raises(TypeError, match="Fraction"):
        Cost(0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Cost(TENTH) * 0.5  # type: ignore[operator]
    with pytest.raises(ValueError, match="negative"):
        Cost(-TENTH)


@pytest.mark.parametrize("epsilon", [Fraction(0), Fraction(-1), Fraction(EPSILON_MAX + 1)])
def test_an_epsilon_out_of_range_is_refused(epsilon: Fraction) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        charge("zcdp", epsilon)
    with pytest.raises(ValueError, match="epsilon"):
        capacity("pure", epsilon, MILLIONTH)


def test_a_delta_out_of_range_is_refused_and_pure_needs_none() -> None:
    assert capacity("pure", Fraction(1), Fraction(0)) == Cost(Fraction(1))
    assert epsilon_of("pure", Cost(TENTH), Fraction(0)) == TENTH
    for delta in (Fraction(0), Fraction(1), Fraction(-1)):
        with pytest.raises(ValueError, match="delta"):
            capacity("zcdp", Fraction(1), delta)
        with pytest.raises(ValueError, match="delta"):
            epsilon_of("zcdp", Cost(TENTH), delta)
    with pytest.raises(ValueError, match="delta"):
        key_delta("pure", Cost(TENTH), Cost(TENTH), Fraction(1))


def test_a_root_of_less_than_nothing_and_a_free_question_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        laplace_epsilon(Fraction(-1))
    with pytest.raises(ValueError, match="nothing"):
        questions_left(NOTHING, NOTHING, NOTHING)


def test_policy_decimals_become_exact_charges() -> None:
    assert charge("zcdp", Fraction(Decimal("0.1"))) == Cost(Fraction(1, 200))


@given(epsilons)
def test_a_hint_proposes_falling_round_numbers_below_what_was_asked(epsilon: Fraction) -> None:
    proposed = list(epsilons_below(epsilon))
    assert epsilon / 2 - Fraction(1, 10**6) <= proposed[0] * Fraction(5, 4) < epsilon * Fraction(5, 4)
    assert proposed == sorted(proposed, reverse=True)
    assert epsilon / 10**5 <= proposed[-1] <= epsilon / 10**3
    assert list(epsilons_below(TENTH))[:3] == [Fraction(1, 20), Fraction(1, 50), Fraction(1, 100)]
