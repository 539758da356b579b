"""Removing one unit changes nothing that others contribute, and the unit itself no more than is claimed.

Measured by running the compiled plans on neighbouring data. The same check must fail for each planted mistake.
"""

from __future__ import annotations

from collections import Counter

import bystander_mistakes
import duckdb
import pytest
from bystander_check import Broken, Tally, check_release, check_shape, neighbours
from bystander_plans import KEYS, MEASURES, SHAPES, THEMES, draw
from bystander_world import Dice, make, policies
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

RELEASES = 60
"""For each loaded pair of data sets: loading costs as much as ten of them."""
PARTS = 4
"""So that two processes share the work evenly, and none comes near the time limit of a test."""
WORLDS = 160
"""At most; about 95 are enough to see everything often."""
LEAST = 200
"""How often each operator, measure, plan and kind of key must take part in a change, all parts together."""
LEAST_OF_SHAPE = 120
PLANS = ("groups proven", "groups chosen", "PublicGroups", "NoisyGroups", "laplace", "gaussian", "found centre")
LABELS = (*THEMES, *MEASURES, *KEYS, *PLANS)
POLICIES = policies()
RANDOMS = st.randoms(use_true_random=True)
SETTINGS = settings(
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def run(dice: Dice, tally: Tally, releases: int) -> None:
    """Check some releases on one random pair of data sets."""
    found = neighbours(make(dice, POLICIES), dice)
    policy, facts = found.whole.world.policy, found.whole.facts
    for _ in range(releases):
        drawn = draw(dice, policy, facts, tally.changed)
        try:
            labels, changed = check_release(found, drawn.release, dice)
            if dice.random() < 0.05:
                check_shape(found, drawn.release, dice)
        except (duckdb.DataError, duckdb.InvalidInputException) as error:
            raise Broken(
                f"no expression fails because of a row: {type(error).__name__} in {drawn.release}"
            ) from error
        except Exception as error:
            error.add_note(f"unit {found.unit!r}, release {drawn.release}")
            raise
        tally.add(labels | drawn.labels(changed) if changed else frozenset())
    found.close()


def seldom(tally: Tally) -> dict[str, int]:
    """What has not yet taken part in enough changes for one part of the test."""
    least = dict.fromkeys(LABELS, LEAST // PARTS) | dict.fromkeys(SHAPES, LEAST_OF_SHAPE // PARTS)
    return {label: tally.changed[label] for label in least if tally.changed[label] < least[label]}


@settings(SETTINGS, max_examples=3)
@given(RANDOMS)
def test_one_unit_changes_its_own_clipped_vector_alone_in_a_few_worlds(dice: Dice) -> None:
    run(dice, Tally(), 12)


@pytest.mark.system
@pytest.mark.parametrize("part", range(PARTS))
def test_one_unit_changes_its_own_clipped_vector_alone(part: int) -> None:
    tally = Tally()

    @seed(part)
    @settings(SETTINGS, derandomize=False, max_examples=WORLDS // PARTS)
    @given(RANDOMS)
    def many(dice: Dice) -> None:
        if seldom(tally):
            run(dice, tally, RELEASES)

    many()
    few = seldom(tally)
    assert not few, f"too few of {tally.releases} releases changed by: {few}; all: {Counter(tally.changed)}"


@pytest.mark.parametrize("name", bystander_mistakes.MISTAKES)
def test_a_planted_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, words = bystander_mistakes.MISTAKES[name]
    plant(monkeypatch)

    @settings(SETTINGS, max_examples=40)
    @given(RANDOMS)
    def many(dice: Dice) -> None:
        run(dice, Tally(), 30)

    with pytest.raises(Broken, match=words):
        many()
