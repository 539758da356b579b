"""cost: how the price of a release is divided over its stages, exactly.

    keys        which unknown groups are shown (a noisy count of units against a threshold)
    centre      around what a mean of unknown range is taken (a noisy histogram of units)
    bounds      how much one unit may contribute to each coordinate (a noisy histogram of units)
    measures    the noisy sums themselves

All stages of a release compose to its price and are paid before any of them runs, so choosing later stages by
the results of earlier ones is covered (adaptive composition; Whitehouse et al. 2023 for the filter).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from policies.model import Policy
from rewriter.accountant import Accountant, laplace_epsilon
from rewriter.bound import Facts, Protected, Scope, groups_max, property_of, scope
from rewriter.plan import Column, Expression, Measure, NoisyGroups, Release, columns
from rewriter.refusal import Refusal
from rewriter.terms import Units, units

KEYS_SHARE: Final = Fraction(1, 4)
"""Of the price, for unknown groups: a group is shown from about k ln(1/delta)/epsilon_keys units on."""
CENTRE_SHARE: Final = Fraction(1, 20)
BOUNDS_SHARE: Final = Fraction(3, 20)
"""Of what is left, for all histograms of bounds together: 10-20 % is within 2x of the best for most data."""

DELTA_KEYS_MIN: Final = Fraction(1, 10**300)
"""Smaller ones are 0 as doubles, in which the threshold is computed."""

Noise = Literal["laplace", "gaussian"]


@dataclass(frozen=True, slots=True)
class Price:
    """What a release costs: an amount of an accountant, and the thresholds' part of delta."""

    accountant: Accountant
    amount: Fraction
    delta_keys: Fraction


@dataclass(frozen=True, slots=True)
class Coordinate:
    """One number per group that a unit adds to, before it is clipped.

    Attributes:
        kind: "rows", "arguments" (rows whose argument is not NULL), "units", "sum", or "centred" (twice the
            sum minus twice_centre times arguments; doubled, so that the middle of 0 and 1 is an integer).
        argument: what is counted or summed; None for "rows".
        value: integer form of the argument, None for counts.
        static_max: no unit's norm over all groups exceeds this, in units of the coordinate.
        per_one: units that make 1.
        declared: a contribution bound that the policy declares, in units, or None.
        twice_centre: for "centred" over a range that the policy tells: lowest plus highest value, in units of
            the argument; None if the centre is to be found.
        rows_max: rows of one unit that it sums.
        count: for "centred": which coordinate counts the same rows. All coordinates of one count are scaled by one
            factor per unit, so that a mean stays a mean.
    """

    kind: Literal["rows", "arguments", "units", "sum", "centred"]
    argument: Expression | None
    value: Units | None
    static_max: int
    per_one: int = 1
    declared: Fraction | None = None
    twice_centre: int | None = None
    count: int | None = None
    rows_max: int = 1

    @property
    def is_found(self) -> bool:
        """True if its contribution bound is bought with a histogram; a static bound of 1 cannot be improved."""
        return self.declared is None and self.static_max > 1


@dataclass(frozen=True, slots=True)
class Stages:
    """The amounts of a release's stages; `centres` and `bounds` by index of the coordinate."""

    keys: Fraction
    centres: Mapping[int, Fraction]
    bounds: Mapping[int, Fraction]
    sums: Mapping[int, Fraction]

    @property
    def total(self) -> Fraction:
        """Never above the price they were made from."""
        return self.keys + sum((*self.centres.values(), *self.bounds.values(), *self.sums.values()), Fraction(0))


def coordinates(release: Release, policy: Policy, facts: Facts) -> tuple[Coordinate, ...]:
    """The coordinates of a release with their static bounds, derived from plan and policy alone.

    Raises:
        Refusal: the release is not about rows of units, or a measure is not of its form.
    """
    return tuple(_Layout(release, policy, facts).coordinates)


def places(release: Release, policy: Policy, facts: Facts) -> tuple[tuple[int, ...], ...]:
    """Which coordinates each measure is made of: one, or the count and the centred sum of a mean."""
    return tuple(_Layout(release, policy, facts).places)


def stages(release: Release, found: tuple[Coordinate, ...], price: Price) -> Stages:
    """Divide a price.

    Ensures: total <= price.amount, exactly.
    """
    noisy = isinstance(release.groups, NoisyGroups)
    if noisy and price.delta_keys < DELTA_KEYS_MIN:
        raise no_delta()
    keys = price.amount * KEYS_SHARE if noisy else Fraction(0)
    left = price.amount - keys
    uncentred = [i for i, c in enumerate(found) if c.kind == "centred" and c.twice_centre is None]
    searched = [i for i, c in enumerate(found) if c.is_found]
    centre = left * CENTRE_SHARE if uncentred else Fraction(0)
    bound = left * BOUNDS_SHARE if searched else Fraction(0)
    each = (left - centre - bound) / len(found) if found else Fraction(0)
    return Stages(
        keys=keys if found else price.amount,
        centres={i: centre / len(uncentred) for i in uncentred},
        bounds={i: bound / len(searched) for i in searched},
        sums={i: each for i in range(len(found))},
    )


def no_delta() -> Refusal:
    """Refuse unknown groups where the budget has no delta: no noise hides a lone person's group for certain."""
    return Refusal(
        "0A000",
        "groups that the policy does not list need a budget with a delta",
        hint="Group by columns with declared values, or narrow the keys with = or IN.",
    )


HALF_WIDTH: Final[dict[Noise, float]] = {"laplace": math.log(20), "gaussian": 1.959964}
"""95 % half-width of noise of scale 1."""


