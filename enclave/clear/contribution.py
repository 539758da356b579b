"""contribution: a noisy histogram of units' norms -> the contribution bound C.

Choosing C is post-processing of a noised histogram (and of nothing else), so any rule is private; a poor one only
costs accuracy. The rule: the C that minimises the expected sum, over all groups, of clipped mass and noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from enclave.clear.noise import normal_quantile
from rewriter.cost import Noise

GRID: Final = 2**20
"""Steps of the grid between 0 and C: rounding toward zero loses less than a millionth of C a cell."""

_WINDOWS: Final = (1, 2, 4)  # bins that are looked at together
_NOISE_BINS: Final = 0.1
"""Expected number of empty bins that noise alone lifts above the cut; each would fake units of great norm."""
_PARTS: Final = 4  # candidates per octave


def bins_for(static_max: int) -> int:
    """Bins of a coordinate: one for zero, then octave j of norms in (2^(j-1), 2^j], up to its static bound."""
    return max(1, (static_max - 1).bit_length()) + 2


def choose(
    counts: Sequence[int],
    scale: float,
    noise_per_bound: float,
    groups: int,
    static_max: int,
    noise: Noise = "laplace",
) -> Fraction:
    """The bound C, a multiple of 2^-20 in the coordinate's units, in (0, static_max].

    Args:
        counts: noisy units per bin.
        scale: noise scale of a bin.
        noise_per_bound: expected absolute noise of one cell per unit of C.
        groups: cells.
        static_max: what no unit can exceed.
        noise: kind of the noise in `counts`.
    """
    believed = _believed(counts, scale, noise)
    if not any(believed[1:]):
        # Too few units to tell: the answer shall look as uncertain as it is, not small and sure.
        return min(Fraction(static_max), on_grid(Fraction(2.0 ** (_likeliest(counts) - 1))))
    usual = _median_low(believed)
    candidates = [candidate for candidate in _candidates(believed) if candidate >= usual]
    best = min(candidates, key=lambda c: _error(c, believed, noise_per_bound * groups))
    return min(Fraction(static_max), on_grid(Fraction(best)))


def on_grid(bound: Fraction) -> Fraction:
    """The least multiple of 2^-20 that is not below a bound, and not 0."""
    return Fraction(max(1, math.ceil(bound * GRID)), GRID)


def centre_bins(magnitude: int) -> int:
    """Bins on either side of zero for typical values up to a magnitude: quarter octaves."""
    return _PARTS * max(1, magnitude.bit_length()) + 1


def centre(counts: Sequence[int], scale: float, noise: Noise = "laplace") -> int:
    """A typical value: the middle of the median bin of a noisy histogram.

    Bin `len(counts) // 2` is zero; i bins above it are values in [2^((i-1)/4), 2^(i/4)), below it their negatives.
    """
    zero = len(counts) // 2
    believed = _believed(counts, scale, noise)
    total, reached = sum(believed), 0
    for index, count in enumerate(believed):
        reached += count
        if count and 2 * reached >= total:
            size = round(2.0 ** ((abs(index - zero) - 0.5) / _PARTS)) if index != zero else 0
            return size if index > zero else -size
    return 0


def _believed(counts: Sequence[int], scale: float, noise: Noise) -> list[int]:
    """The counts of bins that noise alone is unlikely to have lifted, by themselves or with their neighbours.

    Units that spread over several bins pass together where each bin alone would not.
    """
    tail = _NOISE_BINS / (len(_WINDOWS) * len(counts))
    quantile = math.log(1 / (2 * tail)) if noise == "laplace" else normal_quantile(tail)
    passed = [False] * len(counts)
    for width in _WINDOWS:
        for start in range(len(counts) - width + 1):
            if sum(counts[start : start + width]) > quantile * scale * math.sqrt(width):
                passed[start : start + width] = [True] * width
    return [max(0, count) if passed[index] else 0 for index, count in enumerate(counts)]


def _likeliest(counts: Sequence[int]) -> int:
    """The bin, not that of zero, with the greatest noisy count."""
    return max(range(1, len(counts)), key=lambda index: counts[index])


def _median_low(believed: Sequence[int]) -> float:
    """The lower end of the octave in which the median of the units that add something lies.

    No bound goes below it: where noise outweighs the sum, an answer near zero would have the least expected error,
    but half of all units would be clipped, and the margin, which tells of noise alone, would not show it.
    """
    reached, total = 0, sum(believed[1:])
    for index in range(1, len(believed)):
        reached += believed[index]
        if 2 * reached >= total:
            return 2.0 ** (index - 2) if index > 1 else 1.0
    raise AssertionError("nothing is believed")


def _candidates(believed: Sequence[int]) -> list[float]:
    """Quarter octaves of every octave up to the last one that holds units."""
    last = max(index for index, count in enumerate(believed) if count and index)
    octaves = [2.0 ** (index - 2) for index in range(1, last + 1)]
    return [low * (1 + part / _PARTS) for low in octaves for part in range(1, _PARTS + 1)]


def _error(bound: float, believed: Sequence[int], noise: float) -> float:
    """Clipped mass plus noise, with the units of an octave spread evenly over it."""
    clipped = 0.0
    for index in range(1, len(believed)):
        low, high = (2.0 ** (index - 2), 2.0 ** (index - 1)) if index > 1 else (1.0, 1.0)
        if bound <= low:
            clipped += believed[index] * ((low + high) / 2 - bound)
        elif bound < high:
            clipped += believed[index] * (high - bound) ** 2 / (2 * (high - low))
    return clipped + noise * bound
