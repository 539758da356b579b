"""partials: the engine's steps between clear rows and the integers that are noised.

Claim, for each coordinate with bound C: when all rows of one unit are removed, the vector of totals over all
groups changes by at most GRID in L1 (laplace) or L2 (gaussian), GRID being C on the grid. Proof: `_clipped` of a
unit is a function of its own row of `partials` (compile.py) and of public values; its norm is at most GRID; and
totals are exact integer sums over units.

    table   row                 made by
    p       unit, keys, sums    rewriter.compile.partials
    g       gid, keys           public groups, or those over a noisy threshold
    q       unit, gid, sums     p joined with g
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import duckdb
import pyarrow as pa

from enclave.clear.contribution import GRID, bins_for, centre_bins
from enclave.clear.vault import run
from rewriter.cost import Coordinate, Noise
from rewriter.terms import quote, text

_STEPS_MAX: Final = 2.0**31 - 1
"""A partial sum is clamped to this many grid steps, 2048 times C, so that its square fits a BIGINT."""
_TIGHT: Final = 1 - 2.0**-40
"""Makes the factor of a clipped vector a little too small, which covers the rounding of the factor itself."""
_SHORT: Final = 2**31 - 1
_EXACT_SQUARES: Final = 2**50


class Partials:
    """The temporary tables of one release on one connection.

    Not reentrant: one object, one release. All SQL here is made of integers and of names made here.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, coordinates: Sequence[Coordinate], keys: int) -> None:
        """Take a connection of its own, whose temporary tables nobody else sees."""
        self._connection = connection
        self._coordinates = coordinates
        self._keys = [f"k{number}" for number in range(keys)]
        self._centres = {i: c.twice_centre for i, c in enumerate(coordinates)}

    def load(self, sql: str) -> None:
        """Take the SQL of the partial sums; it runs once, into `p` if groups must be found and else into `q`."""
        self._source = f"({sql})"

    def _stored(self) -> str:
        """The partial sums as table `p`."""
        if self._source != "p":
            self._run(f"CREATE TEMP TABLE p AS SELECT * FROM {self._source}")
            self._source = "p"
        return self._source

    def supporters(self, per_unit: int, prf: str | None) -> pa.Table:
        """Groups with the number of units that support them; each unit supports at most `per_unit`.

        With more groups a unit supports those with the least PRF of (unit, group): `prf` is the SQL of the unit's
        secret value, or None where it is proven that no unit has more than `per_unit` groups.
        """
        keys = ", ".join(self._keys)
        source = self._stored() if prf is None else self._chosen(per_unit, prf)
        sql = f"SELECT {keys}, count(*) AS n FROM {source} GROUP BY ALL ORDER BY ALL"
        table: pa.Table = self._connection.sql(sql).to_arrow_table()
        return table

    def set_groups(self, groups: pa.Table) -> None:
        """Fix the groups, in order: `g` numbers them, `q` keeps the partial sums that are in one of them."""
        numbered = groups.append_column("gid", pa.array(range(groups.num_rows), pa.int64()))
        self._connection.register("groups_given", numbered)
        self._run("CREATE TEMP TABLE g AS SELECT * FROM groups_given")
        self._connection.unregister("groups_given")
        sums = "".join(f", CAST(p.s{i} AS {_width(c)}) AS s{i}" for i, c in enumerate(self._coordinates))
        same = " AND ".join(f"p.{key} IS NOT DISTINCT FROM g.{key}" for key in self._keys) or "TRUE"
        self._run(f"CREATE TEMP TABLE q AS SELECT p._unit, g.gid{sums} FROM {self._source} p JOIN g ON {same}")

    def centre_histogram(self, index: int) -> list[int]:
        """Units per quarter octave of their own mean argument. Ensures: one unit is in at most one bin."""
        coordinate = self._coordinates[index]
        assert coordinate.value is not None
        side, count = centre_bins(coordinate.value.magnitude), self._count_of(index)
        mean = f"(CAST(sum(s{index}) AS DOUBLE) / CAST(sum(s{count}) AS DOUBLE))"
        octave = f"least({side}, 1 + CAST(floor(4 * log2(abs({mean}))) AS INTEGER))"
        place = f"CASE WHEN abs({mean}) < 1 THEN 0 WHEN {mean} < 0 THEN -{octave} ELSE {octave} END"
        return self._histogram(f"{side} + {place}", 2 * side + 1, f"HAVING sum(s{count}) > 0")

    def set_centre(self, index: int, centre: int) -> int:
        """Fix a centre that was found, in units of the argument; gives the one that is used.

        Noise can lift the last bin, whose middle lies beyond every value: around such a centre sums would leave
        their static bound, and the integers that it proves wide enough.
        """
        value = self._coordinates[index].value
        assert value is not None
        used = max(-value.magnitude, min(value.magnitude, centre))
        self._centres[index] = 2 * used
        return used

    def norm_histogram(self, index: int, noise: Noise) -> list[int]:
        """Units per octave of the norm of their vector over all groups. Ensures: one unit is in one bin."""
        coordinate = self._coordinates[index]
        value, bins = self._value(index), bins_for(coordinate.static_max)
        if noise == "laplace":
            size = f"CAST(sum(abs({value})) AS DOUBLE)"
            return self._histogram(_octave(size, bins), bins)
        if coordinate.static_max <= _EXACT_SQUARES:
            square = f"CAST({value} AS HUGEINT) * {value}" if coordinate.static_max > _SHORT else f"{value} * {value}"
            return self._histogram(_octave(f"sqrt(CAST(sum({square}) AS DOUBLE))", bins), bins)
        # Squares of larger sums overflow: each unit's are shifted right by as many bits as its own greatest needs.
        shifted = f"(abs({value}) >> m.bits)"
        size = f"sqrt(CAST(sum(CAST({shifted} AS HUGEINT) * {shifted}) AS DOUBLE)) * pow(2.0, any_value(m.bits))"
        bits = f"greatest(0, CAST(ceil(log2(CAST(max(abs({value})) AS DOUBLE) + 1)) AS INTEGER) - 49)"
        source = f"q JOIN (SELECT _unit, {bits} AS bits FROM q GROUP BY _unit) m USING (_unit)"
        return self._histogram(_octave(size, bins), bins, source=source)

    def totals(self, bounds: Sequence[Fraction], noise: Noise) -> list[list[int]]:
        """Per coordinate the clipped totals of all groups in order, in grid steps of C / GRID."""
        sums = ", ".join(f"CAST(coalesce(sum(c{i}), 0) AS HUGEINT)" for i in range(len(bounds)))
        clipped = self.clipped(bounds, noise)
        rows = self._run(f"SELECT gid, {sums} FROM g LEFT JOIN ({clipped}) c USING (gid) GROUP BY gid ORDER BY gid")
        return [[int(row[1 + i]) for row in rows] for i in range(len(bounds))]

    def clipped(self, bounds: Sequence[Fraction], noise: Noise) -> str:
        """SQL of what each unit adds to each group: `_unit`, `gid`, `c0...` in grid steps.

        Ensures: over all groups of a unit, the norm of each c is at most GRID.
        """
        indices = range(len(bounds))
        grid = ", ".join(f"{self._on_grid(i, bounds[i])} AS x{i}" for i in indices)
        factors = ", ".join(f"{_factor(i, noise)} AS f{i}" for i in indices)
        scaled = ", ".join(f"{_scale(i, self._linked(i))} AS c{i}" for i in indices)
        beyond = " OR ".join(f"NOT ({_within(i, noise)})" for i in indices)
        return (
            f"WITH x AS NOT MATERIALIZED (SELECT _unit, gid, {grid} FROM q), "
            f"f AS (SELECT _unit, {factors} FROM x GROUP BY _unit HAVING {beyond}) "
            f"SELECT _unit, gid, {scaled} FROM x LEFT JOIN f USING (_unit)"
        )

    def _chosen(self, per_unit: int, prf: str) -> str:
        """The (unit, group) rows that count as support: per unit those with the `per_unit` least PRF values."""
        group = ", ".join(f"CAST({key} AS VARCHAR)" for key in self._keys)
        hashed = f"sha256(concat({prf}, to_json([{group}])))"
        return (
            f"(WITH h AS (SELECT p.*, {hashed} AS h FROM {self._stored()} p), "
            f"least_of AS (SELECT _unit, list_max(min(h, {per_unit})) AS cut FROM h GROUP BY _unit) "
            f"SELECT h.* FROM h JOIN least_of USING (_unit) WHERE h.h <= least_of.cut)"
        )

    def _value(self, index: int) -> str:
        """A coordinate of a row of q, in units; a mean's sum is taken around its centre."""
        twice = self._centres[index]
        if self._coordinates[index].kind != "centred":
            return f"s{index}"
        assert twice is not None
        width = _width(self._coordinates[index])
        return f"(2 * s{index} - CAST({twice} AS {width}) * s{self._count_of(index)})"

    def _count_of(self, index: int) -> int:
        """The count that belongs to a mean's sum."""
        count = self._coordinates[index].count
        assert count is not None
        return count

    def _on_grid(self, index: int, bound: Fraction) -> str:
        """Truncation comes before the cast: the engine's casts round."""
        steps = f"CAST({self._value(index)} AS DOUBLE) * {float(GRID / bound)!r}::DOUBLE"
        clamped = f"greatest(least({steps}, {_STEPS_MAX!r}::DOUBLE), {-_STEPS_MAX!r}::DOUBLE)"
        return f"CAST(trunc({clamped}) AS BIGINT)"

    def _linked(self, index: int) -> list[int]:
        """Coordinates that are scaled by one factor: a count and all sums around it, so that means stay means."""
        own = self._coordinates[index].count
        together = index if own is None else own
        return [i for i, c in enumerate(self._coordinates) if together in (i, c.count)]

    def _histogram(self, bin_sql: str, bins: int, having: str = "", source: str = "q") -> list[int]:
        per_unit = f"SELECT CAST({bin_sql} AS INTEGER) AS b FROM {source} GROUP BY _unit {having}"
        counts = [0] * bins
        for place, count in self._run(f"SELECT b, count(*) FROM ({per_unit}) GROUP BY b"):
            counts[max(0, min(bins - 1, place))] += count
        return counts

    def _run(self, sql: str) -> list[tuple[Any, ...]]:
        return run(self._connection, sql)


