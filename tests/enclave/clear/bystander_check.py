"""bystander_check: runs one release on neighbouring data and holds every claim of the privacy path against it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import duckdb
import pyarrow as pa
from bystander_world import SECRET, Dice, World, load, stored

from enclave.clear import duckdb_engine, vault
from enclave.clear.contribution import GRID
from enclave.clear.duckdb_engine import Engine
from enclave.clear.noise import Noisy
from enclave.clear.partials import Partials
from enclave.tables import PublicTables
from policies.model import Policy
from rewriter import compile as compiler
from rewriter import cost
from rewriter.bound import groups_max, property_of
from rewriter.cost import Coordinate, Noise, Price
from rewriter.plan import NoisyGroups, PublicGroups, Release

Vector = dict[tuple[Any, ...], tuple[int, ...]]
"""What units add, by group key (and unit): one integer for each coordinate."""


class Broken(AssertionError):
    """A claim does not hold; its words name the claim."""


def claim(holds: bool, words: str) -> None:
    if not holds:
        raise Broken(words)


@dataclass(frozen=True, slots=True)
class Side:
    """One of two neighbouring data sets, loaded."""

    world: World
    connection: duckdb.DuckDBPyConnection
    facts: PublicTables

    @classmethod
    def of(cls, world: World, threads: int) -> Side:
        connection = load(world, threads)
        return cls(world, connection, PublicTables(lambda sql: int(vault.run(connection.cursor(), sql)[0][0])))


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Two data sets that differ in one unit, and one without any."""

    unit: str
    whole: Side
    without: Side
    vacant: Side

    def close(self) -> None:
        """Free the memory of all sides."""
        for side in (self.whole, self.without, self.vacant):
            side.connection.close()


@dataclass(slots=True)
class Tally:
    """How often each label took part in a change that the removed unit made."""

    changed: Counter[str] = field(default_factory=Counter)
    releases: int = 0

    def add(self, labels: frozenset[str]) -> None:
        """Count one release and the labels of what took part in its change."""
        self.releases += 1
        self.changed.update(labels)


def neighbours(world: World, dice: Dice) -> Neighbours:
    """Load a world with and without one unit: often the first one, whose removal renumbers all others."""
    unit = world.units[0] if dice.random() < 0.3 else dice.choice(_large_first(world))
    less = world.without(unit, dice)
    threads = dice.choice(((1, 8), (8, 1), (1, 1), (2, 1)))
    found = Neighbours(unit, Side.of(world, threads[0]), Side.of(less, threads[1]), Side.of(world.vacant(), 1))
    _check_store(found)
    return found


def check_release(found: Neighbours, release: Release, dice: Dice) -> tuple[frozenset[str], frozenset[int]]:
    """Check every claim for one release.

    Returns:
        What was run, as labels, and the measures to which the removed unit contributed anything.

    Raises:
        Broken: a claim does not hold.
    """
    policy, facts = found.whole.world.policy, found.whole.facts
    coordinates = cost.coordinates(release, policy, facts)
    if any(c.static_max == 0 for c in coordinates):
        return frozenset(), frozenset()
    noise: Noise = dice.choice(("laplace", "gaussian"))
    sides = [_Run(side, release, coordinates) for side in (found.whole, found.without)]
    whole, without = sides
    labels = {noise}
    if isinstance(release.groups, NoisyGroups):
        labels |= _check_supporters(whole, without, found.unit, release, policy, facts)
        groups = whole.supporters.drop_columns(["n"])
        groups = groups.filter(pa.array([dice.random() < 0.8 for _ in range(groups.num_rows)], pa.bool_()))
    else:
        groups = whole.public_groups()
        claim(groups.equals(without.public_groups()), "public groups do not depend on rows")
    for side in sides:
        side.partials.set_groups(groups)
    _check_sums(whole, coordinates)
    for index, coordinate in enumerate(coordinates):
        if coordinate.kind == "centred" and coordinate.twice_centre is None:
            labels |= _check_centre(dice, index, coordinate, whole, without)
    searched = [index for index, coordinate in enumerate(coordinates) if coordinate.is_found]
    if searched:
        index = dice.choice(searched)
        _check_histogram(*(side.partials.norm_histogram(index, noise) for side in sides))
    bounds = [_bound(dice, coordinate) for coordinate in coordinates]
    changed = _check_clipped(whole, without, found.unit, bounds, noise)
    if dice.random() < 0.15:
        _check_totals(whole, without, found.unit, bounds, noise)
    for side in sides:
        side.close()
    places = cost.places(release, policy, facts)
    return frozenset(labels), frozenset(n for n, place in enumerate(places) if changed.intersection(place))


