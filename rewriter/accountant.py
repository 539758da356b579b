"""accountant: epsilon -> exact charge, budget -> capacity. What a question costs and how many of them fit.

Two accountants. `pure` adds epsilons. `zcdp` adds rho: a mechanism that is e-DP is (e^2/2)-zCDP (Bun and
Steinke 2016, "Concentrated Differential Privacy: Simplifications, Extensions, and Lower Bounds", Proposition
1.4), and rho turns back into (epsilon, delta) by Canonne, Kamath and Steinke 2020, "The Discrete Gaussian for
Differential Privacy", Corollary 13. The tighter analytic Gaussian conversion holds for Gaussian noise only;
a question may draw Laplace noise, so it is never used.

Amounts are exact fractions. Where a logarithm or a root must be rounded, it is toward more loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from math import ceil, isqrt
from typing import Final, Literal, overload

Accountant = Literal["zcdp", "pure"]

DIGITS: Final = 20
"""Significant digits of a rounded result: far below any loss that matters, and it keeps fractions small."""

EPSILON_MAX: Final = 10**6
"""Beyond this a budget protects nobody; `unlimited` says so honestly. It also bounds the search."""

DELTA_MIN: Final = Fraction(1, 10**100)
"""Below this zcdp refuses: the search for an order ends near 1/delta, and no randomness is that good."""

UNLIMITED_SHARE: Final = Fraction(1, 200)
"""What one question takes of the thresholds' delta in a room without a budget (test rooms only): as much
as a question of epsilon 0.1 takes in a budget of (8, 1e-6), so that its thresholds are ordinary ones."""

_SEARCH_DIGITS: Final = 28
_SEARCH_STEPS: Final = 80
"""Golden section over an interval below 500 wide: 500 * 0.618^80 < 1e-14. The optimum is flat: an order
that is off by 1e-14 costs some 1e-28 of loss."""

_LN_DIGITS: Final = 60
_LN_MARGIN: Final = Fraction(1, 10**50)
"""Error bound for `_ln`: the argument is off by 10^-59 of itself, and libmpdec rounds ln correctly, so for
|ln x| < 10^5 the result is off by less than 10^-55."""


@dataclass(frozen=True, slots=True, order=True)
class Cost:
    """An exact privacy cost, 0 or more: rho under `zcdp`, epsilon under `pure`. The two are never mixed."""

    amount: Fraction

    def __post_init__(self) -> None:
        if not isinstance(self.amount, Fraction):
            raise TypeError("a cost is an exact Fraction")
        if self.amount < 0:
            raise ValueError("a cost is not negative")

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.amount + other.amount)

    def __mul__(self, share: Fraction | int) -> Cost:
        if not isinstance(share, Fraction | int):
            return NotImplemented  # a float would make the charge inexact
        return Cost(self.amount * share)

    __rmul__ = __mul__

    def without(self, spent: Cost) -> Cost:
        """What remains after `spent`, never below nothing."""
        return Cost(max(self.amount - spent.amount, Fraction(0)))


NOTHING: Final = Cost(Fraction(0))


def charge(accountant: Accountant, epsilon: Fraction) -> Cost:
    """Price a question at `epsilon`: epsilon^2/2 under zcdp, what an e-DP mechanism costs; else epsilon.

    Raises:
        ValueError: epsilon is not above 0 and at most EPSILON_MAX.
    """
    _check_epsilon(epsilon)
    return Cost(epsilon * epsilon / 2) if accountant == "zcdp" else Cost(epsilon)


@overload
def capacity(accountant: Accountant, epsilon: Fraction, delta: Fraction) -> Cost: ...
@overload
def capacity(accountant: Accountant, epsilon: None, delta: Fraction) -> None: ...
@overload
def capacity(accountant: Accountant, epsilon: Fraction | None, delta: Fraction) -> Cost | None: ...
def capacity(accountant: Accountant, epsilon: Fraction | None, delta: Fraction) -> Cost | None:
    """Find the most that charges may sum to within (epsilon, delta), rounded down; None if epsilon is None.

    Ensures: for every adaptive sequence of mechanisms whose zCDP costs sum to the result, the whole is
    (epsilon, delta/2)-DP; the other half of delta is for thresholds (`key_delta`). Under `pure` the result is
    epsilon, and all of delta is for thresholds.

    Raises:
        ValueError: epsilon or delta is out of range; zcdp needs a delta of at least 2 * DELTA_MIN.
    """
    if epsilon is None:
        return None
    _check_epsilon(epsilon)
    _check_delta(delta, least=Fraction(0))
    if accountant == "pure":
        return Cost(epsilon)
    return _zcdp_capacity(epsilon, delta / 2)


def epsilon_of(accountant: Accountant, cost: Cost, delta: Fraction) -> Fraction:
    """Say which epsilon `cost` alone means at `delta`, rounded up; under `pure` the amount, for any delta.

    Ensures: a mechanism that is (cost.amount)-zCDP is (result, delta)-DP.

    Raises:
        ValueError: delta is out of range; zcdp needs at least DELTA_MIN.
    """
    if accountant == "pure":
        _check_delta(delta, least=Fraction(0))
        return cost.amount
    return _zcdp_epsilon(cost.amount, delta)


def key_delta(accountant: Accountant, cost: Cost, capacity: Cost | None, delta: Fraction) -> Fraction:
    """Give a question its part of the thresholds' delta, in proportion to its charge, rounded down.

    Ensures: while charges sum to at most `capacity`, the parts sum to at most delta/2 (zcdp), delta (pure).

    Args:
        accountant: of the unit's budget.
        cost: what the question is charged.
        capacity: of the common budget, not of a share; None is an unlimited test room.
        delta: the whole delta of the common budget.

    Raises:
        ValueError: the cost exceeds the capacity, or delta is out of range.
    """
    _check_delta(delta, least=Fraction(0))
    if capacity is not None and not cost <= capacity:
        raise ValueError("the charge exceeds the capacity of the budget")
    whole = delta / 2 if accountant == "zcdp" else delta
    if capacity is None:
        return _rounded(whole * UNLIMITED_SHARE, ROUND_FLOOR)
    return _rounded(whole * cost.amount / capacity.amount, ROUND_FLOOR) if cost.amount else Fraction(0)


def laplace_epsilon(rho: Fraction) -> Fraction:
    """Find the epsilon of a pure mechanism that costs at most rho in zCDP: sqrt(2 rho), rounded down.

    Ensures: result^2 / 2 <= rho. Exact where 2 rho is the square of a fraction of 64-bit parts, else within
    2^-63 of the root, relatively.

    Raises:
        ValueError: rho is negative.
    """
    if rho < 0:
        raise ValueError("rho is not negative")
    square = 2 * rho
    root = Fraction(isqrt(square.numerator), isqrt(square.denominator))
    if root * root == square and max(root.numerator, root.denominator).bit_length() <= 64:
        return root
    bits = max(0, 130 - square.numerator.bit_length() + square.denominator.bit_length()) // 2
    return Fraction(isqrt((square.numerator << 2 * bits) // square.denominator), 1 << bits)


def questions_left(capacity: Cost, spent: Cost, each: Cost) -> int:
    """Count how many charges of `each` still fit: exact, never below 0.

    Raises:
        ValueError: `each` is nothing.
    """
    if not each.amount:
        raise ValueError("a question costs more than nothing")
    return capacity.without(spent).amount // each.amount


def epsilons_below(epsilon: Fraction) -> Iterator[Fraction]:
    """List round numbers below epsilon, falling: 0.05, 0.02, 0.01, 0.005, ... What a hint may propose instead.

    It ends four decades down: an answer that is 10^4 times less exact helps nobody.
    """
    decade = Fraction(10) ** ceil(Context(_LN_DIGITS).log10(_decimal(epsilon)))
    for _ in range(4):
        yield from (x for x in (decade / 2, decade / 5, decade / 10) if x < epsilon)
        decade /= 10


@lru_cache(maxsize=1024)
def _zcdp_epsilon(rho: Fraction, delta: Fraction) -> Fraction:
    """Evaluate the conversion, epsilon = alpha rho + penalty(alpha), at the best order found."""
    _check_delta(delta, least=DELTA_MIN)
    if not rho:
        return Fraction(0)
    slope = _decimal(rho)
    above_one = _best_order(delta, lambda above_one, penalty: -(slope * (1 + above_one) + penalty))
    bound = rho * (1 + above_one) + _penalty_above(above_one, delta)
    return max(Fraction(0), _rounded(bound, ROUND_CEILING))


@lru_cache(maxsize=1024)
def _zcdp_capacity(epsilon: Fraction, delta: Fraction) -> Cost:
    """Solve the conversion for rho = (epsilon - penalty(alpha)) / alpha at the best order found."""
    _check_delta(delta, least=DELTA_MIN)
    target = _decimal(epsilon)
    above_one = _best_order(delta, lambda above_one, penalty: (target - penalty) / (1 + above_one))
    rho = (epsilon - _penalty_above(above_one, delta)) / (1 + above_one)
    return Cost(max(Fraction(0), _rounded(rho, ROUND_FLOOR)))


def _penalty_above(above_one: Fraction, delta: Fraction) -> Fraction:
    """Bound ln(1 - 1/alpha) + (ln(1/delta) - ln alpha) / (alpha - 1) from above (Corollary 13, taken apart).

    The fractions are exact, so only the three logarithms need a margin.
    """
    alpha = 1 + above_one
    first = _ln(above_one / alpha) + _LN_MARGIN
    second = _ln(1 / delta) - _ln(alpha) + 2 * _LN_MARGIN
    return first + second / above_one


def _best_order(delta: Fraction, gain: Callable[[Decimal, Decimal], Decimal]) -> Fraction:
    """Search alpha - 1 for the largest gain, a function of (alpha - 1, penalty).

    Golden section over ln(alpha - 1). The logarithm of Corollary 13's delta is convex in alpha, so `gain` has
    one peak and this finds it. No promise rests on that: the bound holds at every alpha.
    """
    with localcontext(Context(prec=_SEARCH_DIGITS)):
        surplus = -_decimal(delta).ln()

        def value(x: Decimal) -> Decimal:
            above_one = x.exp()
            log_alpha = (1 + above_one).ln()
            return gain(above_one, x - log_alpha + (surplus - log_alpha) / above_one)

        best = _golden_section(value, Decimal(-60), surplus + 10).exp()
    return _rounded(Fraction(best), ROUND_CEILING)


def _golden_section(value: Callable[[Decimal], Decimal], low: Decimal, high: Decimal) -> Decimal:
    ratio = (Decimal(5).sqrt() - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = value(left), value(right)
    for _ in range(_SEARCH_STEPS):
        if at_left >= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = value(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = value(right)
    return (low + high) / 2


def _ln(x: Fraction) -> Fraction:
    """The natural logarithm, off by less than `_LN_MARGIN`."""
    return Fraction(_decimal(x).ln(Context(_LN_DIGITS)))


def _decimal(x: Fraction) -> Decimal:
    """Divide at _LN_DIGITS, whatever the caller's decimal context; the parts themselves are taken exactly."""
    return Context(_LN_DIGITS).divide(Decimal(x.numerator), Decimal(x.denominator))


def _rounded(x: Fraction, rounding: str) -> Fraction:
    """Round to DIGITS significant digits; what has fewer stays as it is."""
    return Fraction(Context(DIGITS, rounding).divide(Decimal(x.numerator), Decimal(x.denominator)))


def _check_epsilon(epsilon: Fraction) -> None:
    if not 0 < epsilon <= EPSILON_MAX:
        raise ValueError(f"epsilon is above 0 and at most {EPSILON_MAX}")


def _check_delta(delta: Fraction, least: Fraction) -> None:
    if not least <= delta < 1:
        raise ValueError("delta is below 1 and not negative; zcdp needs one above 0")