def prf_of_unit(unit: str, secret: bytes) -> str:
    """SQL of a unit's own secret: a keyed hash of the owner's value, which no other unit's presence changes."""
    value = f"(SELECT value FROM memory.main.{quote('_units_' + unit)} u WHERE u._unit = p._unit)"
    return f"sha256(concat({text(secret.hex())}, to_json({value})))"


def _octave(size: str, bins: int) -> str:
    """Bin 0 for zero, bin j + 1 for sizes in (2^(j-1), 2^j]."""
    return f"CASE WHEN {size} = 0 THEN 0 ELSE least({bins - 1}, 1 + CAST(ceil(log2({size})) AS INTEGER)) END"


def _width(coordinate: Coordinate) -> str:
    """An integer in which a coordinate's sums can be taken: three times a whole contribution fits."""
    most = coordinate.static_max
    if coordinate.value is not None:
        most = max(most, coordinate.rows_max * coordinate.value.magnitude)
    return "BIGINT" if 4 * most < 2**62 else "HUGEINT"


def _within(index: int, noise: Noise) -> str:
    """Whether a unit's vector has a norm of at most GRID, in exact integers."""
    if noise == "laplace":
        return f"sum(abs(x{index})) <= {GRID}"
    return f"sum(x{index} * x{index}) <= {GRID * GRID}"


def _factor(index: int, noise: Noise) -> str:
    """What a unit's vector must be multiplied with to have a norm of at most GRID; 1 if it has."""
    norm = f"sum(abs(x{index}))" if noise == "laplace" else f"sum(x{index} * x{index})"
    root = f"CAST({norm} AS DOUBLE)" if noise == "laplace" else f"sqrt(CAST({norm} AS DOUBLE))"
    tight = f"({float(GRID)!r}::DOUBLE / {root}) * {_TIGHT!r}::DOUBLE"
    return f"CASE WHEN {_within(index, noise)} THEN 1.0::DOUBLE ELSE {tight} END"


def _scale(index: int, linked: Sequence[int]) -> str:
    """A cell times its unit's factor; a unit of which no vector is too long has no factor."""
    factor = f"least({', '.join(f'f{i}' for i in linked)})"
    scaled = f"CAST(trunc(CAST(x{index} AS DOUBLE) * {factor}) AS BIGINT)"
    return f"CASE WHEN f{index} IS NULL OR {factor} = 1 THEN x{index} ELSE {scaled} END"