def noise_of(accountant: Accountant) -> Noise:
    """The mechanism for vectors: under zcdp a Gaussian has half the variance of a Laplace at the same rho."""
    return "gaussian" if accountant == "zcdp" else "laplace"


def noise_scale(accountant: Accountant, amount: Fraction, sensitivity: float) -> float:
    """Standard deviation (gaussian) or scale (laplace) for an amount; for planning and display, not for privacy."""
    if accountant == "zcdp":
        return sensitivity / math.sqrt(2 * float(amount))
    return sensitivity / float(amount)


def threshold(price: Price, amount: Fraction, per_unit: int) -> tuple[Noise, Fraction]:
    """The mechanism of a noisy threshold and its parameter: rho of a Gaussian, epsilon of a Laplace.

    Whichever asks for fewer units: per_unit/epsilon * ln(.) against sqrt(per_unit/(2 rho)) * sqrt(2 ln(.)).
    """
    if price.accountant == "pure":
        return "laplace", amount
    tail = math.log(max(2.0, per_unit / float(price.delta_keys)))
    epsilon = laplace_epsilon(amount)
    laplace = per_unit / float(epsilon) * tail
    gaussian = math.sqrt(per_unit / (2 * float(amount))) * math.sqrt(2 * tail)
    return ("gaussian", amount) if gaussian < laplace else ("laplace", epsilon)


class _Layout:
    """Lays out a release's coordinates. Counts of the same rows are one coordinate, bought once."""

    def __init__(self, release: Release, policy: Policy, facts: Facts) -> None:
        found = property_of(release.source, policy, facts)
        if not isinstance(found, Protected) or found.unit != release.unit:
            raise Refusal("0A000", "a release is about rows that belong to one kind of unit")
        self._release, self._policy, self._rows = release, policy, found.rows_max
        self._names = scope(release.source, policy)
        self.coordinates: list[Coordinate] = []
        self.places = [self._place(measure) for measure in release.measures]

    def _place(self, measure: Measure) -> tuple[int, ...]:
        declared = _declared(measure, self._names)
        match measure.kind:
            case "count":
                return (self._count(measure.argument, declared),)
            case "units":
                _check_unit(measure, self._release, self._names)
                most = max(1, groups_max(self._release, self._rows, self._policy))
                return (self._add(Coordinate("units", measure.argument, None, most, declared=declared)),)
            case "sum":
                value = _value(measure, self._names, self._rows)
                most, bound = self._rows * value.magnitude, None if declared is None else declared * value.per_one
                return (
                    self._add(
                        Coordinate(
                            "sum", measure.argument, value, max(1, most), value.per_one, bound, rows_max=self._rows
                        )
                    ),
                )
            case "mean":
                return self._mean(measure)

    def _add(self, coordinate: Coordinate) -> int:
        self.coordinates.append(coordinate)
        return len(self.coordinates) - 1

    def _count(self, argument: Expression | None, declared: Fraction | None) -> int:
        if argument is not None and not self._names.term(argument).nullable:
            argument = None  # every row is counted
        kind: Literal["rows", "arguments"] = "rows" if argument is None else "arguments"
        for index, known in enumerate(self.coordinates):
            if (known.kind, known.argument) == (kind, argument):
                return index
        return self._add(Coordinate(kind, argument, None, max(1, self._rows), declared=declared))

    def _mean(self, measure: Measure) -> tuple[int, int]:
        value = _value(measure, self._names, 2 * self._rows)
        assert measure.argument is not None
        count = self._count(measure.argument, None)
        term, twice = self._names.term(measure.argument), None
        most = 4 * self._rows * value.magnitude
        if term.low is not None and term.high is not None and self._names.known_range(measure.argument):
            low, high = (_units_of(end, value) for end in (term.low, term.high))
            most, twice = self._rows * (high - low), low + high
        per_one = 2 * value.per_one
        centred = Coordinate(
            "centred", measure.argument, value, max(1, most), per_one, None, twice, count, self._rows
        )
        return count, self._add(centred)


def _units_of(end: Fraction, value: Units) -> int:
    return max(-value.magnitude, min(value.magnitude, int(end * value.per_one)))


def _value(measure: Measure, names: Scope, rows: int) -> Units:
    if measure.argument is None:
        raise Refusal("0A000", f"{measure.kind} needs an argument")
    term = names.term(measure.argument)
    if not term.type.is_numeric:
        name = {"mean": "avg"}.get(measure.kind, measure.kind)
        raise Refusal("42883", f"function {name}({term.type}) does not exist", hint="Cast the argument to a number.")
    return units(term, rows)


def _check_unit(measure: Measure, release: Release, names: Scope) -> None:
    """COUNT(DISTINCT x) of a "units" measure: x must be the bare unit column of some scan."""
    argument = measure.argument
    for column in columns(argument) if argument is not None else ():
        unit = names.table(column.alias).unit if column.alias in names.names else None
        if argument == column and unit is not None and unit.column == column.name and unit.name == release.unit:
            return
    raise Refusal("0A000", "COUNT(DISTINCT x) of units needs the unit column")


def _declared(measure: Measure, names: Scope) -> Fraction | None:
    """A contribution that an owner declares for this measure, in the measure's own unit.

    It is only where to clip: a wrong one costs accuracy, never privacy.
    """
    match measure:
        case Measure("count", None):
            entries = [table.contribution.get("count") for table in map(names.table, names.names)]
        case Measure("units", _):
            entries = [table.contribution.get("units") for table in map(names.table, names.names)]
        case Measure("sum", Column(alias, name)):
            entries = [names.table(alias).contribution.get(f"sum.{name}")]
        case _:
            return None
    amounts = [Fraction(entry) for entry in entries if entry is not None]
    return amounts[0] if len(amounts) == 1 else None