def _check_centre(dice: Dice, index: int, coordinate: Coordinate, whole: _Run, without: _Run) -> set[str]:
    """Claim: one bin changes by one. The centre is then public, so any will do."""
    assert coordinate.value is not None
    _check_histogram(*(side.partials.centre_histogram(index) for side in (whole, without)))
    most = coordinate.value.magnitude
    centre = dice.choice((0, dice.randrange(-9, 10), dice.randrange(-most, most + 1)))
    for side in (whole, without):
        side.partials.set_centre(index, centre)
    return {"found centre"}


@dataclass(slots=True)
class _Recorder:
    """A sampler that adds nothing and notes what it was asked to hide, without the values."""

    asked: list[tuple[Noise, int, Fraction]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def add(self, noise: Noise, values: Sequence[int], sensitivity: int, amount: Fraction) -> Noisy:
        claim(all(abs(value) < 2**62 for value in values), "totals stay below 2^62")
        self.asked.append((noise, sensitivity, amount))
        self.sizes.append(len(values))
        return Noisy(tuple(values), noise, 1.0)


def check_shape(found: Neighbours, release: Release, dice: Dice) -> None:
    """Claim: mechanisms, sensitivities, amounts and public groups are the same on all data, and nothing fails.

    Raises:
        Broken: a claim does not hold.
    """
    price = dice.choice(PRICES)
    shapes = []
    for side in (found.whole, found.without, found.vacant):
        recorder = _Recorder()
        noised = Engine(side.connection, side.world.policy, SECRET, recorder).release(release, price)
        public = isinstance(release.groups, PublicGroups)
        shapes.append((recorder.asked, (recorder.sizes, noised.groups, noised.keys) if public else None))
        spent = sum((amount for _, _, amount in recorder.asked), Fraction(0))
        claim(price.accountant == "zcdp" or spent <= price.amount, "what is spent is within the price")
    claim(shapes[0] == shapes[1] == shapes[2], "the shape of an answer does not depend on rows")


PRICES = (Price("zcdp", Fraction(1, 200), Fraction(1, 10**8)), Price("pure", Fraction(1), Fraction(1, 10**7)))


class _Listening:
    """A connection that remembers the last relation asked of it."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self.cursor, self.heard = cursor, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cursor, name)

    def sql(self, text: str) -> Any:
        self.heard = text
        return self.cursor.sql(text)


class _Run:
    """One release on one side: the product's own steps, read at each of them."""

    def __init__(self, side: Side, release: Release, coordinates: Sequence[Coordinate]) -> None:
        self._side, self._release = side, release
        self._cursor = side.connection.cursor()
        self._listening = _Listening(self._cursor)
        self._keys = [f"k{number}" for number in range(len(release.keys))]
        self.sums = compiler.partials(release, coordinates, side.world.policy)
        self.partials = Partials(self._listening, coordinates, len(release.keys))  # type: ignore[arg-type]
        self.partials.load(self.sums)
        self.supporters = pa.table({})

    def close(self) -> None:
        self._cursor.close()

    def public_groups(self) -> pa.Table:
        if not self._release.keys:
            return pa.table({"whole": pa.array([True])})
        assert isinstance(self._release.groups, PublicGroups)
        return self._cursor.sql(compiler.groups(self._release, self._side.world.policy)).to_arrow_table()

    def support(self, per_unit: int, prf: str | None) -> None:
        self.supporters = self.partials.supporters(per_unit, prf)

    def counts(self) -> Counter[tuple[Any, ...]]:
        rows = zip(*(self.supporters.column(i).to_pylist() for i in range(len(self._keys) + 1)), strict=True)
        return Counter({_identity(row[:-1]): row[-1] for row in rows})

    def chosen(self) -> set[tuple[Any, ...]]:
        """(unit's value, keys) of every row that counts as support."""
        source = self._listening.heard.partition(" AS n FROM ")[2].removesuffix(" GROUP BY ALL ORDER BY ALL")
        keys = "".join(f", c.{key}" for key in self._keys)
        return {_identity(row) for row in self.rows(f"SELECT u.value{keys} FROM {source} c {_OWNER}")}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return vault.run(self._cursor, sql)

    def vectors(self, bounds: Sequence[Fraction], noise: Noise) -> dict[Any, Vector]:
        """What `Partials.clipped` selects, by the unit's value and the group's keys."""
        keys = "".join(f", g.{key}" for key in self._keys)
        sums = "".join(f", c.c{index}" for index in range(len(bounds)))
        clipped = self.partials.clipped(bounds, noise)
        sql = f"SELECT u.value{keys}{sums} FROM ({clipped}) c JOIN g USING (gid) {_OWNER}"
        found: dict[Any, Vector] = {}
        for row in self.rows(sql):
            group = _identity(row[1 : 1 + len(self._keys)])
            vector = found.setdefault(row[0], {})
            claim(group not in vector, "a unit has one row in a group")
            vector[group] = row[1 + len(self._keys) :]
        return found


_OWNER = "LEFT JOIN _units_member u ON u._unit = c._unit"


def _check_store(found: Neighbours) -> None:
    """Other units' rows and ranks are the same; no row without a unit, none beyond rows_per_unit."""
    whole, without = (
        stored(found.whole.connection, found.whole.world),
        stored(found.without.connection, found.whole.world),
    )
    for name, rows in whole.items():
        most = found.whole.world.policy.tables[name].rows_per_unit_max
        claim(rows.keys() <= set(found.whole.world.units), "every stored row belongs to a unit of the data")
        claim(all(len(of_one) <= most for of_one in rows.values()), "no unit has more rows than rows_per_unit")
        claim(all([r[0] for r in v] == list(range(1, len(v) + 1)) for v in rows.values()), "ranks count from 1")
        others = {value: of_one for value, of_one in rows.items() if value != found.unit}
        claim(others == without[name], "other units' rows and ranks are the same")


def _check_supporters(
    whole: _Run, without: _Run, unit: str, release: Release, policy: Policy, facts: PublicTables
) -> set[str]:
    """Claim: counts change by at most 1 each and k in all; other units choose the same groups."""
    assert isinstance(release.groups, NoisyGroups)
    per_unit = release.groups.per_unit
    rows_max = property_of(release.source, policy, facts).rows_max
    sure = groups_max(release, rows_max, policy) <= per_unit
    prf = None if sure else duckdb_engine.prf_of_unit(release.unit, SECRET)
    for run in (whole, without):
        run.support(per_unit, prf)
    change = _difference(whole.counts(), without.counts())
    chosen = whole.chosen()
    others = {row for row in chosen if row[0] != unit}
    claim(others == without.chosen(), "others support the same groups")
    claim(all(0 <= size <= 1 for size in change.values()), "a group's count changes by at most 1")
    claim(sum(change.values()) <= per_unit, "counts change by at most k in all")
    return {"groups proven" if sure else "groups chosen"}


def _check_sums(run: _Run, coordinates: Sequence[Coordinate]) -> None:
    """Sums are integers, of nothing they are zero, and no unit exceeds what the rewriter proved."""
    first = ", ".join(f"any_value(typeof(s{i}))" for i in range(len(coordinates)))
    for found in run.rows(f"SELECT {first} FROM ({run.sums})"):
        claim(set(found) <= {"INTEGER", "BIGINT", "HUGEINT", None}, "nothing floating is summed")
    norms = ", ".join(f"max(n{i})" for i in range(len(coordinates)))
    totals = ", ".join(f"sum(abs({_value(run, coordinates, i)})) AS n{i}" for i in range(len(coordinates)))
    for found in run.rows(f"SELECT {norms} FROM (SELECT {totals} FROM q GROUP BY _unit)"):
        for norm, coordinate in zip(found, coordinates, strict=True):
            known = coordinate.kind != "centred" or coordinate.twice_centre is not None
            # A floating range may pass its bounds by a few ulps (terms.py).
            most = coordinate.static_max * (1 + Fraction(1, 2**40)) + 2**20 * (coordinate.value is not None)
            claim(norm is None or not known or norm <= most, "no unit exceeds the static bound")
    for index, coordinate in enumerate(coordinates):
        if coordinate.value is None:
            continue
        for number, other in enumerate(coordinates):
            if other.kind == "arguments" and other.argument == coordinate.argument:
                empty = f"SELECT count(*) FROM q WHERE s{number} = 0 AND s{index} <> 0"
                claim(run.rows(empty) == [(0,)], "a NULL adds nothing")


def _value(run: _Run, coordinates: Sequence[Coordinate], index: int) -> str:
    if coordinates[index].kind == "centred" and coordinates[index].twice_centre is None:
        return "0"
    return run.partials._value(index)


def _check_histogram(whole: Sequence[int], without: Sequence[int]) -> None:
    change = [a - b for a, b in zip(whole, without, strict=True)]
    claim(set(change) <= {0, 1} and sum(change) <= 1, "a histogram changes by at most 1 in one bin")


def _check_clipped(whole: _Run, without: _Run, unit: str, bounds: Sequence[Fraction], noise: Noise) -> frozenset[int]:
    """Claim: others' vectors are bit-identical; each vector's norm is at most C. Returns the changed coordinates."""
    found, others = whole.vectors(bounds, noise), without.vectors(bounds, noise)
    mine = found.pop(unit, {})
    claim(None not in found, "every partial sum belongs to a unit")
    claim(found == others, "other units' clipped partials are bit-identical")
    for index, bound in enumerate(bounds):
        for vector in (mine, *found.values()):
            _check_norm([row[index] for row in vector.values()], bound, noise)
    return frozenset(index for index in range(len(bounds)) if any(row[index] for row in mine.values()))


def _check_totals(whole: _Run, without: _Run, unit: str, bounds: Sequence[Fraction], noise: Noise) -> None:
    """The same by another way: what is noised changes by the unit's vector."""
    mine = whole.vectors(bounds, noise).get(unit, {})
    before, after = whole.partials.totals(bounds, noise), without.partials.totals(bounds, noise)
    for index, bound in enumerate(bounds):
        change = [a - b for a, b in zip(before[index], after[index], strict=True)]
        _check_norm(change, bound, noise)
        claim(sum(change) == sum(row[index] for row in mine.values()), "totals change by the unit's vector")


def _check_norm(steps: Sequence[int], bound: Fraction, noise: Noise) -> None:
    claim(all(isinstance(step, int) for step in steps), "clipped partials are integers")
    values = [step * bound / GRID for step in steps]
    if noise == "laplace":
        claim(sum(map(abs, steps)) <= GRID, "L1 norm in grid steps")
        claim(sum(map(abs, values), Fraction(0)) <= bound, "L1 norm in rationals")
    else:
        claim(sum(step * step for step in steps) <= GRID * GRID, "L2 norm in grid steps")
        claim(sum((v * v for v in values), Fraction(0)) <= bound * bound, "L2 norm in rationals")


def _bound(dice: Dice, coordinate: Coordinate) -> Fraction:
    """A C on the grid anywhere from far too small to the static bound."""
    top = math.log2(coordinate.static_max)
    exponent = dice.choice((top, dice.random() * top, dice.random() * min(top, 6.0), -8 * dice.random()))
    return min(Fraction(coordinate.static_max), Fraction(math.ceil(2.0**exponent * GRID), GRID))


def _identity(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A group by what the engine holds equal: -0.0 is 0.0, and NaN is itself."""
    return tuple(_plain(cell) for cell in row)


def _plain(cell: Any) -> Any:
    if isinstance(cell, float):
        return "nan" if math.isnan(cell) else cell + 0.0
    return str(cell) if not isinstance(cell, int | str | None) else cell


def _difference(one: Mapping[Any, int], other: Mapping[Any, int]) -> dict[Any, int]:
    return {key: one.get(key, 0) - other.get(key, 0) for key in one.keys() | other.keys()}


def _large_first(world: World) -> Sequence[str]:
    """The units with most rows, those who are members, too, before others."""
    sizes = Counter(str(row[1]) for row in world.rows["events"] if row[1] is not None)
    members = {str(row[0]) for row in world.rows["members"]}
    return sorted(sizes, key=lambda unit: (unit in members, sizes[unit]), reverse=True)[:3] or world.units
