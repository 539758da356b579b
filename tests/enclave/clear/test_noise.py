from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.clear.noise import OpenDP, threshold
from rewriter.cost import Noise

AMOUNTS = [Fraction(1, 200), Fraction(1, 20), Fraction(1), Fraction(7, 3)]
DRAWS = 20_000
FALSE_ALARM_Z = 6.0
"""Standard errors; a true scale is outside with probability below 2e-9 (normal approximation of 20,000 draws)."""


def discrete_variance(noise: Noise, scale: float) -> float:
    if noise == "gaussian":
        reach = math.ceil(12 * scale) + 2
        weights = [math.exp(-(x**2) / (2 * scale**2)) for x in range(-reach, reach + 1)]
        return sum(w * x**2 for w, x in zip(weights, range(-reach, reach + 1), strict=True)) / sum(weights)
    ratio = math.exp(-1 / scale)
    return 2 * ratio / (1 - ratio) ** 2


def tail(noise: Noise, scale: float, least: int) -> float:
    """P(X >= least), summed from the definition."""
    reach = max(abs(least), math.ceil(60 * scale)) + 60
    power = 2 if noise == "gaussian" else 1
    per = 2 * scale**2 if noise == "gaussian" else scale
    weights = {x: math.exp(-(abs(x) ** power) / per) for x in range(-reach, reach + 1)}
    return math.fsum(w for x, w in weights.items() if x >= least) / math.fsum(weights.values())


@pytest.mark.parametrize("noise", ["laplace", "gaussian"])
@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("sensitivity", [1, 7, 2**20])
def test_the_scale_is_what_the_amount_asks_for(noise: Noise, amount: Fraction, sensitivity: int) -> None:
    found = OpenDP().add(noise, [0], sensitivity, amount).scale
    exact = sensitivity / float(amount) if noise == "laplace" else sensitivity / math.sqrt(2 * float(amount))
    assert exact * (1 - 1e-15) <= found <= exact * (1 + 1e-9)


@pytest.mark.parametrize("noise", ["laplace", "gaussian"])
@pytest.mark.parametrize("amount", [Fraction(1, 20), Fraction(2)])
def test_draws_have_the_variance_of_the_scale_and_not_of_another(noise: Noise, amount: Fraction) -> None:
    found = OpenDP().add(noise, [5] * DRAWS, 3, amount)
    deviations = [value - 5 for value in found.values]
    mean, variance = math.fsum(deviations) / DRAWS, math.fsum(d * d for d in deviations) / DRAWS
    fourth = math.fsum(d**4 for d in deviations) / DRAWS
    error = FALSE_ALARM_Z * math.sqrt((fourth - variance**2) / DRAWS)
    assert abs(mean) <= FALSE_ALARM_Z * math.sqrt(variance / DRAWS)
    assert abs(variance - discrete_variance(noise, found.scale)) <= error
    for wrong in (0.7, 1.3):
        assert abs(variance - discrete_variance(noise, found.scale * wrong)) > error


@settings(deadline=None, max_examples=40)
@given(
    noise=st.sampled_from(["laplace", "gaussian"]),
    scale=st.floats(0.3, 200),
    per_unit=st.integers(1, 40),
    digits=st.integers(2, 12),
)
def test_a_lone_unit_is_shown_with_probability_delta_at_most(
    noise: Noise, scale: float, per_unit: int, digits: int
) -> None:
    delta = Fraction(1, 10**digits)
    least = threshold(noise, scale, per_unit, delta)
    assert per_unit * tail(noise, scale, least - 1) <= float(delta)
    # One or two steps lower it would not hold, or the discrete Gaussian's bound was not exact.
    slack = 1 if noise == "laplace" else 3
    assert per_unit * tail(noise, scale, least - 1 - slack) > float(delta) or least <= 1 + slack


def test_no_values_are_no_noise() -> None:
    assert OpenDP().add("gaussian", [], 1, Fraction(1)).values == ()


def test_values_at_the_limit_of_totals_come_back_in_order() -> None:
    values = [2**61, -(2**61), 0]
    noisy = OpenDP().add("laplace", values, 1, Fraction(5)).values
    assert all(abs(a - b) < 1000 for a, b in zip(values, noisy, strict=True))


@pytest.mark.parametrize(("sensitivity", "amount"), [(0, Fraction(1)), (1, Fraction(0)), (-1, Fraction(1))])
def test_noise_for_nothing_is_a_bug(sensitivity: int, amount: Fraction) -> None:
    with pytest.raises(AssertionError):
        OpenDP().add("laplace", [1], sensitivity, amount)


def test_each_value_gets_noise_of_its_own() -> None:
    # 64 equal draws of scale 2^20 have a probability far below 1e-300.
    assert len(set(OpenDP().add("gaussian", [0] * 64, 2**20, Fraction(1, 2)).values)) > 1
