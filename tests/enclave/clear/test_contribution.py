from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave.clear.contribution import GRID, bins_for, centre, centre_bins, choose

STATIC_MAX = st.one_of(st.integers(2, 100), st.integers(2, 2**126))


@given(static_max=STATIC_MAX, data=st.data())
def test_any_histogram_gives_a_bound_on_the_grid_and_within_the_static_one(
    static_max: int, data: st.DataObject
) -> None:
    bins = bins_for(static_max)
    counts = data.draw(st.lists(st.integers(-(10**6), 10**6), min_size=bins, max_size=bins))
    found = choose(
        counts,
        data.draw(st.floats(0.1, 1e4)),
        data.draw(st.floats(1e-3, 1e5)),
        data.draw(st.integers(1, 10**5)),
        static_max,
    )
    assert 0 < found <= static_max
    assert (found * GRID).denominator == 1


@given(STATIC_MAX)
def test_the_last_bin_holds_the_static_bound(static_max: int) -> None:
    octave = bins_for(static_max) - 2  # bin j + 1 holds (2^(j-1), 2^j]
    assert static_max <= 2**octave
    assert octave in (0, 1) or 2 ** (octave - 1) < static_max


@pytest.mark.parametrize(("octave", "units"), [(0, 1000), (3, 1000), (10, 1000), (40, 1000), (100, 1000)])
def test_units_of_one_octave_are_bounded_within_a_factor_of_two_of_it(octave: int, units: int) -> None:
    static_max = 2**120
    counts = [0] * bins_for(static_max)
    counts[octave + 1] = units
    found = choose(counts, 1.0, 10.0, 1, static_max)
    assert 2.0 ** (octave - 1) <= found <= 2.0**octave * 1.01


def test_one_giant_is_clipped_when_noise_for_all_would_cost_more() -> None:
    static_max = 2**40
    counts = [0] * bins_for(static_max)
    counts[4], counts[38] = 100_000, 30
    assert choose(counts, 1.0, 1000.0, 100, static_max) <= 16


def test_giants_are_kept_when_they_are_most_of_the_sum() -> None:
    static_max = 2**40
    counts = [0] * bins_for(static_max)
    counts[4], counts[31] = 1000, 1000
    assert choose(counts, 1.0, 1.0, 1, static_max) > 2**28


def test_bins_that_noise_alone_would_lift_are_not_believed() -> None:
    static_max = 2**60
    counts = [0] * bins_for(static_max)
    counts[5], counts[55] = 500, 3
    assert choose(counts, 10.0, 1.0, 1, static_max) <= 16


def test_without_any_unit_the_bound_is_still_a_bound() -> None:
    assert 0 < choose([0] * bins_for(1000), 5.0, 1.0, 1, 1000) <= 1000


def test_a_bound_of_a_small_static_one_is_not_above_it() -> None:
    assert choose([0, 0, 10**6, 0], 1.0, 1e-9, 1, 3) <= 3


@pytest.mark.parametrize("value", [0, 1, 2, 3, 100, -1, -7, -(10**9), 10**12])
def test_the_centre_is_within_a_quarter_octave_of_equal_values(value: int) -> None:
    side = centre_bins(2**60)
    counts = [0] * (2 * side + 1)
    steps = 0 if value == 0 else min(side, 1 + int(4 * math.log2(abs(value))))
    counts[side + (steps if value >= 0 else -steps)] = 1000
    found = centre(counts, 1.0)
    assert found == 0 if value == 0 else Fraction(4, 5) <= Fraction(found, value) <= Fraction(5, 4) or abs(value) < 3


@given(st.integers(1, 2**110), st.data())
def test_any_histogram_gives_a_centre_near_the_range(magnitude: int, data: st.DataObject) -> None:
    size = 2 * centre_bins(magnitude) + 1
    counts = data.draw(st.lists(st.integers(-100, 1000), min_size=size, max_size=size))
    # The last bin may reach past the magnitude; partials.py leaves room for 2.4 times of it.
    assert abs(centre(counts, 2.0)) <= Fraction(12, 5) * magnitude


def test_no_believed_bin_means_a_centre_of_zero() -> None:
    assert centre([0] * 9, 1.0) == 0
