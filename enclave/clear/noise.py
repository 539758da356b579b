"""noise: integers -> noisy integers, by OpenDP's exact samplers.

Contract of `OpenDP.add`: for integer vectors that differ by at most `sensitivity` (L1 for laplace, L2 for
gaussian), the result is `amount`-DP (laplace) or `amount`-zCDP (gaussian). Two independent paths agree on that:
the scale is computed here, and the loss that OpenDP's own map gives for it must not exceed the amount.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, Protocol

import opendp.prelude as dp

from rewriter.cost import Noise

dp.enable_features("contrib")

_STEPS_MAX: Final = 60  # a scale that doubling its distance to the first guess 60 times cannot mend is a bug


@dataclass(frozen=True, slots=True)
class Noisy:
    """Noisy integers with what may be told of the noise.

    `scale` is the Laplace scale or the Gaussian standard deviation, in the integers' own unit.
    """

    values: tuple[int, ...]
    noise: Noise
    scale: float


class Sampler(Protocol):
    """What adds noise. The product has one; tests construct an engine with another."""

    def add(self, noise: Noise, values: Sequence[int], sensitivity: int, amount: Fraction) -> Noisy:
        """Add noise to integers of one mechanism."""
        ...


class OpenDP:
    """The sampler of the product."""

    def add(self, noise: Noise, values: Sequence[int], sensitivity: int, amount: Fraction) -> Noisy:
        """Add noise that hides a change of `sensitivity` at a loss of `amount` (epsilon or rho)."""
        assert amount > 0
        assert sensitivity > 0
        scale = _scale(noise, sensitivity, amount)
        noisy = _measurement(noise, scale)(list(values)) if values else []
        return Noisy(tuple(int(value) for value in noisy), noise, scale)


def threshold(noise: Noise, scale: float, per_unit: int, delta: Fraction) -> int:
    """The least noisy count that shows a group: per_unit * P(1 + X >= threshold) <= delta.

    Discrete Laplace: P(X >= t) = a^t / (1 + a), a = exp(-1/scale). Discrete Gaussian: P(X >= t) <= P(N >= t - 1)
    (Canonne, Kamath, Steinke 2020, Proposition 25). Rounded up.
    """
    share = float(delta) / per_unit * (1 - 1e-9)
    assert 0 < share < 1
    if noise == "laplace":
        ratio = math.exp(-1 / scale)
        return 1 + max(0, math.ceil(-scale * math.log(share * (1 + ratio)) * (1 + 1e-9)))
    return 2 + math.ceil(scale * normal_quantile(share) * (1 + 1e-9))


def normal_quantile(tail: float) -> float:
    """The z >= 0 whose upper normal tail is at most `tail`, by bisection on erfc."""
    low, high = 0.0, 60.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if math.erfc(middle / math.sqrt(2)) / 2 <= tail else (middle, high)
    return high


@lru_cache(maxsize=4096)
def _scale(noise: Noise, sensitivity: int, amount: Fraction) -> float:
    """The least scale, up to a few ulps, whose loss by OpenDP's map is at most the amount."""
    exact = sensitivity / float(amount) if noise == "laplace" else sensitivity / math.sqrt(2 * float(amount))
    for step in range(_STEPS_MAX):
        scale = exact * (1 + (2.0**step - 1) * 2**-52)
        if _loss(_measurement(noise, scale), noise, sensitivity) <= amount:
            return scale
    raise AssertionError("no scale meets the amount")


def _loss(measurement: Any, noise: Noise, sensitivity: int) -> Fraction:
    distance = sensitivity if noise == "laplace" else float(sensitivity)
    return Fraction(measurement.map(distance))


@lru_cache(maxsize=4096)
def _measurement(noise: Noise, scale: float) -> Any:
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    if noise == "laplace":
        return dp.m.make_laplace(domain, dp.l1_distance(T="i64"), scale)
    return dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), scale)
